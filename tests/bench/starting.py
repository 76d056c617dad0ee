"""CPU of starting the command line, beside a Typer program of two commands."""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from mirv.service.catalogue import Catalogue, sqlite_url

ROUNDS = 5
ROOT = Path(__file__).parents[2]
RIVAL = """
import typer
app = typer.Typer()
@app.command()
def one(name: str = "") -> None:
    "One."
@app.command()
def two(name: str = "") -> None:
    "Two."
app()
"""
OURS = "from mirv.service.commands.main import main; main()"


def run() -> list[str]:
    """Rows for ``make bench``: CPU of each and its ratio to the rival's, the best of five."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        Catalogue(sqlite_url(folder / "catalogue.sqlite")).close()
        config = folder / "mirv.yaml"
        config.write_text(f"folder: {folder}\n", encoding="utf-8")
        rival = _cpu_s(RIVAL, "--help")
        rows = [f"two-command Typer program --help: {rival:.3f} s CPU"]
        for words, wanted in (
            (("--help",), 3),
            (("jobs", "list", "--config", str(config)), 6),
        ):
            found = _cpu_s(OURS, *words)
            ratio = found / rival
            name = " ".join(words[:2])
            rows.append(f"mirv {name}: {found:.3f} s CPU, ratio {ratio:.1f} (wanted {wanted})")
        return rows


def _cpu_s(code: str, *words: str) -> float:
    """User and system time of a process of its own, the shortest of a few."""
    times = []
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-c", code, *words],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)
