"""What `python -m tests.bench load` shows of 100,000 objects, of some: memory, and nothing lost."""

from pathlib import Path

import pytest

from tests.bench import load


@pytest.mark.peers
def test_memory_stays_and_all_is_indexed(tmp_path: Path) -> None:
    with (
        load.running(tmp_path, quiet_s=1.0, processes=2) as served,
        load.watched(served) as page,
    ):
        seen = load.traffic(served, tmp_path, 3000)
    assert seen.indexed == 3000
    assert seen.late_mb < 1.1 * seen.early_mb
    assert page.answers
    assert page.faults == []
