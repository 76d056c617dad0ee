"""The list of commands is true, and a command loads no more than it needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from service.cli import ENTRIES
from service.store import Catalogue, sqlite_url

ROOT = Path(__file__).parents[2]
LOADED = "import sys\nfrom service.cli import app\ntry:\n    app(sys.argv[1:])\nfinally:\n"
LOADED += "    print('LOADED', *sys.modules)"


def loaded(*words: str) -> set[str]:
    """Modules that a command has loaded when it is done, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split("LOADED", 1)[1].split())


@pytest.mark.parametrize("name", ENTRIES)
def test_the_list_says_what_each_command_says_of_itself(name: str) -> None:
    command = ENTRIES[name].load(name)
    first = command.help.split("\n\n")[0].split("\n")
    assert " ".join(first) == ENTRIES[name].help


def test_the_list_of_commands_loads_none_of_them() -> None:
    found = loaded("--help")
    own = {name for name in found if name.split(".")[0] in {"service", "dicom_io", "analysis"}}
    assert own == {"service", "service.cli", "service.shell", "analysis", "analysis.errors"}
    assert "pydantic" not in found


def test_a_list_of_jobs_loads_neither_statistics_nor_network(tmp_path: Path) -> None:
    Catalogue(sqlite_url(tmp_path / "catalogue.sqlite")).close()
    config = tmp_path / "mirv.yaml"
    config.write_text(yaml.safe_dump({"folder": str(tmp_path)}), encoding="utf-8")
    for words in (("jobs", "list"), ("deliveries", "list")):
        found = loaded(*words, "--config", str(config))
        assert "sqlalchemy" in found
        heavy = {"pandas", "scipy", "pynetdicom", "dbos", "matplotlib", "alembic", "pydicom"}
        assert heavy & found == set()


def test_only_commands_know_the_terminal() -> None:
    for package in ("config", "analysis", "dicom_io", "service"):
        for path in (ROOT / package).rglob("*.py"):
            if path.stem.endswith("cli") or path.stem in {
                *("shell", "cohort_options", "demo_report")
            }:
                continue
            text = path.read_text(encoding="utf-8")
            assert "import typer" not in text and "from rich" not in text, path
