"""Explicit VR little endian, written directly (PS3.5 7.1.2 and 7.5).

A report of 100 lesions holds some 120 000 measurements of about 40 elements each. Generic dataset
objects take minutes for that; most of it repeats (concept names, units, methods), so content is
put together from encoded pieces that are made once.
"""

import re
import struct
from collections.abc import Iterable

from mirv.analysis.errors import Unsuitable
from mirv.dicom_io.standard.uids import is_received_uid

_LONG_HEADER = frozenset({"OB", "OW", "SQ", "UC", "UR", "UT"})
_ITEM = b"\xfe\xff\x00\xe0"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def element(tag: int, vr: str, value: bytes) -> bytes:
    """One data element; `value` is padded to even length as its VR wants.

    Parameters
    ----------
    tag : int
        Group and element, 0xggggeeee.
    vr : str
    value : bytes
        Little endian.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        The value is longer than its VR can say.
    """
    if len(value) % 2:
        value += b"\0" if vr in {"UI", "OB"} else b" "
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in _LONG_HEADER:
        return head + struct.pack("<HI", 0, len(value)) + value
    if len(value) > 0xFFFF:
        raise ValueError(f"{tag:08X} {vr}: {len(value)} bytes, at most 65535 fit")
    return head + struct.pack("<H", len(value)) + value


def text(tag: int, vr: str, value: str) -> bytes:
    """A text element in UTF-8 (Specific Character Set ISO_IR 192)."""
    return element(tag, vr, value.encode("utf-8"))


def uid(tag: int, value: str) -> bytes:
    """A UI element: any the reading side lets in, since references repeat what was received.

    Parameters
    ----------
    tag : int
    value : str

    Returns
    -------
    bytes

    Raises
    ------
    Unsuitable
        ``invalid_uid``: other characters than digits and dots, or too many.
    """
    if not is_received_uid(value):
        raise Unsuitable("invalid_uid", f"({tag:08X}): found {value[:80]!r}, wanted a UID")
    return element(tag, "UI", value.encode("ascii"))


def decimals(tag: int, values: Iterable[float]) -> bytes:
    """A DS element."""
    return text(tag, "DS", "\\".join(decimal_string(value) for value in values))


def integers(tag: int, vr: str, values: Iterable[int]) -> bytes:
    """A US or UL element."""
    numbers = tuple(values)
    form = {"US": "H", "UL": "I"}[vr]
    return element(tag, vr, struct.pack(f"<{len(numbers)}{form}", *numbers))


def item(content: bytes) -> bytes:
    """A sequence item of known length."""
    return _ITEM + struct.pack("<I", len(content)) + content


def sequence(tag: int, items: Iterable[bytes]) -> bytes:
    """A sequence of `items`, each made by `item`."""
    return element(tag, "SQ", b"".join(items))


def decimal_string(value: float) -> str:
    """The most precise decimal string of at most 16 characters (PS3.5 6.2, DS).

    At least nine significant digits survive, whatever the magnitude.

    Parameters
    ----------
    value : float
        Finite.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        The value does not fit: it is no finite number.
    """
    # Rounding up here would pass the largest double.
    if abs(value) > 1.79769313e308:
        return "1.79769313e+308" if value > 0 else "-1.79769313e+308"
    shortest = repr(float(value))
    if shortest.endswith(".0"):
        shortest = shortest[:-2]
    if len(shortest) <= 16:
        return shortest
    for digits in range(16, 8, -1):
        candidate = f"{value:.{digits}g}"
        if len(candidate) <= 16:
            return candidate
        # "0.000012345..." wastes room on zeros that an exponent saves.
        candidate = f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e+")
        if len(candidate) <= 16:
            return candidate
    raise ValueError(f"{value!r} does not fit 16 characters")


def printable(value: str) -> str:
    """Text from outside without control characters, line breaks and lone surrogates."""
    return _UNPRINTABLE.sub(" ", value).strip()


def clean(value: str, limit: int) -> str:
    """Printable text as a single value of at most `limit` characters: no value delimiter."""
    return printable(value).replace("\\", "/")[:limit].strip()
