"""The whole of `mirv process` on known studies gives what it gave when it was recorded.

Four steps, the strictest that can hold: the bytes of every file, where platform and version are the
recorded ones; else all that does not name the version; on another platform numbers to six digits
and the structure. ``python -m tests.golden`` records anew: only for a change that is meant.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.golden import recorded
from tests.golden.cases import CASES, LEVELS
from tests.golden.digests import differing

pytestmark = pytest.mark.shared

SMALL_ENOUGH = 400_000
SHOWN = 60
_DRAWN = (
    ("report_pdf", "EncapsulatedDocument"),
    ("report_sc", "PixelData"),
)
"""Pictures of letters that tell the version: exact only under the recorded one."""


@pytest.fixture(scope="module")
def known() -> dict[str, dict[str, Any]]:
    """What is recorded."""
    return recorded.load()


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_those_recorded(
    case: str,
    known: dict[str, dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found, wanted = recorded.measure_apart(case, tmp_path), known[case]
    level = "exact" if found["platform"] == wanted["platform"] else "rounded"
    same_version = found["version"] == wanted["version"]
    with capsys.disabled():
        print(f"\n{case}: compared {_said(level, same_version, found, wanted)}")
    assert list(found["files"]) == list(wanted["files"])
    faults = [fault for name in wanted["files"] for fault in _faults(found, wanted, name)]
    assert not faults, f"{len(faults)} parts differ:\n" + "\n".join(faults[:SHOWN])
    if same_version:
        assert found["runs"] == wanted["runs"], "the runs have other identities"
        if level == "exact":
            assert _bytes(found) == _bytes(wanted)


def _said(level: str, same_version: bool, found: dict[str, Any], wanted: dict[str, Any]) -> str:
    if level == "exact":
        return "byte by byte" if same_version else "exactly, but for the version"
    other = [
        f"{name}: found {found['platform'].get(name)}, recorded {value}"
        for name, value in wanted["platform"].items()
        if found["platform"].get(name) != value
    ]
    return f"to six digits, since the platform differs ({'; '.join(other)})"


def _faults(found: dict[str, Any], wanted: dict[str, Any], name: str) -> list[str]:
    """What differs in a file, each part by its name and the finest level that shows it."""
    one, other = found["files"][name], wanted["files"][name]
    names, expected = found["names"][one["names"]], wanted["names"][other["names"]]
    if names != expected:
        gone, new = sorted(set(expected) - set(names)), sorted(set(names) - set(expected))
        return [f"{name}: parts gone: {gone}; new: {new}; in another order: {not gone and not new}"]
    exact = found["platform"] == wanted["platform"]
    same_version = found["version"] == wanted["version"]
    faults: dict[str, str] = {}
    for level in LEVELS if exact else LEVELS[1:]:
        for part in differing(names, one[level], other[level]):
            drawn = any(name.startswith(role) and part == what for role, what in _DRAWN)
            if not (level == "exact" and drawn and not same_version):
                faults[part] = level  # the last one stands: the coarser, the worse
    return [f"{name}: {part} ({level})" for part, level in faults.items()]


def _bytes(case: dict[str, Any]) -> dict[str, str]:
    return {name: file["bytes"] for name, file in case["files"].items()}


def test_what_is_recorded_is_small_and_names_no_one() -> None:
    text = recorded.RECORDED.read_text(encoding="utf-8")
    assert len(text) < SMALL_ENOUGH
    assert not any(word in text for word in ("Synthetic^", "STS_002", "2.25."))
