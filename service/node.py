"""The node: everything `mirv serve` runs, with a beginning and an end."""

import fcntl
import os
import signal
import threading
import time
from pathlib import Path

from analysis.errors import MirvError, Transient
from analysis.extraction import Extractor
from config.settings import Settings
from service import doctor, errands, retention, workflows
from service.http.app import create_app
from service.http.server import HttpServer
from service.listener import Listener
from service.log import get_logger
from service.pipeline import extractor_from, plan_from
from service.scheduler import Scheduler
from service.spool import Spool
from service.store import Store
from service.workbench import Workbench
from service.worker import Heart, catalogue_url, workflow_url

_SLOWEST_TICK_S = 1.0
_FASTEST_TICK_S = 0.05
_RETENTION_EVERY_S = 3600.0
SERVE_EXECUTOR = "serve"

log = get_logger("node")


class AlreadyRunning(MirvError, RuntimeError):  # noqa: N818 - the name says what is the case
    """Another node serves this folder."""


class FolderLock:
    """One node a folder: held by the process, so a crash frees it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "node.lock"
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take the lock.

        Raises
        ------
        AlreadyRunning
            Another process has it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise AlreadyRunning(f"another node serves {self._path.parent}") from None
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Node:
    """Listener, scheduler and workers of one folder.

    Parameters
    ----------
    settings : Settings

    Attributes
    ----------
    settings : Settings
    plan : Plan
        Read from the settings when made, so faults show before anything starts.
    store, spool
        There from `start` on.
    """

    store: Store
    spool: Spool

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.plan = plan_from(settings)
        self._lock = FolderLock(settings.folder)
        self._stopping = threading.Event()
        self._ticker: threading.Thread | None = None
        self._listener: Listener | None = None
        self._extractor: Extractor | None = None
        self._http: HttpServer | None = None

    def start(self) -> None:
        """Sweep, migrate, recover, listen; returns when objects are taken in.

        Raises
        ------
        AlreadyRunning
            Another node serves the folder.
        OSError
            The listening address is taken.
        """
        settings = self.settings
        settings.folder.mkdir(parents=True, exist_ok=True)
        self._lock.take()
        self._stopping.clear()
        try:
            self._start_inside()
        except BaseException:
            self.stop()
            raise
        log.info("node started", folder=str(settings.folder))

    def _start_inside(self) -> None:
        settings = self.settings
        self.spool = Spool(settings.folder / "spool")
        swept = self.spool.sweep()
        self.store = Store(catalogue_url(settings))
        self.store.events.add(time.time(), "node_started", swept=swept)
        doctor.repair(self.spool, self.store, doctor.check(self.spool, self.store, in_flight_s=0))
        self._extractor = extractor_from(settings)
        bench = Workbench(settings, self.plan, self.spool, self.store, self._extractor)
        workflows.launch(bench, workflow_url(settings), SERVE_EXECUTOR)
        workflows.reconcile()
        self._listener = Listener(
            settings.listener,
            self.spool,
            self.store,
            on_report=lambda report: workflows.note_report(bench, report),
            on_commitment_request=errands.answer_commitment,
        )
        self._listener.start()
        self._ticker = threading.Thread(target=self._tick_until_stopped, name="scheduler")
        self._ticker.start()
        if settings.http.enabled:
            self._http = HttpServer(create_app(self.store, self.spool, settings), settings.http)
            self._http.start()

    def _tick_until_stopped(self) -> None:
        scheduler = Scheduler(
            self.store,
            self.plan,
            self.settings.quiet_s,
            workflows.enqueue_run,
            workflows.enqueue_delivery,
            self.settings.compare_with_prior,
            start_fetch=errands.enqueue_fetch if self.settings.sources else None,
            fetch_again_s=self.settings.fetch_again_s,
        )
        pause = min(_SLOWEST_TICK_S, max(_FASTEST_TICK_S, self.settings.quiet_s / 10))
        heart = Heart(self.store, SERVE_EXECUTOR, self.settings.worker_silent_s)
        next_sweep = time.monotonic()
        while not self._stopping.wait(pause):
            try:
                scheduler.tick(time.time())
                heart.beat(time.time())
                if time.monotonic() >= next_sweep:
                    next_sweep = time.monotonic() + _RETENTION_EVERY_S
                    retention.sweep(self.spool, self.store, self.settings.retention, time.time())
            except Transient as fault:
                log.warning("tick postponed", why=str(fault))
            except Exception:
                log.exception("tick failed")

    def stop(self) -> None:
        """End associations and stop working; what is in flight is taken up at the next start."""
        self._stopping.set()
        if self._http is not None:
            self._http.stop()
            self._http = None
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
        if self._ticker is not None:
            self._ticker.join()
            self._ticker = None
        workflows.shutdown()
        if self._extractor is not None:
            self._extractor.close()
            self._extractor = None
        if hasattr(self, "store"):
            self.store.close()
        self._lock.release()
        log.info("node stopped")

    def wait(self) -> None:
        """Block until `stop` is called or the process is told to end, then stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self._stopping.set())
        while not self._stopping.wait(0.5):
            pass
        self.stop()


__all__ = ["AlreadyRunning", "FolderLock", "Node", "catalogue_url", "workflow_url"]
