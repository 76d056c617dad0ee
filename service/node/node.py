"""The node: everything `mirv serve` runs, with a beginning and an end."""

import contextlib
import gc
import threading
import time
from functools import partial

from mirv.analysis.extraction.pool import Extractor
from mirv.config.errors import opening
from mirv.config.settings import Settings
from mirv.service.catalogue import Catalogue, EventKind
from mirv.service.http.app import create_app
from mirv.service.http.server import HttpServer
from mirv.service.inbound.follower import Follower, Surroundings
from mirv.service.inbound.listener import Listener
from mirv.service.inbound.processes import ListenerProcesses
from mirv.service.node.heartbeat import Heart
from mirv.service.objects import repair, retention
from mirv.service.objects.clock import ClockWatch
from mirv.service.objects.intake import Intake
from mirv.service.objects.spool import Spool
from mirv.service.objects.spool_name import name_spool
from mirv.service.peers.commitment import CommitmentCalls
from mirv.service.runtime.log import get_logger
from mirv.service.runtime.loop import Loop, end_when_told, wait_for_the_end
from mirv.service.runtime.node_folder import (
    AlreadyRunning,
    FolderLock,
    NodeFolder,
    catalogue_url,
    workflow_url,
)
from mirv.service.runtime.state import NodeState
from mirv.service.study.plan import extractor_from, plan_from
from mirv.service.work import engine, queues
from mirv.service.work.commitments import answer_commitment, note_report
from mirv.service.work.context import WorkContext
from mirv.service.work.deliveries import enqueue_delivery
from mirv.service.work.fetches import enqueue_fetch
from mirv.service.work.priors import enqueue_prior
from mirv.service.work.runs import enqueue_run, reconcile
from mirv.service.work.schedule.priorities import priority_of
from mirv.service.work.schedule.scheduler import Rules, Scheduler, Starters

_SLOWEST_TICK_S = 1.0
_FASTEST_TICK_S = 0.05
_RETENTION_EVERY_S = 3600.0
_DAY_S = 86_400.0
_CLAIM_PATIENCE_S = 10.0
_CLOCK_SLACK_S = 60.0
SERVE_EXECUTOR = "serve"

log = get_logger("node")


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
    state : NodeState
        What this process knows of itself.
    catalogue, spool
        There from `start` on.
    """

    catalogue: Catalogue
    spool: Spool

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.plan = plan_from(settings)
        self._lock = FolderLock(NodeFolder(settings.folder))
        self._stopping = threading.Event()
        self.state = NodeState()
        self._loops: list[Loop] = []
        self._followers: list[Follower] = []
        self._listener: Listener | ListenerProcesses | None = None
        self._extractor: Extractor | None = None
        self._http: HttpServer | None = None
        self._opened = contextlib.ExitStack()

    def end_when_told(self) -> None:
        """Heed a signal to end from now on: one that comes while we start ends us after it."""
        end_when_told(self._stopping)

    def start(self) -> None:
        """Sweep, migrate, recover, listen; returns when objects are taken in.

        Raises
        ------
        AlreadyRunning
            Another node serves the folder.
        OtherSpool
            The catalogue tells of another spool than the folder's.
        Unavailable
            The folder cannot be written, a certificate not be read, or an address is taken.
        """
        settings = self.settings
        with opening():
            settings.folder.mkdir(parents=True, exist_ok=True)
            self._lock.take()
        try:
            self._start_inside()
        except BaseException:
            self.stop()
            raise
        gc.collect()
        gc.freeze()  # what is there now stays: no collection need stop the associations for it
        log.info("node started", folder=str(settings.folder))

    def _start_inside(self) -> None:
        settings = self.settings
        with opening():
            self.spool = Spool(NodeFolder(settings.folder).spool)
        swept = self.spool.sweep()
        self.catalogue = Catalogue(catalogue_url(settings))
        self._opened.callback(self.catalogue.close)
        if not self.catalogue.claim.take(_CLAIM_PATIENCE_S):
            raise AlreadyRunning("another node, on another folder or machine, serves the catalogue")
        clock = ClockWatch(self.catalogue, SERVE_EXECUTOR)
        clock.look_back()
        with opening():
            name_spool(self.spool.folder, self.catalogue, time.time())
        self.catalogue.events.add(time.time(), EventKind.NODE_STARTED, swept=swept)
        findings = repair.check(self.spool, self.catalogue, in_flight_s=0)
        issuer_of = settings.identity.issuer_of
        repair.put_right(self.spool, self.catalogue, findings, issuer_of=issuer_of)
        clock.look()  # what the repair indexed came before a jump forward
        self._extractor = extractor_from(settings)
        work = WorkContext(settings, self.plan, self.spool, self.catalogue, self._extractor)
        engine.launch(work, workflow_url(settings), SERVE_EXECUTOR)
        reconcile()
        with opening():  # its address and, for TLS, the certificates
            self._listener = self._listening(work)
            self._listener.start()
        with opening():  # certificates and passwords of those that are followed
            self._loops = [self._scheduling(), self._keeping_house(clock), *self._following()]
        for loop in self._loops:
            loop.start()
        if settings.http.enabled:
            app = create_app(self.catalogue, self.spool, settings, self.state)
            self._http = HttpServer(app, settings.http)
            self._http.start()

    def _listening(self, work: WorkContext) -> Listener | ListenerProcesses:
        settings, identity = self.settings.listener, self.settings.identity
        told = CommitmentCalls(partial(note_report, work), answer_commitment)
        if settings.processes == 1:
            return Listener(
                settings, self.spool, self.catalogue, identity.issuer_of, commitment=told
            )
        return ListenerProcesses(
            settings, self.settings.folder, catalogue_url(self.settings), told, identity
        )

    def _scheduling(self) -> Loop:
        settings = self.settings
        rules = Rules(
            quiet_s=settings.quiet_s,
            compare_with_prior=settings.compare_with_prior,
            rank=partial(priority_of, settings.priorities, self.catalogue.instances),
            fetch_again_s=settings.fetch_again_s,
            longest_wait_s=_CLOCK_SLACK_S
            + max(settings.delivery.longest_retry_s, settings.delivery.commitment_timeout_s),
        )
        start = Starters(
            run=enqueue_run,
            delivery=enqueue_delivery,
            fetch=self._start_fetch if settings.sources else None,
            prior=enqueue_prior if settings.priors else None,
            hasten=queues.hasten,
        )
        scheduler = Scheduler(self.catalogue, self.plan, rules, start)

        def turn() -> bool:
            backlog = self.catalogue.runs.under_way() + scheduler.open_studies
            self.state.weigh(backlog, self.spool.free_bytes(), settings)
            scheduler.tick(time.time())
            return False

        rest_s = min(_SLOWEST_TICK_S, max(_FASTEST_TICK_S, settings.quiet_s / 10))
        return Loop("scheduler", turn, rest_s)

    def _start_fetch(self, study_uid: str, series_uid: str, round_number: int) -> bool:
        if self.state.paused:
            return False
        enqueue_fetch(study_uid, series_uid, round_number)
        return True

    def _keeping_house(self, clock: ClockWatch) -> Loop:
        settings = self.settings
        heart = Heart(self.catalogue, SERVE_EXECUTOR, settings.worker_silent_s)
        next_sweep = time.monotonic()

        def turn() -> bool:
            nonlocal next_sweep
            if not self.catalogue.claim.take():
                log.error("another node took over the catalogue while its server was away")
                self._stopping.set()
            now = clock.look()
            heart.beat(now)
            if time.monotonic() >= next_sweep:
                next_sweep = time.monotonic() + _RETENTION_EVERY_S
                retention.sweep(self.spool, self.catalogue, settings.retention, now)
                keep_s = settings.retention.keep_workflow_days * _DAY_S
                while engine.forget_ended(now - keep_s):
                    pass
            return False

        return Loop("house", turn, rest_s=_SLOWEST_TICK_S)

    def _following(self) -> list[Loop]:
        issuer_of = self.settings.identity.issuer_of
        intake = Intake(self.spool, self.catalogue, issuer_of=issuer_of)
        largest = self.settings.listener.max_object_mb * 1024**2
        loops = []
        for wanted in self.settings.follow:
            follower = Follower(
                wanted,
                intake,
                self.catalogue,
                largest,
                Surroundings(lambda: bool(self.state.paused), self._stopping.is_set),
            )
            self.state.following[wanted.name] = follower.state
            self._followers.append(follower)
            loops.append(Loop(f"follow {wanted.name}", follower.turn, wanted.poll_s))
        return loops

    def stop(self) -> None:
        """End associations and stop working; what is in flight is taken up at the next start."""
        self._stopping.set()
        if self._http is not None:
            self._http.stop()
            self._http = None
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
        for loop in self._loops:
            loop.stop()
        for follower in self._followers:
            follower.close()
        self._loops, self._followers = [], []
        engine.shutdown()
        if self._extractor is not None:
            self._extractor.close()
            self._extractor = None
        self._opened.close()
        self._lock.release()
        log.info("node stopped")

    def wait(self) -> None:
        """Block until `stop` is called or the process is told to end, then stop."""
        wait_for_the_end(self._stopping)
        self.stop()
