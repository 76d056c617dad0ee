"""Validators and readers of others, as functions: what each says of a file."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PIXELMED = "/usr/share/java/pixelmed.jar"
LAUNCHER = Path(__file__).with_name("ValidateReports.java")
XPATH_LIMITS = (
    "xpathExprGrpLimit",
    "xpathExprOpLimit",
    "xpathTotalOpLimit",
    "entityExpansionLimit",
)


@dataclass(frozen=True, slots=True)
class Said:
    """Exit code and everything a tool wrote."""

    code: int
    text: str

    def lines(self, pattern: str) -> list[str]:
        """Lines that hold `pattern`."""
        return [line for line in self.text.splitlines() if re.search(pattern, line)]


def run(*command: str | Path) -> Said:
    """Run a tool to its end."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, timeout=300, check=False
    )
    return Said(done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace"))


def dciodvfy(path: Path) -> list[str]:
    """Errors of dicom3tools' IOD checker."""
    return run("dciodvfy", path).lines("^Error|Abort")


def pixelmed(paths: Sequence[Path]) -> dict[Path, list[str]]:
    """Errors of PixelMed's template checker, the one the IHE AIR tests use, by file."""
    limits = [f"-Djdk.xml.{name}=0" for name in XPATH_LIMITS]
    fast = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    said = run("java", *limits, *fast, "-cp", PIXELMED, LAUNCHER, *paths)
    assert said.code == 0, said.text[-2000:]
    parts = re.split(r"^=== (.+)$", said.text, flags=re.MULTILINE)
    verdicts = {}
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        assert "Root Template Validation Complete" in text, text[:2000]
        verdicts[Path(name)] = [line for line in text.splitlines() if "Error" in line]
    assert set(verdicts) == set(paths), said.text[-2000:]
    return verdicts


def dcmqi(program: str, *arguments: str | Path) -> Said:
    """A dcmqi program from the environment the tests run in."""
    return run(Path(sys.executable).parent / program, *arguments)


def tid1500(path: Path, folder: Path) -> list[dict[str, Any]]:
    """Measurement groups as dcmqi reads them."""
    target = folder / f"{path.stem}.json"
    said = dcmqi("tid1500reader", "--inputDICOM", path, "--outputMetadata", target)
    assert said.code == 0, said.text
    groups: list[dict[str, Any]] = json.loads(target.read_text())["Measurements"]
    return groups
