"""What becomes a run and when: settled studies, late objects, replaced segmentations."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from mirv.config.settings.processing import Reading
from mirv.dicom_io.phantom.patient import Phantom, write_study
from mirv.service.catalogue import Catalogue, PriorSearch, RunRow, sqlite_url
from mirv.service.catalogue.runs import USUAL_PRIORITY, NewRun
from mirv.service.objects.intake import Intake
from mirv.service.objects.spool import Spool
from mirv.service.study.plan import Plan
from mirv.service.work.schedule import settling
from mirv.service.work.schedule.scheduler import Rules, Scheduler, Starters

QUIET = 30.0


class Bench:
    """A scheduler at any hour, and what it started."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_700_000_000.0
        self.store = Catalogue(sqlite_url(folder / "catalogue.sqlite"))
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

    def current(self) -> RunRow:
        """The one run that is not superseded."""
        (run,) = self.store.runs.all(current=True)
        return run


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
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


def test_a_quiet_study_with_a_segmentation_becomes_one_run(bench: Bench, study: Phantom) -> None:
    bench.take(*study.ct, study.seg)
    assert bench.later(QUIET - 1) == 0
    assert bench.later(1) == 1
    assert bench.later() == 0
    run = bench.current()
    assert (run.study_uid, run.state) == (study.identity.study_uid, "queued")
    assert bench.runs == [run.run_id]
    assert bench.store.studies.waiting() == []


def test_news_puts_the_settling_off(bench: Bench, study: Phantom) -> None:
    bench.take(*study.ct)
    assert bench.later(QUIET - 1) == 0
    bench.take(study.seg)
    assert bench.later(QUIET - 1) == 0
    assert bench.later(1) == 1


def test_either_may_come_first_and_the_other_days_later(bench: Bench, study: Phantom) -> None:
    bench.take(study.seg)
    assert bench.later() == 0
    (waiting,) = bench.store.studies.waiting()
    assert "image" in waiting.waits_for
    bench.take(*study.ct)
    assert bench.later(3 * 86400) == 1
    assert bench.store.studies.waiting() == []


def test_images_alone_wait_for_a_segmentation(bench: Bench, study: Phantom) -> None:
    bench.take(*study.ct)
    assert bench.later() == 0
    (waiting,) = bench.store.studies.waiting()
    assert "segmentation" in waiting.waits_for


def test_the_same_study_again_is_no_news(bench: Bench, study: Phantom) -> None:
    bench.take(*study.ct, study.seg)
    bench.later()
    bench.take(*study.ct, study.seg)
    assert bench.later() == 0
    bench.scheduler = bench.fresh()
    assert bench.later() == 0
    assert len(bench.store.runs.all()) == 1


def test_a_late_object_gives_a_revision_that_names_its_predecessor(
    bench: Bench, study: Phantom
) -> None:
    bench.take(*study.ct[:-1], study.seg)
    assert bench.later() == 1
    first = bench.current()
    bench.finish(first.run_id)
    bench.take(study.ct[-1])
    assert bench.later() == 1
    second = next(run for run in bench.store.runs.all() if run.run_id != first.run_id)
    assert second.predecessor == first.run_id
    bench.finish(second.run_id)
    assert bench.current().run_id == second.run_id
    old = bench.store.runs.get(first.run_id)
    assert old is not None
    assert old.superseded_by == second.run_id


def test_a_replaced_segmentation_gives_a_revision(
    bench: Bench, study: Phantom, tmp_path: Path
) -> None:
    bench.take(*study.ct, study.seg)
    bench.later()
    bench.finish(bench.current().run_id)
    bench.take(edited(study.seg, tmp_path / "new.dcm", ContentDate="20300101"))
    assert bench.later() == 1


def test_own_output_starts_nothing(bench: Bench, study: Phantom, tmp_path: Path) -> None:
    bench.take(*study.ct)
    bench.take(edited(study.seg, tmp_path / "own.dcm", Manufacturer="mirv-node"))
    assert bench.later() == 0
    assert bench.store.runs.all() == []


def test_a_segmentation_in_another_study_finds_its_images(
    bench: Bench, study: Phantom, tmp_path: Path
) -> None:
    strayed = edited(
        study.seg, tmp_path / "s.dcm", StudyInstanceUID="2.25.5", SeriesInstanceUID="2.25.6"
    )
    bench.take(*study.ct)
    bench.later()
    bench.take(strayed)
    assert bench.later(QUIET - 1) == 0
    assert bench.later(1) == 1
    assert bench.current().study_uid == study.identity.study_uid


def test_a_clock_set_back_does_not_hold_a_study_for_ever(bench: Bench, study: Phantom) -> None:
    bench.take(*study.ct, study.seg)
    assert bench.later(-7 * 86400) == 1


def test_a_study_that_cannot_be_matched_says_so_and_stops_no_other(
    bench: Bench, study: Phantom, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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
    bench.take(*other.ct, other.seg, *study.ct, study.seg)
    assert bench.later() == 1
    (row,) = bench.store.studies.quality(other.identity.study_uid)
    assert row.check == "matching_failed"
    assert bench.later() == 0


def test_what_was_queued_before_a_start_is_started_again(bench: Bench, study: Phantom) -> None:
    bench.take(*study.ct, study.seg)
    bench.later()
    bench.scheduler = bench.fresh()
    bench.later()
    assert bench.runs == [bench.current().run_id] * 2  # harmless: workflows start once


def test_images_a_segmentation_waits_for_are_asked_for_once_a_round(
    bench: Bench, study: Phantom
) -> None:
    bench.take(study.seg)
    bench.later()
    bench.later(1)
    ((of_study, series_uid, first),) = bench.asked
    assert of_study == study.identity.study_uid
    assert series_uid == dcmread(study.ct[0]).SeriesInstanceUID
    bench.later(900)
    assert [asked[2] for asked in bench.asked] == [first, first + 1]
    bench.take(*study.ct)
    bench.later(900)
    assert len(bench.asked) == 2


def test_an_earlier_study_is_looked_for_again_while_a_source_is_away(
    bench: Bench, study: Phantom
) -> None:
    bench.take(*study.ct, study.seg)
    assert bench.later() == 1
    run_id, study_uid = bench.current().run_id, study.identity.study_uid
    assert bench.priors == [(run_id, study_uid, 0)]
    bench.later(900)
    assert len(bench.priors) == 1
    for rounds in (2, 3):
        bench.store.priors.note(run_id, PriorSearch.UNANSWERED, study_uid, bench.now)
        bench.later(900)
        bench.later(1)
        assert len(bench.priors) == rounds
        assert bench.priors[-1] == (run_id, study_uid, int(bench.now // 900))
    bench.store.priors.note(run_id, PriorSearch.MISSING, study_uid, bench.now)
    bench.later(900)
    assert len(bench.priors) == 3


def test_what_is_waited_for_goes_no_later_than_who_waits(bench: Bench, study: Phantom) -> None:
    patient = str(dcmread(study.ct[0], stop_before_pixels=True).PatientID)
    plan = Plan(profiles=(), spaces=(), reading=Reading()).digest
    bench.store.runs.queue(
        NewRun("e", "1.9", "1.8", patient, "19990101", "i", plan, "{}", priority=1000), bench.now
    )
    bench.take(*study.ct, study.seg)
    assert bench.later() == 0
    earlier = bench.store.runs.get("e")
    assert earlier is not None
    assert earlier.priority == USUAL_PRIORITY
    assert bench.hastened == [(earlier.workflow_id, USUAL_PRIORITY)]
    bench.later()
    assert len(bench.hastened) == 1
