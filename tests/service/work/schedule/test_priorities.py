"""Who goes first, and when nothing more is fetched."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from mirv.config.settings import Settings
from mirv.config.settings.keeping import Backlog
from mirv.config.settings.network import Listener
from mirv.config.settings.processing import PriorityRule, Reading
from mirv.dicom_io.phantom import patient
from mirv.service.catalogue import Catalogue, RunRow, sqlite_url
from mirv.service.objects.intake import Intake
from mirv.service.objects.spool import Spool
from mirv.service.runtime.state import NodeState
from mirv.service.study.plan import Plan
from mirv.service.work.schedule.priorities import priority_of
from mirv.service.work.schedule.scheduler import Rules, Scheduler, Starters

RULES = (
    PriorityRule(priority=10, ae_title="STROKE"),
    PriorityRule(priority=20, modality="CT", description="Urgent"),
    PriorityRule(priority=900, modality="CT"),
)


@pytest.mark.parametrize(
    ("sender", "description", "rules", "priority"),
    [
        ("STROKE@10.0.0.1", "urgent", RULES, 10),
        ("VIEWER@10.0.0.1", "an URGENT one", RULES, 20),
        ("STROKES@10.0.0.1", "portal", RULES, 900),
        ("VIEWER@10.0.0.1", "portal", RULES[:2], 100),
        ("STROKE@10.0.0.1", "urgent", (), 100),
    ],
)
def test_the_first_rule_that_fits_ranks_the_run(
    tmp_path: Path, sender: str, description: str, rules: tuple[PriorityRule, ...], priority: int
) -> None:
    made = patient.write_study(
        tmp_path / "study", n_lesions=1, shape=(10, 64, 64),
        ct_tags={"SeriesDescription": description},
    )  # fmt: skip
    assert made.seg is not None
    store = Catalogue(sqlite_url(tmp_path / "catalogue.sqlite"))
    intake = Intake(Spool(tmp_path / "spool"), store, lambda: 1e9)
    for path in made.ct:
        intake.take(path.read_bytes(), "CT@10.0.0.2")
    intake.take(made.seg.read_bytes(), sender)
    started: list[RunRow] = []
    scheduler = Scheduler(
        store,
        Plan(profiles=(), spaces=(), reading=Reading()),
        Rules(
            30, rank=lambda selection, text: priority_of(rules, store.instances, selection, text)
        ),
        Starters(started.append, lambda *_: None),
    )
    assert scheduler.tick(1e9 + 10) == 0
    assert scheduler.open_studies == 1
    assert scheduler.tick(1e9 + 40) == 1
    assert scheduler.open_studies == 0
    assert [run.priority for run in started] == [priority]
    store.close()


def test_a_rule_says_when_it_fits() -> None:
    with pytest.raises(ValidationError, match="wanted ae_title, modality or description"):
        PriorityRule(priority=1)
    with pytest.raises(ValidationError, match="priority"):
        PriorityRule(priority=0, modality="CT")


def test_too_much_to_do_or_too_little_room_pauses_fetching_until_it_passes() -> None:
    settings = Settings(limits=Backlog(backlog=3), listener=Listener(low_disk_mb=500))
    state, plenty = NodeState(), 10**12
    for backlog, free, why in (
        (2, plenty, ""),
        (3, plenty, "backlog of 3, wanted less than 3"),
        (0, 100 * 1024**2, "100 MB free on the disk, wanted 500"),
        (0, plenty, ""),
    ):
        state.weigh(backlog, free, settings)
        assert (state.backlog, state.paused) == (backlog, why)


def test_what_could_not_be_asked_for_is_asked_at_the_next_tick(tmp_path: Path) -> None:
    made = patient.write_study(tmp_path / "study", n_lesions=1, shape=(10, 64, 64))
    assert made.seg is not None
    store = Catalogue(sqlite_url(tmp_path / "catalogue.sqlite"))
    Intake(Spool(tmp_path / "spool"), store, lambda: 1e9).take(made.seg.read_bytes(), "test")
    answers, asked = iter((False, False, True)), []

    def start_fetch(study_uid: str, series_uid: str, round_number: int) -> bool:
        asked.append((study_uid, series_uid, round_number))
        return next(answers)

    scheduler = Scheduler(
        store,
        Plan(profiles=(), spaces=(), reading=Reading()),
        Rules(30),
        Starters(lambda _run: None, lambda *_: None, fetch=start_fetch),
    )
    for seconds in range(40, 50):
        scheduler.tick(1e9 + seconds)
    assert len(asked) == 3
    store.close()
