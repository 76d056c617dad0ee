"""What is installed is `mirv` and nothing else, and works in a folder of the user's own modules."""

import csv
import re
import signal
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import gdcm
import httpx
import pydicom
import pytest
import yaml
from pynetdicom import AE

from mirv.dicom_io.phantom.patient import write_study
from tests.installing import (
    PACKAGES,
    ROOT,
    USERS_OWN,
    Installed,
    built,
    copied_tree,
    environment,
    install,
    interpreter,
    plain_environment,
    run,
    users_folder,
    wanted_files,
)
from tests.peers import free_port, wait_until

PYTHONS = ("3.11", "3.12", "3.13")
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
ECHO = "1.2.840.10008.1.1"
N_LESIONS = 3
PROCESSES = 2
EVERYTHING = """\
import importlib, pkgutil, sys
import mirv
for found in pkgutil.walk_packages(mirv.__path__, "mirv."):
    importlib.import_module(found.name)
print(mirv.__file__, *sys.modules)
"""
A_FEW = (
    "import mirv, mirv.service.study.folder, mirv.analysis.features.compute; print(mirv.__file__)\n"
)
# Its release, and whether it tells the time as DBOS asks for it from Python 3.12 on.
SQLITE = """\
import sqlite3
(told,) = sqlite3.connect(":memory:").execute("SELECT unixepoch('subsec')").fetchone()
print(sqlite3.sqlite_version, told is not None)
"""
# A project that installs as the node did before it was called `mirv`.
OLD_PROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
[project]
name = "mirv-node"
version = "0.1.0"
[project.scripts]
mirv = "service.cli:main"
[tool.setuptools.packages.find]
include = ["config*", "analysis*", "dicom_io*", "service*"]
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied_tree(tmp_path_factory.mktemp("source") / "tree")


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tree, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module", params=["editable", "wheel"])
def installed(
    request: pytest.FixtureRequest, tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    """The node of this tree, installed either way, and a user's folder."""
    folder = tmp_path_factory.mktemp(request.param)
    python = environment(folder / "environment")
    if request.param == "wheel":
        install(python, request.getfixturevalue("wheel"))
    else:
        _as_it_was_before(folder / "before", python)
        install(python, "--editable", tree)
    return Installed(python, users_folder(folder / "user"))


def _as_it_was_before(project: Path, python: Path) -> None:
    """Install the layout before `mirv`: what comes after must leave nothing of it."""
    for package in PACKAGES:
        (project / package).mkdir(parents=True)
        (project / package / "__init__.py").touch()
    (project / "service" / "cli.py").write_text("def main():\n    raise SystemExit(3)\n")
    (project / "pyproject.toml").write_text(OLD_PROJECT, encoding="utf-8")
    install(python, "--editable", project)
    run([python.parent / "mirv"], project.parent, code=3)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose images only the decoder in a process of its own reads."""
    made = write_study(
        tmp_path_factory.mktemp("study"),
        n_lesions=N_LESIONS,
        shape=(16, 48, 48),
        spacing=(4.0, 3.5, 3.5),
    )
    for path in made.ct:
        _compress(path)
    return made.folder


def _compress(path: Path) -> None:
    reader, change, writer = (
        gdcm.ImageReader(),
        gdcm.ImageChangeTransferSyntax(),
        gdcm.ImageWriter(),
    )
    reader.SetFileName(str(path))
    assert reader.Read()
    syntax = gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1)
    change.SetTransferSyntax(syntax)
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    assert writer.Write()
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == JPEG_LOSSLESS


# What is built


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    compiled = f"mirv/analysis/features/_texture{EXTENSION_SUFFIXES[0]}"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        told = archive.read(*entry_points).decode()
    assert names == wanted_files() | {compiled}
    assert told.split() == ["[console_scripts]", "mirv", "=", "mirv.service.commands.main:main"]
    # A few by name, should the tree itself lose them.
    assert {
        "mirv/config/profiles/henry2022.yaml",
        "mirv/config/spaces/sarc021-lung-paper.json",
        "mirv/config/sites.yaml",
        "mirv/dicom_io/sr/feature_codes.tsv",
        "mirv/service/http/templates/base.html",
        "mirv/service/http/static/mirv.css",
        "mirv/service/catalogue/database/migrations/env.py",
        "mirv/service/catalogue/database/migrations/versions/0001_make_the_catalogue.py",
        "mirv/py.typed",
    } <= names  # fmt: skip


def test_the_sdist_needs_no_links(wheel: Path) -> None:
    """Its files stand where the links were: what unpacks it need not know links."""
    (sdist,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        kinds = {member.isfile() or member.isdir() for member in archive}
    assert kinds == {True}


def test_make_installs_anew_when_the_compiled_source_changes(tree: Path) -> None:
    stamp = re.search(r"^\$\(STAMP\): (.+)$", (tree / "Makefile").read_text(), re.MULTILINE)
    assert stamp is not None
    for name in stamp[1].split():
        assert (tree / name).is_file(), name
    sources = re.search(r"^sources = \[\"(.+)\"\]$", (tree / "pyproject.toml").read_text(), re.M)
    assert sources is not None
    assert sources[1] in stamp[1].split()


# What is installed


@pytest.mark.parametrize("installed", ["wheel"], indirect=True)
def test_every_module_is_imported_from_the_wheel(installed: Installed) -> None:
    assert_imports_everything(installed)


def assert_imports_everything(installed: Installed) -> None:
    """All modules come from the environment, and none of the user's is taken for one."""
    file, *modules = installed.says(EVERYTHING)
    assert Path(file).is_relative_to(installed.python.parents[1])
    assert not set(USERS_OWN) & set(modules)
    python = {name for name in wanted_files() if name.endswith(".py")}
    # Alembic runs migrations by their paths; all else is a module.
    assert len([name for name in modules if name.split(".")[0] == "mirv"]) >= len(
        [name for name in python if "/migrations/" not in name]
    )


def test_modules_are_imported_by_a_line_and_at_a_prompt(installed: Installed, tree: Path) -> None:
    places = {*installed.says(A_FEW), *installed.says_at_the_prompt(A_FEW)}
    (place,) = map(Path, places)
    assert place.is_relative_to(installed.python.parents[1]) or place.is_relative_to(tree)


@pytest.mark.parametrize("name", PACKAGES)
def test_the_users_modules_are_theirs(installed: Installed, name: str) -> None:
    """Nor is anything left of an installation from before."""
    code = f"import sys\ntry:\n    import {name}\nexcept RuntimeError as error:\n    print(error)"
    assert " ".join(installed.says(code)) == f"{name}.py of the user was imported"
    elsewhere = [installed.python, "-P", "-c", f"import {name}"]
    run(elsewhere, installed.folder, code=1)


def test_commands_answer(installed: Installed) -> None:
    assert "profile" in installed.mirv("--help")
    assert "henry2022" in installed.mirv("profile", "list")


def test_a_study_is_processed(installed: Installed, study: Path) -> None:
    """Extraction workers and the decoder of JPEG lossless are processes of their own."""
    assert_processes(installed, study)


def assert_processes(installed: Installed, study: Path) -> None:
    """All lesions of the study come out, in spite of what lies around."""
    out = installed.folder / "out"
    installed.mirv("process", study, "--out", out)
    with (out / "lesions.csv").open(encoding="utf-8", newline="") as table:
        lesions = {row["tracking_uid"] for row in csv.DictReader(table)}
    assert len(lesions) == N_LESIONS
    assert list(out.rglob("*.dcm"))


def test_a_node_listens_in_several_processes(installed: Installed) -> None:
    assert_serves(installed)


def assert_serves(installed: Installed) -> None:
    """A node started in the folder answers in each of its processes, and ends when asked."""
    port, http = free_port(), free_port()
    settings = {
        "folder": "node",
        "listener": {"port": port, "processes": PROCESSES},
        "http": {"port": http},
    }
    (installed.folder / "mirv.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    log_path = installed.folder / "node.log"
    with log_path.open("wb") as log:
        node = subprocess.Popen(
            [installed.command, "serve", "--config", "mirv.yaml"],
            cwd=installed.folder,
            env=plain_environment(),
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(
            _healthy(node, http), 60, f"the node answers; log {log_path.read_text()[-3000:]}"
        )
        for _ in range(4 * PROCESSES):
            assert _echoes(port)
    finally:
        node.send_signal(signal.SIGTERM)
        code = node.wait(60)
    told = log_path.read_text(encoding="utf-8")
    assert code == 0, told
    assert "of the user was imported" not in told
    assert "Traceback" not in told


def _healthy(node: "subprocess.Popen[bytes]", port: int) -> Callable[[], bool]:
    def healthy() -> bool:
        assert node.poll() is None, "the node ended"
        try:
            url = f"http://127.0.0.1:{port}/health"
            return httpx.get(url, timeout=2, trust_env=False).is_success
        except httpx.TransportError:
            return False

    return healthy


def _echoes(port: int) -> bool:
    entity = AE()
    entity.add_requested_context(ECHO)
    association = entity.associate("127.0.0.1", port, ae_title="MIRV")
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return bool(status.Status == 0)


# With every Python there is, dependencies and all


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", PYTHONS)
def test_a_clean_environment_of_each_python(
    version: str, tree: Path, study: Path, tmp_path: Path
) -> None:
    """Locked dependencies by hash, then the wheel that this Python builds."""
    found = interpreter(version)
    if found is None:
        pytest.skip(f"no Python {version} here")
    run([found, "-m", "venv", tmp_path / "environment"], tmp_path)
    python = tmp_path / "environment" / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--disable-pip-version-check")
    run([*pip, "--require-hashes", "-r", ROOT / "requirements.lock"], tmp_path)
    run([*pip, "--no-deps", "--no-index", built(tree, tmp_path / "dist", python=python)], tmp_path)
    installed = Installed(python, users_folder(tmp_path / "user"))
    assert_imports_everything(installed)
    assert_processes(installed, study)
    release, knows = installed.says(SQLITE)
    if version != "3.11" and knows == "False":
        pytest.xfail(f"DBOS on Python {version} wants SQLite 3.42 or later, found {release}")
    assert_serves(installed)
