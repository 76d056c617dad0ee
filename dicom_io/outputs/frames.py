"""Frames of a segmentation: which planes, their functional groups and their pixels, encoded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from analysis.model import BoolArray, Lesion
from dicom_io.codes import SEGMENTATION, SOURCE_IMAGE
from dicom_io.model import StudyInput
from dicom_io.outputs.encoding import decimals, integers, item, sequence, text, uid
from dicom_io.outputs.items import code

SEGMENT_NUMBER, SEGMENT_IDENTIFICATION = 0x0062000B, 0x0062000A
IMAGE_POSITION, PLANE_POSITION = 0x00200032, 0x00209113


@dataclass(frozen=True, slots=True)
class Frame:
    """One plane: of one segment (BINARY), or of all of them (LABELMAP, `segment` 0)."""

    segment: int
    plane: int
    lesions: tuple[Lesion, ...]


def binary_frames(study: StudyInput, numbers: Mapping[str, int], *, empty: bool) -> Iterator[Frame]:
    """Frames segment by segment, upwards; with `empty`, those without a voxel too."""
    for lesion in study.lesions:
        if lesion.tracking_uid not in numbers:
            continue
        planes = range(study.volume.geometry.shape[0]) if empty else planes_of(lesion)
        for plane in planes:
            yield Frame(numbers[lesion.tracking_uid], plane, (lesion,))


def labelmap_frames(
    study: StudyInput, numbers: Mapping[str, int], *, empty: bool
) -> Iterator[Frame]:
    """One frame a plane, upwards."""
    by_plane: dict[int, list[Lesion]] = {}
    for lesion in study.lesions:
        if lesion.tracking_uid in numbers:
            for plane in planes_of(lesion):
                by_plane.setdefault(plane, []).append(lesion)
    for plane in range(study.volume.geometry.shape[0]):
        if empty or plane in by_plane:
            yield Frame(0, plane, tuple(by_plane.get(plane, ())))


def planes_of(lesion: Lesion) -> list[int]:
    """Planes of the volume in which a lesion has voxels."""
    there = np.flatnonzero(lesion.mask.values.any(axis=(1, 2)))
    planes: list[int] = (there + lesion.mask.start[0]).tolist()
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
    """
    bits = bytearray()
    left_over: NDArray[np.bool_] = np.zeros(0, bool)
    for frame in frames:
        plane = np.concatenate([left_over, plane_of(frame.lesions[0], frame.plane).ravel()])
        whole = plane.size // 8 * 8
        bits += np.packbits(plane[:whole], bitorder="little").tobytes()
        left_over = plane[whole:]
    bits += np.packbits(left_over, bitorder="little").tobytes()
    return bytes(bits)


def labelled(
    study: StudyInput, frames: Sequence[Frame], numbers: Mapping[str, int], dtype: str
) -> bytes:
    """LABELMAP frames: segment numbers as pixels."""
    pixels = bytearray()
    for frame in frames:
        plane = np.zeros(study.volume.geometry.shape[1:], dtype)
        for lesion in frame.lesions:
            plane[plane_of(lesion, frame.plane)] = numbers[lesion.tracking_uid]
        pixels += plane.tobytes()
    return bytes(pixels)


def plane_of(lesion: Lesion, plane: int) -> BoolArray:
    """One whole plane (rows, columns) of a lesion's mask."""
    full = np.zeros(lesion.mask.grid_shape[1:], bool)
    offset = plane - lesion.mask.start[0]
    if 0 <= offset < lesion.mask.values.shape[0]:
        _, rows, columns = lesion.mask.slices
        full[rows, columns] = lesion.mask.values[offset]
    return full
