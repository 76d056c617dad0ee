"""A walk over the elements of a DICOM file: is it whole, is it sane?

pydicom accepts a value that ends before its length says so; a node that waits for studies must
not. The walk costs no decoding and holds nothing but positions.
"""

import struct
import threading
import zlib
from dataclasses import dataclass

from pydicom.datadict import dictionary_VR

from mirv.analysis.errors import Unsuitable
from mirv.dicom_io.standard.classes import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT

PREAMBLE = 132
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
META_VRS = frozenset(b"AE OB SH UI UL UN".split())
MAX_DEPTH = 24
MAX_NOTED = 4096
MAX_INFLATED = 256 << 20


Element = tuple[int, bytes, int, int]
"""Tag, VR (empty when implicit), start and length of a value."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the walk found.

    Attributes
    ----------
    transfer_syntax : str
    pixel_bytes : int
        Length of the pixel data as stored, fragments included; 0 when there is none.
    elements : list of Element
        The top level, in file order, the first `MAX_NOTED` of it; of a deflated file, where they
        are once inflated.
    """

    transfer_syntax: str
    pixel_bytes: int
    elements: list[Element]


class _Walk:
    """One pass over the elements of a data set."""

    def __init__(self, content: bytes | memoryview, start: int, syntax: str) -> None:
        self.content = content
        self.end = len(content)
        self.position = start
        self.implicit = syntax == IMPLICIT
        order = ">" if syntax == BIG_ENDIAN else "<"
        self.tag_length = struct.Struct(order + "HHL")
        self.tag_vr = struct.Struct(order + "HH2sH")
        self.long = struct.Struct(order + "L")
        self.pixel_bytes = 0
        self.elements: list[Element] = []

    def fail(self, tag: int, wanted: str) -> Unsuitable:
        """The file ends inside an element."""
        return Unsuitable(
            "truncated",
            f"found the end of the file at byte {self.end} inside element {tag_text(tag)}, "
            f"wanted {wanted}",
        )

    def header(self) -> tuple[int, bytes, int]:
        """Tag, VR (empty when implicit) and length of the element at the position."""
        if self.position + 8 > self.end:
            raise self.fail(0, "a whole element header")
        if self.implicit:
            group, element, length = self.tag_length.unpack_from(self.content, self.position)
            self.position += 8
            return group << 16 | element, b"", length
        group, element, vr, length = self.tag_vr.unpack_from(self.content, self.position)
        tag = group << 16 | element
        if group == 0xFFFE:
            length = self.long.unpack_from(self.content, self.position + 4)[0]
            self.position += 8
            return tag, b"", length
        if not (vr.isalpha() and vr.isupper()):
            raise Unsuitable(
                "malformed",
                f"found {vr!r} as value representation of {tag_text(tag)} at byte "
                f"{self.position}, wanted two capital letters",
            )
        self.position += 8
        if vr in LONG_VRS:
            if self.position + 4 > self.end:
                raise self.fail(tag, "a 4-byte length")
            length = self.long.unpack_from(self.content, self.position)[0]
            self.position += 4
        return tag, vr, length

    def dataset(self, depth: int, end: int | None) -> None:
        """Elements up to `end`, or to an item delimiter when `end` is None."""
        if depth > MAX_DEPTH:
            raise Unsuitable("too_deep", f"found sequences nested deeper than {MAX_DEPTH} levels")
        stop = self.end if end is None else end
        while self.position < stop:
            tag, vr, length = self.header()
            if tag == ITEM_END and end is None and depth:
                return
            self.value(tag, vr, length, depth, stop)
        if end is None and depth:
            raise self.fail(ITEM_END, "an item delimiter")

    def value(self, tag: int, vr: bytes, length: int, depth: int, stop: int) -> None:
        """Step over one value."""
        if depth == 0 and len(self.elements) < MAX_NOTED:
            self.elements.append((tag, vr, self.position, length))
        if length != UNDEFINED:
            if self.position + length > stop:
                raise self.fail(tag, f"{length} bytes of value, {stop - self.position} are there")
            if tag == PIXEL_DATA and depth == 0:
                self.pixel_bytes = length
            if vr == b"SQ":
                self.items(self.position + length, depth)
            else:
                self.position += length
        elif tag == PIXEL_DATA:
            before = self.position
            self.fragments()
            if depth == 0:
                self.pixel_bytes = self.position - before
        else:
            _check_may_be_undefined(tag, vr)
            # UN of undefined length is implicit inside (PS3.5 6.2.2).
            explicit_outside = not self.implicit
            self.implicit = self.implicit or vr == b"UN"
            self.items(None, depth)
            self.implicit = not explicit_outside

    def items(self, end: int | None, depth: int) -> None:
        """Items of a sequence up to `end`, or to the sequence delimiter when `end` is None."""
        while end is None or self.position < end:
            tag, _, length = self.header()
            if tag == SEQUENCE_END and end is None:
                return
            if tag != ITEM:
                raise Unsuitable(
                    "malformed", f"found {tag_text(tag)} at byte {self.position}, wanted an item"
                )
            if length == UNDEFINED:
                self.dataset(depth + 1, None)
                continue
            if self.position + length > (self.end if end is None else end):
                raise self.fail(ITEM, f"an item of {length} bytes")
            self.dataset(depth + 1, self.position + length)

    def fragments(self) -> None:
        """Step over encapsulated pixel data."""
        while True:
            if self.position + 8 > self.end:
                raise self.fail(PIXEL_DATA, "a sequence delimiter after the last fragment")
            tag, _, length = self.header()
            if tag == SEQUENCE_END:
                return
            if tag != ITEM or length == UNDEFINED or self.position + length > self.end:
                raise self.fail(PIXEL_DATA, f"a fragment of {length} bytes")
            self.position += length


def _check_may_be_undefined(tag: int, vr: bytes) -> None:
    """Only sequences, and what may be one, have no length (PS3.5 7.1.2); readers differ on others.

    Raises
    ------
    Unsuitable
    """
    known = vr.decode("ascii")
    if not known:
        try:
            known = dictionary_VR(tag)
        except KeyError:
            return  # a private tag, or one that came after our dictionary
    if known != "SQ" and vr != b"UN":
        raise Unsuitable(
            "malformed",
            f"found an undefined length of {tag_text(tag)}, which is {known}, wanted one of a "
            "sequence or of pixel data only",
        )


def tag_text(tag: int) -> str:
    """``(gggg,eeee)``."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _meta_syntax(content: bytes | memoryview) -> tuple[str, int]:
    """Transfer syntax and start of the data set, from the file meta information."""
    if content[128:132] != b"DICM":
        raise Unsuitable("not_dicom", "found no DICM marker at byte 128, wanted a DICOM file")
    walk = _Walk(content, PREAMBLE, EXPLICIT)
    syntax = ""
    while walk.position + 8 <= walk.end and content[walk.position : walk.position + 2] == b"\2\0":
        tag, vr, length = walk.header()
        if vr not in META_VRS:
            raise Unsuitable(
                "malformed", f"found {vr!r} as value representation of {tag_text(tag)}"
            )
        if length == UNDEFINED or walk.position + length > walk.end:
            raise walk.fail(tag, f"{length} bytes of value")
        if tag == 0x00020010:
            raw = bytes(content[walk.position : walk.position + length])
            syntax = raw.decode("ascii", "replace").rstrip("\0 ")
        walk.position += length
    if not syntax:
        raise Unsuitable("malformed", "found no Transfer Syntax UID (0002,0010)")
    return syntax, walk.position


# One at a time: a few hundred kilobytes from each of many peers must not fill the memory.
ONE_INFLATED = threading.RLock()


def _inflate(content: bytes | memoryview, start: int) -> bytes:
    """The data set of a deflated file, refused when it grows beyond all reason."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        result = stream.decompress(memoryview(content)[start:], MAX_INFLATED)
    except zlib.error as error:
        raise Unsuitable("malformed", f"the deflated data set cannot be read: {error}") from error
    if stream.unconsumed_tail:
        raise Unsuitable("too_large", f"the deflated data set grows beyond {MAX_INFLATED} bytes")
    if not stream.eof:
        raise Unsuitable("truncated", "found the end of the file inside the deflated data set")
    return result


def check_structure(content: bytes | memoryview) -> Layout:
    """Walk over a whole Part 10 file.

    Parameters
    ----------
    content : bytes or memoryview
        The whole file.

    Returns
    -------
    Layout
        Transfer syntax, bytes of pixel data, and the elements of the top level.

    Raises
    ------
    Unsuitable
        ``not_dicom``, ``truncated``, ``malformed``, ``too_deep`` or ``too_large``, and where.
    """
    syntax, start = _meta_syntax(content)
    if syntax == DEFLATED:
        with ONE_INFLATED:
            return _walked(_Walk(_inflate(content, start), 0, syntax), syntax)
    return _walked(_Walk(content, start, syntax), syntax)


def _walked(walk: _Walk, syntax: str) -> Layout:
    # Trailing zero padding of less than one element header occurs and harms nothing.
    if not walk.implicit or walk.end - walk.position >= 8:
        walk.dataset(0, None)
    return Layout(syntax, walk.pixel_bytes, walk.elements)
