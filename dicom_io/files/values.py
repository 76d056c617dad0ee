"""Parsing DICOM files and their values: whatever pydicom raises on damage becomes a refusal."""

import io
import re
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError

from mirv.analysis.errors import Unsuitable
from mirv.analysis.model import FloatArray

PARSE_FAULTS: tuple[type[Exception], ...] = (
    InvalidDicomError,
    BytesLengthException,  # of no other kind
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,  # RecursionError among them
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom and the pixel decoders raise on damaged content: never more than a refusal."""


class Values(Protocol):
    """What gives header values by keyword: a pydicom data set, or a mapping."""

    def get(self, keyword: str, /) -> Any:
        """The value, None when it is missing."""


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def said(error: Exception) -> str:
    """An upstream error in one short line."""
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:200]


def parse(content: bytes | memoryview, *, pixels: bool = True) -> Dataset:
    """Parse a whole file's bytes.

    Parameters
    ----------
    content : bytes or memoryview
        A Part 10 file.
    pixels : bool
        False: what stands before the pixel data.

    Returns
    -------
    Dataset

    Raises
    ------
    Unsuitable
        ``malformed``
    """
    return _parsed(io.BytesIO(content), pixels=pixels)


def read_dataset(path: Path, *, pixels: bool = True) -> Dataset:
    """Parse a file that was checked when it came in; without pixels only its head is read.

    Parameters
    ----------
    path : Path
    pixels : bool
        False: what stands before the pixel data.

    Returns
    -------
    Dataset

    Raises
    ------
    Unsuitable
        ``malformed``
    OSError
        The file cannot be read.
    """
    with path.open("rb") as file:
        return _parsed(file, pixels=pixels)


def _parsed(file: BinaryIO, *, pixels: bool) -> Dataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(file, stop_before_pixels=not pixels)
    except PARSE_FAULTS as error:
        raise Unsuitable("malformed", f"the file cannot be parsed: {said(error)}") from error
    # A data set that keeps its source keeps all pixels of a series in memory.
    dataset.buffer = None
    dataset.filename = None
    return dataset


def text(dataset: Values, keyword: str) -> str:
    """A value as text; "" when missing or empty; control characters read as blanks.

    Parameters
    ----------
    dataset : Dataset or mapping
    keyword : str

    Returns
    -------
    str
    """
    value = dataset.get(keyword)
    if value is None:
        return ""
    return _CONTROL.sub(" ", str(value)).strip()


Parsed = dict[tuple[str, bytes], Dataset]
"""First items of sequences by keyword and encoded bytes: frames and segments repeat them."""


def first_item(dataset: Dataset, keyword: str, parsed: Parsed) -> Dataset | None:
    """The first item of a sequence, None when there is none; equal bytes are parsed once.

    Parameters
    ----------
    dataset : Dataset
    keyword : str
        Of the sequence.
    parsed : Parsed
        Of one object (one encoding, one character set); grows.

    Returns
    -------
    Dataset or None
        Shared by all that have the same bytes: not to be changed.
    """
    encoded = encoded_value(dataset, keyword)
    if encoded is None:
        return _first_item(dataset, keyword)
    key = keyword, encoded
    if key not in parsed:
        item = _first_item(dataset, keyword)
        if item is None:
            return None
        parsed[key] = item
    return parsed[key]


def encoded_value(dataset: Dataset, keyword: str) -> bytes | None:
    """The bytes of an element that was not parsed yet; None for any other, or none."""
    raw = dataset.get_item(keyword) if keyword in dataset else None
    encoded = raw.value if isinstance(raw, RawDataElement) else None
    return encoded if isinstance(encoded, bytes) else None


def _first_item(dataset: Dataset, keyword: str) -> Dataset | None:
    sequence = dataset.get(keyword)
    return sequence[0] if sequence else None


def numbers(dataset: Values, keyword: str) -> tuple[float, ...]:
    """A value as floats; empty when missing.

    Parameters
    ----------
    dataset : Dataset or mapping
    keyword : str

    Returns
    -------
    tuple of float

    Raises
    ------
    ValueError, TypeError
        A part of the value is no number.
    """
    value = dataset.get(keyword)
    if value is None or value == "":
        return ()
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return (float(value),)
    return tuple(float(x) for x in value)


def many_numbers(dataset: Dataset, keyword: str) -> FloatArray:
    """A long decimal string as an array, without an object for every number.

    Parameters
    ----------
    dataset : Dataset
    keyword : str

    Returns
    -------
    float64 array (n,)
        Empty when the value is missing.

    Raises
    ------
    ValueError
        A part of it is no number.
    """
    element = dataset.get_item(keyword)
    value = getattr(element, "value", None)
    if isinstance(element, RawDataElement) and isinstance(value, bytes):
        return np.array(value.rstrip(b" \0").split(b"\\")).astype(np.float64)
    return np.array(numbers(dataset, keyword), np.float64)
