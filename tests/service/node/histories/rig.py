"""A node in this process, at any hour: everything real but network, DBOS and PyRadiomics.

DBOS's part is small: what is queued is worked by priority, once, and again after a crash. A few
numbers from mask and image stand for the features.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import structlog

from mirv.analysis.model import Lesion, LesionResult, Volume
from mirv.config.profiles import ExtractionProfile
from mirv.config.settings import Settings
from mirv.config.settings.keeping import Retention
from mirv.config.settings.network import Destination
from mirv.service import catalogue
from mirv.service.catalogue import Catalogue, InstanceRow, RunRow, RunState, sqlite_url
from mirv.service.catalogue.database.engine import open_engine
from mirv.service.catalogue.states import UNDER_WAY
from mirv.service.objects import corrections, repair, retention
from mirv.service.objects.intake import Intake, Taken
from mirv.service.objects.spool import Spool
from mirv.service.peers.destinations.outcome import DeliveryOutcome, Outgoing
from mirv.service.peers.destinations.verdict import DeliveryVerdict
from mirv.service.study import folder as folder_mode
from mirv.service.study.plan import Plan, plan_from
from mirv.service.work import deliveries, runs
from mirv.service.work.context import Stopping, WorkContext, set_work_context
from mirv.service.work.schedule.scheduler import Rules, Scheduler, Starters
from tests.service.node.histories import world

QUIET = 30.0
NAMES = tuple(f"original_firstorder_{name}" for name in ("Maximum", "Mean", "Minimum"))
_PROFILE = """
name: few
description: Three numbers of the intensities.
pixel_type: int16
image_types: {Original: {}}
feature_classes: {firstorder: [Maximum, Mean, Minimum]}
settings: {binWidth: 25}
n_features: 3
selected: [original_firstorder_Mean, original_firstorder_Maximum]
"""


class FewNumbers:
    """Stands for the extractor: maximum, mean and minimum inside the mask."""

    def __init__(self) -> None:
        self.on_extract: Callable[[], None] = lambda: None

    def __enter__(self) -> "FewNumbers":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def extract(
        self,
        volume: Volume,
        lesions: Sequence[Lesion],
        profiles: Sequence[ExtractionProfile],
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[LesionResult, ...]:
        """As `Extractor.extract`."""
        self.on_extract()
        found = []
        for profile in profiles:
            for lesion in lesions:
                inside = volume.values[lesion.mask.slices][lesion.mask.values].astype(float)
                values = np.array([inside.max(), inside.mean(), inside.min()])
                found.append(_result(lesion, volume, profile, values))
        if progress is not None:
            progress(len(found), len(found))
        return tuple(found)


def _result(
    lesion: Lesion, volume: Volume, profile: ExtractionProfile, values: np.ndarray
) -> LesionResult:
    return LesionResult(
        number=lesion.number,
        label=lesion.label,
        tracking_id=lesion.tracking_id,
        tracking_uid=lesion.tracking_uid,
        site=lesion.site,
        volume_ml=lesion.mask.n_voxels * volume.geometry.voxel_volume_ml,
        profile=profile.name,
        names=NAMES,
        values=values,
    )


@dataclass(frozen=True, slots=True)
class Sent:
    """An object that reached the destination."""

    run_id: str
    sop_instance_uid: str
    content: bytes


@dataclass
class Books:
    """What DBOS keeps over a crash: who is queued, and who has ended."""

    queued: dict[str, RunRow] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    tries: dict[str, tuple[str, str]] = field(default_factory=dict)


class Rig:
    """The node.

    Attributes
    ----------
    store, spool : as of `Node`
    sent : list of Sent
        In the order they reached the destination.
    worked : list of str
        Runs in the order they were begun.
    """

    def __init__(self, settings: Settings, plan: Plan, spool: Spool, store: Catalogue) -> None:
        self.settings, self.plan = settings, plan
        self.folder = settings.folder
        self.extractor = FewNumbers()
        self.now = 1_700_000_000.0
        self.sent: list[Sent] = []
        self.worked: list[str] = []
        self.books = Books()
        self.crash_at = 0
        self.spool, self.store = spool, store
        self._begin()

    def _begin(self) -> None:
        self.spool.sweep()
        found = repair.check(self.spool, self.store, in_flight_s=0, clock=lambda: self.now)
        repair.put_right(self.spool, self.store, found)
        self.intake = Intake(self.spool, self.store, lambda: self.now)
        self.work = WorkContext(
            self.settings, self.plan, self.spool, self.store, self.extractor, lambda: self.now
        )
        set_work_context(self.work)
        self.scheduler = Scheduler(
            self.store,
            self.plan,
            Rules(QUIET, self.settings.compare_with_prior),
            Starters(self._enqueue, self._enqueue_delivery),
        )
        for run in self.store.runs.all(states=UNDER_WAY):
            self._enqueue(run)

    def restart(self) -> None:
        """End and start again on the same folder."""
        set_work_context(None)
        self.store.close()
        self.store = Catalogue(sqlite_url(self.folder / "catalogue.sqlite"))
        self._begin()

    # What DBOS would do

    def _enqueue(self, run: RunRow) -> None:
        if run.workflow_id not in self.books.ended:
            self.books.queued.setdefault(run.workflow_id, run)

    def _enqueue_delivery(self, run_id: str, destination: str, attempt: int) -> bool:
        return self.enqueue_try(f"deliver:{run_id}:{destination}:{attempt}", run_id, destination)

    def enqueue_try(self, workflow_id: str, run_id: str, destination: str) -> bool:
        """Queue a delivery, once under this identity."""
        if workflow_id not in self.books.ended:
            self.books.tries.setdefault(workflow_id, (run_id, destination))
        return True

    def send(
        self, _destination: Destination, outgoing: list[Outgoing], _calling: str
    ) -> list[DeliveryOutcome]:
        """The destination takes everything."""
        made = {
            artifact.sha256: artifact
            for run in self.store.runs.all()
            for artifact in self.store.runs.artifacts(run.run_id)
        }
        for one in outgoing:
            artifact = made[one.path.name]
            self.sent.append(
                Sent(artifact.run_id, artifact.sop_instance_uid, one.path.read_bytes())
            )
        return [
            DeliveryOutcome(one.delivery_id, DeliveryVerdict.DELIVERED, 0, "") for one in outgoing
        ]

    # What happens

    def take(self, content: bytes, source: str = "PACS") -> Taken:
        """An object arrives now."""
        return self.intake.take(content, source)

    def tick(self, seconds: float) -> int:
        """Let time pass and look; how many runs are new."""
        self.now += seconds
        return self.scheduler.tick(self.now)

    def look(self) -> None:
        """Let a study's quiet pass and look."""
        self.tick(QUIET)

    def work_one(self) -> bool:
        """Work the run that is first in the queue, and deliver; False when nothing is queued."""
        self._deliver()
        if not self.books.queued:
            return False
        order = list(self.books.queued)
        first = min(order, key=lambda one: (self.books.queued[one].priority, order.index(one)))
        run_id = self.books.queued[first].run_id
        self.worked.append(run_id)
        self.now += 1
        try:
            runs.process_run.__wrapped__(run_id)
        except Stopping:
            self.crash_at = 0
            self.restart()
            return True
        del self.books.queued[first]
        self.books.ended.add(first)
        self._deliver()
        return True

    def _deliver(self) -> None:
        for workflow_id, (run_id, destination) in list(self.books.tries.items()):
            deliveries.deliver.__wrapped__(run_id, destination)
            del self.books.tries[workflow_id]
            self.books.ended.add(workflow_id)

    def idle(self) -> None:
        """Let time pass until nothing more comes of what is there."""
        for _ in range(60):
            new = self.tick(QUIET)
            worked = False
            while self.work_one():
                worked = True
            if not (new or worked or self.books.tries or self.scheduler.open_studies):
                return
        raise AssertionError("the node does not come to rest")

    def retain(self) -> list[str]:
        """Rest, and remove what retention removes after a day; the SOP Instance UIDs of it."""
        self.idle()
        here = {row.sop_instance_uid for row in self._stored()}
        self.now += 2 * 86_400
        retention.sweep(self.spool, self.store, Retention(keep_days=1), self.now)
        return sorted(here - {row.sop_instance_uid for row in self._stored()})

    def aside(self) -> dict[str, bytes]:
        """What was put aside and is not stored, by its SHA-256."""
        return aside(self.spool, self.store)

    def accept(self, study_uid: str) -> list[str]:
        """Accept what is corrected in a study, where that is possible; the SOP Instance UIDs."""
        found = corrections.look(self.spool, self.store, study_uid)
        if found is None or found.obstacles:
            return []
        decision = corrections.Decision("history", self.now)
        corrections.accept(self.spool, self.store, [found], decision)
        return [row.sop_instance_uid for row in found.rows]

    def _stored(self) -> list[InstanceRow]:
        return [
            row
            for study in self.store.studies.all()
            for row in self.store.instances.all(study.study_uid)
            if row.removed_at is None
        ]

    def current(self) -> list[str]:
        """The runs whose results hold."""
        return sorted(
            run.run_id for run in self.store.runs.all(states=(RunState.FINISHED,), current=True)
        )

    def crash_in(self, step: str) -> None:
        """Let the process die in the next run: while it extracts, renders, or finishes."""
        self.crash_at = ("extract", "render", "finish").index(step) + 1

    def reached(self, step: int) -> None:
        """A run has come so far."""
        if self.crash_at == step:
            raise Stopping


def aside(spool: Spool, store: Catalogue) -> dict[str, bytes]:
    """What a node has put aside and does not hold for what is stored, by its SHA-256."""
    found = {}
    for one in spool.stored("quarantine"):
        content = one.path.read_bytes()
        row = store.instances.find(world.uid_of(content))
        if row is None or row.sha256 != one.sha256:
            found[one.sha256] = content
    return found


def settings_of(folder: Path, **more: object) -> Settings:
    """Settings of the node and of the folder mode it is compared with."""
    folder.mkdir(parents=True)
    profile = folder / "few.yaml"
    profile.write_text(_PROFILE, encoding="utf-8")
    return Settings(
        folder=folder,
        profiles=(str(profile),),
        spaces=(),
        outputs={"extras": ()},
        destinations=(Destination(name="PACS", ae_title="PACS", host="127.0.0.1", port=104),),
        **more,
    )


class Ground:
    """A node's folder that one history after another is played on, emptied between.

    Its many folders and the compiled queries of its catalogue take longest to make: a start makes
    neither anew. The spool has no state but its folders, and the engines none once they are closed.

    Parameters
    ----------
    settings : Settings
        Their folder is the node's.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._file = settings.folder / "catalogue.sqlite"
        self._plan, self._spool = plan_from(settings), Spool(settings.folder / "spool")
        self._engines = open_engine(sqlite_url(self._file))
        self._store = self._opened()

    def _opened(self) -> Catalogue:
        with self._engines_kept():
            return Catalogue(sqlite_url(self._file))

    @contextmanager
    def _engines_kept(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(catalogue, "open_engine", lambda _url: self._engines)
            yield

    def close(self) -> None:
        """Close the catalogue."""
        self._store.close()

    @contextmanager
    def node(self) -> Iterator[Rig]:
        """A node that has just been set up."""
        self._empty()
        rig = Rig(self.settings, self._plan, self._spool, self._store)
        with self._engines_kept(), _patched(rig) as made:
            try:
                yield made
            finally:
                set_work_context(None)
                self._store = made.store

    def _empty(self) -> None:
        for path in self.settings.folder.glob("spool/*/*/*"):
            path.unlink()
        with closing(sqlite3.connect(self._file)) as connection, connection:
            told = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
            guards = [(name, text) for kind, name, text in told if kind == "trigger"]
            for name, _ in guards:  # the audit trail cannot be shortened otherwise
                connection.execute(f'DROP TRIGGER "{name}"')
            for kind, name, _ in told:
                if kind == "table" and name != "alembic_version":
                    connection.execute(f'DELETE FROM "{name}"')  # noqa: S608 - its own names
            for _, text in guards:
                connection.execute(text)


@contextmanager
def _patched(made: Rig) -> Iterator[Rig]:
    """DBOS, the destination and the extractor are the rig's within."""
    render, finish = runs.render, type(made.store.runs).finish

    def rendering(*given: object) -> object:
        made.reached(2)
        return render(*given)

    def finishing(*given: object) -> bool:
        made.reached(3)
        return finish(*given)

    made.extractor.on_extract = lambda: made.reached(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "render", rendering)
        patch.setattr(type(made.store.runs), "finish", finishing)
        patch.setattr(runs, "enqueue_try", made.enqueue_try)
        patch.setattr(deliveries, "send", made.send)
        patch.setattr(folder_mode, "extractor_from", lambda _settings: FewNumbers())
        yield made


@contextmanager
def without_log() -> Iterator[None]:
    """What the node logs meanwhile is of no interest."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(wrapper_class=before)
