"""A process that is told to end while it starts ends in good order."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirv.service.runtime.loop import end_when_told

# The log and the signals are set for a whole process: this one is the test's own.
TOLD_WHILE_IT_STARTS = """
import os, signal, sys
from mirv.service.commands.main import main
from mirv.service.node.node import Node

def start(node):
    os.kill(os.getpid(), signal.SIGTERM)
    print("started")

Node.start = start
sys.argv = ["mirv", "serve", "--config", sys.argv[1]]
main()
"""


@pytest.fixture
def _signals_as_they_were() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals_as_they_were")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_what_is_waited_for(number: signal.Signals) -> None:
    stopping = threading.Event()
    end_when_told(stopping)
    os.kill(os.getpid(), number)
    assert stopping.is_set()


def test_a_node_told_to_end_while_it_starts_ends_after_its_start(tmp_path: Path) -> None:
    config = tmp_path / "mirv.yaml"
    config.write_text(f"folder: {tmp_path / 'node'}\n", encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-c", TOLD_WHILE_IT_STARTS, str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "started\n"), ended.stderr
