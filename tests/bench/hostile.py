"""What hostile peers say: PDUs, data sets and studies made to hurt who reads them. All seeded."""

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from mirv.dicom_io.phantom import patient
from tests.service.inbound.wire.test_server import p_data, store_command
from tests.service.wire import associate_request, ct_slice, encoded

EVIL = (
    "../../../../evil", "/evil", "..", ".", "1.2.3/../evil", "a\\..\\evil", "C:\\evil",
    "evil\0.dcm", "%2e%2e%2fevil", "1.2.3\n../evil", "~/evil", "$(touch evil)", "'; evil",
    "\u202eevil", "CON", "1.2/" * 16,
)  # fmt: skip
UID_TAGS = {
    "SOPInstanceUID": (0x0008, 0x0018),
    "StudyInstanceUID": (0x0020, 0x000D),
    "SeriesInstanceUID": (0x0020, 0x000E),
    "FrameOfReferenceUID": (0x0020, 0x0052),
}
CODESTREAMS = ("JPEG lossless", "JPEG-LS", "JPEG 2000", "RLE")
_HUGE = 30_000  # rows and columns


@dataclass(frozen=True)
class HostilePdu:
    """Bytes to say, after an association or instead of one."""

    kind: str
    associated: bool
    content: bytes


def hostile_pdu(source: random.Random) -> HostilePdu:
    """One of a dozen kinds."""
    kind = source.choice(list(_KINDS))
    associated, make = _KINDS[kind]
    return HostilePdu(kind, associated, make(source))


def _random(source: random.Random) -> bytes:
    return source.randbytes(source.randint(1, 2048))


def _typed_random(source: random.Random) -> bytes:
    content = source.randbytes(source.randint(0, 512))
    return struct.pack(">BxI", source.randint(1, 7), len(content)) + content


def _lying_length(source: random.Random) -> bytes:
    content = source.randbytes(source.randint(0, 64))
    length = source.choice([0, 1, len(content) * 2, 1 << 20, 1 << 31, 0xFFFFFFFF])
    return struct.pack(">BxI", source.randint(1, 7), length) + content


def _flipped(source: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(source.randint(1, 8)):
        changed[source.randrange(len(changed))] = source.randrange(256)
    return bytes(changed)


def _mutated_request(source: random.Random) -> bytes:
    return _flipped(source, associate_request())


def _cut_request(source: random.Random) -> bytes:
    request = bytearray(associate_request())
    del request[source.randrange(6, len(request)) :]
    if source.random() < 0.5:  # an honest length, so that it is the items inside that lie
        request[2:6] = struct.pack(">I", len(request) - 6)
    return bytes(request)


def _stuffed_request(source: random.Random) -> bytes:
    """Far more presentation contexts than there can be."""
    request = associate_request()
    contexts = b"".join(
        struct.pack(">BxHBxxxBxH", 0x20, 72, n % 256, 0x30, 64) + source.randbytes(64)
        for n in range(source.randint(128, 400))
    )
    length = len(request) - 6 + len(contexts)
    return struct.pack(">BxI", 1, length) + request[6:] + contexts


def _mutated_command(source: random.Random) -> bytes:
    return p_data(_flipped(source, store_command()), command=True, last=True)


def _mutated_p_data(source: random.Random) -> bytes:
    return _flipped(source, p_data(store_command(), command=True, last=True))


def _mutated_object(source: random.Random) -> bytes:
    content = encoded(ct_slice(source.randrange(1 << 30)))
    fragment = _flipped(source, content) if source.random() < 0.8 else source.randbytes(300)
    command = p_data(store_command(), command=True, last=True)
    return command + p_data(fragment, command=False, last=True)


def _out_of_turn(source: random.Random) -> bytes:
    return source.choice(
        (
            associate_request(),
            struct.pack(">BxIxBBB", 3, 4, 1, 1, 1),
            struct.pack(">BxI4x", 6, 4),
            p_data(b"", command=False, last=True),
            p_data(store_command(), command=False, last=True),
            struct.pack(">BxIxxBB", 7, 4, 0, source.randrange(256)) * 3,
        )
    )


_KINDS: dict[str, tuple[bool, Callable[[random.Random], bytes]]] = {
    "random": (False, _random),
    "random of a known type": (False, _typed_random),
    "lying length": (False, _lying_length),
    "mutated request": (False, _mutated_request),
    "cut request": (False, _cut_request),
    "stuffed request": (False, _stuffed_request),
    "random in an association": (True, _typed_random),
    "lying length in an association": (True, _lying_length),
    "mutated command": (True, _mutated_command),
    "mutated P-DATA": (True, _mutated_p_data),
    "mutated object": (True, _mutated_object),
    "out of turn": (True, _out_of_turn),
}


@dataclass(frozen=True)
class HostileObject:
    """A data set as it goes over the wire."""

    name: str
    syntax: str
    uid: str
    content: bytes


def with_uid(content: bytes, name: str, value: bytes) -> bytes:
    """A data set (explicit little endian) with another value for a UID, as no library writes it."""
    at = content.index(struct.pack("<HH", *UID_TAGS[name]) + b"UI") + 6
    (length,) = struct.unpack_from("<H", content, at)
    value += b"\0" * (len(value) % 2)
    return content[:at] + struct.pack("<H", len(value)) + value + content[at + 2 + length :]


def deep(depth: int) -> list[HostileObject]:
    """Sequences in sequences: of undefined length, closed and not, and of a length that is told."""
    opening = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    told: list[bytes] = []
    size = 0
    for _ in range(depth):  # from the inside out
        item = struct.pack("<HHI", 0xFFFE, 0xE000, size)
        told.append(b"\x08\x00\x40\x11SQ\0\0" + struct.pack("<I", size + len(item)) + item)
        size += len(told[-1])
    kinds = {
        "open": opening * depth,
        "closed": opening * depth + closing * depth,
        "told": b"".join(reversed(told)),
    }
    return [
        HostileObject(
            f"{depth} deep, {name}",
            ExplicitVRLittleEndian,
            f"1.2.66.{number}",
            _before_study(encoded(ct_slice(SOPInstanceUID=f"1.2.66.{number}")), nested),
        )
        for number, (name, nested) in enumerate(kinds.items())
    ]


def _before_study(content: bytes, elements: bytes) -> bytes:
    at = content.index(struct.pack("<HH", 0x0010, 0x0010))
    return content[:at] + elements + content[at:]


def bombs(size: int) -> list[HostileObject]:
    """Small over the wire, large once unpacked: deflated, and codestreams that claim much."""
    made = []
    for number, inflated in enumerate((size, (1 << 30) - (1 << 20))):
        uid = f"1.2.88.{number}"
        content = encoded(ct_slice(SOPInstanceUID=uid, PixelData=None))
        told = min(inflated, 0xFFFFFFFE)  # the longest there is
        content += struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, told)
        made.append(
            HostileObject(
                f"deflated, {inflated >> 20} MB",
                DeflatedExplicitVRLittleEndian,
                uid,
                _deflated(content, inflated),
            )
        )
    for number, (name, (syntax, codestream)) in enumerate(_codestreams(_HUGE).items()):
        uid = f"1.2.88.{10 + number}"
        ds = ct_slice(SOPInstanceUID=uid, StudyInstanceUID=f"1.2.89.{number}")
        ds.Rows = ds.Columns = _HUGE
        ds.PixelData = encapsulate([codestream])
        ds["PixelData"].is_undefined_length = True
        ds["PixelData"].VR = "OB"
        made.append(HostileObject(f"{name}, {_HUGE}", syntax, uid, encoded(ds)))
    return made


def _deflated(content: bytes, zeros: int) -> bytes:
    """Raw deflate of some bytes and very many zeros: one block of them, said again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * (zeros >> 20) + packer.flush()


def _codestreams(side: int) -> dict[str, tuple[str, bytes]]:
    """Codestreams of a few bytes that claim `side` rows and columns."""
    table = bytes((0, 0, 1, 5, 1, 1, 1, 1, 1, 1, *[0] * 7, *range(12)))
    jpeg = (
        b"\xff\xd8\xff\xc3" + struct.pack(">HBHHB", 11, 16, side, side, 1) + b"\x01\x11\x00"
        b"\xff\xc4" + struct.pack(">H", 2 + len(table)) + table
        + b"\xff\xda\x00\x08\x01\x01\x00\x01\x00\x00" + bytes(64) + b"\xff\xd9"
    )  # fmt: skip
    jpeg_ls = (
        b"\xff\xd8\xff\xf7" + struct.pack(">HBHHB", 11, 16, side, side, 1) + b"\x01\x11\x00"
        b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00" + bytes(64) + b"\xff\xd9"
    )  # fmt: skip
    size = struct.pack(">HLLLLLLLLH", 0, side, side, 0, 0, side, side, 0, 0, 1) + b"\x0f\x01\x01"
    jpeg_2000 = (
        b"\xff\x4f\xff\x51" + struct.pack(">H", 2 + len(size)) + size
        + b"\xff\x52\x00\x0c\x00\x00\x00\x01\x00\x05\x04\x04\x00\x01"
        + b"\xff\x5c\x00\x13\x40" + bytes(range(0x40, 0x80, 4))
        + b"\xff\x90\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x01\xff\x93" + bytes(64) + b"\xff\xd9"
    )  # fmt: skip
    half = b"\x81\x00" * (side // 4)
    rle = struct.pack("<16L", 2, 64, 64 + len(half), *[0] * 13) + half * 2
    made = (
        (JPEGLosslessSV1, jpeg),
        (JPEGLSLossless, jpeg_ls),
        (JPEG2000Lossless, jpeg_2000),
        (RLELossless, rle),
    )
    return dict(zip(CODESTREAMS, made, strict=True))


def lures(folder: Path, names: tuple[str, ...]) -> list[tuple[str, str, Path]]:
    """Studies with a real segmentation whose images claim to be huge: name, study UID, folder.

    One image of each study, or all of them.
    """
    made = []
    for name in names:
        syntax, codestream = _codestreams(_HUGE)[name]
        for which in (slice(4, 5), slice(None)):
            number = len(made)
            study = patient.write_study(
                folder / str(number),
                n_lesions=1,
                shape=(10, 64, 64),
                patient_id=f"LURE-{number}",
            )
            for path in study.ct[which]:
                ds = dcmread(path)
                if which.start is None:
                    ds.Rows = ds.Columns = _HUGE
                ds.PixelData = encapsulate([codestream])
                ds["PixelData"].is_undefined_length = True
                ds["PixelData"].VR = "OB"
                ds.file_meta.TransferSyntaxUID = syntax
                ds.save_as(path)
            made.append((f"{name}, {'all' if which.start is None else 'one'}",
                         study.identity.study_uid, study.folder))  # fmt: skip
    return made
