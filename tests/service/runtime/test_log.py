"""What a logged exception may say: asked of a process that configures its logging for good."""

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import threading
from mirv.service.runtime.log import configure, get_logger

def fail():
    try:
        int("SENTINEL^PATIENT")
    except ValueError as fault:
        raise KeyError("SENTINEL^PATIENT") from fault

configure()
try:
    fail()
except KeyError:
    get_logger("test").exception("it failed")
one = threading.Thread(target=fail)
one.start()
one.join()
"""


def test_exceptions_are_told_without_their_words(tmp_path: Path) -> None:
    """Where it was caught, and where it ended a thread: the lines it came through, and its kind."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    said = subprocess.run(
        [sys.executable, "-W", "ignore", str(program)], capture_output=True, text=True, check=True
    ).stderr
    assert "SENTINEL" not in said
    caught, ended = (json.loads(line)["exception"] for line in said.splitlines())
    for text in (caught, ended):
        assert "program.py:9 fail" in text
        assert text.endswith("KeyError after ValueError")
