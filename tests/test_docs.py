"""What the pages say holds: commands exist, settings load, links lead somewhere."""

import re
from pathlib import Path

import pytest
import yaml

from mirv.config.settings import Settings, load_settings
from mirv.service.commands.main import ENTRIES
from tests.doc_tables import pages

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def commands() -> dict[str, set[str]]:
    """Names of commands, with those of their sub-commands."""
    loaded = {name: entry.load(name) for name, entry in ENTRIES.items()}
    return {name: set(getattr(command, "commands", {})) for name, command in loaded.items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_named_exists(page: Path) -> None:
    known = commands()
    for found in re.finditer(r"(?:`|\.venv/bin/)mirv ([a-z]+)(?: ([a-z]+))?", page.read_text()):
        command, below = found[1], found[2]
        assert command in known, found[0]
        if known[command] and below:
            assert below in known[command], found[0]


def test_every_command_is_named_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    for command in commands():
        assert f"mirv {command}" in text, command


def test_the_settings_in_the_readme_load(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    path = tmp_path / "mirv.yaml"
    path.write_text(block)
    settings = load_settings(path)
    assert settings.destinations[0].name == yaml.safe_load(block)["destinations"][0]["name"]


def test_generated_pages_and_tables_are_what_the_program_gives() -> None:
    """Refresh with ``make docs``."""
    stale = [page.name for page, text in pages().items() if page.read_text("utf-8") != text]
    assert stale == []


def test_every_setting_says_what_it_is() -> None:
    schema = Settings.model_json_schema()
    silent = [
        f"{section['title']}.{name}"
        for section in (schema, *schema["$defs"].values())
        for name, field in section["properties"].items()
        if "description" not in field
    ]
    assert silent == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_is_named_exists(page: Path) -> None:
    known = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", page.read_text()))
    assert named <= known, named - known
