"""Stored pixel values of single frames, in every transfer syntax the node takes."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import ExplicitVRBigEndian

from mirv.analysis.errors import Unsuitable
from mirv.dicom_io.files import isolated_decoder
from mirv.dicom_io.files.values import PARSE_FAULTS
from mirv.dicom_io.standard.classes import NATIVE

DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
RLE = "1.2.840.10008.1.2.5"
DECODERS = {
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
}
"""One decoder a syntax. Left to itself pydicom tries all, GDCM first, which ends the whole process
on some damaged JPEG 2000 (an exception of C++ that nothing catches)."""
ISOLATED = frozenset(
    {
        "1.2.840.10008.1.2.4.50",
        "1.2.840.10008.1.2.4.51",
        "1.2.840.10008.1.2.4.57",
        "1.2.840.10008.1.2.4.70",
    }
)
"""JPEG syntaxes that only GDCM decodes: in a process that may die."""
_JPEG_SIZES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xF7})  # SOF0-3, SOF55 (JPEG-LS)


def frame_count(dataset: Dataset) -> int:
    """Number of frames; 1 when the attribute is missing.

    Parameters
    ----------
    dataset : Dataset

    Returns
    -------
    int

    Raises
    ------
    ValueError, TypeError
        Number of Frames is no number.
    """
    return int(dataset.get("NumberOfFrames") or 1)


def stored_frames(dataset: Dataset, frames: range | None = None) -> Iterator[NDArray[Any]]:
    """Stored values, frame by frame, before any rescaling.

    Parameters
    ----------
    dataset : Dataset
        With pixel data.
    frames : range, optional
        0-based frame numbers; all when not given.

    Yields
    ------
    array (rows, columns)
        Bool for 1-bit frames, else the stored integers.

    Raises
    ------
    Unsuitable
        ``truncated``, ``unsupported_pixels``, ``undecodable_pixels``.
    """
    frames = range(frame_count(dataset)) if frames is None else frames
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if "PixelData" not in dataset:
        raise Unsuitable("unsupported_pixels", "found no Pixel Data (7FE0,0010)")
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise Unsuitable(
            "unsupported_pixels",
            f"found {dataset.SamplesPerPixel} samples a pixel, wanted 1",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if syntax in NATIVE:
                yield from _native(dataset, syntax, frames)
            elif int(dataset.BitsAllocated) == 1 and syntax in {DEFLATED_FRAMES, RLE}:
                yield from _packed_fragments(dataset, syntax, frames)
            else:
                yield from _compressed(dataset, syntax, frames)
    except PARSE_FAULTS as error:
        said = f"{type(error).__name__}: {error}".replace("\n", " ")[:200]
        raise Unsuitable(
            "undecodable_pixels", f"transfer syntax {syntax} cannot be decoded: {said}"
        ) from error


def _native(dataset: Dataset, syntax: str, frames: range) -> Iterator[NDArray[Any]]:
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    bits = int(dataset.BitsAllocated)
    content = dataset.PixelData
    size = rows * columns
    wanted = (size * frame_count(dataset) * bits + 7) // 8
    if len(content) < wanted:
        raise Unsuitable("truncated", f"found {len(content)} bytes of pixels, wanted {wanted}")
    big = syntax == ExplicitVRBigEndian
    if bits == 1:
        if big and dataset["PixelData"].VR == "OW":
            content = np.frombuffer(content[: len(content) // 2 * 2], "<u2").byteswap().tobytes()
        packed = np.frombuffer(content, np.uint8)
        for frame in frames:
            yield _bits(packed, frame * size, size).reshape(rows, columns)
        return
    kind = _stored_type(dataset, bits).newbyteorder(">" if big else "<")
    values = np.frombuffer(content, kind, count=size * frame_count(dataset))
    for frame in frames:
        yield values[frame * size : (frame + 1) * size].reshape(rows, columns)


def _stored_type(dataset: Dataset, bits: int) -> np.dtype[np.generic]:
    if bits not in {8, 16, 32}:
        raise Unsuitable(
            "unsupported_pixels", f"found {bits} bits allocated, wanted 1, 8, 16 or 32"
        )
    signed = int(dataset.get("PixelRepresentation") or 0) == 1
    return np.dtype(f"{'i' if signed else 'u'}{bits // 8}")


def _bits(packed: NDArray[np.uint8], first: int, count: int) -> NDArray[np.bool_]:
    """`count` bits from bit `first`: frames need not start at a byte (PS3.5 8.1.1)."""
    start = first // 8
    stop = (first + count + 7) // 8
    part = packed[start:stop]
    if not part.any():  # most frames of most segments
        return np.zeros(count, bool)
    unpacked = np.unpackbits(part, bitorder="little")
    result: NDArray[np.bool_] = unpacked[first - start * 8 :][:count].astype(bool)
    return result


def _packed_fragments(dataset: Dataset, syntax: str, frames: range) -> Iterator[NDArray[Any]]:
    """1-bit frames, each compressed on its own."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    size = rows * columns
    last = frames[-1] if len(frames) else -1
    encoded = generate_frames(dataset.PixelData, number_of_frames=frame_count(dataset))
    for index, fragment in enumerate(encoded):
        if index > last:
            return
        if index not in frames:
            continue
        content = _inflated(fragment, size) if syntax == DEFLATED_FRAMES else _rle(fragment, size)
        if len(content) * 8 < size:
            raise Unsuitable(
                "truncated", f"frame {index + 1}: found {len(content) * 8} pixels, wanted {size}"
            )
        packed = np.frombuffer(content, np.uint8)
        yield _bits(packed, 0, size).reshape(rows, columns)


def _inflated(fragment: bytes, size: int) -> bytes:
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(fragment, size // 8 + 1)


def _rle(fragment: bytes, size: int) -> bytes:
    """One RLE segment (PS3.5 annex G) of packed bits."""
    count, start = struct.unpack_from("<LL", fragment)
    if count != 1:
        raise Unsuitable("unsupported_pixels", f"found {count} RLE segments, wanted 1")
    result = bytearray()
    wanted = size // 8 + 1
    position = start
    while position < len(fragment) and len(result) < wanted:
        control = fragment[position]
        position += 1
        if control < 128:
            result += fragment[position : position + control + 1]
            position += control + 1
        elif control > 128:
            result += fragment[position : position + 1] * (257 - control)
            position += 1
    return bytes(result)


def _compressed(dataset: Dataset, syntax: str, frames: range) -> Iterator[NDArray[Any]]:
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    encoded = generate_frames(dataset.PixelData, number_of_frames=frame_count(dataset))
    last = frames[-1] if len(frames) else -1
    for index, fragment in enumerate(encoded):
        if index in frames:
            _check_codestream(fragment, rows, columns, index)
            if syntax in ISOLATED:
                yield isolated_decoder.decode(dataset, fragment, syntax)
        if index >= last:
            break
    if syntax in ISOLATED:
        return
    decoder = get_decoder(syntax)
    for frame in frames:
        values, _ = decoder.as_array(
            dataset, index=frame, raw=True, decoding_plugin=DECODERS.get(syntax, "")
        )
        if values.shape != (rows, columns):
            raise Unsuitable(
                "undecodable_pixels",
                f"frame {frame + 1}: found {values.shape}, wanted {rows} x {columns}",
            )
        yield values != 0 if int(dataset.BitsAllocated) == 1 else values


def _check_codestream(fragment: bytes, rows: int, columns: int, index: int) -> None:
    """Compare the size a codestream claims with the header: decoders allocate what it claims."""
    found = codestream_size(fragment)
    if found is not None and found != (rows, columns):
        raise Unsuitable(
            "undecodable_pixels",
            f"frame {index + 1}: the codestream says {found[0]} x {found[1]}, "
            f"the header {rows} x {columns}",
        )


def codestream_size(fragment: bytes) -> tuple[int, int] | None:
    """Rows and columns a JPEG, JPEG-LS or JPEG 2000 codestream claims; None when it has no size.

    Parameters
    ----------
    fragment : bytes
        One encoded frame.

    Returns
    -------
    (rows, columns) or None
        None when it is of another kind; (0, 0) when it ends before its size.
    """
    if fragment[:4] == b"\xff\x4f\xff\x51":
        if len(fragment) < 24:
            return 0, 0
        width, height, left, top = struct.unpack_from(">LLLL", fragment, 8)
        return height - top, width - left
    if fragment[:2] != b"\xff\xd8":
        return None
    position = 2
    while position + 9 <= len(fragment) and fragment[position] == 0xFF:
        marker = fragment[position + 1]
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", fragment, position + 5)
            return height, width
        if marker == 0xFF:
            position += 1
        else:
            position += 2 + struct.unpack_from(">H", fragment, position + 2)[0]
    return 0, 0
