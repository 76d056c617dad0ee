"""SR content items (PS3.3 C.17.3), encoded: small functions, one a value type.

Every function returns the bytes of one item of a Content Sequence, children included.
"""

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache

from mirv.dicom_io.model import Code
from mirv.dicom_io.sr.encoding import (
    clean,
    decimal_string,
    element,
    item,
    printable,
    sequence,
    text,
    uid,
)

CONTAINS = "CONTAINS"
HAS_CONCEPT_MOD = "HAS CONCEPT MOD"
HAS_OBS_CONTEXT = "HAS OBS CONTEXT"
HAS_ACQ_CONTEXT = "HAS ACQ CONTEXT"
HAS_PROPERTIES = "HAS PROPERTIES"
INFERRED_FROM = "INFERRED FROM"
SELECTED_FROM = "SELECTED FROM"

_CONCEPT_NAME, _CONCEPT_CODE, _UNITS = 0x0040A043, 0x0040A168, 0x004008EA
_CONTENT = 0x0040A730


@lru_cache(maxsize=8192)
def code(tag: int, concept: Code) -> bytes:
    """A code sequence of one concept (PS3.3 table 8.8-1).

    Parameters
    ----------
    tag : int
        Of the sequence.
    concept : Code

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        The concept has no value, or no scheme and a value that names none.
    """
    value, scheme = clean(concept.value, 1024), clean(concept.scheme, 16)
    if not value or not (scheme or is_urn(value)):
        raise ValueError(f"{concept!r}: a code needs value and scheme")
    meaning = text(0x00080104, "LO", clean(concept.meaning, 64) or value[:64])
    if not scheme:
        return sequence(tag, [item(meaning + text(0x00080120, "UR", value))])
    designator = text(0x00080102, "SH", scheme)
    # SH holds 16 characters: what is longer has an attribute of its own.
    if len(value) <= 16:
        return sequence(tag, [item(text(0x00080100, "SH", value) + designator + meaning)])
    return sequence(tag, [item(designator + meaning + text(0x00080119, "UC", value))])


@lru_cache(maxsize=8192)
def _head(relationship: str, value_type: str, name: Code) -> bytes:
    return (
        (text(0x0040A010, "CS", relationship) if relationship else b"")
        + text(0x0040A040, "CS", value_type)
        + code(_CONCEPT_NAME, name)
    )


def is_urn(value: str) -> bool:
    """Whether a code value names its scheme itself (PS3.3 8.1)."""
    return value.startswith(("urn:", "http:", "https:"))


def _children(children: Iterable[bytes]) -> bytes:
    content = b"".join(children)
    return element(_CONTENT, "SQ", content) if content else b""


@lru_cache(maxsize=8192)
def code_item(relationship: str, name: Code, value: Code) -> bytes:
    """A CODE item without children, made once."""
    return code_item_with(relationship, name, value, ())


def code_item_with(relationship: str, name: Code, value: Code, children: Iterable[bytes]) -> bytes:
    """A CODE item."""
    head = _head(relationship, "CODE", name)
    return item(head + code(_CONCEPT_CODE, value) + _children(children))


def text_item(relationship: str, name: Code, value: str, children: Iterable[bytes] = ()) -> bytes:
    """A TEXT item; line breaks become spaces, nothing may be empty."""
    content = text(0x0040A160, "UT", printable(value) or "-")
    return item(_head(relationship, "TEXT", name) + content + _children(children))


def uid_item(relationship: str, name: Code, value: str) -> bytes:
    """A UIDREF item."""
    return item(_head(relationship, "UIDREF", name) + uid(0x0040A124, value))


def date_item(relationship: str, name: Code, value: str) -> bytes:
    """A DATE item (``YYYYMMDD``)."""
    return item(_head(relationship, "DATE", name) + text(0x0040A121, "DA", value))


@lru_cache(maxsize=8192)
def _unit(unit: Code) -> bytes:
    return code(_UNITS, unit)


def num_item(
    relationship: str, name: Code, value: float, unit: Code, children: Iterable[bytes] = ()
) -> bytes:
    """A NUM item: as decimal string for every reader, and as the exact double beside it."""
    measured = (
        _unit(unit)
        + element(0x0040A161, "FD", struct.pack("<d", value))
        + text(0x0040A30A, "DS", decimal_string(value))
    )
    head = _head(relationship, "NUM", name)
    return item(head + sequence(0x0040A300, [item(measured)]) + _children(children))


def sop_reference(
    sop_class: str, sop_instance: str, *, frames: Sequence[int] = (), segments: Sequence[int] = ()
) -> bytes:
    """A Referenced SOP Sequence of one instance (PS3.3 table 10-3)."""
    content = uid(0x00081150, sop_class) + uid(0x00081155, sop_instance)
    if frames:
        content += text(0x00081160, "IS", "\\".join(str(frame) for frame in frames))
    if segments:
        numbers = struct.pack(f"<{len(segments)}H", *segments)
        content += element(0x0062000B, "US", numbers)
    return sequence(0x00081199, [item(content)])


def image_item(
    relationship: str, name: Code | None, reference: bytes, children: Iterable[bytes] = ()
) -> bytes:
    """An IMAGE item; `reference` is made by `sop_reference`."""
    kind = text(0x0040A010, "CS", relationship) + text(0x0040A040, "CS", "IMAGE")
    named = kind if name is None else _head(relationship, "IMAGE", name)
    return item(reference + named + _children(children))


def scoord_item(
    relationship: str, name: Code, graphic: str, points: Sequence[float], children: Iterable[bytes]
) -> bytes:
    """A SCOORD item: `points` are column, row, column, row ... in pixels (PS3.3 C.18.6)."""
    shape = element(0x00700022, "FL", struct.pack(f"<{len(points)}f", *points))
    shape += text(0x00700023, "CS", graphic)
    return item(_head(relationship, "SCOORD", name) + _children(children) + shape)


def reference_item(relationship: str, position: Sequence[int]) -> bytes:
    """A relationship by reference: `position` is the target's path, 1 for the root (C.17.3.2.5)."""
    path = struct.pack(f"<{len(position)}I", *position)
    return item(text(0x0040A010, "CS", relationship) + element(0x0040DB73, "UL", path))


def template(identifier: str) -> bytes:
    """The Content Template Sequence of a DICOM template."""
    content = text(0x00080105, "CS", "DCMR") + text(0x0040DB00, "CS", identifier)
    return sequence(0x0040A504, [item(content)])


def container_item(
    relationship: str, name: Code, children: Iterable[bytes], template_id: str = ""
) -> bytes:
    """A CONTAINER item, its parts separate."""
    head = _head(relationship, "CONTAINER", name) + text(0x0040A050, "CS", "SEPARATE")
    return item(head + (template(template_id) if template_id else b"") + _children(children))


def root_content(children: Iterable[bytes], template_id: str) -> bytes:
    """Template and content of the root container: the last elements of an SR document.

    Value type, concept name and continuity come earlier, among the document's own elements.
    """
    return template(template_id) + _children(children)
