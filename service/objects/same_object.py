"""Whether two files hold the same object, though their bytes differ; and if not, in what not.

A PACS may hand on in explicit little endian what the modality sent in implicit, or deflate, or
compress without loss. That is the same object again, not another under its UID. One whose
patient or study was corrected is another.
"""

import warnings
from enum import StrEnum

import numpy as np
from pydicom import DataElement, Dataset

from mirv.analysis.errors import Unsuitable
from mirv.dicom_io.files.values import PARSE_FAULTS, parse
from mirv.dicom_io.standard.classes import BIG_ENDIAN, NATIVE

_PIXELS = {0x7FE00008, 0x7FE00009, 0x7FE00010}


class Difference(StrEnum):
    """In what two contents of one SOP Instance UID differ; the names of `Identity` among them."""

    PATIENT_ID = "patient_id"
    ISSUER = "issuer"
    BIRTH_DATE = "birth_date"
    SEX = "sex"
    NAME = "name"
    STUDY_UID = "study_uid"
    SERIES_UID = "series_uid"
    STUDY_DATE = "study_date"
    DETAILS = "details"  # what else is said of patient, visit, order or correction
    PIXELS = "pixels"
    OTHER = "other"  # anything else: geometry, references, segments ...


_OF_TAG = {
    0x00100020: Difference.PATIENT_ID,
    0x00100021: Difference.ISSUER,
    0x00100024: Difference.ISSUER,  # its qualifiers
    0x00100030: Difference.BIRTH_DATE,
    0x00100040: Difference.SEX,
    0x00100010: Difference.NAME,
    0x0020000D: Difference.STUDY_UID,
    0x0020000E: Difference.SERIES_UID,
    0x00080020: Difference.STUDY_DATE,
    0x00080030: Difference.DETAILS,  # Study Time
    0x00080050: Difference.DETAILS,  # Accession Number
    0x00080051: Difference.DETAILS,  # its issuer
    0x00080054: Difference.DETAILS,  # Retrieve AE Title
    0x00080080: Difference.DETAILS,  # Institution Name
    0x00080081: Difference.DETAILS,  # Institution Address
    0x00080090: Difference.DETAILS,  # Referring Physician's Name
    0x00081030: Difference.DETAILS,  # Study Description
    0x0008103E: Difference.DETAILS,  # Series Description
    0x00200010: Difference.DETAILS,  # Study ID
    0x00200011: Difference.DETAILS,  # Series Number
    0x04000561: Difference.DETAILS,  # Original Attributes Sequence: what was there before
}
_PATIENT_GROUP = 0x0010
_UNTELLABLE: tuple[type[Exception], ...] = (Unsuitable, *PARSE_FAULTS)


def same_object(first: bytes, second: bytes) -> bool:
    """True when every attribute and every decoded pixel is equal: nothing in `differences`.

    Parameters
    ----------
    first, second : bytes
        Whole files.

    Returns
    -------
    bool
    """
    return not differences(first, second)


def differences(first: bytes, second: bytes) -> tuple[Difference, ...]:
    """In what two files differ that hold, or should hold, one object.

    Group lengths do not count, and private elements only where both files know what they are.

    Parameters
    ----------
    first, second : bytes
        Whole files.

    Returns
    -------
    tuple of Difference
        In the order of `Difference`; ``OTHER`` alone when it cannot be told.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one, other = parse(first), parse(second)
            found = {_difference(tag) for tag in _differing(one, other)}
            if not _same_pixels(one, other):
                found.add(Difference.PIXELS)
    except _UNTELLABLE:
        return (Difference.OTHER,)
    return tuple(kind for kind in Difference if kind in found)


def _difference(tag: int) -> Difference:
    if tag in _OF_TAG:
        return _OF_TAG[tag]
    return Difference.DETAILS if tag >> 16 == _PATIENT_GROUP else Difference.OTHER


def _same_attributes(one: Dataset, other: Dataset) -> bool:
    return not _differing(one, other)


def _differing(one: Dataset, other: Dataset) -> set[int]:
    """Tags of the attributes that are not equal."""
    mine, others = _telling(one), _telling(other)
    here = {tag for tag in mine if not _obscure(mine[tag])} - set(others)
    there = {tag for tag in others if not _obscure(others[tag])} - set(mine)
    both = set(mine) & set(others)
    return here | there | {tag for tag in both if not _same_element(mine[tag], others[tag])}


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
