"""kill -9 at random: everything acknowledged is kept, every study has one result, sent once."""

from pathlib import Path

import pytest

from tests.bench.crash import crash


@pytest.mark.peers
def test_nothing_is_lost_or_doubled_when_the_node_is_killed(tmp_path: Path) -> None:
    tally = crash(tmp_path, studies=10, kills=20, seed=3, longest_life_s=4, patience_s=180)
    log = (tmp_path / "serve0.log").read_text(errors="replace")
    assert tally.faults == [], log[-4000:]
    assert tally.acknowledged == 10 * 11
    assert tally.delivered >= 10 * 5
    assert tally.compared >= 10 * 6
