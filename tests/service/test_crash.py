"""kill -9 at random: everything acknowledged is kept, every study has one result, sent once."""

from pathlib import Path

import pytest

from tests.bench.crash import crash


@pytest.mark.peers
def test_nothing_is_lost_or_doubled_when_the_node_is_killed(tmp_path: Path) -> None:
    tally = crash(tmp_path, studies=3, kills=6, seed=3, longest_life_s=7, patience_s=120)
    assert tally.faults == [], (tmp_path / "node.log").read_text(errors="replace")[-4000:]
    assert tally.acknowledged == 3 * 11
