"""An earlier study of the patient: compared with once, whatever the order of arrival."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from mirv.analysis.errors import Reason
from mirv.config.settings.processing import Reading
from mirv.dicom_io.phantom.patient import write_study
from mirv.service.catalogue import Catalogue, RunRow, RunState, sqlite_url
from mirv.service.catalogue.run_rows import NewRun
from mirv.service.objects.intake import Intake
from mirv.service.objects.spool import Spool
from mirv.service.study.plan import Plan
from mirv.service.work.schedule.scheduler import Rules, Scheduler, Starters


class Clock:
    """A store, a scheduler, and time that passes when told."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_700_000_000.0
        self.store = Catalogue(sqlite_url(folder / "catalogue.sqlite"))
        self.intake = Intake(Spool(folder / "spool"), self.store, lambda: self.now)
        self.scheduler = self.fresh(Reading())

    def fresh(self, reading: Reading) -> Scheduler:
        """Of a node that was just started, under these rules."""
        return Scheduler(
            self.store,
            Plan(profiles=(), spaces=(), reading=reading),
            Rules(1.0),
            Starters(lambda _run: None, lambda *_delivery: None),
        )

    def take(self, *files: Path) -> None:
        """Objects arrive."""
        for path in files:
            assert self.intake.take(path.read_bytes(), "test").reason is None

    def tick(self) -> int:
        """Some time later; how many runs are new."""
        self.now += 10
        return self.scheduler.tick(self.now)

    def current(self, study_uid: str) -> RunRow:
        """The study's newest run that counts; one that is replaced counts until it is."""
        return self.store.runs.all(study_uid=study_uid, current=True)[0]

    def finish(self, study_uid: str) -> None:
        """The study's run ends well."""
        run_id = self.current(study_uid).run_id
        self.now += 1
        self.store.runs.start(run_id, self.now)
        self.store.runs.finish(run_id, [], [], 1, self.now)


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[Clock]:
    made = Clock(tmp_path)
    yield made
    made.store.close()


def studies(folder: Path, **changes: str) -> list[tuple[str, tuple[Path, ...]]]:
    """(study UID, files) of a baseline and a follow-up."""
    made = [
        write_study(
            folder / str(n),
            n_lesions=2,
            shape=(12, 64, 64),
            time_point=n,
            ct_tags={"StudyDate": f"2024010{n + 1}", **changes},
        )
        for n in (0, 1)
    ]
    return [(one.identity.study_uid, one.files) for one in made]


def test_a_follow_up_is_compared_with_the_finished_baseline(clock: Clock, tmp_path: Path) -> None:
    (first, first_files), (second, second_files) = studies(tmp_path)
    clock.take(*first_files)
    assert clock.tick() == 1
    clock.finish(first)
    clock.take(*second_files)
    assert clock.tick() == 1
    assert clock.current(second).prior == clock.current(first).run_id
    assert clock.current(first).prior is None


def test_of_two_studies_at_once_the_later_one_waits_for_the_earlier(
    clock: Clock, tmp_path: Path
) -> None:
    (first, first_files), (second, second_files) = studies(tmp_path)
    clock.take(*second_files, *first_files)
    assert clock.tick() == 1
    assert not clock.store.runs.all(study_uid=second)
    assert clock.tick() == 0
    clock.finish(first)
    assert clock.tick() == 1
    assert clock.current(second).prior == clock.current(first).run_id


def test_a_baseline_that_comes_late_revises_the_follow_up_once(
    clock: Clock, tmp_path: Path
) -> None:
    (first, first_files), (second, second_files) = studies(tmp_path)
    clock.take(*second_files)
    assert clock.tick() == 1
    clock.finish(second)
    alone = clock.current(second)
    assert alone.prior is None
    clock.take(*first_files)
    assert clock.tick() == 1
    clock.finish(first)
    assert clock.tick() == 1
    clock.finish(second)
    revised = clock.current(second)
    assert (revised.prior, revised.predecessor) == (clock.current(first).run_id, alone.run_id)
    assert revised.run_id != alone.run_id
    assert clock.tick() == 0
    assert clock.tick() == 0


def test_a_late_baseline_revises_the_follow_up_though_the_clock_was_set_back(
    clock: Clock, tmp_path: Path
) -> None:
    (first, first_files), (second, second_files) = studies(tmp_path)
    clock.take(*second_files)
    clock.tick()
    clock.finish(second)
    clock.tick()
    clock.now -= 86_400
    clock.take(*first_files)
    assert clock.tick() == 1
    clock.finish(first)
    assert clock.tick() == 1
    assert {run.prior for run in clock.store.runs.all(study_uid=second, current=True)} == {
        None,
        clock.current(first).run_id,
    }


def test_a_finish_that_shows_after_a_later_one_is_not_missed(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL numbers events before they are committed, so a lower number may show later."""
    (first, first_files), (second, second_files) = studies(tmp_path)
    other = write_study(tmp_path / "b", n_lesions=1, shape=(12, 64, 64), patient_id="OTHER")
    clock.take(*second_files, *other.files)
    clock.tick()
    clock.finish(second)
    clock.take(*first_files)
    clock.tick()
    clock.finish(first)
    hidden = max(clock.store.comparisons.finishes(0))
    clock.finish(other.identity.study_uid)
    comparisons = clock.store.comparisons
    finishes = comparisons.finishes
    with monkeypatch.context() as patched:
        patched.setattr(comparisons, "finishes", lambda since: finishes(since) - {hidden})
        assert clock.tick() == 0
    assert clock.tick() == 1
    assert clock.current(second).prior == clock.current(first).run_id


def test_a_refused_baseline_does_not_hold_the_follow_up(clock: Clock, tmp_path: Path) -> None:
    (first, first_files), (second, second_files) = studies(tmp_path)
    clock.take(*first_files, *second_files)
    clock.tick()
    clock.store.runs.refuse(clock.current(first).run_id, Reason("uneven_slices", ""), clock.now)
    assert clock.tick() == 1
    assert clock.current(second).prior is None


def test_studies_without_a_patient_id_are_never_joined(clock: Clock, tmp_path: Path) -> None:
    (first, first_files), (second, second_files) = studies(tmp_path, PatientID="")
    clock.take(*first_files)
    clock.tick()
    clock.finish(first)
    clock.take(*second_files)
    assert clock.tick() == 1
    assert clock.current(second).prior is None


def test_what_was_queued_under_another_plan_is_queued_anew(clock: Clock, tmp_path: Path) -> None:
    (first, files), _ = studies(tmp_path)
    clock.take(*files)
    clock.tick()
    old = clock.current(first)
    clock.scheduler = clock.fresh(Reading(fractional_threshold=0.7))
    clock.tick()
    new = clock.current(first)
    assert new.run_id != old.run_id
    assert new.plan_digest != old.plan_digest
    replaced = clock.store.runs.get(old.run_id)
    assert replaced is not None
    assert replaced.superseded_by == new.run_id


def test_a_start_under_other_rules_runs_nothing_again_that_has_finished(
    clock: Clock, tmp_path: Path
) -> None:
    """As after an upgrade: the software's version is one of them."""
    (first, first_files), (second, second_files) = studies(tmp_path)
    for study, files in ((first, first_files), (second, second_files)):
        clock.take(*files)
        clock.tick()
        clock.finish(study)
    assert clock.current(second).prior is not None
    clock.scheduler = clock.fresh(Reading(fractional_threshold=0.7))
    assert clock.tick() == 0
    assert len(clock.store.runs.all()) == 2


def test_of_several_series_on_the_earlier_date_none_is_guessed(
    clock: Clock, tmp_path: Path
) -> None:
    """A chest and an abdomen of one day: the follow-up is compared with neither."""
    (first, first_files), (second, second_files) = studies(tmp_path / "a")
    other = write_study(
        tmp_path / "b",
        n_lesions=2,
        shape=(12, 64, 64),
        patient_id="OTHER",
        ct_tags={"StudyDate": "20240101", "PatientID": "MIRV-PHANTOM"},
    )
    assert other.seg is not None
    drawn = dcmread(other.seg)
    drawn.PatientID = "MIRV-PHANTOM"
    drawn.save_as(other.seg)
    clock.take(*first_files, *other.files)
    clock.tick()
    clock.finish(first)
    clock.finish(other.identity.study_uid)
    clock.take(*second_files)
    assert clock.tick() == 1
    assert clock.current(second).prior is None


def test_a_study_that_cannot_be_queued_does_not_stop_the_others(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, first_files), (second, second_files) = studies(tmp_path)
    queue = clock.store.runs.queue

    def failing(new: NewRun, now: float) -> bool:
        if new.study_uid == first:
            raise ValueError("text fields cannot hold this")
        return queue(new, now)

    monkeypatch.setattr(clock.store.runs, "queue", failing)
    clock.take(*first_files, *second_files)
    assert clock.tick() == 1
    assert clock.current(second).state == RunState.QUEUED
    (said,) = clock.store.studies.quality(first)
    assert (said.check, said.outcome) == ("matching_failed", "refused")
