"""The rules of the house: what import-linter keeps, and what it cannot say.

Every contract is broken once in a copy, so that none is kept only because it says nothing. The
checks of sizes, late imports and private names are tried on small sources that break them.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
HOUSE = ("analysis", "config", "dicom_io", "service")
COMMANDS = "service/commands/"
CONTRACTS = [
    contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "importlinter"
    ]["contracts"]
]
MOST_LINES = 500
MOST_MODULES = 14
MOST_PARAMETERS = 6
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"

CIRCLE = "No circle"

# How each contract is broken: one import that must not be there, and where.
BREAKS = {
    "The house: service > dicom_io > analysis > config": (
        "config/sites.py",
        "mirv.analysis.errors",
    ),
    "Rooms of service": ("service/peers/statuses.py", "mirv.service.inbound.line"),
    "Rooms of dicom_io": ("dicom_io/model.py", "mirv.dicom_io.images.units"),
    "Rooms of analysis": ("analysis/heterogeneity/distances.py", "mirv.analysis.masks.axes"),
    "Rooms of config": ("config/sites.py", "mirv.config.profiles"),
    "No circle": ("analysis/spaces/space.py", "mirv.analysis.spaces.files"),
    "Floors of service.commands": ("service/commands/jobs.py", "mirv.service.commands.export"),
    "Floors of service.http": ("service/http/api.py", "mirv.service.http.pages"),
    "Floors of service.inbound": (
        "service/inbound/follower.py",
        "mirv.service.inbound.processes",
    ),
    "Floors of service.inbound.wire": (
        "service/inbound/wire/idleness.py",
        "mirv.service.inbound.wire.store_requests",
    ),
    "Floors of service.work": ("service/work/notices.py", "mirv.service.work.runs"),
    "Floors of service.objects": ("service/objects/retention.py", "mirv.service.objects.intake"),
    "Floors of service.peers": (
        "service/peers/destinations/webhook.py",
        "mirv.service.peers.sources.query",
    ),
    "Floors of service.catalogue": (
        "service/catalogue/deliveries.py",
        "mirv.service.catalogue.runs",
    ),
    "Floors of service.study": ("service/study/plan.py", "mirv.service.study.pipeline"),
    "Floors of service.research.cohort": (
        "service/research/cohort/features.py",
        "mirv.service.research.cohort.outcomes",
    ),
    "Floors of service.research.retrieval": (
        "service/research/retrieval/persons.py",
        "mirv.service.research.retrieval.taking",
    ),
    "Floors of dicom_io.outputs": (
        "dicom_io/outputs/segmentation/frames.py",
        "mirv.dicom_io.outputs.reports.derived",
    ),
    "Floors of dicom_io.study": ("dicom_io/study/versions.py", "mirv.dicom_io.study.matching"),
    "Floors of dicom_io.sr": ("dicom_io/sr/tree.py", "mirv.dicom_io.sr.template_rows"),
    "Floors of dicom_io.files": ("dicom_io/files/pixels.py", "mirv.dicom_io.files.header"),
    "Floors of analysis.extraction": (
        "analysis/extraction/worker.py",
        "mirv.analysis.extraction.lesion",
    ),
    "Room of pynetdicom": ("service/work/fetches.py", "pynetdicom"),
    "Room of SQL": ("service/objects/spool.py", "sqlite3"),
    "Room of the tables": ("service/objects/repair.py", "mirv.service.catalogue.database.schema"),
    "Room of DBOS": ("service/inbound/follower.py", "dbos"),
    "Room of the web server": ("service/node/node.py", "uvicorn"),
    "Room of the terminal": ("service/research/cohort/source.py", "rich"),
    "Room of HTTP clients": ("service/work/notices.py", "httpx"),
    "Room of logging": ("service/node/node.py", "structlog"),
    "Room of settings models": ("config/profiles.py", "pydantic"),
    "Room of PyRadiomics": ("analysis/extraction/pool.py", "radiomics"),
    "PyRadiomics loads in workers alone": (
        "analysis/extraction/pool.py",
        "mirv.analysis.features.compute",
    ),
    "The pool alone starts workers": (
        "service/study/plan.py",
        "mirv.analysis.extraction.worker",
    ),
    "Room of matplotlib": ("service/http/pictures.py", "matplotlib"),
    "Room of lifelines": ("analysis/cohort/associations.py", "lifelines"),
    "Room of pyarrow": ("service/research/cohort/sink.py", "pyarrow"),
    "Numbers know no DICOM, network or database": ("analysis/tables.py", "pydicom"),
    "DICOM knows no network or database": ("dicom_io/study/assemble.py", "socket"),
    "highdicom checks us from outside": ("dicom_io/outputs/document.py", "highdicom"),
}

# Imports inside functions, outside of the commands (which load what they need when they run).
LATE = {
    "analysis/extraction/worker.py: _load": "the parent knows the module and must not load these",
    "service/catalogue/database/engine.py: migrate": "alembic is slow to load and seldom needed",
    "service/catalogue/received/studies.py: quality": "no other question needs numpy",
}


# --- contracts ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources and the contracts, to be broken."""
    root = tmp_path_factory.mktemp("house")
    shutil.copy(ROOT / "pyproject.toml", root)
    for room in HOUSE:
        shutil.copytree(
            ROOT / room, root / room, ignore=lambda folder, names: _no_source(folder, names)
        )
    shutil.copytree(ROOT / "src", root / "src", symlinks=True)
    return root


def _no_source(folder: str, names: list[str]) -> list[str]:
    return [
        name
        for name in names
        if name == "__pycache__" or not (Path(folder, name).is_dir() or name.endswith(".py"))
    ]


def broken(root: Path) -> dict[str, str]:
    """What `lint-imports` says of each contract that it finds broken; all are looked at."""
    done = subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache", "--config", "pyproject.toml"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    verdicts = re.findall(r"^(.+) (KEPT|BROKEN)(?: \(.*\))?$", done.stdout, re.MULTILINE)
    assert [name for name, _ in verdicts] == CONTRACTS, done.stdout + done.stderr
    found = [name for name, verdict in verdicts if verdict == "BROKEN"]
    assert done.returncode == bool(found)
    said = re.split(r"^(.+)\n-+$", done.stdout, flags=re.MULTILINE)
    told = dict(zip(said[1::2], said[2::2], strict=True))
    return {name: told[name] for name in found}


@contextmanager
def changed(root: Path, breaks: Iterable[tuple[str, str]]) -> Iterator[None]:
    """Each file with one import more at its end."""
    before = {root / file: (root / file).read_bytes() for file, _ in breaks}
    for file, module in breaks:
        with (root / file).open("a", encoding="utf-8") as text:
            text.write(f"\nimport {module}\n")
    try:
        yield
    finally:
        for path, content in before.items():
            path.write_bytes(content)


def test_all_contracts_are_kept(copy: Path) -> None:
    assert broken(copy) == {}


def test_each_contract_can_be_broken(copy: Path) -> None:
    """All in one run: of each the report names the import that broke it."""
    assert list(BREAKS) == CONTRACTS
    breaks = {name: where for name, where in BREAKS.items() if name != CIRCLE}
    with changed(copy, breaks.values()):
        told = broken(copy)
    for name, (file, module) in breaks.items():
        importer = "mirv." + file.removesuffix(".py").replace("/", ".")
        wanted = f"{importer} -> {module} (l."
        assert wanted in re.sub(r"\s+", " ", told.get(name, "")), f"{name}: wanted {wanted}"


def test_a_circle_breaks_its_contract_alone(copy: Path) -> None:
    with changed(copy, [BREAKS[CIRCLE]]):
        assert list(broken(copy)) == [CIRCLE]


def test_what_is_new_must_be_given_its_floor(copy: Path) -> None:
    room = copy / "service" / "attic"
    room.mkdir()
    (room / "__init__.py").touch()
    try:
        assert list(broken(copy)) == ["Rooms of service"]
    finally:
        shutil.rmtree(room)


def test_each_contract_is_a_rule_that_is_written_down() -> None:
    written = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rules = written.split("## Rules the linter keeps", 1)[1].split("\n## ")[0]
    assert re.findall(r"^- \*\*(.+?)\*\*: ", rules, re.MULTILINE) == CONTRACTS


def test_no_module_imports_what_imports_it() -> None:
    graph = grimp.build_graph("mirv", cache_dir=None)
    assert len(graph.modules) > 250
    # A circle, late imports included, is raised as CycleError, which names its modules.
    TopologicalSorter(
        {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    ).prepare()


def test_a_node_loads_no_pyradiomics() -> None:
    asked = "import sys, mirv.service.node.node; print({'radiomics', 'SimpleITK'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", asked],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"


# --- what no contract can say ---------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """One module of the house."""

    name: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


def house() -> list[Source]:
    return [
        Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for room in HOUSE
        for path in sorted((ROOT / room).rglob("*.py"))
    ]


def late_imports(sources: list[Source]) -> list[str]:
    """Functions that import something, ``file: function``, but for the commands."""
    return sorted(
        {
            f"{source.name}: {function.name}"
            for source in sources
            if not source.name.startswith(COMMANDS)
            for function in source.functions()
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
    )


def too_long(sources: list[Source]) -> list[str]:
    """Files of too many lines."""
    return [one.name for one in sources if len(one.text.splitlines()) > MOST_LINES]


def too_full(sources: list[Source]) -> list[str]:
    """Folders of too many modules."""
    folders = [
        one.name.rpartition("/")[0] for one in sources if not one.name.endswith("/__init__.py")
    ]
    return sorted({each for each in folders if folders.count(each) > MOST_MODULES})


def too_many_parameters(sources: list[Source]) -> list[str]:
    """Functions of too many parameters without a comment that says why.

    The comment stands inside the signature or right above the function. Commands are exempt: their
    parameters are the options a user gives, which nobody calls from Python.
    """
    return [
        f"{source.name}: {function.name}"
        for source in sources
        if not source.name.startswith(COMMANDS)
        for function in source.functions()
        if _n_parameters(function) > MOST_PARAMETERS and not _has_reason(source, function)
    ]


def _n_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    more = [each for each in (given.vararg, given.kwarg) if each is not None]
    return len([each for each in named if each.arg not in ("self", "cls")]) + len(more)


def _has_reason(source: Source, function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    lines = source.text.splitlines()
    first = min([function.lineno, *(each.lineno for each in function.decorator_list)])
    # From the line above the function (or its decorators) to the line before its body.
    around = lines[max(first - 2, 0) : function.body[0].lineno - 1]
    return any(re.match(r"\s*#|.*\s# (?!noqa|type:)", line) for line in around)


def private_reaches(sources: list[Source]) -> list[str]:
    """Private names of another module that a module uses, ``file: name``."""
    return [f"{source.name}: {name}" for source in sources for name in _private(source)]


def _private(source: Source) -> Iterator[str]:
    package = "mirv." + source.name.rpartition("/")[0].replace("/", ".")
    ours = set[str]()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mirv."):
            ours |= {alias.asname or alias.name for alias in node.names}
            for alias in node.names:
                # A private module belongs to its package: `_texture`, the extension in C.
                if alias.name.startswith("_") and node.module != package:
                    yield f"{node.module}.{alias.name}"
    for node in ast.walk(source.tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in ours
            and re.match(r"_[^_]", node.attr)
        ):
            yield f"{node.value.id}.{node.attr}"


def test_late_imports_are_the_ones_with_a_reason() -> None:
    assert late_imports(house()) == sorted(LATE)


def test_files_folders_and_signatures_stay_small() -> None:
    sources = house()
    assert len(sources) > 250
    assert too_long(sources) == []
    assert too_full(sources) == []
    assert too_many_parameters(sources) == []


def test_what_is_private_is_used_at_home() -> None:
    assert private_reaches(house()) == []


MANY = "a, b, c, d, e, f, *, g"
REACH = "from mirv.analysis.other import {0}\n{1}\n"


@pytest.mark.parametrize(
    ("check", "text", "found"),
    [
        (late_imports, "import a\ndef f():\n    import b\n", True),
        (late_imports, "import a\ndef f():\n    return a\n", False),
        (too_long, "a\n" * 501, True),
        (too_long, "a\n" * 500, False),
        (too_many_parameters, f"def f({MANY}): ...\n", True),
        (too_many_parameters, f"def f(self, {MANY[:-6]}): ...\n", False),
        (too_many_parameters, "def f(a, b, c, d, e, *f, **g): ...\n", True),
        (too_many_parameters, f"# Why.\ndef f({MANY}): ...\n", False),
        (too_many_parameters, f"# Why.\n\ndef f({MANY}): ...\n", True),
        (too_many_parameters, f"def f(\n    # why\n    {MANY}\n):\n    ...\n", False),
        (too_many_parameters, f"def f(  # noqa: S100\n    {MANY}\n):\n    ...\n", True),
        (too_many_parameters, f"def f({MANY}):\n    ...  # no reason\n", True),
        (private_reaches, REACH.format("_x", ""), True),
        (private_reaches, REACH.format("x", "x._y"), True),
        (private_reaches, REACH.format("x", "x.y, x.__name__"), False),
        (private_reaches, "from mirv.analysis.room import _x\n", False),
        (private_reaches, "from other.room import _x\n", False),
    ],
)
def test_each_check_finds_its_fault(
    check: Callable[[list[Source]], list[str]], text: str, found: bool
) -> None:
    assert bool(check([Source("analysis/room/module.py", text)])) == found


def test_a_full_folder_is_found() -> None:
    sources = [Source(f"analysis/room/m{n}.py", "") for n in range(MOST_MODULES)]
    assert too_full([*sources, Source("analysis/room/__init__.py", "")]) == []
    assert too_full([*sources, Source("analysis/room/more.py", "")]) == ["analysis/room"]
