"""What becomes a run and when: settled studies, late objects, replaced segmentations."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from mirv.config.settings.processing import Reading
from mirv.dicom_io.phantom.patient import Phantom, write_study
from mirv.dicom_io.standard.person import Identity
from mirv.dicom_io.study.matching import Selection
from mirv.service.catalogue import Catalogue, EventKind, PriorSearch, RunRow, sqlite_url
from mirv.service.catalogue.run_rows import USUAL_PRIORITY, NewRun
from mirv.service.objects.intake import Intake
from mirv.service.objects.spool import Spool
from mirv.service.study.plan import Plan
from mirv.service.work.schedule import settling
from mirv.service.work.schedule.scheduler import Rules, Scheduler, Starters

QUIET = 30.0


class Day:
    """A scheduler at any hour, and what it started."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.now = 1_700_000_000.0
        self.store = Catalogue(url or sqlite_url(folder / "catalogue.sqlite"))
        self.intake = Intake(Spool(folder / "spool"), self.store, lambda: self.now)
        self.runs: list[str] = []
        self.tries: list[tuple[str, str, int]] = []
        self.asked: list[tuple[str, str, int]] = []
        self.priors: list[tuple[str, str, int]] = []
        self.hastened: list[tuple[str, int]] = []
        self.scheduler = self.fresh()

    def fresh(self) -> Scheduler:
        """A scheduler that has seen nothing yet, as after a start."""
        return Scheduler(
            self.store,
            Plan(profiles=(), spaces=(), reading=Reading()),
            Rules(QUIET, fetch_again_s=900),
            Starters(
                lambda run: self.runs.append(run.run_id),
                lambda *delivery: self.tries.append(delivery),
                fetch=lambda *series: self.asked.append(series),
                prior=lambda *prior: self.priors.append(prior),
                hasten=lambda *run: self.hastened.append(run),
            ),
        )

    def take(self, *paths: Path | None) -> None:
        """Objects arrive now."""
        for path in paths:
            assert path is not None
            assert self.intake.take(path.read_bytes(), "test").reason is None

    def later(self, seconds: float = QUIET) -> int:
        """Let time pass and look; how many runs are new."""
        self.now += seconds
        return self.scheduler.tick(self.now)

    def finish(self, run_id: str) -> None:
        """The run ends well."""
        self.store.runs.start(run_id, self.now)
        self.store.runs.finish(run_id, [], [], 1, self.now)

    def current_of(self, study: Phantom) -> RunRow:
        """The one run of a study that is not superseded."""
        (run,) = self.store.runs.all(study_uid=study.identity.study_uid, current=True)
        return run

    def current(self) -> RunRow:
        """The one run that is not superseded."""
        (run,) = self.store.runs.all(current=True)
        return run


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    made = Day(tmp_path)
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    return write_study(
        tmp_path_factory.mktemp("study"), n_lesions=2, shape=(12, 64, 64), rtstruct=True
    )


def edited(path: Path | None, copy: Path, **tags: str) -> Path:
    """The object with other attributes, as a new instance."""
    assert path is not None
    ds = dcmread(path)
    for name, value in {"SOPInstanceUID": f"2.25.{len(str(copy))}77", **tags}.items():
        setattr(ds, name, value)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(copy)
    return copy


def test_a_quiet_study_with_a_segmentation_becomes_one_run(day: Day, study: Phantom) -> None:
    day.take(*study.ct, study.seg)
    assert day.later(QUIET - 1) == 0
    assert day.later(1) == 1
    assert day.later() == 0
    run = day.current()
    assert (run.study_uid, run.state) == (study.identity.study_uid, "queued")
    assert day.runs == [run.run_id]
    assert day.store.studies.waiting() == []


def test_news_puts_the_settling_off(day: Day, study: Phantom) -> None:
    day.take(*study.ct)
    assert day.later(QUIET - 1) == 0
    day.take(study.seg)
    assert day.later(QUIET - 1) == 0
    assert day.later(1) == 1


def test_either_may_come_first_and_the_other_days_later(day: Day, study: Phantom) -> None:
    day.take(study.seg)
    assert day.later() == 0
    (waiting,) = day.store.studies.waiting()
    assert "image" in waiting.waits_for
    day.take(*study.ct)
    assert day.later(3 * 86400) == 1
    assert day.store.studies.waiting() == []


def test_images_alone_wait_for_a_segmentation(day: Day, study: Phantom) -> None:
    day.take(*study.ct)
    assert day.later() == 0
    (waiting,) = day.store.studies.waiting()
    assert "segmentation" in waiting.waits_for


def test_the_same_study_again_is_no_news(day: Day, study: Phantom) -> None:
    day.take(*study.ct, study.seg)
    day.later()
    day.take(*study.ct, study.seg)
    assert day.later() == 0
    day.scheduler = day.fresh()
    assert day.later() == 0
    assert len(day.store.runs.all()) == 1


def test_a_late_object_gives_a_revision_that_names_its_predecessor(
    day: Day, study: Phantom
) -> None:
    day.take(*study.ct[:-1], study.seg)
    assert day.later() == 1
    first = day.current()
    day.finish(first.run_id)
    day.take(study.ct[-1])
    assert day.later() == 1
    second = next(run for run in day.store.runs.all() if run.run_id != first.run_id)
    assert second.predecessor == first.run_id
    day.finish(second.run_id)
    assert day.current().run_id == second.run_id
    old = day.store.runs.get(first.run_id)
    assert old is not None
    assert old.superseded_by == second.run_id


def test_a_replaced_segmentation_gives_a_revision(day: Day, study: Phantom, tmp_path: Path) -> None:
    day.take(*study.ct, study.seg)
    day.later()
    day.finish(day.current().run_id)
    day.take(edited(study.seg, tmp_path / "new.dcm", ContentDate="20300101"))
    assert day.later() == 1


def test_own_output_starts_nothing(day: Day, study: Phantom, tmp_path: Path) -> None:
    day.take(*study.ct)
    day.take(edited(study.seg, tmp_path / "own.dcm", Manufacturer="mirv-node"))
    assert day.later() == 0
    assert day.store.runs.all() == []


def test_a_segmentation_in_another_study_finds_its_images(
    day: Day, study: Phantom, tmp_path: Path
) -> None:
    strayed = edited(
        study.seg, tmp_path / "s.dcm", StudyInstanceUID="2.25.5", SeriesInstanceUID="2.25.6"
    )
    day.take(*study.ct)
    day.later()
    day.take(strayed)
    assert day.later(QUIET - 1) == 0
    assert day.later(1) == 1
    assert day.current().study_uid == study.identity.study_uid


def test_a_clock_set_back_does_not_hold_a_study_for_ever(day: Day, study: Phantom) -> None:
    day.take(*study.ct, study.seg)
    assert day.later(-7 * 86400) == 1


def test_a_study_that_cannot_be_matched_says_so_and_stops_no_other(
    day: Day, study: Phantom, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = write_study(
        tmp_path / "other", n_lesions=1, seed=1, shape=(12, 64, 64), patient_id="OTHER"
    )
    real = settling.match

    def fails_on_one(headers: list[object], reading: Reading) -> object:
        if headers[0].study_uid == other.identity.study_uid:  # type: ignore[attr-defined]
            raise ZeroDivisionError("by a bug")
        return real(headers, reading)  # type: ignore[arg-type]

    monkeypatch.setattr(settling, "match", fails_on_one)
    day.take(*other.ct, other.seg, *study.ct, study.seg)
    assert day.later() == 1
    (row,) = day.store.studies.quality(other.identity.study_uid)
    assert row.check == "matching_failed"
    assert day.later() == 0


def test_what_was_queued_before_a_start_is_started_again(day: Day, study: Phantom) -> None:
    day.take(*study.ct, study.seg)
    day.later()
    day.scheduler = day.fresh()
    day.later()
    assert day.runs == [day.current().run_id] * 2  # harmless: workflows start once


def test_images_a_segmentation_waits_for_are_asked_for_once_a_round(
    day: Day, study: Phantom
) -> None:
    day.take(study.seg)
    day.later()
    day.later(1)
    ((of_study, series_uid, first),) = day.asked
    assert of_study == study.identity.study_uid
    assert series_uid == dcmread(study.ct[0]).SeriesInstanceUID
    day.later(900)
    assert [asked[2] for asked in day.asked] == [first, first + 1]
    day.take(*study.ct)
    day.later(900)
    assert len(day.asked) == 2


def test_an_earlier_study_is_looked_for_again_while_a_source_is_away(
    day: Day, study: Phantom
) -> None:
    day.take(*study.ct, study.seg)
    assert day.later() == 1
    run_id, study_uid = day.current().run_id, study.identity.study_uid
    assert day.priors == [(run_id, study_uid, 0)]
    day.later(900)
    assert len(day.priors) == 1
    for rounds in (2, 3):
        day.store.priors.note(run_id, PriorSearch.UNANSWERED, study_uid, day.now)
        day.later(900)
        day.later(1)
        assert len(day.priors) == rounds
        assert day.priors[-1] == (run_id, study_uid, int(day.now // 900))
    day.store.priors.note(run_id, PriorSearch.MISSING, study_uid, day.now)
    day.later(900)
    assert len(day.priors) == 3


def test_what_is_waited_for_goes_no_later_than_who_waits(day: Day, study: Phantom) -> None:
    patient = str(dcmread(study.ct[0], stop_before_pixels=True).PatientID)
    plan = Plan(profiles=(), spaces=(), reading=Reading()).digest
    selection = Selection(
        "1.9", "1.8", patient, "CT", ("1.7",), ("1.6",), (), "i", identity=Identity(patient)
    ).to_json()
    day.store.runs.queue(
        NewRun("e", "1.9", "1.8", patient, "19990101", "i", plan, selection, priority=1000),
        day.now,
    )
    day.take(*study.ct, study.seg)
    assert day.later() == 0
    earlier = day.store.runs.get("e")
    assert earlier is not None
    assert earlier.priority == USUAL_PRIORITY
    assert day.hastened == [(earlier.workflow_id, USUAL_PRIORITY)]
    day.later()
    assert len(day.hastened) == 1


def earlier_study(day: Day, patient: str, identity: Identity) -> str:
    """The run of an earlier study under this Patient ID, queued; its identity."""
    return another_study(day, "e", "1.9", identity, "19990101")


def another_study(day: Day, run: str, study: str, identity: Identity, date: str) -> str:
    """The run of a study of whom this identity tells, queued; its identity."""
    patient = identity.patient_id
    plan = Plan(profiles=(), spaces=(), reading=Reading()).digest
    selection = Selection(
        study, "1.8", patient, "CT", ("1.7",), ("1.6",), (), "i", identity=identity
    ).to_json()
    day.store.runs.queue(NewRun(run, study, "1.8", patient, date, "i", plan, selection), day.now)
    return run


@pytest.mark.parametrize("finished", [True, False])
def test_studies_of_two_persons_under_one_patient_id_are_never_compared(
    day: Day, study: Phantom, finished: bool
) -> None:
    """Finding H1: the earlier study of another person was taken for the baseline."""
    patient = str(dcmread(study.ct[0], stop_before_pixels=True).PatientID)
    earlier = earlier_study(day, patient, Identity(patient, sex="M"))
    if finished:
        day.finish(earlier)
    day.take(*study.ct, study.seg)
    assert day.later() == 1, "it does not wait for a study of another person"
    (run,) = (one for one in day.store.runs.all() if one.run_id != earlier)
    day.finish(run.run_id)
    if not finished:
        day.finish(earlier)
    assert day.later() == 0, "nor is it revised when that has finished"
    assert run.prior is None
    assert day.priors == [(run.run_id, run.study_uid, 0)]
    noted = day.store.events.all(kind=EventKind.PRIOR_OF_ANOTHER)
    assert [one.detail for one in noted] == (
        [{"studies": ["1.9"], "differing": ["sex"]}] if finished else []
    )


def test_an_earlier_study_of_the_same_person_is_waited_for(day: Day, study: Phantom) -> None:
    same = identity_of(study)
    earlier = earlier_study(day, same.patient_id, same)
    day.take(*study.ct, study.seg)
    assert day.later() == 0
    day.finish(earlier)
    assert day.later() == 1
    (run,) = (one for one in day.store.runs.all() if one.run_id != earlier)
    assert run.prior == earlier


def identity_of(study: Phantom) -> Identity:
    """Who the study is of."""
    ds = dcmread(study.ct[0], stop_before_pixels=True)
    return Identity(str(ds.PatientID), sex=str(ds.PatientSex), name=str(ds.PatientName))


def test_an_earlier_study_brings_no_older_objects_back(
    day: Day, study: Phantom, tmp_path: Path
) -> None:
    """The revision for it was made of the finished run's objects, after one of the new ones."""
    day.take(*study.ct, study.seg)
    day.later()
    day.finish(day.current().run_id)
    person = identity_of(study)
    earlier = earlier_study(day, person.patient_id, person)
    day.take(edited(study.seg, tmp_path / "new.dcm", ContentDate="20300101"))
    assert day.later() == 0
    day.finish(earlier)
    assert day.later() == 1
    (queued,) = day.store.runs.all(states=("queued",), current=True)
    assert len(Selection.from_json(queued.selection).segmentations) == 2
    assert queued.prior == earlier


def test_an_earlier_study_that_ends_before_a_later_one_at_work_is_compared_with(
    day: Day, study: Phantom
) -> None:
    day.take(*study.ct, study.seg)
    day.later()
    first = day.current()
    person = identity_of(study)
    earlier = earlier_study(day, person.patient_id, person)
    day.finish(earlier)
    assert day.later() == 1
    day.finish(first.run_id)
    (queued,) = day.store.runs.all(states=("queued",), current=True)
    assert queued.prior == earlier


def slice_of_another(study: Phantom, copy: Path) -> Path:
    """One of the slices as a new object of another person, in the same series."""
    return edited(study.ct[0], copy, PatientName="Other^Person", PatientSex="M")


def test_a_result_holds_no_more_when_its_series_is_of_two_persons(
    day: Day, study: Phantom, tmp_path: Path
) -> None:
    person = identity_of(study)
    earlier = earlier_study(day, person.patient_id, person)
    day.finish(earlier)
    day.take(*study.ct, study.seg)
    day.later()
    first = day.current_of(study)
    day.finish(first.run_id)
    day.take(slice_of_another(study, tmp_path / "slice.dcm"))
    assert day.later() == 0
    now = day.current_of(study)
    assert (now.state, now.reason_code, now.predecessor) == (
        "refused", "several_patients", first.run_id
    )  # fmt: skip
    old = day.store.runs.get(first.run_id)
    assert old is not None and old.superseded_by == now.run_id
    day.scheduler = day.fresh()
    assert day.later() == 0, "nor is the old one revised"
    assert day.current_of(study) == now


def test_images_of_two_persons_that_never_had_a_result_withdraw_nothing(
    day: Day, study: Phantom, tmp_path: Path
) -> None:
    day.take(*study.ct, study.seg, slice_of_another(study, tmp_path / "slice.dcm"))
    assert day.later() == 0
    assert day.store.runs.all() == []


def test_a_study_that_could_be_of_either_of_two_is_compared_with_neither(
    day: Day, study: Phantom, tmp_path: Path
) -> None:
    """Nothing contradicts it; but two persons share the Patient ID."""
    patient = identity_of(study).patient_id
    unknown = earlier_study(day, patient, Identity(patient))
    day.finish(unknown)
    him = write_study(
        tmp_path / "him", n_lesions=2, shape=(12, 64, 64), time_point=1, ct_tags={"PatientSex": "M"}
    )
    day.take(*study.ct, study.seg, *him.ct, edited(him.seg, tmp_path / "seg.dcm", PatientSex="M"))
    assert day.later() == 2
    assert [run.prior for run in day.store.runs.all()] == [None] * 3
    noted = day.store.events.all(kind=EventKind.PRIOR_UNSURE)
    assert {one.study_uid: one.detail for one in noted} == {
        one.identity.study_uid: {"studies": ["1.9"]} for one in (study, him)
    }


def test_a_newcomer_that_tells_two_persons_apart_takes_a_comparison_back(
    day: Day, study: Phantom
) -> None:
    """And one that is corrected gives it again; each time in a run of its own."""
    her = identity_of(study)
    earlier = earlier_study(day, her.patient_id, Identity(her.patient_id))
    day.finish(earlier)
    day.take(*study.ct, study.seg)
    assert day.later() == 1

    def mine() -> RunRow:
        day.finish(next(one.run_id for one in day.store.runs.all(states=["queued"])))
        (run,) = day.store.runs.all(study_uid=study.identity.study_uid, current=True)
        return run

    assert mine().prior == earlier
    for number, (sex, prior) in enumerate([("M", None), ("", earlier)] * 2):
        newcomer = another_study(day, f"n{number}", "1.5", replace(her, sex=sex), "")
        day.finish(newcomer)
        assert day.later() == 1
        assert mine().prior == prior
        assert day.later() == 0


def test_a_run_is_replaced_within_its_study_only(day: Day, study: Phantom, tmp_path: Path) -> None:
    """Finding H2: a study with the Series Instance UID of another took its place."""
    day.take(*study.ct, study.seg)
    day.later()
    mine = day.current()
    day.finish(mine.run_id)
    selection = replace(Selection.from_json(mine.selection), study_uid="1.9")
    new = NewRun("o", "1.9", mine.series_uid, "P2", "", "i", "p", selection.to_json())
    day.store.runs.queue(new, day.now)
    day.finish("o")
    theirs, first = day.store.runs.get("o"), day.store.runs.get(mine.run_id)
    assert theirs is not None and first is not None
    assert (theirs.predecessor, first.superseded_by) == (None, None)


@pytest.mark.parametrize(
    ("differing", "stays"),
    [
        ({"issuer": "ELSEWHERE"}, ["issuer"]),
        ({"birth_date": "19610101"}, ["birth_date"]),
        ({"sex": "M"}, ["sex"]),
        ({"name": "Schmidt^Bert"}, []),  # by name alone it is the same image, named anew
        ({"sex": ""}, []),
    ],
)
def test_a_run_is_replaced_within_its_person_only(
    day: Day, differing: dict[str, str], stays: list[str]
) -> None:
    """Another person's image may come under the UIDs of one that retention removed."""
    her = Identity("17", "HERE", "19500102", "F", "Müller^Anna")
    before = another_study(day, "b", "1.9", her, "20240101")
    day.finish(before)
    after = another_study(day, "a", "1.9", replace(her, **differing), "20240101")
    day.finish(after)
    first, second = day.store.runs.get(before), day.store.runs.get(after)
    assert first is not None and second is not None
    kept = bool(stays)
    assert (second.predecessor, first.superseded_by) == ((None, None) if kept else ("b", "a"))
    noted = day.store.events.all(kind=EventKind.IMAGE_OF_ANOTHER)
    assert [one.detail for one in noted] == ([{"runs": ["b"], "differing": stays}] if kept else [])
