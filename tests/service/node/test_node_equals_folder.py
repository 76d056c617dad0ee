"""After any history, the node's results are those of `mirv process` on what is then valid.

How many histories: the environment's MIRV_HISTORIES, else 1,000 in CI and few elsewhere. A failing
one is printed, made as short as it goes; MIRV_HISTORY="images:A0 ..." replays it.
"""

import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import IN_CI
from tests.service.node.histories.history import History
from tests.service.node.histories.made import history, shortened
from tests.service.node.histories.remembered import remembered
from tests.service.node.histories.rig import Ground, settings_of, without_log
from tests.service.node.histories.truth import expect_all

SHARES = 10
HISTORIES = int(os.environ.get("MIRV_HISTORIES") or (1000 if IN_CI else 60))
REPLAYED = os.environ.get("MIRV_HISTORY", "")
Play = Callable[[str], None]


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    """Plays a history on a node of its own and holds it against the folder."""
    # In memory where there is such a folder: these tests are not about the disk.
    memory = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        base = Path(made)
        ground = Ground(settings_of(base / "node"))

        def play_one(text: str) -> None:
            whole = zlib.crc32(text.encode()) % 4 == 0
            with remembered(whole=whole), ground.node() as node:
                played = History(node)
                played.play(text)
                expect_all(node, played.received, base / "folder")

        with without_log():
            yield play_one
        ground.close()


@pytest.mark.parametrize("share", range(SHARES))
def test_the_node_equals_the_folder_after_any_history(share: int, play: Play) -> None:
    for number in range(share, HISTORIES, SHARES):
        text = history(number)
        if fault_of(play, text) is None:
            continue
        short = shortened(text, lambda fewer: fault_of(play, fewer) is not None)
        raise AssertionError(f"history {number}: MIRV_HISTORY={short!r}") from fault_of(play, short)


def fault_of(play: Play, text: str) -> Exception | None:
    """What a history fails with; None: it does not."""
    try:
        play(text)
    except Exception as fault:  # noqa: BLE001 - whatever it is, the history is to be told
        return fault
    return None


@pytest.mark.skipif(not REPLAYED, reason="no MIRV_HISTORY to replay")
def test_a_history_replayed(play: Play) -> None:
    play(REPLAYED)


def test_no_history_comes_twice() -> None:
    assert len({history(number) for number in range(1000)}) == 1000
