"""What the pages say holds: commands exist, settings load, links lead somewhere."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from mirv.config.settings import Settings, load_settings
from mirv.service.commands.main import ENTRIES
from tests.doc_tables import pages

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
PACKAGES = ("service", "dicom_io", "analysis", "config", "tests")
FOLDERS = (*PACKAGES, "docs", "docker", "src")
CODE = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
# A path of the tree, and what is named in it; a file of Python may be named by the end of its path.
A_PATH = re.compile(
    rf"(?<![\w/.-])((?:{'|'.join(FOLDERS)})/[\w./-]*|[\w./-]*\w\.py)"
    r"(?::([A-Za-z_][\w.]*))?"
)
A_NAME = re.compile(
    r"`(?:mirv\.)?((?:service|dicom_io|analysis|config)(?:\.(?!py\b)\w+)+)(?:\(.*?\))?`"
)


@cache
def defined(path: Path) -> set[str]:
    """What a module defines: functions, classes and their methods and fields, constants."""
    names = set[str]()

    def note(body: list[ast.stmt], above: str) -> None:
        for one in body:
            if isinstance(one, ast.FunctionDef | ast.ClassDef):
                names.add(above + one.name)
            if isinstance(one, ast.ClassDef):
                note(one.body, f"{above}{one.name}.")
            targets = one.targets if isinstance(one, ast.Assign) else [getattr(one, "target", None)]
            names.update(above + each.id for each in targets if isinstance(each, ast.Name))

    note(ast.parse(path.read_text("utf-8")).body, "")
    return names


def is_path(path: str, name: str | None) -> bool:
    """Whether a file or folder is there, and what is named in it."""
    found = [ROOT / path] if (ROOT / path).exists() else []
    found += [one for one in CODE if one.as_posix().endswith(f"/{path}")]
    return any(name is None or (one.suffix == ".py" and name in defined(one)) for one in found)


def is_name(dotted: str) -> bool:
    """Whether a module of ours is there, and what is named in it."""
    parts = dotted.split(".")
    for last in range(len(parts), 0, -1):
        file = ROOT.joinpath(*parts[:last])
        below = ".".join(parts[last:])
        for module in (file.with_suffix(".py"), file / "__init__.py", file / "__main__.py"):
            if module.is_file():
                return not below or below in defined(module)
    return False


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_and_name_of_the_code_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    paths = {(found[1].rstrip("."), found[2]) for found in A_PATH.finditer(text)}
    assert {one for one in paths if not is_path(*one)} == set()
    assert {name for name in A_NAME.findall(text) if not is_name(name)} == set()
    modules = set(re.findall(r"python -m (tests[\w.]*)", text))
    assert {name for name in modules if not is_name(name)} == set()


def test_what_docstrings_and_comments_refer_to_exists() -> None:
    stale = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in CODE
        for name in A_NAME.findall(path.read_text("utf-8"))
        if not is_name(name)
    }
    assert stale == set()


def test_each_walk_has_ten_steps_at_most() -> None:
    _, walks = (ROOT / "ARCHITECTURE.md").read_text("utf-8").split("## Three walks")
    steps = [re.findall(r"^(\d+)\. ", walk, re.MULTILINE) for walk in walks.split("\n### ")[1:4]]
    assert [len(walk) <= 10 and walk[0] == "1" for walk in steps] == [True] * 3
