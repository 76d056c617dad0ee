"""Whether two files hold the same object, though their bytes differ.

A PACS may hand on in explicit little endian what the modality sent in implicit, or deflate, or
compress without loss. That is the same object again, not another under its UID.
"""

import warnings

import numpy as np
from pydicom import DataElement, Dataset

from mirv.analysis.errors import Unsuitable
from mirv.dicom_io.files.values import PARSE_FAULTS, parse
from mirv.dicom_io.standard.classes import BIG_ENDIAN, NATIVE

_PIXELS = {0x7FE00008, 0x7FE00009, 0x7FE00010}
_UNTELLABLE: tuple[type[Exception], ...] = (Unsuitable, *PARSE_FAULTS)


def same_object(first: bytes, second: bytes) -> bool:
    """True when every attribute and every decoded pixel is equal.

    Group lengths do not count, and private elements only where both files know what they are.
    False whenever it cannot be told.

    Parameters
    ----------
    first, second : bytes
        Whole files.

    Returns
    -------
    bool
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one, other = parse(first), parse(second)
            return _same_attributes(one, other) and _same_pixels(one, other)
    except _UNTELLABLE:
        return False


def _same_attributes(one: Dataset, other: Dataset) -> bool:
    mine, others = _telling(one), _telling(other)
    if {tag for tag in mine if not _obscure(mine[tag])} - set(others):
        return False
    if {tag for tag in others if not _obscure(others[tag])} - set(mine):
        return False
    return all(_same_element(mine[tag], others[tag]) for tag in set(mine) & set(others))


def _telling(ds: Dataset) -> dict[int, DataElement]:
    return {int(one.tag): one for one in ds if one.tag.element and int(one.tag) not in _PIXELS}


def _obscure(element: DataElement) -> bool:
    return bool(element.tag.is_private)


def _same_element(one: DataElement, other: DataElement) -> bool:
    if one.VR == "SQ" and other.VR == "SQ":
        return len(one.value) == len(other.value) and all(
            _same_attributes(mine, others)
            for mine, others in zip(one.value, other.value, strict=True)
        )
    if one.VR != other.VR:
        return bool(one.tag.is_private or one.value == other.value)
    return bool(one.value == other.value)


def _same_pixels(one: Dataset, other: Dataset) -> bool:
    if ("PixelData" in one) != ("PixelData" in other):
        return False
    if "PixelData" not in one:
        return True
    syntaxes = {str(ds.file_meta.TransferSyntaxUID) for ds in (one, other)}
    if syntaxes <= NATIVE - {BIG_ENDIAN}:
        return bool(one.PixelData == other.PixelData)
    return bool(np.array_equal(one.pixel_array, other.pixel_array))
