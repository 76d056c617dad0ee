"""Making room: old and delivered goes, everything else stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirv.config.settings.keeping import Retention
from mirv.dicom_io.study.matching import Selection
from mirv.service.catalogue import Catalogue, EventKind, sqlite_url
from mirv.service.catalogue.run_rows import ArtifactRow, NewRun
from mirv.service.objects import repair, retention
from mirv.service.objects.intake import Intake
from mirv.service.objects.spool import Spool
from tests.service.wire import ct_slice, part10

DAY = 86_400.0
START = 1_700_000_000.0
WANTED = Retention(keep_days=10, keep_unused_days=30)


class Keeping:
    def __init__(self, folder: Path) -> None:
        self.spool = Spool(folder / "spool")
        self.store = Catalogue(sqlite_url(folder / "catalogue.sqlite"))
        self.intake = Intake(self.spool, self.store, lambda: START)
        for number in range(3):
            self.intake.take(part10(ct_slice(number)), "test")

    def sweep(self, days: float, wanted: Retention = WANTED) -> int:
        return retention.sweep(self.spool, self.store, wanted, START + days * DAY)

    def jump(self, days: float) -> None:
        """The clock is found to have jumped."""
        self.store.clock.note_jump(START, days * DAY)

    def run(self, *, delivered: bool) -> None:
        new = NewRun("a" * 64, "1.2.3", "1.2.3.0", "P", "20200101", "i", "p", "{}")
        kept = self.spool.put((b"a report",))
        made = ArtifactRow("a" * 64, "lesion_sr", 0, "1.2", "2.25.1", "2.25.2", kept.sha256, 8)
        self.store.runs.queue(new, START)
        self.store.runs.start(new.run_id, START)
        self.store.runs.finish(new.run_id, [made], [("lesion_sr", "PACS")], 3, START)
        if delivered:
            self.store.deliveries.delivered(1, 0, "ok", START)


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Keeping]:
    made = Keeping(tmp_path)
    yield made
    made.store.close()


def test_old_and_delivered_goes_and_is_taken_again(keeping: Keeping) -> None:
    keeping.run(delivered=True)
    assert keeping.sweep(9.9) == 0
    assert keeping.sweep(10.1) == 3
    assert [one.path.read_bytes() for one in keeping.spool.stored()] == [b"a report"]
    assert repair.check(keeping.spool, keeping.store, in_flight_s=0) == repair.Findings()
    assert keeping.sweep(10.2) == 0
    assert [event.kind for event in keeping.store.events.all(kind=EventKind.REMOVED)] == [
        "removed"
    ] * 3
    keeping.intake.take(part10(ct_slice(1)), "test")
    assert len(list(keeping.spool.stored())) == 2
    assert len(keeping.store.studies.headers({"1.2.3"})) == 1


def test_undelivered_stays(keeping: Keeping) -> None:
    keeping.run(delivered=False)
    assert keeping.sweep(1000) == 0
    keeping.store.deliveries.park(1, 0xC000, "no", START)
    assert keeping.sweep(1000) == 0
    keeping.store.deliveries.retry(1, 3, START)
    keeping.store.deliveries.ask(1, "1.9", 0, "stored", START, START + 60)
    assert keeping.sweep(1000) == 0, "stored, but commitment is required and has not come"
    keeping.store.deliveries.answered("1.9", {"2.25.1"}, {}, lambda _attempts: 0.0, START)
    assert keeping.sweep(1000) == 3


def test_what_a_run_of_another_study_is_made_of_stays_until_it_has_finished(
    keeping: Keeping,
) -> None:
    made_of = Selection("1.7", "1.7.0", "P", "CT", ("1.7.0.1",), ("1.2.3.1",), (), "i").to_json()
    new = NewRun("a" * 64, "1.7", "1.7.0", "P", "20200101", "i", "p", made_of)
    assert keeping.store.instances.find("1.2.3.1") is not None
    keeping.store.runs.queue(new, START)
    assert keeping.sweep(31) == 0
    keeping.store.runs.start(new.run_id, START)
    assert keeping.sweep(31) == 0
    keeping.store.runs.finish(new.run_id, [], [], 1, START)
    assert keeping.sweep(31) == 3


def test_what_never_gave_a_run_has_its_own_limit(keeping: Keeping) -> None:
    assert keeping.sweep(29) == 0
    assert keeping.sweep(31) == 3


def test_nothing_goes_unless_asked(keeping: Keeping) -> None:
    keeping.run(delivered=True)
    assert keeping.sweep(10_000, Retention()) == 0


def test_what_the_clock_jumped_forward_ages_nothing(keeping: Keeping) -> None:
    keeping.run(delivered=True)
    keeping.jump(365)
    assert keeping.sweep(365 + 9.9) == 0
    assert keeping.sweep(365 + 10.1) == 3


def test_a_jump_before_the_last_object_is_no_matter(keeping: Keeping) -> None:
    keeping.jump(365)
    keeping.intake.take(part10(ct_slice(3)), "test")
    keeping.run(delivered=True)
    assert keeping.sweep(10.1) == 4


def test_a_clock_that_is_set_right_again_delays_nothing(keeping: Keeping) -> None:
    """A dead battery: years back at the start, and years forward as soon as the time is known."""
    keeping.run(delivered=True)
    keeping.jump(-9000)
    keeping.jump(9000)
    assert keeping.sweep(10.1) == 3


def test_what_came_while_the_clock_was_behind_is_not_old(keeping: Keeping) -> None:
    keeping.jump(-9000)
    keeping.intake.take(part10(ct_slice(3)), "test")  # as if START were 9000 days ago
    keeping.run(delivered=True)
    keeping.jump(9000)
    assert keeping.sweep(9000 + 9.9) == 0
    assert keeping.sweep(9000 + 10.1) == 4


def test_a_clock_set_back_makes_nothing_older(keeping: Keeping) -> None:
    keeping.run(delivered=True)
    keeping.jump(-365)
    assert keeping.sweep(9.9) == 0
