"""One look at DBOS's books serves every queue, and is never too old to matter."""

import pytest

from mirv.service.work.queues import _Look


def test_queues_share_a_look_while_it_is_fresh() -> None:
    now, queued, looks = [0.0], {"runs"}, []

    def look() -> frozenset[str]:
        looks.append(now[0])
        return frozenset(queued)

    found = _Look(look, 0.1, lambda: now[0])
    assert found.scopes("runs") == [None]
    assert found.scopes("deliveries") == []
    assert looks == [0.0]
    queued.add("deliveries")
    now[0] = 0.05
    assert found.scopes("deliveries") == []
    now[0] = 0.1
    assert found.scopes("deliveries") == [None]
    queued.clear()
    now[0] = 0.3
    assert found.scopes("runs") == []
    assert looks == [0.0, 0.1, 0.3]


def test_a_failed_look_is_no_answer() -> None:
    faults = [OSError("gone")]

    def look() -> frozenset[str]:
        if faults:
            raise faults.pop()
        return frozenset({"runs"})

    found = _Look(look, 10, lambda: 0.0)
    with pytest.raises(OSError, match="gone"):
        found.scopes("runs")
    assert found.scopes("runs") == [None]
