"""After any history, the node's results are those of `mirv process` on what is then valid.

How many histories: the environment's MIRV_HISTORIES, else 1,000 in CI and few elsewhere; each
processor plays some. A failing one is printed, made as short as it goes; MIRV_HISTORY="images:A0
..." replays it, in the process of the test.
"""

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.conftest import IN_CI
from tests.service.node.histories import player
from tests.service.node.histories.made import history

SHARES = 10
HISTORIES = int(os.environ.get("MIRV_HISTORIES") or (1000 if IN_CI else 60))
# Without one in the environment: the node's own outputs come back, and retention removes them.
REPLAYED = os.environ.get("MIRV_HISTORY") or "images:B0 seg:B0 wait own retained:B0:1"


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """In memory where there is such a folder: these tests are not about the disk."""
    memory = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def players(base: Path) -> Iterator[ProcessPoolExecutor]:
    """One process a processor."""
    with ProcessPoolExecutor(
        len(os.sched_getaffinity(0)), get_context("spawn"), player.begin, (base,)
    ) as pool:
        yield pool


@pytest.mark.parametrize("share", range(SHARES))
def test_the_node_equals_the_folder_after_any_history(
    share: int, players: ProcessPoolExecutor
) -> None:
    texts = [history(number) for number in range(share, HISTORIES, SHARES)]
    faults = players.map(player.fault_of, texts)
    failing = [text for text, fault in zip(texts, faults, strict=True) if fault]
    if failing:
        short, fault = players.submit(player.shortest, failing[0]).result()
        others = "".join(f"\nalso fails: MIRV_HISTORY={text!r}" for text in failing[1:])
        pytest.fail(f"MIRV_HISTORY={short!r}\n{fault}{others}", pytrace=False)


def test_a_history_replayed(base: Path) -> None:
    with player.player(base) as play:
        play(REPLAYED)


def test_no_history_comes_twice() -> None:
    assert len({history(number) for number in range(1000)}) == 1000
