"""Plays histories, also in a process that others start for it."""

import tempfile
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.service.node.histories.history import History
from tests.service.node.histories.made import shortened
from tests.service.node.histories.remembered import remembered
from tests.service.node.histories.rig import Ground, settings_of, without_log
from tests.service.node.histories.truth import expect_all

Play = Callable[[str], None]
_plays: list[Play] = []


@contextmanager
def player(base: Path) -> Iterator[Play]:
    """Plays a history on a node of its own and holds it against the folder.

    Parameters
    ----------
    base : Path
        A folder that is there.
    """
    ground = Ground(settings_of(base / "node"))

    def play(text: str) -> None:
        whole = zlib.crc32(text.encode()) % 4 == 0
        with remembered(whole=whole), ground.node() as node:
            played = History(node)
            played.play(text)
            expect_all(node, played.received, base / "folder")

    with without_log():
        yield play
    ground.close()


def begin(base: Path) -> None:
    """Let this process play, in a folder of its own, until it ends."""
    context = player(Path(tempfile.mkdtemp(dir=base)))
    _plays.append(context.__enter__())


def fault_of(text: str) -> str:
    """What a history fails with, as a traceback; "": it does not."""
    try:
        _plays[-1](text)
    except Exception:  # noqa: BLE001 - whatever it is, the history is to be told
        return traceback.format_exc()
    return ""


def shortest(text: str) -> tuple[str, str]:
    """A failing history made as short as it goes, and what that one fails with."""
    short = shortened(text, lambda fewer: bool(fault_of(fewer)))
    return short, fault_of(short)
