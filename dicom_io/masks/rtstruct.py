"""RTSTRUCT contours to masks: even-odd (XOR) filling, a voxel counts when its centre is inside."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from mirv.analysis.errors import Reason, Unsuitable
from mirv.analysis.model import BoolArray, FloatArray, Geometry
from mirv.dicom_io.files.values import PARSE_FAULTS, many_numbers, text
from mirv.dicom_io.masks.placing import box_of, crop
from mirv.dicom_io.masks.segment import Segment
from mirv.dicom_io.model import Note, QualityOutcome
from mirv.dicom_io.standard import codes

CLOSED = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR"})
ALGORITHMS = {"AUTOMATIC": "AUTOMATIC", "SEMIAUTOMATIC": "SEMIAUTOMATIC"}
HALF_SLICE = 0.5 + 1e-6
SAME_LEVEL = 0.01
"""Slices between two contours of one level: rounded coordinates, not another plane."""


@dataclass(slots=True)
class _Sorted:
    """Contours of one ROI by what can be done with them."""

    planes: dict[int, list[FloatArray]] = field(default_factory=dict)
    off_slice: dict[int, int] = field(default_factory=dict)
    off_levels: int = 0
    outside: int = 0
    tilted: int = 0
    degenerate: int = 0
    other_types: dict[str, int] = field(default_factory=dict)
    total: int = 0


@dataclass(frozen=True, slots=True)
class DrawnOn:
    """The image that regions are to be read on; empty where it is not to be held against them.

    Attributes
    ----------
    frames : frozenset of str
        Frame of Reference UIDs.
    instances : frozenset of str
        SOP Instance UIDs.
    """

    frames: frozenset[str] = frozenset()
    instances: frozenset[str] = frozenset()


ANY_IMAGE = DrawnOn()


def read_rtstruct(
    dataset: Dataset, image: Geometry, drawn_on: DrawnOn = ANY_IMAGE
) -> tuple[Segment, ...]:
    """Read every ROI of an RTSTRUCT onto the grid of its image.

    Parameters
    ----------
    dataset : Dataset
    image : Geometry
        In the frame of reference of the contours.
    drawn_on : DrawnOn
        What each ROI is held against; one of another frame or of other images gets no mask.

    Returns
    -------
    tuple of Segment, by ROI number

    Raises
    ------
    Unsuitable
        When the object as a whole cannot be read.
    """
    try:
        contours = {
            int(roi.ReferencedROINumber): roi.get("ContourSequence") or ()
            for roi in dataset.get("ROIContourSequence") or ()
        }
        rois = regions(dataset)
        observed = {
            int(observation.ReferencedROINumber): observation
            for observation in dataset.get("RTROIObservationsSequence") or ()
        }
        if not any(_images_named(one) & drawn_on.instances for one in contours.values()):
            drawn_on = replace(drawn_on, instances=frozenset())  # none resolves: they say nothing
        return tuple(
            _roi(roi, contours.get(int(roi.ROINumber), ()), observed, image, drawn_on)
            for roi in rois
        )
    except PARSE_FAULTS as error:
        raise Unsuitable(
            "malformed", f"the RTSTRUCT cannot be read: {type(error).__name__}: {error}"[:300]
        ) from error


def regions(dataset: Dataset) -> list[Dataset]:
    """Items of the Structure Set ROI Sequence by ROI number.

    Parameters
    ----------
    dataset : Dataset

    Raises
    ------
    Unsuitable
        There is none.
    """
    rois = sorted(dataset.get("StructureSetROISequence") or (), key=lambda r: int(r.ROINumber))
    if not rois:
        raise Unsuitable("malformed", "found no ROI in the Structure Set ROI Sequence")
    return rois


def _roi(
    roi: Dataset,
    sequence: Sequence[Dataset],
    observed: dict[int, Dataset],
    image: Geometry,
    drawn_on: DrawnOn,
) -> Segment:
    if (elsewhere := _elsewhere(roi, _images_named(sequence), drawn_on)) is not None:
        return _without_mask(roi, observed, elsewhere)
    found = _sort(sequence, image)
    notes = _notes(found)
    refusal = _refusal(found)
    mask = None
    if refusal is None:
        shape = image.shape
        patches = {
            index: [patch]
            for index, loops in found.planes.items()
            if (patch := crop(fill(loops, shape[1:]))) is not None
        }
        mask = box_of(patches, shape)
        if mask.n_voxels == 0:
            mask, refusal = None, _empty(found)
    return replace(_without_mask(roi, observed, refusal), mask=mask, notes=tuple(notes))


def _without_mask(roi: Dataset, observed: dict[int, Dataset], refusal: Reason | None) -> Segment:
    number = int(roi.ROINumber)
    observation = observed.get(number, Dataset())
    finding = codes.first_code(observation, "RTROIIdentificationCodeSequence")
    return Segment(
        number=number,
        label=text(roi, "ROIName"),
        mask=None,
        algorithm_type=ALGORITHMS.get(text(roi, "ROIGenerationAlgorithm").upper(), "MANUAL"),
        finding=finding or codes.LESION,
        description=text(roi, "ROIDescription"),
        refusal=refusal,
    )


def _images_named(contours: Sequence[Dataset]) -> set[str]:
    """Images that the contours of one ROI say they were drawn on."""
    return {
        text(image, "ReferencedSOPInstanceUID")
        for contour in contours
        for image in contour.get("ContourImageSequence") or ()
    } - {""}


def _elsewhere(roi: Dataset, named: set[str], drawn_on: DrawnOn) -> Reason | None:
    """Why an ROI was not drawn on this image (PS3.3 C.8.8.5, C.8.8.6); None when it may be."""
    frame = text(roi, "ReferencedFrameOfReferenceUID")
    if frame and drawn_on.frames and frame not in drawn_on.frames:
        return Reason(
            "other_frame_of_reference",
            f"found frame of reference {frame}, wanted {' or '.join(sorted(drawn_on.frames))}",
        )
    if named and drawn_on.instances and not named & drawn_on.instances:
        return Reason(
            "other_images",
            f"found contours on {len(named)} images, none of this series, wanted this series",
        )
    return None


def _sort(sequence: Sequence[Dataset], image: Geometry) -> _Sorted:
    found = _Sorted()
    drawn: dict[int, list[FloatArray]] = {}
    for contour in sequence:
        found.total += 1
        kind = text(contour, "ContourGeometricType").upper()
        if kind == "CLOSED_NONPLANAR":
            found.tilted += 1
            continue
        if kind not in CLOSED:
            found.other_types[kind] = found.other_types.get(kind, 0) + 1
            continue
        flat = many_numbers(contour, "ContourData")
        if flat.size < 9 or flat.size % 3 or not np.isfinite(flat).all():
            found.degenerate += 1
            continue
        _put(found, drawn, image.to_index(flat.reshape(-1, 3)), image)
    for plane, loops in drawn.items():
        _keep_one_level(found, plane, loops)
    return found


def _put(
    found: _Sorted, drawn: dict[int, list[FloatArray]], index: FloatArray, image: Geometry
) -> None:
    """Put a closed contour (fractional indices) on its plane."""
    slices = index[:, 0]
    if np.ptp(slices) > 0.5:
        found.tilted += 1
        return
    level = float(slices.mean())
    # Midway between two planes is always the upper one's: rounding to even would pair contours.
    nearest = int(np.floor(level + HALF_SLICE))
    if nearest < 0 or nearest >= image.shape[0]:
        # Half a slice beyond the last plane still belongs to it.
        nearest = min(max(nearest, 0), image.shape[0] - 1)
        if abs(level - nearest) > HALF_SLICE:
            found.outside += 1
            return
    low, high = index[:, 1:].min(axis=0), index[:, 1:].max(axis=0)
    if (high < -0.5).any() or (low > np.array(image.shape[1:]) - 0.5).any():
        found.outside += 1
        return
    drawn.setdefault(nearest, []).append(index)


def _keep_one_level(found: _Sorted, plane: int, loops: Sequence[FloatArray]) -> None:
    """Keep the contours of the level nearest a plane: those of two levels would cancel."""
    levels = np.array([loop[:, 0].mean() for loop in loops])
    # Contours of one slanted plane differ by as much as the slant of the widest one allows.
    widest = max(loops, key=_width)
    slant = float(np.ptp(widest[:, 0])) / max(_width(widest), 1e-9)
    tolerance = SAME_LEVEL + slant * _width(np.concatenate(loops))
    nearest = min(levels.tolist(), key=lambda level: (round(abs(level - plane), 6), level))
    kept = np.abs(levels - nearest) <= tolerance
    found.planes[plane] = [loop[:, 1:] for loop, keep in zip(loops, kept, strict=True) if keep]
    if not kept.all():
        others = np.sort(levels[~kept])
        found.off_slice[plane] = others.size
        found.off_levels += 1 + int(np.count_nonzero(np.diff(others) > tolerance))


def _width(loop: FloatArray) -> float:
    """Diagonal of the box around a contour in its plane."""
    return float(np.linalg.norm(np.ptp(loop[:, 1:], axis=0)))


def fill(loops: Sequence[FloatArray], shape: tuple[int, int]) -> BoolArray:
    """Fill closed polygons even-odd: a pixel is inside when its centre is.

    Parameters
    ----------
    loops : sequence of (n, 2) arrays
        (row, column) in pixel-centre indices; the last point joins the first.
    shape : (rows, columns)

    Returns
    -------
    bool array
    """
    result = np.zeros(shape, bool)
    starts = np.concatenate(loops)
    # Only the box around the contours is worth looking at.
    top, left = np.clip(np.ceil(starts.min(axis=0)), 0, shape).astype(int).tolist()
    bottom, right = np.clip(np.floor(starts.max(axis=0)) + 1, 0, shape).astype(int).tolist()
    rows, columns = bottom - top, right - left
    if rows <= 0 or columns <= 0:
        return result
    ends = np.concatenate([np.roll(loop, -1, axis=0) for loop in loops])
    # A row y is crossed by the half-open edge [low, high): a vertex on it counts once.
    low = np.ceil(np.minimum(starts[:, 0], ends[:, 0])).astype(np.int64)
    high = np.ceil(np.maximum(starts[:, 0], ends[:, 0])).astype(np.int64)
    low, high = np.clip(low, top, bottom), np.clip(high, top, bottom)
    count = high - low
    edge = np.repeat(np.arange(len(starts)), count)
    row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + low[edge]
    slope = (ends[edge, 1] - starts[edge, 1]) / (ends[edge, 0] - starts[edge, 0])
    crossing = starts[edge, 1] + (row - starts[edge, 0]) * slope
    # Every centre at or right of a crossing changes sides.
    column = np.clip(np.ceil(crossing) - left, 0, columns).astype(np.int64)
    width = columns + 1
    turns = np.bincount((row - top) * width + column, minlength=rows * width)
    # uint8 wraps at 256, which keeps the parity.
    sides = np.cumsum(turns.astype(np.uint8).reshape(rows, width), axis=1, dtype=np.uint8)
    result[top:bottom, left:right] = sides[:, :-1] & 1
    return result


def _duplicates(planes: dict[int, list[FloatArray]]) -> list[int]:
    """Planes on which one contour is stored more than once (from any point, either way)."""
    result = []
    for index, loops in planes.items():
        keys = [_key(loop) for loop in loops]
        if len(set(keys)) < len(keys):
            result.append(index)
    return sorted(result)


def _key(loop: NDArray[np.float64]) -> bytes:
    rounded = np.round(loop, 3) + 0.0
    return np.ascontiguousarray(rounded[np.lexsort(rounded.T)]).tobytes()


def _gaps(planes: dict[int, list[FloatArray]]) -> list[int]:
    """Planes without a contour between planes with one."""
    if not planes:
        return []
    return [index for index in range(min(planes), max(planes)) if index not in planes]


def _listed(indices: Sequence[int]) -> str:
    """1-based slice numbers, the first few."""
    shown = ", ".join(str(index + 1) for index in indices[:8])
    return f"slice {shown}" + (" ..." if len(indices) > 8 else "")


def _notes(found: _Sorted) -> list[Note]:
    notes = []
    if repeated := _duplicates(found.planes):
        notes.append(
            Note(
                "duplicate_contours",
                QualityOutcome.WARN,
                _listed(repeated),
                "each contour once",
                "a contour stored twice cancels itself out under even-odd filling",
            )
        )
    if found.off_slice:
        notes.append(
            Note(
                "contours_off_slice",
                QualityOutcome.WARN,
                f"{sum(found.off_slice.values())} of {found.total} contours at "
                f"{found.off_levels} more levels on {_listed(sorted(found.off_slice))}",
                "contours of one level a slice",
                "only the contours of the level nearest a slice are filled; the others, drawn "
                "on slices thinner than those of the image, were left out",
            )
        )
    if gaps := _gaps(found.planes):
        notes.append(
            Note(
                "contour_gap",
                QualityOutcome.WARN,
                _listed(gaps),
                "a contour on every slice between the first and the last",
                "slices without a contour stay empty; nothing is interpolated",
            )
        )
    if found.planes and found.outside:
        notes.append(
            Note(
                "partly_outside",
                QualityOutcome.WARN,
                f"{found.outside} of {found.total} contours",
                "0",
                "contours outside the image were left out",
            )
        )
    if found.planes and (found.degenerate or found.other_types):
        odd = {
            **found.other_types,
            **({"degenerate": found.degenerate} if found.degenerate else {}),
        }
        notes.append(
            Note(
                "contours_left_out",
                QualityOutcome.WARN,
                ", ".join(f"{n} {kind}" for kind, n in sorted(odd.items())),
                "closed planar contours of 3 points or more",
                "contours without an area were left out",
            )
        )
    return notes


def _refusal(found: _Sorted) -> Reason | None:
    if found.tilted:
        return Reason(
            "contour_not_in_slice",
            f"found {found.tilted} of {found.total} contours not parallel to the slices of the "
            "image, wanted contours within half a slice of one plane",
        )
    if found.planes:
        return None
    if found.total == 0:
        return Reason("empty_roi", "found no contour in this ROI")
    if found.outside:
        return Reason(
            "outside_volume", f"found {found.outside} of {found.total} contours outside the image"
        )
    if set(found.other_types) == {"POINT"}:
        return Reason("point_marker", f"found {found.total} POINT, which has no volume")
    if found.other_types:
        kinds = ", ".join(
            f"{n} {kind or 'untyped'}" for kind, n in sorted(found.other_types.items())
        )
        return Reason("no_closed_contour", f"found {kinds}, wanted closed planar contours")
    return Reason(
        "degenerate_contour",
        f"found {found.degenerate} closed contours of less than 3 points, wanted an area",
    )


def _empty(found: _Sorted) -> Reason:
    if repeated := _duplicates(found.planes):
        return Reason(
            "duplicate_contours",
            f"found every contour twice ({_listed(repeated)}): by even-odd filling nothing is left",
        )
    return Reason("no_voxel_centre", "found contours that hold no voxel centre")
