"""The values of an ordinary image's header, read without a DICOM library.

Reading one header with pydicom takes longer than receiving, hashing and writing a CT slice. Nearly
every object is an image in little endian whose values are plain ASCII: those are read here, from
where the walk of `dicom_io.files.structure` found them. Whatever is unusual in the least is left to
pydicom, so both give the same header; the tests compare them on every file there is.
"""

import re
import struct
from collections.abc import Mapping, Sequence

from mirv.dicom_io.files.structure import MAX_NOTED, PIXEL_DATA, UNDEFINED, Element
from mirv.dicom_io.standard.classes import BIG_ENDIAN, DEFLATED, IMAGE_CLASSES, IMPLICIT
from mirv.dicom_io.standard.uids import is_received_uid

Value = str | int | list[str]

# No blank at either end, no control character, no backslash.
_TEXT = re.compile(rb"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e])?")
_DECIMAL = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_INTEGER = re.compile(rb"0|-?[1-9]\d{0,9}")
_LONGEST_DECIMAL = 16

_CHARACTER_SET = 0x00080005
_WANTED: dict[int, tuple[str, bytes]] = {
    _CHARACTER_SET: ("SpecificCharacterSet", b"CS"),
    0x00080008: ("ImageType", b"CS"),
    0x00080012: ("InstanceCreationDate", b"DA"),
    0x00080013: ("InstanceCreationTime", b"TM"),
    0x00080016: ("SOPClassUID", b"UI"),
    0x00080018: ("SOPInstanceUID", b"UI"),
    0x00080020: ("StudyDate", b"DA"),
    0x00080021: ("SeriesDate", b"DA"),
    0x00080023: ("ContentDate", b"DA"),
    0x00080030: ("StudyTime", b"TM"),
    0x00080031: ("SeriesTime", b"TM"),
    0x00080033: ("ContentTime", b"TM"),
    0x00080060: ("Modality", b"CS"),
    0x00080070: ("Manufacturer", b"LO"),
    0x0008103E: ("SeriesDescription", b"LO"),
    0x00100010: ("PatientName", b"PN"),
    0x00100020: ("PatientID", b"LO"),
    0x00100021: ("IssuerOfPatientID", b"LO"),
    0x00100030: ("PatientBirthDate", b"DA"),
    0x00100040: ("PatientSex", b"CS"),
    0x00180010: ("ContrastBolusAgent", b"LO"),
    0x00180050: ("SliceThickness", b"DS"),
    0x00180060: ("KVP", b"DS"),
    0x00180081: ("EchoTime", b"DS"),
    0x00180087: ("MagneticFieldStrength", b"DS"),
    0x00181151: ("XRayTubeCurrent", b"IS"),
    0x00181152: ("Exposure", b"IS"),
    0x00181210: ("ConvolutionKernel", b"SH"),
    0x0020000D: ("StudyInstanceUID", b"UI"),
    0x0020000E: ("SeriesInstanceUID", b"UI"),
    0x00200012: ("AcquisitionNumber", b"IS"),
    0x00200032: ("ImagePositionPatient", b"DS"),
    0x00200037: ("ImageOrientationPatient", b"DS"),
    0x00200052: ("FrameOfReferenceUID", b"UI"),
    0x00280002: ("SamplesPerPixel", b"US"),
    0x00280008: ("NumberOfFrames", b"IS"),
    0x00280010: ("Rows", b"US"),
    0x00280011: ("Columns", b"US"),
    0x00280030: ("PixelSpacing", b"DS"),
    0x00280100: ("BitsAllocated", b"US"),
}
# What a header reads from these takes pydicom.
_LEFT_TO_PYDICOM = frozenset(
    {
        0x00100024,  # Issuer of Patient ID Qualifiers Sequence
        0x0018A001,  # Contributing Equipment Sequence
        0x00620002,  # Segment Sequence
        0x00700084,  # Content Creator's Name
        0x30060008,  # Structure Set Date
        0x30060009,  # Structure Set Time
    }
)
# Character sets in which every byte below 0x80 is ASCII and nothing shifts.
_ASCII_BELOW = frozenset(
    f"ISO_IR {number}".encode() for number in (6, 100, 101, 109, 110, 126, 127, 138, 144, 148, 192)
)
_FIRST_TAG = 0x00080000


def plain_values(
    content: bytes | memoryview, syntax: str, elements: Sequence[Element]
) -> Mapping[str, Value] | None:
    """Header values of an image by keyword, as text, whole numbers and lists of text.

    Parameters
    ----------
    content : bytes
        A whole file whose structure is sound.
    syntax : str
        Its transfer syntax.
    elements : sequence of Element
        Its top level, in file order.

    Returns
    -------
    mapping or None
        None when anything is unusual: pydicom has to look. Empty values are left out.
    """
    if syntax in (DEFLATED, BIG_ENDIAN) or not _ordinary(content, syntax, elements):
        return None
    values: dict[str, Value] = {}
    for tag, vr, start, length in elements:
        if tag == PIXEL_DATA:
            break
        if tag in _LEFT_TO_PYDICOM:
            return None
        wanted = _WANTED.get(tag)
        if wanted is None:
            continue
        keyword, expected = wanted
        if length == UNDEFINED or (vr and vr != expected):
            return None
        if tag == _CHARACTER_SET and not _is_ascii_below(bytes(content[start : start + length])):
            return None
        value = _value(expected, bytes(content[start : start + length]))
        if value is None:
            return None
        if value != "":
            values[keyword] = value
    return values if values.get("SOPClassUID") in IMAGE_CLASSES else None


def _ordinary(content: bytes | memoryview, syntax: str, elements: Sequence[Element]) -> bool:
    """Whether the tags ascend, and the encoding is what the transfer syntax says."""
    if not 0 < len(elements) < MAX_NOTED:
        return False
    before = _FIRST_TAG
    for element in elements:
        if element[0] <= before:
            return False
        before = element[0]
    if syntax != IMPLICIT:
        return True
    # pydicom reads as explicit what looks explicit, whatever the transfer syntax says.
    first = elements[0][2] - 4
    return not bytes(content[first : first + 2]).isalpha()


def _is_ascii_below(character_set: bytes) -> bool:
    return character_set.rstrip(b" ") in _ASCII_BELOW or not character_set


def _value(vr: bytes, raw: bytes) -> Value | None:
    """A value; None for pydicom to read, "" when empty."""
    if vr == b"US":
        return int(struct.unpack("<H", raw)[0]) if len(raw) == struct.calcsize("<H") else None
    if vr == b"UI":
        value = raw.rstrip(b"\0 ").decode("latin-1")
        return value if not value or is_received_uid(value) else None
    raw = raw.rstrip(b" ")
    if not raw:
        return ""
    parts = raw.split(b"\\")
    if not all(_is_plain(vr, part) for part in parts):
        return None
    if len(parts) == 1:
        return raw.decode("ascii")
    # What is read as one text would show all parts: pydicom's way of writing a list.
    return [part.decode("ascii") for part in parts] if vr in (b"CS", b"DS", b"SH") else None


def _is_plain(vr: bytes, part: bytes) -> bool:
    if vr == b"DS":
        return len(part) <= _LONGEST_DECIMAL and _DECIMAL.fullmatch(part) is not None
    if vr == b"IS":
        return _INTEGER.fullmatch(part) is not None
    return _TEXT.fullmatch(part) is not None
