"""The clock jumps: nothing waits for a time that no longer comes, nothing is done twice."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirv.config.settings import Settings
from mirv.service.catalogue import Catalogue, EventKind, clock, sqlite_url
from mirv.service.node import worker
from mirv.service.node.heartbeat import Heart
from mirv.service.objects.clock import ClockWatch
from mirv.service.study.plan import plan_from
from mirv.service.work.schedule.scheduler import Rules, Scheduler, Starters
from tests.service.catalogue.test_catalogue import finished, instance, new_run

NOW, DAY, HOUR = 1_700_000_000.0, 86_400.0, 3600.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Catalogue]:
    opened = Catalogue(sqlite_url(tmp_path / "catalogue.sqlite"))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("jump", "tried"), [(0.0, False), (-30.0, False), (-DAY, True), (HOUR, True)]
)
def test_a_delivery_is_tried_again_whatever_the_clock_did(
    store: Catalogue, jump: float, tried: bool
) -> None:
    """Refused for now, to be tried again in 900 s at the latest; then the clock jumps."""
    run = new_run()
    finished(store, run, NOW)
    (row,) = store.deliveries.all()
    store.deliveries.retry_at(row.id, NOW + 900, 0xA700, "status 0xA700")
    started: list[tuple[str, str, int]] = []
    scheduler = Scheduler(
        store,
        plan_from(Settings(profiles=("henry2022",))),
        Rules(30, longest_wait_s=960),
        Starters(lambda _run: None, lambda *what: started.append(what)),
    )
    for second in range(3):
        scheduler.tick(NOW + jump + second)
    assert started == ([(run.run_id, "PACS", 1)] if tried else [])


def test_a_jump_of_the_clock_takes_no_worker_for_dead_for_good(
    store: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was only made to look silent beats on; its work is handed on once, which does no harm."""
    handed_on: list[str] = []

    def recover(executors: list[str]) -> int:
        handed_on.extend(executors)
        return 0

    monkeypatch.setattr(worker.engine, "recover", recover)
    first, second = Heart(store, "first", 60), Heart(store, "second", 60)
    for moment in (NOW, NOW + HOUR, NOW + HOUR + 20, NOW - DAY, NOW - DAY + 20, NOW - DAY + 40):
        first.beat(moment)
        second.beat(moment)
    assert handed_on == ["second", "second"]  # at each jump, until it beats on
    assert store.workers.silent_since(NOW - DAY + 39) == []
    first.beat(NOW - 7 * DAY)
    assert handed_on == ["second"] * 3, "who died before the clock was set back is never missed"


class Times:
    """A clock that can be set, and one that only goes on."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.gone = 5000.0

    def watch(self, store: Catalogue) -> ClockWatch:
        return ClockWatch(store, "node", lambda: self.now, lambda: self.gone)

    def start(self, store: Catalogue) -> ClockWatch:
        watch = self.watch(store)
        watch.look_back()
        watch.look()
        return watch

    def go_on(self, seconds: float) -> None:
        self.now += seconds
        self.gone += seconds


def jumps(store: Catalogue) -> list[int]:
    return [
        event.detail["seconds"] for event in reversed(store.events.all(kind=EventKind.CLOCK_JUMPED))
    ]


def test_a_jump_between_two_looks_is_noted_once(store: Catalogue) -> None:
    times = Times(NOW)
    watch = times.watch(store)
    watch.look()
    for jump in (0.0, 59.0, 365 * DAY, 0.0, -DAY, 0.0):
        times.go_on(HOUR)
        times.now += jump
        assert watch.look() == times.now
    assert jumps(store) == [365 * DAY + 59, -DAY]


def test_small_steps_add_up_to_a_jump(store: Catalogue) -> None:
    times = Times(NOW)
    watch = times.watch(store)
    for _ in range(4):
        watch.look()
        times.now += 25
    watch.look()
    assert jumps(store) == [75]


@pytest.mark.parametrize(
    ("gap", "noted"),
    [
        (DAY - 1, []),
        (-59.0, []),
        (DAY + 1, [DAY + 1]),
        (365 * DAY, [365 * DAY]),
        (-HOUR, [-HOUR]),
    ],
)
def test_a_start_compares_the_clock_with_the_last_time_the_node_looked(
    store: Catalogue, gap: float, noted: list[float]
) -> None:
    Times(NOW).watch(store).look()
    Times(NOW + gap).start(store)
    assert jumps(store) == noted


@pytest.mark.parametrize("gap", [365 * DAY, -365 * DAY])
@pytest.mark.parametrize("known_by", ["heartbeat", "received"])
def test_a_catalogue_of_before_the_node_kept_a_time_is_compared_too(
    store: Catalogue, gap: float, known_by: str
) -> None:
    """Its first start, and one that ended before it noted anything."""
    if known_by == "heartbeat":
        store.workers.beat("node", NOW)
        store.arrivals.add(instance(1), NOW - 100 * DAY)
    else:
        store.arrivals.add(instance(1), NOW)
    Times(NOW + gap).watch(store)
    store.arrivals.add(instance(2), NOW + gap)
    store.workers.beat("node", NOW + gap)
    Times(NOW + gap).start(store)
    assert jumps(store) == [gap]


@pytest.mark.parametrize("kind", [EventKind.NODE_STARTED, EventKind.EXPORTED, None])
def test_what_others_wrote_under_a_wrong_clock_hides_no_jump(
    store: Catalogue, kind: EventKind | None
) -> None:
    """A start that ended between, a command or a worker while the node was down."""
    Times(NOW).watch(store).look()
    wrong = Times(NOW + 730 * DAY)
    wrong.watch(store).look_back()
    if kind is None:
        store.arrivals.add(instance(1), wrong.now)
    else:
        store.events.add(wrong.now, kind)
    wrong.go_on(30)
    wrong.start(store)
    assert jumps(store) == [730 * DAY + 30]


def test_a_jump_is_noted_once_however_often_the_node_starts(store: Catalogue) -> None:
    """Set back, and the port is taken at each start; then right again, then years ahead."""
    Times(NOW).watch(store).look()
    times = Times(NOW - 730 * DAY)
    for _ in range(6):
        watch = times.start(store)
        times.go_on(5)
    assert jumps(store) == [-730 * DAY]
    for jump in (740 * DAY, 730 * DAY):
        times.now += jump
        watch.look()
        times.start(store)
    assert jumps(store) == [-730 * DAY, 740 * DAY, 730 * DAY]


@pytest.mark.parametrize("gap", [365 * DAY, -365 * DAY])
def test_a_crash_right_after_a_jump_is_noted_does_not_note_it_again(
    store: Catalogue, gap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    Times(NOW).watch(store).look()

    def crash(*_: object) -> None:
        raise InterruptedError

    with monkeypatch.context() as patched:
        patched.setattr(clock, "put_fact", crash)
        with pytest.raises(InterruptedError):
            Times(NOW + gap).start(store)
    Times(NOW + gap).start(store)
    assert jumps(store) == [gap]
    Times(NOW + 2 * gap).start(store)
    assert jumps(store) == [gap, gap]


@pytest.mark.parametrize("jumped", [[], [365 * DAY], [-365 * DAY]])
def test_the_time_that_was_looked_at_is_kept(store: Catalogue, jumped: list[float]) -> None:
    """A node that ran for a month and stopped: the month is no jump, whatever was before it."""
    times = Times(NOW)
    watch = times.start(store)
    times.now += sum(jumped)
    for _ in range(30):
        watch.look()
        times.go_on(DAY)
    times.start(store)
    assert jumps(store) == jumped


def test_the_first_start_of_all_finds_no_jump(store: Catalogue) -> None:
    Times(NOW).start(store)
    assert jumps(store) == []
