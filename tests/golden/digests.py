"""What a file of results is made of, as digests small enough to keep: three of every part.

A part is a column of a table, an element of a DICOM object, a content item by its concept. `exact`
stands for all of it; `rounded` for the same with six digits of every number; `structure` for what
holds the numbers: tags, types, codes, UIDs. What follows from the version of the software or of a
library is masked, and the UIDs that follow from the run have names instead.
"""

import csv
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom import DataElement, Dataset

DIGITS = 6
NOISE = 1e-9
"""Below this a number is zero but for rounding: the sixth digit of nothing is chance."""
_SHORT = 6
_DEEP = "ContentSequence"
_NUMBERS = frozenset({"DS", "FD", "FL", "IS", "US", "UL", "SS", "SL"})
_BULK = frozenset({"OB", "OW", "OF", "OD", "OL"})
_OWN_UIDS = ("SOPInstanceUID", "SeriesInstanceUID")
_VERSION_KEYWORDS = frozenset({"SoftwareVersions", "ImplementationVersionName"})
_ALGORITHM_VERSION = "Algorithm Version"
_LENGTHS = frozenset({"FileMetaInformationGroupLength", "EncapsulatedDocumentLength"})
"""They follow from the length of what is masked."""
_TIES = frozenset({"GraphicData"})
"""Ends of an axis: which of two equally long ones is drawn is decided in the last bit."""
_DOTTED = r"\d+(?:\.\d+){2,}"  # a UID, a version: names, not numbers
_NUMBER = re.compile(rf"{_DOTTED}|[-+]?\d+\.\d+(?:[eE][-+]?\d+)?|[-+]?\d+[eE][-+]?\d+")
_ANY_NUMBER = re.compile(rf"{_DOTTED}|[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_VERSIONS = re.compile(
    r"\b(mirv-node|pyradiomics-bhklab|numpy|scipy|SimpleITK|PyWavelets|pydicom|highdicom|python)"
    r"([ =])\d[\w.+]*"
)


@dataclass(slots=True)
class Part:
    """Three running digests."""

    exact: Any = field(default_factory=hashlib.sha256)
    rounded: Any = field(default_factory=hashlib.sha256)
    structure: Any = field(default_factory=hashlib.sha256)

    def add(self, exact: str, rounded: str, structure: str) -> None:
        """Take one more value."""
        self.exact.update(f"{exact}\n".encode())
        self.rounded.update(f"{rounded}\n".encode())
        self.structure.update(f"{structure}\n".encode())

    def add_text(self, text: str, where: str = "") -> None:
        """Take a text that may hold numbers."""
        masked = _VERSIONS.sub(r"\1\2*", text)
        self.add(where + masked, where + rounded_text(masked), where + _without_numbers(masked))


Parts = dict[str, Part]


def rounded_text(text: str) -> str:
    """A text with six digits of every number that has a point or an exponent."""
    return _NUMBER.sub(lambda found: _rounded(found[0]), text)


def _rounded(number: str) -> str:
    if number.count(".") > 1:
        return number
    value = float(number)
    return f"{0.0 if abs(value) < NOISE else value:.{DIGITS - 1}e}"


def _without_numbers(text: str) -> str:
    return _ANY_NUMBER.sub(lambda found: found[0] if found[0].count(".") > 1 else "#", text)


# Tables


def of_csv(content: bytes) -> Parts:
    """One part a column."""
    header, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
    parts: Parts = {}
    for number, name in enumerate(header):
        part = parts[name] = Part()
        for row in rows:
            part.add_text(row[number])
    if len(parts) != len(header):
        raise ValueError(f"found a column twice in {header}")
    return parts


def of_json(content: bytes) -> Parts:
    """One part a branch, two levels deep."""
    parts: Parts = {}
    for name, branch in json.loads(content).items():
        for key, value in branch.items() if isinstance(branch, Mapping) else [("", branch)]:
            text = json.dumps(_without_versions(value), sort_keys=True)
            parts.setdefault(f"{name}/{key}", Part()).add(
                text, rounded_text(text), _without_numbers(text)
            )
    return parts


def _without_versions(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_versions(one) for one in value]
    if isinstance(value, dict):
        return {
            name: sorted(one) if name == "versions" else _without_versions(one)
            for name, one in value.items()
        }
    return value


def of_pictures(folder: Path) -> Parts:
    """One part a picture; their names are the structure."""
    parts: Parts = {}
    for path in sorted(folder.iterdir()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        parts.setdefault(path.name, Part()).add(digest, path.name, path.name)
    return parts


# DICOM


def own_uids(objects: Mapping[str, Dataset]) -> dict[str, str]:
    """Names of the UIDs that follow from the run, by what carries them."""
    names: dict[str, str] = {}
    for role, ds in objects.items():
        for keyword in _OWN_UIDS:
            names[str(ds[keyword].value)] = f"{role} {keyword}"
        for item in ds.get("DimensionOrganizationSequence") or ():
            names[str(item.DimensionOrganizationUID)] = f"{role} DimensionOrganizationUID"
    return names


def of_dicom(ds: Dataset, own: Mapping[str, str]) -> Parts:
    """One part a top-level element, and below the content sequence one a concept."""
    parts: Parts = {}
    for name, where, element, concept in _leaves(ds, own):
        _add(parts.setdefault(name, Part()), where, element, concept, own)
    return parts


def _leaves(ds: Dataset, own: Mapping[str, str]) -> Iterator[tuple[str, str, DataElement, str]]:
    """Part, path, element and concept of all that is no sequence, and of empty sequences."""
    for element in (*ds.file_meta, *ds):
        name = element.keyword or str(element.tag)
        yield from _below(element, name, name, "")


def _below(
    element: DataElement, part: str, path: str, concept: str
) -> Iterator[tuple[str, str, DataElement, str]]:
    if element.VR != "SQ" or not element.value:
        yield part, path, element, concept
        return
    for number, item in enumerate(element.value):
        own_part, own_concept = part, concept
        if element.keyword == _DEEP and "ConceptNameCodeSequence" in item:
            own_concept = str(item.ConceptNameCodeSequence[0].CodeMeaning)
            own_part = f"{_DEEP}: {own_concept}"
        for inner in item:
            name = inner.keyword or str(inner.tag)
            yield from _below(inner, own_part, f"{path}.{number}.{name}", own_concept)


def _add(part: Part, path: str, element: DataElement, concept: str, own: Mapping[str, str]) -> None:
    where = f"{path} {element.VR} "
    value = element.value
    if element.keyword in _VERSION_KEYWORDS or (
        concept == _ALGORITHM_VERSION and element.keyword == "TextValue"
    ):
        part.add(where, where, where)
    elif element.keyword == "EncapsulatedDocument":
        texts = pdf_text(bytes(value))
        part.add(hashlib.sha256(bytes(value)).hexdigest(), "", "")
        part.add_text(texts)
    elif element.VR in _BULK:
        digest = hashlib.sha256(bytes(value or b"")).hexdigest()
        # A drawn page is as exact as its letters; masks hold no numbers, and are as exact as codes.
        coarse = f"{where}{len(value or b'')}" if element.keyword == "PixelData" else where + digest
        part.add(where + digest, coarse, where)
    elif element.keyword in _LENGTHS:
        part.add(where, where, where)
    elif element.VR == "UI":
        uids = value if element.VM > 1 else [value]
        text = where + "\\".join(own.get(str(uid), str(uid)) for uid in uids)
        part.add(text, text, text)
    elif element.VR in _NUMBERS:
        numbers = [str(one) for one in (value if element.VM > 1 else [value])]
        coarse = where + str(element.VM)
        rounded = where + "\\".join(rounded_text(number) for number in numbers)
        part.add(
            where + "\\".join(numbers), coarse if element.keyword in _TIES else rounded, coarse
        )
    else:
        part.add_text(str(value), where)


_PDF_STREAM = re.compile(rb"stream\r?\n(.*?)endstream", re.DOTALL)
_PDF_TEXT = re.compile(rb"BT\b(.*?)\bET\b", re.DOTALL)
_PDF_STRING = re.compile(rb"\(((?:[^\\()]|\\.)*)\)", re.DOTALL)


def pdf_text(pdf: bytes) -> str:
    """The texts drawn on the pages of a PDF of ours, in their order."""
    texts = []
    for stream in _PDF_STREAM.findall(pdf):
        try:
            content = zlib.decompress(stream)
        except zlib.error:
            continue
        for block in _PDF_TEXT.findall(content):
            letters = b"".join(_PDF_STRING.findall(block))
            texts.append(letters.decode("latin-1").replace("\0", ""))
    return " ".join(texts)


# Files


def of_files(
    artifacts: Mapping[str, Path], others: Mapping[str, Path]
) -> dict[str, tuple[str, Parts]]:
    """SHA-256 and parts of every file of a case, by its name.

    Parameters
    ----------
    artifacts : mapping of name to DICOM file
    others : mapping of name to CSV, JSON or folder of pictures
    """
    found: dict[str, tuple[str, Parts]] = {}
    readers = {".csv": of_csv, ".json": of_json}
    for name, path in others.items():
        if path.is_dir():
            found[name] = ("", of_pictures(path))
        else:
            content = path.read_bytes()
            found[name] = (hashlib.sha256(content).hexdigest(), readers[path.suffix](content))
    objects = {name: pydicom.dcmread(path) for name, path in artifacts.items()}
    own = own_uids(objects)
    for name, path in artifacts.items():
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        found[name] = (sha256, of_dicom(objects[name], own))
    return found


def hexes(parts: Parts, level: str) -> str:
    """The digests of one level, each cut short, one after the other."""
    return "".join(getattr(part, level).hexdigest()[:_SHORT] for part in parts.values())


def differing(names: list[str], found: str, wanted: str) -> list[str]:
    """Which parts differ, of two rows of digests."""
    return [
        name
        for number, name in enumerate(names)
        if found[number * _SHORT : (number + 1) * _SHORT]
        != wanted[number * _SHORT : (number + 1) * _SHORT]
    ]
