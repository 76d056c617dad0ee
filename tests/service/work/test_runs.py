"""Runs and deliveries as durable workflows; the pipeline itself is replaced by a small one."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dbos import DBOS, error
from pydicom import Dataset

from mirv.analysis.errors import Transient, Unsuitable
from mirv.analysis.model import Geometry, Provenance, StudyResult, Volume
from mirv.config.settings import Settings
from mirv.config.settings.keeping import Delivery
from mirv.config.settings.network import Destination, Source, Webhook
from mirv.config.settings.processing import Reading
from mirv.dicom_io.model import Artifact, Evidence, Predecessor, RenderContext, StudyInput
from mirv.dicom_io.study.matching import Selection
from mirv.service.catalogue import (
    Catalogue,
    DeliveryRow,
    DeliveryState,
    EventKind,
    PriorSearch,
    RunRow,
    RunState,
    sqlite_url,
)
from mirv.service.catalogue.run_rows import NewRun
from mirv.service.catalogue.states import ENDED
from mirv.service.objects.results import read_result
from mirv.service.objects.spool import Spool
from mirv.service.peers.destinations.outcome import DeliveryOutcome, Outgoing
from mirv.service.study.plan import Plan
from mirv.service.work import deliveries, engine, notices, priors, queues, runs
from mirv.service.work.context import WorkContext, work_context
from tests.peers import wait_until

SR = "1.2.840.10008.5.1.4.1.1.88.34"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
PLAN = Plan((), (), Reading())


@dataclass
class Staged:
    """A work context whose pipeline and peers do as the test says."""

    store: Catalogue
    spool: Spool
    analyse: Callable[[str], None] = lambda _run: None
    render: Callable[[str], None] = lambda _run: None
    answer: Callable[[Outgoing], tuple[str, int | None]] = lambda _one: ("delivered", 0)
    sent: list[tuple[str, list[str]]] = field(default_factory=list)
    contexts: list[RenderContext] = field(default_factory=list)
    relaunch: Callable[[], None] = lambda: None
    progress: Callable[[int, int], None] = lambda _done, _total: None

    def queue(self, run_id: str, now: float = 1_700_000_000.5, series: str = "1.8") -> RunRow:
        """Record a run and queue its workflow."""
        self.store.runs.queue(_new(run_id, series), now)
        row = self.run(run_id)
        runs.enqueue_run(row)
        return row

    def run(self, run_id: str) -> RunRow:
        """The run as it stands."""
        row = self.store.runs.get(run_id)
        assert row is not None
        return row

    def ended(self, run_id: str) -> RunRow:
        """The run once it has ended."""
        wait_until(lambda: self.run(run_id).state in ENDED, 30, f"run {run_id} ends", 0.02)
        return self.run(run_id)

    def deliveries(self, state: str, number: int) -> list[DeliveryRow]:
        """Deliveries once so many are in this state."""
        wait_until(lambda: len(self.store.deliveries.all(state=state)) == number, 30, state, 0.02)
        return self.store.deliveries.all(state=state)


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Staged]:
    staged = Staged(Catalogue(sqlite_url(tmp_path / "catalogue.sqlite")), Spool(tmp_path / "spool"))
    settings = Settings(
        folder=tmp_path,
        destinations=(
            Destination(name="PACS", ae_title="PACS", host="127.0.0.1", port=104),
            Destination(
                name="ARCHIVE", ae_title="A", host="127.0.0.1", port=105, outputs=("lesion_seg",)
            ),
        ),
        delivery=Delivery(max_attempts=2, first_retry_s=0.01, longest_retry_s=0.01),
    )

    def analyse(selection: Selection, *_: Any, **more: Any) -> tuple[StudyInput, StudyResult]:
        staged.progress = more["progress"]
        staged.analyse(selection.input_digest)
        return _study_of(selection), _result_of(selection.input_digest)

    def render(
        study: StudyInput, _result: StudyResult, context: RenderContext
    ) -> tuple[Artifact, ...]:
        staged.render(study.input_digest)
        staged.contexts.append(context)
        return tuple(_artifact(role, context.run_digest) for role in ("lesion_sr", "lesion_seg"))

    def send(
        destination: Destination, outgoing: list[Outgoing], calling: str
    ) -> list[DeliveryOutcome]:
        staged.sent.append((destination.name, [one.path.read_bytes().decode() for one in outgoing]))
        return [
            DeliveryOutcome(one.delivery_id, *staged.answer(one), "told so") for one in outgoing
        ]

    monkeypatch.setattr(runs.pipeline, "analyse_selection", analyse)
    monkeypatch.setattr(runs, "render", render)
    monkeypatch.setattr(runs, "assemble", lambda selection, *_: _study_of(selection))
    monkeypatch.setattr(deliveries, "send", send)
    made = WorkContext(settings, PLAN, staged.spool, staged.store, None)
    engine.launch(made, sqlite_url(tmp_path / "workflows.sqlite"), "test")
    staged.relaunch = lambda: engine.launch(made, sqlite_url(tmp_path / "workflows.sqlite"), "test")
    yield staged
    engine.shutdown()
    staged.store.close()


def _new(run_id: str, series: str = "1.8", patient: str = "P", **more: Any) -> NewRun:
    """A run of a selection whose input digest is the run's name, so that stand-ins know it."""
    selection = Selection("1.9", series, patient, "CT", ("1.7",), ("1.6",), (), run_id).to_json()
    given = {"study_date": "20200101", **more}
    return NewRun(
        run_id, "1.9", series, patient, input_digest=run_id, plan_digest=PLAN.digest,
        selection=selection, **given,
    )  # fmt: skip


def _study_of(selection: Selection) -> StudyInput:
    """One voxel and no lesion."""
    image = Dataset()
    image.PatientID, image.StudyDate = selection.patient_id, "20200101"
    image.StudyInstanceUID, image.SeriesInstanceUID = "1.9", "1.8"
    volume = Volume(np.zeros((1, 1, 1)), Geometry((1, 1, 1), np.eye(4)), "HU")
    return StudyInput(volume, (), {}, Evidence((image,), (), ()), selection.input_digest, ())


def _result_of(input_digest: str) -> StudyResult:
    return StudyResult((), (), (), (), Provenance(input_digest, {}, {}, {}))


def _artifact(role: str, run_id: str) -> Artifact:
    content = f"{role} of {run_id}".encode()
    number = int(hashlib.sha256(content).hexdigest()[:16], 16)
    return Artifact(role, SEG if "seg" in role else SR, f"2.25.{number}", "2.25.1", content)


def test_a_run_is_analysed_rendered_and_delivered(staged: Staged) -> None:
    staged.queue("a")
    assert staged.ended("a").state == RunState.FINISHED
    rows = staged.deliveries("delivered", 3)
    assert {(row.destination, row.role) for row in rows} == {
        ("PACS", "lesion_seg"),
        ("PACS", "lesion_sr"),
        ("ARCHIVE", "lesion_seg"),
    }
    assert sorted(staged.sent) == [
        ("ARCHIVE", ["lesion_seg of a"]),
        ("PACS", ["lesion_seg of a", "lesion_sr of a"]),
    ]
    result = staged.run("a").result_sha256
    assert result is not None
    assert read_result(staged.spool, result).result.provenance.input_digest == "a"
    kinds = [event.kind for event in reversed(staged.store.events.all(run_id="a"))]
    assert kinds == ["queued", "started", "finished", *["delivered"] * 3]


def test_outputs_are_dated_by_the_queueing_and_name_the_predecessor(staged: Staged) -> None:
    staged.queue("a")
    staged.ended("a")
    staged.queue("b", now=1_700_000_100.9)
    staged.ended("b")
    first, second = staged.contexts
    assert first.created.timestamp() == 1_700_000_000
    assert first.predecessor == {}
    assert second.predecessor == {
        role: Predecessor(one.sop_class_uid, one.sop_instance_uid, one.series_instance_uid)
        for role in ("lesion_sr", "lesion_seg")
        for one in [_artifact(role, "a")]
    }


def test_unsuitable_input_is_refused_at_once_with_its_reason(staged: Staged) -> None:
    calls: list[str] = []

    def unsuitable(run_id: str) -> None:
        calls.append(run_id)
        raise Unsuitable("slice_missing", "found a gap of 5 mm, wanted 2.5 mm")

    staged.analyse = unsuitable
    staged.queue("a")
    run = staged.ended("a")
    assert (run.state, run.reason_code) == ("refused", "slice_missing")
    assert run.reason_detail == "found a gap of 5 mm, wanted 2.5 mm"
    assert calls == ["a"]
    assert staged.store.deliveries.all() == []


@pytest.mark.parametrize(("code", "holds"), [("no_lesions", False), ("object_gone", True)])
def test_a_result_holds_no_more_when_what_came_since_is_refused(
    staged: Staged, code: str, holds: bool
) -> None:
    """Not so when the refusal says nothing of the input."""
    staged.queue("a")
    staged.ended("a")

    def unsuitable(run_id: str) -> None:
        if run_id == "b":
            raise Unsuitable(code, "found none, wanted some")

    staged.analyse = unsuitable
    staged.queue("b")
    staged.ended("b")
    assert len(staged.store.runs.current_results()) == holds
    assert staged.run("a").superseded_by == (None if holds else "b")
    staged.queue("c")
    staged.ended("c")
    assert staged.run("c").predecessor == "a"
    assert staged.run("a").superseded_by == "c"


def test_a_bug_fails_its_run_with_the_traceback_and_the_next_runs(staged: Staged) -> None:
    def bug(run_id: str) -> None:
        if run_id == "a":
            raise ZeroDivisionError("by a bug")

    staged.render = bug
    staged.queue("a")
    run = staged.ended("a")
    assert (run.state, run.reason_code) == ("failed", "internal_fault")
    assert "ZeroDivisionError: by a bug" in run.reason_detail
    staged.queue("b")
    assert staged.ended("b").state == RunState.FINISHED


def test_a_passing_fault_is_repeated(staged: Staged, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [Transient("locked"), OSError("stale file handle")]

    def passing(_run: str) -> None:
        if faults:
            raise faults.pop()

    staged.analyse = passing
    staged.queue("a")
    assert staged.ended("a").state == RunState.FINISHED
    assert faults == []


def test_queueing_twice_runs_once(staged: Staged) -> None:
    calls: list[str] = []
    staged.analyse = calls.append
    row = staged.queue("a")
    runs.enqueue_run(row)
    staged.ended("a")
    runs.enqueue_run(row)
    staged.queue("b")
    staged.ended("b")
    assert calls == ["a", "b"]


def test_only_what_was_refused_for_now_is_tried_again(staged: Staged) -> None:
    staged.answer = lambda one: ("retry", 0xA700) if one.sop_class_uid == SR else ("park", 0xC000)
    staged.queue("a")
    staged.ended("a")
    assert {row.role for row in staged.deliveries("parked", 2)} == {"lesion_seg"}
    wait_until(
        lambda: staged.store.deliveries.all(state=DeliveryState.WAITING)[0].attempts,
        30,
        "tried",
        0.02,
    )
    (waiting,) = staged.store.deliveries.all(state=DeliveryState.WAITING)
    assert (waiting.role, waiting.attempts, waiting.last_status) == ("lesion_sr", 1, 0xA700)
    staged.answer = lambda _one: ("retry", None)
    wait_until(lambda: deliveries.enqueue_delivery("a", "PACS", 1), 30, "queued", 0.02)
    parked = staged.deliveries("parked", 3)
    assert {row.attempts for row in parked if row.role == "lesion_sr"} == {2}


def test_a_fault_while_sending_parks_with_the_traceback(staged: Staged) -> None:
    def bug(_one: Outgoing) -> tuple[str, int | None]:
        raise ZeroDivisionError("by a bug")

    staged.answer = bug
    staged.queue("a")
    assert all("by a bug" in row.detail for row in staged.deliveries("parked", 3))


def test_the_webhook_hears_of_ends_and_parkings_once(
    staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str, str]] = []
    at_work = work_context()
    hook = Webhook(url="http://127.0.0.1:9/")
    changed = at_work.settings.model_copy(update={"webhook": hook})
    monkeypatch.setattr(at_work, "settings", changed)
    monkeypatch.setattr(
        notices,
        "notify",
        lambda _hook, kind, run_id, _at, destination="": told.append((kind, run_id, destination)),
    )
    staged.answer = lambda _one: ("park", 0xC000)
    staged.queue("a")
    wait_until(lambda: len(told) == 3, 30, "all is told", 0.02)
    assert sorted(told) == [
        ("finished", "a", ""),
        ("parked", "a", "ARCHIVE"),
        ("parked", "a", "PACS"),
    ]
    # DBOS keeps pickles, and one of a type of ours is lost with work in flight when it moves.
    for one in DBOS.list_workflows():
        given = [*(one.input or {}).get("args", ()), one.output]
        assert {type(value) for value in given} <= {str, float, bool, type(None)}, one.name


def test_stopping_in_the_middle_is_no_failure_and_is_taken_up_again(staged: Staged) -> None:
    at_work, stopped = threading.Event(), threading.Event()

    def interrupted(_run: str) -> None:
        if not stopped.is_set():
            at_work.set()
            stopped.wait(30)
            raise RuntimeError("the pool was closed under it")

    staged.analyse = interrupted
    staged.queue("a")
    assert at_work.wait(30)
    engine.shutdown()
    stopped.set()
    time.sleep(0.5)
    assert staged.run("a").state == RunState.RUNNING
    staged.relaunch()
    runs.reconcile()
    assert staged.ended("a").state == RunState.FINISHED


def test_the_more_urgent_run_goes_first_and_of_equals_the_older(staged: Staged) -> None:
    begun: list[str] = []
    free = threading.Event()

    def analyse(run_id: str) -> None:
        begun.append(run_id)
        free.wait(30)

    staged.analyse = analyse
    staged.queue("first")
    wait_until(lambda: begun, 30, "the first is at work", 0.02)
    for name, priority in (("usual", 100), ("late", 500), ("urgent", 1), ("usual too", 100)):
        new = _new(name, f"1.8.{name}", priority=priority)
        staged.store.runs.queue(new, 1_700_000_000)
        runs.enqueue_run(staged.run(name))
    free.set()
    for name in ("usual", "late", "urgent", "usual too"):
        staged.ended(name)
    assert begun == ["first", "urgent", "usual", "usual too", "late"]


def test_lesions_done_are_noted_now_and_then_and_the_last_for_sure(staged: Staged) -> None:
    seen: list[tuple[int | None, int | None]] = []

    def analyse(run_id: str) -> None:
        row = staged.run(run_id)
        assert (row.lesions_done, row.lesions_total) == (None, None)
        for done in range(1, 1001):
            staged.progress(done, 1000)
            if done in (1, 500, 1000):
                row = staged.run(run_id)
                seen.append((row.lesions_done, row.lesions_total))

    staged.analyse = analyse
    staged.queue("a")
    assert staged.ended("a").state == RunState.FINISHED
    assert seen[0] == (1, 1000)
    assert seen[1][0] is not None
    assert seen[1][0] < 500, "noted a thousand times"
    assert seen[2] == (1000, 1000)


def _begin_a_held_try(staged: Staged) -> threading.Event:
    """A run whose results are being sent, to be refused for now when this is set."""
    sending, free = threading.Event(), threading.Event()

    def answer(_one: Outgoing) -> tuple[str, int | None]:
        sending.set()
        free.wait(30)
        return "retry", None

    staged.answer = answer
    staged.queue("a")
    assert sending.wait(30)
    return free


def test_a_try_is_queued_only_when_none_is_at_work(staged: Staged) -> None:
    """Halfway through a try some of its deliveries count one try more: that is no new try."""
    held = _begin_a_held_try(staged)
    assert not deliveries.enqueue_delivery("a", "PACS", 1)
    held.set()
    wait_until(lambda: deliveries.enqueue_delivery("a", "PACS", 2), 30, "queued", 0.02)
    parked = staged.deliveries("parked", 2)
    assert {row.attempts for row in parked} == {2}


def _enqueue_due(staged: Staged) -> None:
    for one in staged.store.deliveries.due(time.time()):
        deliveries.enqueue_delivery(*one)


def test_what_was_cancelled_while_its_try_was_at_work_can_be_tried_again(
    staged: Staged,
) -> None:
    held = _begin_a_held_try(staged)
    to_pacs = staged.store.deliveries.all(destination="PACS")
    for row in to_pacs:
        assert staged.store.deliveries.cancel(row.id, time.time())
    staged.answer = lambda _one: ("delivered", 0)
    held.set()
    _ended_as("SUCCESS", "deliver:a:PACS:0")
    for row in to_pacs:
        assert staged.store.deliveries.retry(row.id, 3, time.time())
    _enqueue_due(staged)
    assert len(staged.deliveries("delivered", 3)) == 3


def _ended_as(state: str, workflow_id: str) -> None:
    def ended() -> bool:
        found = DBOS.get_workflow_status(workflow_id)
        return found is not None and found.status == state

    wait_until(ended, 30, f"{workflow_id} ends", 0.02)


def test_a_try_that_could_not_note_what_it_did_is_followed_by_another(
    staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its workflow ends with a fault of the node's own disk, and would not run a second time."""
    with monkeypatch.context() as broken:
        broken.setattr(deliveries, "_attempt", _full_disk)
        broken.setattr(deliveries, "_park_all", _full_disk)
        staged.queue("a")
        staged.ended("a")
        _ended_as("ERROR", "deliver:a:PACS:0")
        _ended_as("ERROR", "deliver:a:ARCHIVE:0")
    _enqueue_due(staged)
    assert len(staged.deliveries("delivered", 3)) == 3


def _full_disk(*_: object) -> None:
    raise OSError(28, "no space left")


def test_a_destination_that_says_nothing_holds_up_no_other(
    staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More tries hang than there are places; the other destination and the webhook have theirs."""
    free, told = threading.Event(), threading.Event()
    usual = deliveries.send

    def send(
        destination: Destination, outgoing: list[Outgoing], calling: str
    ) -> list[DeliveryOutcome]:
        if destination.name == "PACS":
            free.wait(60)
        return usual(destination, outgoing, calling)

    monkeypatch.setattr(deliveries, "send", send)
    monkeypatch.setattr(notices, "notify", lambda *_, **__: told.set())
    at_work = work_context()
    changed = at_work.settings.model_copy(update={"webhook": Webhook(url="http://127.0.0.1:9/")})
    try:
        for number in range(changed.limits.deliveries + 1):
            staged.queue(f"{number}", series=f"1.8.{number}")
        staged.deliveries("delivered", changed.limits.deliveries + 1)
        assert {row.destination for row in staged.deliveries("delivered", 9)} == {"ARCHIVE"}
        monkeypatch.setattr(at_work, "settings", changed)
        notices.enqueue_notice("finished", "0")
        assert told.wait(30)
    finally:
        free.set()


def test_an_earlier_study_no_source_answered_for_is_noted_and_looked_for_in_the_next_round(
    staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def find(_name: str, run_id: str) -> list[str]:
        asked.append(run_id)
        if len(asked) == 1:
            raise error.DBOSMaxStepRetriesExceeded("find", 6, [Transient("away")])
        work_context().catalogue.priors.note(run_id, PriorSearch.MISSING, "1.9", 2.0)
        return []

    at_work = work_context()
    source = Source(name="pacs", method="dicomweb", url="http://127.0.0.1:9/")
    changed = at_work.settings.model_copy(update={"sources": (source,)})
    monkeypatch.setattr(at_work, "settings", changed)
    monkeypatch.setattr(priors, "_find_prior", find)
    staged.queue("a")
    unanswered = staged.store.priors.unanswered
    priors.enqueue_prior("a", "1.9")
    wait_until(unanswered, 30, "noted", 0.02)
    assert unanswered() == [("a", "1.9")]
    _ended_as("SUCCESS", "prior:1.9")
    priors.enqueue_prior("a", "1.9", 7)
    wait_until(lambda: unanswered() == [], 30, "answered", 0.02)
    assert asked == ["a", "a"]


def test_an_earlier_study_goes_no_later_than_the_one_that_waits_for_it(staged: Staged) -> None:
    at_work, free, order = threading.Event(), threading.Event(), list[str]()

    def analyse(run_id: str) -> None:
        order.append(run_id)
        at_work.set()
        free.wait(30)

    staged.analyse = analyse
    staged.queue("first", series="1.8.1")
    assert at_work.wait(30)
    for name, date, priority in (("other", "20200505", 100), ("prior", "20200101", 1000)):
        patient = "Q" if name == "prior" else "R"
        new = _new(name, f"1.8.{name}", patient, study_date=date, priority=priority)
        staged.store.runs.queue(new, 1)
        runs.enqueue_run(staged.run(name))
    staged.store.comparisons.hasten_prior("Q", "20210101", 1, queues.hasten)
    assert (staged.run("prior").priority, staged.run("other").priority) == (1, 100)
    free.set()
    for name in ("prior", "other"):
        assert staged.ended(name).state == RunState.FINISHED
    assert order == ["first", "prior", "other"]


def test_records_of_ended_work_go_and_what_is_done_stays_done(staged: Staged) -> None:
    staged.queue("a")
    staged.ended("a")
    delivered = staged.deliveries("delivered", 3)
    free = threading.Event()

    def analyse(_run: str) -> None:
        free.wait(30)

    staged.analyse = analyse
    staged.queue("b")
    wait_until(lambda: staged.run("b").state == RunState.RUNNING, 30, "at work", 0.02)
    assert engine.forget_ended(time.time() - 60) == 0
    gone: list[int] = []

    def all_gone() -> bool:  # the run and two deliveries, once each says that it has ended
        gone.append(engine.forget_ended(time.time() + 60))
        return sum(gone) == 3

    wait_until(all_gone, 30, "all records go")
    assert DBOS.get_workflow_status("a") is None
    runs.enqueue_run(staged.run("a"))
    free.set()
    assert staged.ended("b").state == RunState.FINISHED, "what is at work keeps its record"
    staged.deliveries("delivered", 6)
    assert staged.store.runs.artifacts("a")
    assert [row for row in staged.store.deliveries.all() if row.run_id == "a"] == delivered
    assert len(staged.store.events.all(kind=EventKind.FINISHED, run_id="a")) == 1
