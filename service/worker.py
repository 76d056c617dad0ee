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

from analysis.extraction import Extractor
from config.errors import SettingsError, opening
from config.settings import Settings
from service import work_engine
from service.log import get_logger
from service.loop import Loop, wait_for_the_end
from service.node_folder import NodeFolder, catalogue_url, workflow_url
from service.pipeline import extractor_from, plan_from
from service.same_spool import check_spool
from service.spool import Spool
from service.store import Catalogue
from service.workbench import WorkContext

# A worker may start together with its node.
_NODE_STARTS_S = 30.0

log = get_logger("worker")


class Heart:
    """One executor's heartbeat, and its ear for others'.

    Parameters
    ----------
    catalogue : Catalogue
    executor_id : str
    silent_s : float
        Who is silent for longer is taken for dead.
    """

    def __init__(self, catalogue: Catalogue, executor_id: str, silent_s: float) -> None:
        self._catalogue = catalogue
        self._executor_id = executor_id
        self._silent_s = silent_s
        self._next = 0.0

    def turn(self) -> bool:
        """As `Loop` wants it."""
        self.beat(time.time())
        return False

    def beat(self, now: float) -> None:
        """Beat when it is time, and hand on what the silent have left."""
        if self._next - self._silent_s < now < self._next:
            return
        self._next = now + self._silent_s / 4
        self._catalogue.workers.beat(self._executor_id, now)
        for silent in self._catalogue.workers.silent_since(
            now - self._silent_s, now + self._silent_s
        ):
            if silent == self._executor_id:
                continue
            recovered = work_engine.recover([silent])
            self._catalogue.workers.forget(silent)
            log.warning("a silent worker's work is handed on", workflows=recovered)


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
        work_engine.launch(work, workflow_url(settings), self.executor_id)
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
        work_engine.shutdown()
        if self._extractor is not None:
            self._extractor.close()
        if self._catalogue is not None:
            self._catalogue.close()

    def wait(self) -> None:
        """Block until told to end, then stop."""
        wait_for_the_end(self._stopping)
        self.stop()
