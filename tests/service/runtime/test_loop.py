"""A process that is told to end while it starts ends in good order."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mirv.service.commands.main import app
from mirv.service.node.node import Node
from mirv.service.runtime.loop import end_when_told


@pytest.fixture(autouse=True)
def _signals_as_they_were() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_what_is_waited_for(number: signal.Signals) -> None:
    stopping = threading.Event()
    end_when_told(stopping)
    os.kill(os.getpid(), number)
    assert stopping.is_set()


def test_a_node_told_to_end_while_it_starts_ends_after_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def start(_node: Node) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        begun.append("started")

    monkeypatch.setattr(Node, "start", start)
    config = tmp_path / "mirv.yaml"
    config.write_text(f"folder: {tmp_path / 'node'}\n", encoding="utf-8")
    ended = CliRunner().invoke(app, ["serve", "--config", str(config)])
    assert (ended.exit_code, begun) == (0, ["started"]), ended.output
