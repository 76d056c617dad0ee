"""The map of ARCHITECTURE.md: packages, floors and rooms, as a picture, as text and as tables.

Floors are those of the layers contracts in ``pyproject.toml``; what lives in a room is the first
line of its docstring. So the map is what the linter keeps and what the code says of itself.
"""

import ast
import html
import re
import textwrap
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
FIRST = {  # the file of a room to read first, where it is not the room's only one
    "service/commands": "main.py",
    "service/commands/cohort": "lesions.py",
    "service/commands/demo": "demo.py",
    "service/node": "node.py",
    "service/http": "app.py",
    "service/inbound": "listener.py",
    "service/inbound/wire": "server.py",
    "service/work": "runs.py",
    "service/work/schedule": "scheduler.py",
    "service/research": "selection.py",
    "service/research/cohort": "source.py",
    "service/research/retrieval": "rule.py",
    "service/objects": "intake.py",
    "service/runtime": "node_folder.py",
    "service/peers": "association.py",
    "service/peers/destinations": "outcome.py",
    "service/peers/sources": "fetch.py",
    "service/catalogue": "__init__.py",
    "service/catalogue/database": "schema.py",
    "service/catalogue/received": "arrivals.py",
    "service/study": "pipeline.py",
    "dicom_io/study": "assemble.py",
    "dicom_io/phantom": "patient.py",
    "dicom_io/masks": "seg.py",
    "dicom_io/outputs": "__init__.py",
    "dicom_io/outputs/pages": "pages.py",
    "dicom_io/outputs/reports": "lesion_sr.py",
    "dicom_io/outputs/segmentation": "lesion_seg.py",
    "dicom_io/images": "series.py",
    "dicom_io/files": "header.py",
    "dicom_io/sr": "template_rows.py",
    "dicom_io/standard": "classes.py",
    "analysis/cohort": "associations.py",
    "analysis/patient": "study.py",
    "analysis/extraction": "lesion.py",
    "analysis/spaces": "space.py",
    "analysis/lattice": "window.py",
    "analysis/masks": "morphology.py",
    "analysis/features": "compute.py",
    "analysis/heterogeneity": "__init__.py",
    "config/settings": "__init__.py",
}


@dataclass(frozen=True, slots=True)
class Room:
    """A sub-package or module, as its docstring introduces it."""

    path: Path
    rooms: tuple["Room", ...]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def place(self) -> str:
        """From the top of the tree, as pages write it."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def says(self) -> str:
        """The first line of its docstring, to its full stop."""
        source = self.path / "__init__.py" if self.path.is_dir() else self.path
        docstring = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
        (line, *_) = docstring.splitlines() or [""]
        return re.sub(r"\.( .*)?$", "", line.replace("``", "`"))

    @property
    def first(self) -> str:
        """The file to read first."""
        return f"{self.place}/{FIRST[self.place]}" if self.path.is_dir() else self.place


@dataclass(frozen=True, slots=True)
class Package:
    """One of the four, from its top floor down."""

    room: Room
    floors: tuple[tuple[Room, ...], ...]


def packages() -> tuple[Package, ...]:
    """The four, from the top down; one without floors of its own has its rooms side by side."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = {
        container: [re.findall(r"\w+", floor) for floor in contract["layers"]]
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
        for container in contract["containers"]
    }
    return tuple(
        _package(name, layers.get(f"mirv.{name}")) for floor in layers["mirv"] for name in floor
    )


def _package(name: str, floors: list[list[str]] | None) -> Package:
    room = _room(ROOT / name)
    rooms = {one.name: one for one in room.rooms}
    return Package(room, tuple(tuple(rooms[one] for one in floor) for floor in floors or [rooms]))


def _room(path: Path) -> Room:
    """A room with those inside it: modules count at the top of a package, folders everywhere."""
    at_top = path.parent == ROOT
    inside = sorted(
        one.with_suffix("") if one.is_dir() else one
        for one in path.iterdir()
        if (one.is_dir() and (one / "__init__.py").exists())
        or (at_top and one.suffix == ".py" and one.name != "__init__.py")
    ) if path.is_dir() else []  # fmt: skip
    return Room(path, tuple(map(_room, inside)))


# --- as text and tables ---------------------------------------------------------------------


def as_text() -> str:
    """Package and floors, a line each; ``|`` between rooms of a floor."""
    lines = []
    for package in packages():
        for number, floor in enumerate(package.floors):
            head = package.room.name if number == 0 else ""
            rooms = " | ".join(room.name for room in floor)
            lines += textwrap.wrap(
                rooms, 84, initial_indent=f"{head:<10}", subsequent_indent=" " * 10
            )
        lines.append("")
    return "\n".join(["```", *lines[:-1], "```", ""])


def rows(package: Package) -> Iterator[tuple[str, str, str]]:
    """Room, what lives there, first file; from the top floor down, rooms inside after theirs."""
    for floor in package.floors:
        for room in floor:
            yield from _rows(room)


def _rows(room: Room) -> Iterator[tuple[str, str, str]]:
    _, _, inside = room.place.partition("/")
    name = f"`{inside}/`" if room.path.is_dir() else f"`{inside}`"
    yield name, room.says, f"[{Path(room.first).name}]({room.first})"
    for one in room.rooms:
        yield from _rows(one)


# --- as a picture ---------------------------------------------------------------------------

WIDTH = 1000
MARGIN = 16
NAMES = 190  # the column that names the packages
GAP = 8
LINE = 15
MOST_A_ROW = 4
COLOURS = {  # of a package: its ground, its rooms' edges
    "service": ("#e8f0fb", "#4a78b5"),
    "dicom_io": ("#e9f5ec", "#4b9563"),
    "analysis": ("#fdf3e1", "#b9862c"),
    "config": ("#f3ecf6", "#8a5fa3"),
}
LETTER = 6.3  # mean width in 11 px DejaVu Sans, the widest of the fonts asked for
_RULE = "Imports go down: a room knows the floors below it, neither neighbours nor what is above."
STYLE = """
text { font-family: "DejaVu Sans", Verdana, sans-serif; font-size: 11px; fill: #222; }
.package { font-size: 18px; font-weight: bold; }
.room { font-size: 13px; font-weight: bold; }
.inside { fill: #666; }
"""


def picture() -> str:
    """The house as SVG: imports go down, never up and never to a neighbour."""
    y, body = MARGIN, []
    for number, package in enumerate(packages()):
        if number:
            body.append(_arrow(y))
            y += 26
        drawn, height = _band(package, y)
        body += drawn
        y += height
    body.append(_text(MARGIN, y + 20, _RULE, "inside"))
    y += MARGIN + 20
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" '
            f'width="{WIDTH}" height="{y}">',
            "<title>Rooms of the four packages by floors</title>",
            f"<style>{STYLE}</style>",
            f'<rect width="{WIDTH}" height="{y}" fill="white"/>',
            *body,
            "</svg>",
            "",
        ]
    )


def _arrow(y: int) -> str:
    x = MARGIN + NAMES // 2
    return (
        f'<path d="M{x} {y + 3} v14 m-5 -5 l5 6 l5 -6" stroke="#555" fill="none" '
        f'stroke-width="2"/>' + _text(x + 12, y + 17, "imports", "inside")
    )


def _band(package: Package, top: int) -> tuple[list[str], int]:
    """A package with its floors; its height."""
    ground, edge = COLOURS[package.room.name]
    y, body = top + GAP, []
    for floor in package.floors:
        for start in range(0, len(floor), MOST_A_ROW):
            rooms = floor[start : start + MOST_A_ROW]
            drawn, height = _floor(rooms, y, edge)
            body += drawn
            y += height + GAP
    height = y - top
    about = [_text(MARGIN + 14, top + 32, package.room.name, "package")]
    for number, line in enumerate(textwrap.wrap(package.room.says, int((NAMES - 24) / LETTER))):
        about.append(_text(MARGIN + 14, top + 54 + number * LINE, line))
    band = (
        f'<rect x="{MARGIN}" y="{top}" width="{WIDTH - 2 * MARGIN}" height="{height}" rx="8" '
        f'fill="{ground}"/>'
    )
    return [band, *about, *body], height


def _floor(rooms: Iterable[Room], top: int, edge: str) -> tuple[list[str], int]:
    """Rooms side by side; their height."""
    rooms = list(rooms)
    left = MARGIN + NAMES
    width = (WIDTH - MARGIN - GAP - left - GAP * (len(rooms) - 1)) // len(rooms)
    letters = int((width - 20) / LETTER)
    texts = [_lines(room, letters) for room in rooms]
    height = 26 + LINE * max(map(len, texts))
    body = []
    for number, (room, lines) in enumerate(zip(rooms, texts, strict=True)):
        x = left + number * (width + GAP)
        body.append(
            f'<rect x="{x}" y="{top}" width="{width}" height="{height}" rx="4" fill="white" '
            f'stroke="{edge}"/>'
        )
        body.append(_text(x + 10, top + 18, room.name, "room"))
        for at, (line, kind) in enumerate(lines):
            body.append(_text(x + 10, top + 34 + at * LINE, line, kind))
    return body, height


def _lines(room: Room, letters: int) -> list[tuple[str, str]]:
    """What a room shows below its name: what it says, and the rooms inside."""
    says = room.says.replace("`", "")
    inside = f"inside: {', '.join(one.name for one in room.rooms)}" if room.rooms else ""
    return [(line, "") for line in textwrap.wrap(says, letters)] + [
        (line, "inside") for line in textwrap.wrap(inside, letters)
    ]


def _text(x: int, y: int, text: str, kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x}" y="{y}"{style}>{html.escape(text)}</text>'
