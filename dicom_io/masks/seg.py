"""SEG objects: BINARY, FRACTIONAL and LABELMAP, frame by frame onto the grid of the image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from mirv.analysis.errors import Reason, Unsuitable
from mirv.analysis.model import BoolArray, Geometry, Mask
from mirv.dicom_io.files.frame_groups import FrameGroup, frame_groups, placing_of
from mirv.dicom_io.files.pixels import stored_frames
from mirv.dicom_io.files.values import PARSE_FAULTS, Parsed, first_item, numbers, text
from mirv.dicom_io.images.stack import (
    AXIS_TOLERANCE,
    Plane,
    Tolerances,
    axes_of,
    odd_plane,
    regular_grid,
    require_numbers,
)
from mirv.dicom_io.masks.placing import Patch, box_of, crop, place
from mirv.dicom_io.masks.segment import Segment
from mirv.dicom_io.model import Code, Note, QualityOutcome
from mirv.dicom_io.standard import codes
from mirv.dicom_io.standard.classes import LABELMAP_CLASS

PLANE_TOLERANCE = 0.1
"""In slices: frames this far from a whole step still lie on the SEG's own grid."""
SIDEWAYS_TOLERANCE = 0.1
"""In mm: frames this far off the axis of the others still lie on it."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where one frame lies and which segment it belongs to (None: label map, all)."""

    plane: Plane
    between: float
    segment: int | None


class _Drawn(dict[int, dict[int, list[Patch]]]):
    """Segment number to slice index (on the SEG's own grid) to what is set there."""

    def add(self, segment: int, index: int, plane: BoolArray) -> None:
        """Keep what is set in one frame."""
        patch = crop(plane)
        if patch is not None:
            self.setdefault(segment, {}).setdefault(index, []).append(patch)


def read_seg(dataset: Dataset, image: Geometry, threshold: float = 0.5) -> tuple[Segment, ...]:
    """Read every segment of a SEG onto the grid of its image.

    Parameters
    ----------
    dataset : Dataset
        With pixel data.
    image : Geometry
        In the same frame of reference.
    threshold : float
        FRACTIONAL: a voxel belongs to the segment from this part of the maximum on.

    Returns
    -------
    tuple of Segment, by segment number

    Raises
    ------
    Unsuitable
        When the object as a whole cannot be placed or decoded.
    """
    try:
        frames = _frames(dataset)
        own = _own_grid(frames, Tolerances())
        drawn = _draw(dataset, frames, own, threshold)
        parsed: Parsed = {}
        segments = []
        for description in described(dataset):
            planes = drawn.get(int(description.SegmentNumber), {})
            placed = _placed(box_of(planes, own.geometry.shape), own.geometry, image)
            segments.append(_segment(description, parsed, placed))
        return tuple(segments)
    except PARSE_FAULTS as error:
        raise Unsuitable(
            "malformed", f"the SEG cannot be read: {type(error).__name__}: {error}"[:300]
        ) from error


def own_geometry(dataset: Dataset) -> Geometry:
    """The grid a SEG is drawn on, from its first to its last frame.

    The node reads a SEG onto its image; what others read of a SEG alone is compared on this grid.

    Parameters
    ----------
    dataset : Dataset

    Returns
    -------
    Geometry

    Raises
    ------
    Unsuitable
        The frames form no grid.
    """
    try:
        return _own_grid(_frames(dataset), Tolerances()).geometry
    except PARSE_FAULTS as error:
        raise Unsuitable("malformed", f"the SEG cannot be read: {error}"[:300]) from error


def _is_labelmap(dataset: Dataset) -> bool:
    return (
        str(dataset.SOPClassUID) == LABELMAP_CLASS
        or text(dataset, "SegmentationType").upper() == "LABELMAP"
    )


def described(dataset: Dataset) -> list[Dataset]:
    """Segment descriptions by number; a label map's background (number 0) is no lesion.

    Parameters
    ----------
    dataset : Dataset
        Pixels are not looked at.

    Raises
    ------
    Unsuitable
        There is no Segment Sequence.
    """
    sequence = dataset.get("SegmentSequence")
    if not sequence:
        raise Unsuitable("malformed", "found no Segment Sequence (0062,0002)")
    ordered = sorted(sequence, key=lambda segment: int(segment.SegmentNumber))
    return [segment for segment in ordered if int(segment.SegmentNumber) != 0]


def _frames(dataset: Dataset) -> list[_Frame]:
    labelmap = _is_labelmap(dataset)
    shape = int(dataset.Rows), int(dataset.Columns)
    return [
        _frame(group, number, shape, labelmap=labelmap)
        for number, group in enumerate(frame_groups(dataset), start=1)
    ]


def _frame(group: FrameGroup, number: int, shape: tuple[int, int], *, labelmap: bool) -> _Frame:
    segment = None
    if not labelmap:
        segment = int(group.part("SegmentIdentificationSequence").ReferencedSegmentNumber)
    between = numbers(group.part("PixelMeasuresSequence"), "SpacingBetweenSlices") or (0.0,)
    plane = Plane(number, placing_of(group), shape)
    _require_place(plane)
    return _Frame(plane, between[0], segment)


def _require_place(plane: Plane) -> None:
    frame, placing = f"SEG frame {plane.number}", plane.placing
    require_numbers(f"{frame}: Image Position (Patient)", placing.position, 3)
    require_numbers(f"{frame}: Image Orientation (Patient)", placing.orientation, 6)
    require_numbers(f"{frame}: Pixel Spacing", placing.spacing, 2)
    if min(placing.spacing) <= 0:
        raise Unsuitable("no_geometry", f"found Pixel Spacing {placing.spacing}, wanted positive")


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """The SEG's own grid and the slice index of every frame."""

    geometry: Geometry
    index: NDArray[np.int_]


def _own_grid(frames: Sequence[_Frame], allowed: Tolerances) -> _Grid:
    """The grid the frames lie on: several may share a place, and places may be empty."""
    first = frames[0].plane
    if odd := odd_plane([frame.plane for frame in frames], allowed):
        raise Unsuitable(
            "mixed_orientation",
            f"SEG frame {odd[0].number}: found another orientation or spacing than frame 1",
        )
    axes = axes_of(first.placing)
    if abs(np.linalg.norm(axes.normal) - 1) > AXIS_TOLERANCE:
        raise Unsuitable(
            "no_geometry", f"found SEG orientation {first.placing.orientation}, wanted unit vectors"
        )
    positions = np.array([frame.plane.placing.position for frame in frames], float)
    along = positions @ axes.normal
    sideways = positions - np.outer(along, axes.normal)
    if np.abs(sideways - sideways[0]).max() > SIDEWAYS_TOLERANCE:
        raise Unsuitable(
            "gantry_tilt",
            f"found SEG frames {np.abs(sideways - sideways[0]).max():.2f} mm off one axis, "
            f"wanted at most {SIDEWAYS_TOLERANCE} mm",
        )
    lowest = int(np.argmin(along))
    step = _slice_step(along, frames[0].between)
    index = np.rint((along - along[lowest]) / step).astype(int)
    worst = np.abs((along - along[lowest]) / step - index).max()
    if worst > PLANE_TOLERANCE:
        raise Unsuitable(
            "uneven_slices",
            f"found SEG frames {worst * step:.3f} mm off a grid of {step:.3f} mm",
        )
    shape = int(index.max()) + 1, *first.shape
    return _Grid(regular_grid(axes, step, first.placing.spacing, positions[lowest], shape), index)


def _slice_step(along: NDArray[np.float64], between: float) -> float:
    """Distance between slices of the SEG: what positions say, else what the header says."""
    places = np.unique(np.round(along, 3))
    if len(places) < 2:
        return between if between > 0 else 1.0
    smallest = float(np.diff(places).min())
    # Frames may be left out: the smallest step can be several of the SEG's own.
    if between > 0:
        ratio = smallest / between
        if ratio > 0.9 and abs(ratio - round(ratio)) <= PLANE_TOLERANCE:
            return smallest / round(ratio)
    return float(np.median([d for d in np.diff(places) if d < 1.5 * smallest]))


def _draw(dataset: Dataset, frames: Sequence[_Frame], own: _Grid, threshold: float) -> _Drawn:
    """Planes of every segment; only what is set is kept."""
    labelmap = _is_labelmap(dataset)
    kind = text(dataset, "SegmentationType").upper()
    if not labelmap and kind not in {"BINARY", "FRACTIONAL"}:
        raise Unsuitable(
            "unsupported_segmentation",
            f"found Segmentation Type {kind!r}, wanted BINARY, FRACTIONAL or LABELMAP",
        )
    limit = threshold * float(dataset.get("MaximumFractionalValue") or 255)
    drawn = _Drawn()
    stored_with_index = zip(own.index.tolist(), stored_frames(dataset), strict=True)
    for frame, (index, stored) in zip(frames, stored_with_index, strict=True):
        if labelmap:
            for number in np.unique(stored).tolist():
                if number:
                    drawn.add(int(number), index, stored == number)
            continue
        plane = stored >= limit if kind == "FRACTIONAL" else stored.astype(bool, copy=False)
        if frame.segment is not None:
            drawn.add(frame.segment, index, plane)
    return drawn


class _Placed(NamedTuple):
    """A segment on the grid of the image, or why it is not."""

    mask: Mask | None
    notes: list[Note]
    refusal: Reason | None


def _segment(description: Dataset, parsed: Parsed, placed: _Placed) -> Segment:
    algorithm = text(description, "SegmentAlgorithmType").upper() or "MANUAL"

    def code(keyword: str) -> Code | None:
        item = first_item(description, keyword, parsed)
        return None if item is None else codes.code_of(item)

    return Segment(
        number=int(description.SegmentNumber),
        label=text(description, "SegmentLabel"),
        mask=placed.mask,
        tracking_id=text(description, "TrackingID"),
        tracking_uid=text(description, "TrackingUID"),
        algorithm_type=algorithm,
        algorithm_name=text(description, "SegmentAlgorithmName"),
        category=code("SegmentedPropertyCategoryCodeSequence") or codes.ABNORMAL,
        finding=code("SegmentedPropertyTypeCodeSequence") or codes.LESION,
        anatomy=code("AnatomicRegionSequence"),
        description=text(description, "SegmentDescription"),
        notes=tuple(placed.notes),
        refusal=placed.refusal,
    )


def _placed(mask: Mask, own: Geometry, image: Geometry) -> _Placed:
    if mask.n_voxels == 0:
        return _Placed(None, [], Reason("empty_segment", "found no voxel in this segment"))
    result, lost, resampled = place(mask, own, image)
    notes = []
    if resampled:
        notes.append(
            Note(
                "other_grid",
                QualityOutcome.WARN,
                f"voxels of {own.spacing} mm",
                f"voxels of {image.spacing} mm",
                "the segment lies on another grid than the image: nearest neighbours were taken",
            )
        )
    if result.n_voxels == 0:
        found = f"found {lost} of {mask.n_voxels} voxels outside the image"
        return _Placed(None, notes, Reason("outside_volume", found))
    if lost:
        notes.append(
            Note(
                "partly_outside",
                QualityOutcome.WARN,
                f"{lost} of {mask.n_voxels} voxels",
                "0",
                "voxels outside the image were left out",
            )
        )
    return _Placed(result, notes, None)
