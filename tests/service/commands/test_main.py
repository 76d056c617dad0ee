"""The list of commands is true, and a command loads no more than it needs."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mirv.service.catalogue import Catalogue, sqlite_url
from mirv.service.commands.main import ENTRIES

ROOT = Path(__file__).parents[3]
LOADED = """\
import sys
from mirv.service.commands.main import app
try:
    app(sys.argv[1:])
finally:
    print('LOADED', *sys.modules)
"""


def loaded(*words: str) -> set[str]:
    """Modules that a command has loaded when it is done, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words],
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
    own = {name for name in found if name.split(".")[0] == "mirv"}
    assert own == {
        "mirv",
        "mirv.analysis",
        "mirv.analysis.errors",
        "mirv.config",
        "mirv.config.errors",
        "mirv.service",
        "mirv.service.commands",
        "mirv.service.commands.main",
        "mirv.service.commands.terminal",
    }
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
            if path.is_relative_to(ROOT / "service" / "commands"):
                continue
            text = path.read_text(encoding="utf-8")
            assert "import typer" not in text and "from rich" not in text, path
