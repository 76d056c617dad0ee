"""``mirv worker``: more hands for the runs of a node, on this machine or another.

A worker shares the node's databases and spool, listens to no one and schedules nothing. DBOS hands
what a *restarted* executor had begun back to it; what a *dead* one had begun waits for it. So each
executor keeps a heartbeat, and whoever sees another's stop hands its work on. One that was only
slow does no harm: an outcome is recorded once.
"""

import os
import socket
import threading
import time

from mirv.analysis.extraction.pool import Extractor
from mirv.config.errors import SettingsError, opening
from mirv.config.settings import Settings
from mirv.service.catalogue import Catalogue
from mirv.service.node.heartbeat import Heart
from mirv.service.objects.spool import Spool
from mirv.service.objects.spool_name import check_spool
from mirv.service.runtime.log import get_logger
from mirv.service.runtime.loop import Loop, end_when_told, wait_for_the_end
from mirv.service.runtime.node_folder import NodeFolder, catalogue_url, workflow_url
from mirv.service.study.plan import extractor_from, plan_from
from mirv.service.work import engine
from mirv.service.work.context import WorkContext

# A worker may start together with its node.
_NODE_STARTS_S = 30.0

log = get_logger("worker")


class Worker:
    """Takes runs and deliveries from the queues of a node.

    Parameters
    ----------
    settings : Settings
        The node's own: same databases, same spool folder.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.database_url is None or settings.workflow_database_url is None:
            raise SettingsError(
                "a worker needs database_url and workflow_database_url: SQLite files serve one "
                "process only"
            )
        self.settings = settings
        self.plan = plan_from(settings)
        self.executor_id = f"{socket.gethostname()}-{os.getpid()}"
        self._stopping = threading.Event()
        self._beating: Loop | None = None
        self._extractor: Extractor | None = None
        self._catalogue: Catalogue | None = None

    def end_when_told(self) -> None:
        """Heed a signal to end from now on: one that comes while we start ends us after it."""
        end_when_told(self._stopping)

    def start(self) -> None:
        """Open what the node shares and begin; returns at once.

        Raises
        ------
        OtherSpool
            The folder does not hold the spool of the node.
        """
        settings = self.settings
        spool = NodeFolder(settings.folder).spool
        self._catalogue = Catalogue(catalogue_url(settings))
        try:
            check_spool(spool, self._catalogue, _NODE_STARTS_S)
        except BaseException:
            self._catalogue.close()
            raise
        self._extractor = extractor_from(settings)
        with opening():
            opened = Spool(spool)
        work = WorkContext(settings, self.plan, opened, self._catalogue, self._extractor)
        self._catalogue.workers.beat(self.executor_id, time.time())
        engine.launch(work, workflow_url(settings), self.executor_id)
        heart = Heart(self._catalogue, self.executor_id, settings.worker_silent_s)
        self._beating = Loop("heart", heart.turn, rest_s=1)
        self._beating.start()
        log.info("worker started", executor=self.executor_id)

    def stop(self) -> None:
        """Stop; the others hear no heartbeat and go on with what was in work here."""
        self._stopping.set()
        if self._beating is not None:
            self._beating.stop()
            self._beating = None
        engine.shutdown()
        if self._extractor is not None:
            self._extractor.close()
        if self._catalogue is not None:
            self._catalogue.close()

    def wait(self) -> None:
        """Block until told to end, then stop."""
        wait_for_the_end(self._stopping)
        self.stop()
