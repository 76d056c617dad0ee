"""Processes of our own: they import what this one imports, whatever lies in the working folder."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mirv
from mirv.config.fresh_interpreter import command

ENTRY = """
import json, random, sys
import mirv.config.errors

def tell():
    import warnings
    warnings.warn("of the child")
    files = [one.__file__ for one in (json, random, mirv)]
    print(json.dumps({"files": files, "words": sys.argv[1:]}))
"""
TELL = """
import json, subprocess, sys
from {module} import tell
from mirv.config.fresh_interpreter import command
done = subprocess.run(command(tell), capture_output=True, text=True, check=True)
print(done.stdout, end="")
"""


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function in a module that only this process's path leads to."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "told_by_a_child.py").write_text(ENTRY)
    monkeypatch.syspath_prepend(str(library))
    found: Callable[[], None] = importlib.import_module("told_by_a_child").tell
    yield found
    del sys.modules["told_by_a_child"]


@pytest.fixture
def trapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of a user who names files as the standard library and we do."""
    folder = tmp_path / "working"
    (folder / "mirv").mkdir(parents=True)
    for name in ("json", "random", "sys", "mirv/__init__"):
        (folder / f"{name}.py").write_text("raise RuntimeError('a file of the user')")
    monkeypatch.chdir(folder)
    return folder


def told(entry: Callable[[], None], *words: object) -> dict[str, list[str]]:
    done = subprocess.run(command(entry, *words), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "its warnings are not heard"
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


OURS = [json.__file__, importlib.import_module("random").__file__, mirv.__file__]


@pytest.mark.parametrize("first", ["", ".", "absolute"])
def test_files_in_the_working_folder_hide_nothing(
    entry: Callable[[], None], trapped: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """As in a notebook (""), and as under ``python -m``."""
    monkeypatch.setattr(sys, "path", [str(trapped) if first == "absolute" else first, *sys.path])
    assert told(entry)["files"] == OURS


def test_a_path_from_the_environment_hides_nothing_either(
    entry: Callable[[], None], trapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty part in PYTHONPATH is the working folder, and comes before the standard library."""
    monkeypatch.setenv("PYTHONPATH", f":{os.environ.get('PYTHONPATH', '')}")
    assert trapped == Path.cwd()
    assert told(entry)["files"] == OURS


def test_what_this_process_finds_is_found_whatever_the_environment_says(
    entry: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.chdir(tmp_path)
    assert told(entry)["files"] == OURS


def test_words_come_as_text(entry: Callable[[], None]) -> None:
    assert told(entry, 7, 0.5, "a 'word'; of\nits own")["words"] == [
        "7",
        "0.5",
        "a 'word'; of\nits own",
    ]


def test_what_lies_in_the_working_folder_alone_is_still_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text(ENTRY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    module = importlib.import_module("only_here")
    try:
        assert told(module.tell)["files"] == OURS
    finally:
        del sys.modules["only_here"]


def test_ourselves_in_the_working_folder_are_found_there(
    entry: Callable[[], None], tmp_path: Path
) -> None:
    """A source tree beside an installed package: the child is of the parent's tree."""
    tree, installed = tmp_path / "tree", tmp_path / "installed"
    for where in (tree, installed):
        (where / "mirv" / "config").mkdir(parents=True)
        (where / "mirv" / "__init__.py").write_text("")
        for name in ("errors", "fresh_interpreter"):
            source = Path(mirv.__file__).parent / "config" / f"{name}.py"
            (where / "mirv" / "config" / f"{name}.py").write_text(source.read_text())
    path = os.pathsep.join([str(installed), str(tmp_path / "library")])
    done = subprocess.run(
        [sys.executable, "-c", TELL.format(module=entry.__module__)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["files"][2] == str(tree / "mirv" / "__init__.py")


def test_a_working_folder_that_is_gone_is_no_matter(
    entry: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert told(entry)["files"] == OURS
