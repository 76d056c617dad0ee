"""The node installed as a user has it: built, put into environments, started in a folder of theirs.

An environment here sees the packages of the one that runs the tests, but not its node; so it costs
seconds, and what is imported as `mirv` is what was put there.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("analysis", "config", "dicom_io", "service")
# What lies in a working tree beside its source; none of it is to be built from.
NOT_SOURCE = ("__pycache__", "*.so", "*.egg-info", "build", "dist", ".*", "node_modules")
# As a user may name modules of their own; the first four were top-level names of the node's once.
USERS_OWN = (*PACKAGES, "errors", "features", "model", "profiles", "spaces", "study")


def copied_tree(place: Path) -> Path:
    """A copy of the source, links as links, with nothing of what builds have left in it."""
    shutil.copytree(ROOT, place, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    return place


def wanted_files() -> set[str]:
    """Every file of the four packages as a wheel has to name it, the compiled one aside."""
    files = {"mirv/__init__.py", "mirv/py.typed"}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            is_source = "__pycache__" not in path.parts and path.suffix != ".so"
            if path.is_file() and is_source:
                files.add(f"mirv/{path.relative_to(ROOT).as_posix()}")
    return files


def built(tree: Path, out: Path, *only: str, python: str | Path = sys.executable) -> Path:
    """The wheel of a tree; made from its sdist unless `only` says ``--wheel``."""
    # Not in the tree: `build` is what is meant there, not a folder of this name.
    run([python, "-P", "-m", "build", "--no-isolation", *only, "--outdir", out, tree], out.parent)
    (wheel,) = out.glob("*.whl")
    return wheel


def environment(place: Path) -> Path:
    """An environment of this Python without a node; its interpreter."""
    run([sys.executable, "-m", "venv", "--without-pip", place], place.parent)
    python = place / "bin" / "python"
    (packages,) = place.glob("lib/python*/site-packages")
    # Packages on this path are found, .pth files in it are not read: an editable node is left out.
    (packages / "tests.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return python


def install(python: Path, *what: str | Path) -> None:
    """Install into an environment what needs nothing else."""
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run([*pip, "install", "--no-deps", "--no-index", "--no-build-isolation", *what], python.parent)


def plain_environment() -> dict[str, str]:
    """Variables without those that tell Python where modules are."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def run(words: Sequence[str | Path], folder: Path, given: str = "", code: int = 0) -> str:
    """Run to its end in a folder; what it printed."""
    done = subprocess.run(
        list(words),
        cwd=folder,
        env={**plain_environment(), "COLUMNS": "200"},
        input=given,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def users_folder(place: Path) -> Path:
    """A folder of a user who has modules of their own, and no use for them being imported."""
    place.mkdir()
    for name in USERS_OWN:
        text = f'raise RuntimeError("{name}.py of the user was imported")\n'
        (place / f"{name}.py").write_text(text, encoding="utf-8")
    (place / "lesions.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (place / "mirv.ipynb").write_text("{}", encoding="utf-8")
    return place


@dataclass(frozen=True, slots=True)
class Installed:
    """A node in an environment, and the folder it is started in.

    Attributes
    ----------
    python : Path
        The environment's interpreter.
    folder : Path
        The user's.
    """

    python: Path
    folder: Path

    @property
    def command(self) -> Path:
        """The ``mirv`` command."""
        return self.python.parent / "mirv"

    def says(self, code: str) -> list[str]:
        """What a line of Python prints, word by word."""
        return run([self.python, "-c", code], self.folder).split()

    def says_at_the_prompt(self, code: str) -> list[str]:
        """The same typed in, as a notebook's kernel takes it: the folder is on the path as ""."""
        return run([self.python, "-i", "-q"], self.folder, given=code).split()

    def mirv(self, *words: str | Path) -> str:
        """What a command prints; it ends with 0."""
        return run([self.command, *words], self.folder)


def interpreter(version: str) -> Path | None:
    """A Python of this version on this machine that can make environments."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for place in _places(version, pyenv):
        tried = subprocess.run([place, "-c", "import ensurepip, venv"], capture_output=True)
        if tried.returncode == 0:
            return place
    return None


def _places(version: str, pyenv: Path) -> Iterator[Path]:
    found = shutil.which(f"python{version}")
    yield from [Path(found)] if found else []
    yield from sorted(pyenv.glob(f"versions/{version}*/bin/python{version}"))
