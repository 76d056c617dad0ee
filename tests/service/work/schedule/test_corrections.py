"""What an accepted correction makes of runs: revisions, predecessors, comparisons of others."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from pydicom import dcmread

from mirv.analysis.errors import Unsuitable
from mirv.dicom_io.phantom.patient import Phantom, write_study
from mirv.dicom_io.study.matching import Selection
from mirv.service.catalogue import CORRECTED, EventKind, RunRow
from mirv.service.catalogue.states import DeliveryState
from mirv.service.objects import corrections, repair
from mirv.service.objects.corrections import Decision
from mirv.service.objects.spool import Spool
from mirv.service.work import runs
from mirv.service.work.context import WorkContext
from mirv.service.work.schedule.scheduler import Scheduler
from tests.service.work.schedule.test_scheduler import Day

RIGHT = {"PatientID": "RIGHT", "PatientName": "Right^Name"}


class Archive(Day):
    """Studies sent, and sent again with corrections."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.spool = Spool(folder / "spool")

    def again(self, *paths: Path | None, **tags: str) -> None:
        """Objects arrive with other attributes under their own UIDs."""
        for path in paths:
            assert path is not None
            ds = dcmread(path)
            for name, value in tags.items():
                setattr(ds, name, value)
            ds.save_as(path)
            self.intake.take(path.read_bytes(), "test")

    def accept(self, study: Phantom | str) -> None:
        study_uid = study if isinstance(study, str) else study.identity.study_uid
        found = corrections.look(self.spool, self.store, study_uid)
        assert found is not None
        corrections.accept(self.spool, self.store, [found], Decision("test", self.now))

    def correct(self, study: Phantom, **tags: str) -> None:
        """The whole study is sent again, and accepted as it is stored now."""
        (stored,) = {
            row.study_uid
            for row in self.store.instances.all()
            if row.sop_instance_uid == str(dcmread(study.ct[0]).SOPInstanceUID)
        }
        self.again(*study.files, **tags)
        self.accept(stored)

    def current_of(self, patient_id: str) -> list[RunRow]:
        return [run for run in self.store.runs.all(current=True) if run.patient_id == patient_id]

    def finish_all(self) -> None:
        """Until nothing is new, every run that is queued ends well."""
        for _ in range(10):
            self.later()
            queued = self.store.runs.all(states=("queued",), current=True)
            if not queued:
                return
            for run in queued:
                self.finish(run.run_id)
        raise AssertionError("runs make runs for ever")


@pytest.fixture
def day(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Archive(tmp_path)
    yield made
    made.store.close()


def small(folder: Path, patient_id: str = "WRONG", time_point: int = 0) -> Phantom:
    return write_study(
        folder, n_lesions=1, shape=(8, 48, 48), patient_id=patient_id, time_point=time_point,
        patient_name="Right^Name",
    )  # fmt: skip


@pytest.fixture
def study(tmp_path: Path) -> Phantom:
    return small(tmp_path / "study")


def test_a_corrected_study_is_revised_under_the_right_identity(
    day: Archive, study: Phantom
) -> None:
    day.take(*study.files)
    day.later()
    old = day.current()
    day.finish(old.run_id)
    day.correct(study, **RIGHT)
    assert day.store.runs.all(current=True) == []  # at once, not when the revision is there
    assert day.store.runs.current_results() == []
    withdrawn = day.store.runs.get(old.run_id)
    assert withdrawn is not None and withdrawn.superseded_by == CORRECTED
    assert day.later() == 1
    new = day.current()
    assert (new.patient_id, new.predecessor) == ("RIGHT", old.run_id)
    day.finish(new.run_id)
    replaced = day.store.runs.get(old.run_id)
    assert replaced is not None and replaced.superseded_by == new.run_id
    assert day.later() == 0
    assert [one.run_id for one in day.store.events.all(kind=EventKind.WITHDRAWN)] == [old.run_id]


def test_what_of_it_was_not_sent_is_not_sent(day: Archive, study: Phantom) -> None:
    day.take(*study.files)
    day.later()
    run_id = day.current().run_id
    day.store.runs.start(run_id, day.now)
    day.store.runs.finish(run_id, [], [("lesion_sr", "PACS"), ("lesion_seg", "PACS")], 3, day.now)
    sent, parked = day.store.deliveries.all()
    assert sent and parked
    day.correct(study, **RIGHT)
    assert {row.state for row in day.store.deliveries.all()} == {DeliveryState.CANCELLED}
    assert day.store.deliveries.due(day.now) == []


def test_a_run_at_work_is_not_current_when_it_ends(day: Archive, study: Phantom) -> None:
    day.take(*study.files)
    day.later()
    old = day.current()
    day.store.runs.start(old.run_id, day.now)
    day.correct(study, **RIGHT)
    assert not day.store.runs.finish(old.run_id, [], [("lesion_sr", "PACS")], 1, day.now)
    assert day.store.deliveries.all() == []
    assert day.later() == 1
    assert day.current().predecessor is None  # of that one nothing was sent


def test_a_study_of_long_ago_is_matched_again(day: Archive, study: Phantom) -> None:
    """The scheduler looks at the last objects only: what is corrected counts as such."""
    day.take(*study.files)
    day.later()
    day.finish(day.current().run_id)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("mirv.service.catalogue.received.studies._LATE_COMMITS", 0)
        day.later()
        day.correct(study, **RIGHT)
        assert day.later() == 1


def test_a_segmentation_not_sent_again_is_refused_until_it_is(day: Archive, study: Phantom) -> None:
    day.take(*study.files)
    day.later()
    old = day.current()
    day.finish(old.run_id)
    day.again(*study.ct, **RIGHT)
    seen = corrections.look(day.spool, day.store, study.identity.study_uid)
    assert seen is not None and study.seg is not None
    assert seen.left_out == (str(dcmread(study.seg).SOPInstanceUID),)
    day.accept(study)
    assert day.later() == 0
    assert day.store.runs.current_results() == []
    assert [row.check for row in day.store.studies.quality()] == ["other_patient"]
    day.again(study.seg, **RIGHT)
    day.accept(study)
    assert day.later() == 1
    assert (day.current().patient_id, day.current().predecessor) == ("RIGHT", old.run_id)
    assert day.store.studies.quality() == []


def test_moved_to_another_study_it_names_what_it_replaces(
    day: Archive, study: Phantom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images first: their segmentation follows into the new study later."""
    monkeypatch.setattr("mirv.service.catalogue.received.studies._LATE_COMMITS", 0)
    day.take(*study.files)
    day.later()
    old = day.current()
    day.finish(old.run_id)
    day.again(*study.ct, StudyInstanceUID="9.9", SeriesInstanceUID="9.9.1")
    seen = corrections.look(day.spool, day.store, study.identity.study_uid)
    assert seen is not None and len(seen.left_out) == 1
    day.accept(study)
    assert day.later() == 0  # its segmentation names a series that is no more
    assert len(day.store.studies.waiting()) == 2
    assert day.store.runs.current_results() == []
    assert study.seg is not None
    ds = dcmread(study.seg)
    ds.ReferencedSeriesSequence[0].SeriesInstanceUID = "9.9.1"
    ds.save_as(study.seg)
    day.again(study.seg, StudyInstanceUID="9.9")
    day.accept(study)
    assert day.later() == 1
    new = day.current()
    assert (new.study_uid, new.series_uid, new.predecessor) == ("9.9", "9.9.1", old.run_id)
    assert day.store.studies.waiting() == []
    assert [row.study_uid for row in day.store.studies.all()] == ["9.9"]


def test_twice_corrected_before_a_run_the_predecessor_is_the_first(
    day: Archive, study: Phantom
) -> None:
    day.take(*study.files)
    day.later()
    old = day.current()
    day.finish(old.run_id)
    day.correct(study, StudyInstanceUID="9.8")
    day.correct(study, StudyInstanceUID="9.9", **RIGHT)
    assert day.later() == 1
    new = day.current()
    assert (new.study_uid, new.patient_id, new.predecessor) == ("9.9", "RIGHT", old.run_id)


def test_a_correction_taken_back_is_a_revision_of_its_own(day: Archive, study: Phantom) -> None:
    day.take(*study.files)
    day.later()
    first = day.current()
    day.finish(first.run_id)
    for patient_id in ("RIGHT", "WRONG", "RIGHT", "WRONG"):
        before = day.current()
        day.correct(study, PatientID=patient_id)
        assert day.later() == 1
        now = day.current()
        assert (now.patient_id, now.predecessor) == (patient_id, before.run_id)
        day.finish(now.run_id)
        assert day.later() == 0
    assert len({run.run_id for run in day.store.runs.all()}) == 5
    assert len(day.runs) == 5


def test_comparisons_with_a_study_that_becomes_another_persons_are_revised(
    day: Archive, tmp_path: Path
) -> None:
    """The follow-up came first; its baseline turns out to be another patient's, then not."""
    baseline, follow = (small(tmp_path / str(n), "P1", n) for n in (0, 1))
    day.take(*follow.files)
    day.finish_all()
    alone = day.current()
    day.take(*baseline.files)
    day.finish_all()
    (compared,) = day.store.runs.all(study_uid=follow.identity.study_uid, current=True)
    assert compared.prior is not None
    day.correct(baseline, PatientID="P2")
    day.finish_all()
    (now,) = day.store.runs.all(study_uid=follow.identity.study_uid, current=True)
    assert (now.prior, now.predecessor) == (None, compared.run_id)
    assert now.run_id != alone.run_id  # a document of its own, which names what it replaces
    assert [run.study_uid for run in day.current_of("P2")] == [baseline.identity.study_uid]
    day.correct(baseline, PatientID="P1")
    day.finish_all()
    (again,) = day.store.runs.all(study_uid=follow.identity.study_uid, current=True)
    (prior,) = day.store.runs.all(study_uid=baseline.identity.study_uid, current=True)
    assert (again.prior, again.predecessor) == (prior.run_id, now.run_id)


def test_a_name_corrected_revises_the_follow_up_once(day: Archive, tmp_path: Path) -> None:
    baseline, follow = (small(tmp_path / str(n), "P1", n) for n in (0, 1))
    for one in (baseline, follow):
        day.take(*one.files)
        day.finish_all()
    before = len(day.store.runs.all(study_uid=follow.identity.study_uid))
    day.correct(baseline, PatientName="Right^Named")
    assert day.later(1) == 0  # not before what was corrected is matched again
    day.finish_all()
    made = day.store.runs.all(study_uid=follow.identity.study_uid)
    (current,) = day.store.runs.all(study_uid=follow.identity.study_uid, current=True)
    (prior,) = day.store.runs.all(study_uid=baseline.identity.study_uid, current=True)
    assert len(made) == before + 1
    assert current.prior == prior.run_id


def test_merging_two_ids_compares_their_studies(day: Archive, tmp_path: Path) -> None:
    baseline, follow = small(tmp_path / "0", "OLD-ID", 0), small(tmp_path / "1", "P1", 1)
    for one in (baseline, follow):
        day.take(*one.files)
        day.finish_all()
    assert all(run.prior is None for run in day.store.runs.all())
    day.correct(baseline, PatientID="P1")
    day.finish_all()
    (prior,) = day.store.runs.all(study_uid=baseline.identity.study_uid, current=True)
    (current,) = day.store.runs.all(study_uid=follow.identity.study_uid, current=True)
    assert current.prior == prior.run_id
    assert day.current_of("OLD-ID") == []


def test_a_run_reads_no_other_content_than_it_was_queued_for(day: Archive, study: Phantom) -> None:
    day.take(*study.files)
    day.later()
    run = day.current()
    work = cast(WorkContext, SimpleNamespace(catalogue=day.store, spool=day.spool))
    uid = Selection.from_json(run.selection).images[0]
    assert runs._opener(work, run)(uid).is_file()
    day.correct(study, **RIGHT)
    with pytest.raises(Unsuitable) as fault:
        runs._opener(work, run)(uid)
    assert fault.value.reason.code == "input_corrected"


def test_accepted_while_the_study_is_being_matched_it_is_matched_again(
    day: Archive, study: Phantom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler has read the old headers, and notes its matching after the acceptance."""
    day.take(*study.ct)
    day.later()
    day.take(study.seg)
    take = Scheduler._take

    def late(scheduler: Scheduler, one, now):  # type: ignore[no-untyped-def]
        monkeypatch.undo()
        day.correct(study, **RIGHT)
        return take(scheduler, one, now)

    monkeypatch.setattr(Scheduler, "_take", late)
    day.later()
    day.later()
    (new,) = day.store.runs.all(current=True)
    assert Selection.from_json(new.selection).identity.patient_id == "RIGHT"
    assert repair.check(day.spool, day.store, in_flight_s=0).healthy
