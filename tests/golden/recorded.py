"""What is recorded of the cases, and measuring one now in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.golden.cases import CASES, steady_environment

RECORDED = Path(__file__).with_name("recorded.json")
_ROOT = Path(__file__).parents[2]
_PATIENCE_S = 500


def load() -> dict[str, dict[str, Any]]:
    """Every recorded case as `cases.measure` gives it."""
    content = json.loads(RECORDED.read_text(encoding="utf-8"))
    shared = {key: content[key] for key in ("platform", "version", "names")}
    return {name: {**shared, **case} for name, case in content["cases"].items()}


def save(measured: dict[str, dict[str, Any]]) -> None:
    """Record all cases, measured in one environment: names of parts are kept once."""
    first = next(iter(measured.values()))
    content = {
        "platform": first["platform"],
        "version": first["version"],
        "cases": {
            name: {"runs": case["runs"], "files": case["files"]} for name, case in measured.items()
        },
        "names": {key: names for case in measured.values() for key, names in case["names"].items()},
    }
    RECORDED.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def measure_apart(name: str, folder: Path) -> dict[str, Any]:
    """Measure a case in a fresh process, in the environment made for equal last bits.

    Raises
    ------
    RuntimeError
        The process failed; with what it said.
    """
    if name not in CASES:
        raise ValueError(f"found case {name}, wanted one of {', '.join(CASES)}")
    file = folder / f"{name}.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.golden", name, str(folder / name), str(file)],
        cwd=_ROOT,
        env={**steady_environment(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name}: exit code {done.returncode}: {done.stderr[-3000:]}")
    return dict(json.loads(file.read_text(encoding="utf-8")))
