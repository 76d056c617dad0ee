"""Validators and readers of others, as functions: what each says of a file."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PIXELMED = "/usr/share/java/pixelmed.jar"
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


def pixelmed(path: Path) -> list[str]:
    """Errors of PixelMed's template checker, the one the IHE AIR tests use."""
    limits = [f"-Djdk.xml.{name}=0" for name in XPATH_LIMITS]
    fast = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    validator = "com.pixelmed.validate.DicomSRValidator"
    said = run("java", *limits, *fast, "-cp", PIXELMED, validator, path)
    assert said.lines("Root Template Validation Complete"), said.text
    return said.lines("Error")


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
