"""Frames of a segmentation: which planes, their functional groups and their pixels, encoded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from mirv.analysis.model import BoolArray, Mask
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.sr.encoding import decimals, integers, item, sequence, text, uid
from mirv.dicom_io.sr.items import code
from mirv.dicom_io.standard.codes import SEGMENTATION, SOURCE_IMAGE

SEGMENT_NUMBER, SEGMENT_IDENTIFICATION = 0x0062000B, 0x0062000A
IMAGE_POSITION, PLANE_POSITION = 0x00200032, 0x00209113


class Masked(Protocol):
    """Whatever has a mask: a lesion, or a part of one."""

    @property
    def mask(self) -> Mask:
        """Its voxels."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One segment of the object: its number, its voxels, and the item that describes it."""

    number: int
    mask: Mask
    description: Dataset


@dataclass(frozen=True, slots=True)
class Frame:
    """One plane: of one segment (BINARY), or of all of them (LABELMAP, `segment` 0)."""

    segment: int
    plane: int
    drawn: tuple[Drawn, ...]


def binary_frames(n_planes: int, segments: Sequence[Drawn], *, empty: bool) -> Iterator[Frame]:
    """Frames segment by segment, upwards; with `empty`, those without a voxel too."""
    for one in segments:
        for plane in range(n_planes) if empty else planes_of(one):
            yield Frame(one.number, plane, (one,))


def labelmap_frames(n_planes: int, segments: Sequence[Drawn], *, empty: bool) -> Iterator[Frame]:
    """One frame a plane, upwards."""
    by_plane: dict[int, list[Drawn]] = {}
    for one in segments:
        for plane in planes_of(one):
            by_plane.setdefault(plane, []).append(one)
    for plane in range(n_planes):
        if empty or plane in by_plane:
            yield Frame(0, plane, tuple(by_plane.get(plane, ())))


def planes_of(part: Masked) -> list[int]:
    """Planes of the volume in which a lesion, or a part of one, has voxels.

    Parameters
    ----------
    part : Masked

    Returns
    -------
    list of int
        Slice indices of the volume, upwards.
    """
    there = np.flatnonzero(part.mask.values.any(axis=(1, 2)))
    planes: list[int] = (there + part.mask.start[0]).tolist()
    return planes


def per_frame(study: StudyInput, frames: Sequence[Frame]) -> Iterator[bytes]:
    """Functional groups of every frame: source, index, position, segment."""
    planes = sorted({frame.plane for frame in frames})
    rank = {plane: n for n, plane in enumerate(planes, start=1)}
    derived = {plane: _derivation(study, plane) for plane in planes}
    placed = {plane: _plane_position(study, plane) for plane in planes}
    for frame in frames:
        position = (rank[frame.plane],)
        values = (frame.segment, *position) if frame.segment else position
        yield item(
            derived[frame.plane]
            + sequence(0x00209111, [item(integers(0x00209157, "UL", values))])
            + placed[frame.plane]
            + (_segment_reference(frame.segment) if frame.segment else b"")
        )


@lru_cache(maxsize=4096)
def _segment_reference(number: int) -> bytes:
    return sequence(SEGMENT_IDENTIFICATION, [item(integers(SEGMENT_NUMBER, "US", (number,)))])


def _derivation(study: StudyInput, plane: int) -> bytes:
    """Derivation Image Sequence: the instance, or the frame of it, the plane was drawn on."""
    index, frame_number = study.evidence.frame_of[plane]
    image = study.evidence.images[index]
    source = uid(0x00081150, str(image.SOPClassUID)) + uid(0x00081155, str(image.SOPInstanceUID))
    if frame_number is not None:
        source += text(0x00081160, "IS", str(frame_number))
    source += text(0x0028135A, "CS", "YES") + code(0x0040A170, SOURCE_IMAGE)
    content = sequence(0x00082112, [item(source)]) + code(0x00089215, SEGMENTATION)
    return sequence(0x00089124, [item(content)])


def _plane_position(study: StudyInput, plane: int) -> bytes:
    """Where the frame lies: as its own slice says, else by the grid."""
    index, frame_number = study.evidence.frame_of[plane]
    stated = study.evidence.images[index].get("ImagePositionPatient")
    if frame_number is None and stated is not None and len(stated) == 3:
        position = [float(value) for value in stated]
    else:
        corner = study.volume.geometry.to_lps(np.array([[plane, 0, 0]], float))[0]
        position = [round(float(value), 9) + 0.0 for value in corner]
    return sequence(PLANE_POSITION, [item(decimals(IMAGE_POSITION, position))])


def packed(frames: Sequence[Frame]) -> bytes:
    """BINARY frames as bits, first pixel in the lowest bit, one after another without gaps.

    One plane is unpacked at a time: the memory is that of the bits.

    Parameters
    ----------
    frames : sequence of Frame
        Of one segment each.

    Returns
    -------
    bytes
        The last byte filled with zeros.
    """
    bits = bytearray()
    left_over: NDArray[np.bool_] = np.zeros(0, bool)
    for frame in frames:
        plane = np.concatenate([left_over, plane_of(frame.drawn[0], frame.plane).ravel()])
        whole = plane.size // 8 * 8
        bits += np.packbits(plane[:whole], bitorder="little").tobytes()
        left_over = plane[whole:]
    bits += np.packbits(left_over, bitorder="little").tobytes()
    return bytes(bits)


def labelled(shape: tuple[int, int], frames: Sequence[Frame], dtype: str) -> bytes:
    """LABELMAP frames: segment numbers as pixels.

    Parameters
    ----------
    shape : (rows, columns)
    frames : sequence of Frame
    dtype : str
        Of a pixel, little endian: wide enough for the largest segment number.

    Returns
    -------
    bytes
    """
    pixels = bytearray()
    for frame in frames:
        plane = np.zeros(shape, dtype)
        for one in frame.drawn:
            plane[plane_of(one, frame.plane)] = one.number
        pixels += plane.tobytes()
    return bytes(pixels)


def plane_of(part: Masked, plane: int) -> BoolArray:
    """One whole plane (rows, columns) of a mask.

    Parameters
    ----------
    part : Masked
    plane : int
        Slice index of the volume.

    Returns
    -------
    bool array (rows, columns)
        Empty where the mask does not reach.
    """
    full = np.zeros(part.mask.grid_shape[1:], bool)
    offset = plane - part.mask.start[0]
    if 0 <= offset < part.mask.values.shape[0]:
        _, rows, columns = part.mask.slices
        full[rows, columns] = part.mask.values[offset]
    return full
