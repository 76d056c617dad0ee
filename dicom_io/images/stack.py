"""The regular grid that parallel slices form: of an image, and of the frames of a SEG."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mirv.analysis.errors import Unsuitable
from mirv.analysis.model import FloatArray, Geometry, Index3
from mirv.dicom_io.files.frame_groups import Placing

ORIENTATION_TOLERANCE = 1e-4
"""Of direction cosines: slices that differ by less are parallel."""
SPACING_TOLERANCE = 1e-4
"""Of Pixel Spacing, mm."""
AXIS_TOLERANCE = 1e-3
"""Of the length of an axis, and of the cosine between two."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice before it is put in place.

    Attributes
    ----------
    number : int
        1-based, of the image or frame it is, as messages name it.
    placing : Placing
        Complete and finite.
    shape : (rows, columns)
    """

    number: int
    placing: Placing
    shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far slices of one grid may differ: cosines, and mm between pixels."""

    orientation: float = ORIENTATION_TOLERANCE
    spacing_mm: float = SPACING_TOLERANCE


@dataclass(frozen=True, slots=True, eq=False)
class Axes:
    """Directions of a slice in LPS, float64 (3,) each.

    Attributes
    ----------
    row : along a row, the way the column index grows
    column : along a column, the way the row index grows
    normal : row x column, the way the slice index grows
    """

    row: FloatArray
    column: FloatArray
    normal: FloatArray

    @property
    def lengths(self) -> tuple[float, float]:
        """Of `row` and `column`; 1 when the file is exact."""
        return float(np.linalg.norm(self.row)), float(np.linalg.norm(self.column))

    def unit(self) -> "Axes":
        """The same directions, of length 1."""
        lengths = self.lengths
        row, column = self.row / lengths[0], self.column / lengths[1]
        normal = np.cross(row, column)
        return Axes(row, column, normal / np.linalg.norm(normal))


def axes_of(placing: Placing) -> Axes:
    """The directions of a slice as its file says them, of no certain length.

    Parameters
    ----------
    placing : Placing

    Returns
    -------
    Axes
    """
    orientation = np.array(placing.orientation, float)
    row, column = orientation[:3], orientation[3:]
    return Axes(row, column, np.cross(row, column))


def require_numbers(what: str, found: Sequence[float], count: int) -> None:
    """Refuse a part of a placing that is missing or no number.

    Parameters
    ----------
    what : str
        The slice and the attribute, for the message.
    found : sequence of float
    count : int
        How many numbers there must be.

    Raises
    ------
    Unsuitable
        ``no_geometry``
    """
    if len(found) != count or not np.isfinite(found).all():
        raise Unsuitable("no_geometry", f"{what}: found {found}, wanted {count} numbers")


def odd_plane(
    planes: Sequence[Plane], allowed: Tolerances
) -> tuple[Plane, Literal["matrix", "orientation", "spacing"]] | None:
    """The first slice that differs from the first of all, and in what; None: all are alike.

    Parameters
    ----------
    planes : sequence of Plane
    allowed : Tolerances

    Returns
    -------
    (Plane, "matrix", "orientation" or "spacing") or None
    """
    first = planes[0]
    for plane in planes:
        if plane.shape != first.shape:
            return plane, "matrix"
        if _apart(plane.placing.orientation, first.placing.orientation) > allowed.orientation:
            return plane, "orientation"
        if _apart(plane.placing.spacing, first.placing.spacing) > allowed.spacing_mm:
            return plane, "spacing"
    return None


def _apart(found: ArrayLike, wanted: ArrayLike) -> float:
    return float(np.abs(np.subtract(found, wanted)).max())


def regular_grid(
    axes: Axes, step_mm: float, spacing: Sequence[float], origin: FloatArray, shape: Index3
) -> Geometry:
    """The grid of parallel slices at one distance.

    Parameters
    ----------
    axes : Axes
    step_mm : float
        Between slices, along the normal.
    spacing : (between rows, between columns), mm
    origin : float64 (3,)
        Centre of the first voxel of the first slice, LPS mm.
    shape : (slices, rows, columns)

    Returns
    -------
    Geometry
    """
    affine = np.eye(4)
    affine[:3, 0] = axes.normal * step_mm
    affine[:3, 1] = axes.column * spacing[0]
    affine[:3, 2] = axes.row * spacing[1]
    affine[:3, 3] = origin
    return Geometry(shape, affine)


def stack(
    planes: Sequence[Plane], tolerance_mm: float, allowed: Tolerances
) -> tuple[list[int], Geometry]:
    """Order the slices of an image along their normal and check that they form a regular grid.

    Parameters
    ----------
    planes : sequence of Plane
        In any order, one a place.
    tolerance_mm : float
        How far a slice may be from its place.
    allowed : Tolerances
        How far slices may differ in orientation and spacing.

    Returns
    -------
    order : list of int
        Indices into `planes`, so that the slice axis runs along the normal (row x column).
    geometry : Geometry

    Raises
    ------
    Unsuitable
        ``mixed_matrix``, ``mixed_orientation``, ``mixed_spacing``, ``no_geometry``,
        ``single_slice``, ``duplicate_slices``, ``gantry_tilt``, ``missing_slices``,
        ``uneven_slices``.
    """
    _require_same(planes, allowed)
    first = planes[0]
    axes = _unit_axes(first.placing)
    positions = np.array([plane.placing.position for plane in planes], float)
    along = positions @ axes.normal
    order = np.argsort(along, kind="stable").tolist()
    step = _step(positions[order], along[order], axes.normal, tolerance_mm)
    shape = len(planes), *first.shape
    return order, regular_grid(axes, step, first.placing.spacing, positions[order[0]], shape)


def _require_same(planes: Sequence[Plane], allowed: Tolerances) -> None:
    odd = odd_plane(planes, allowed)
    if odd is None:
        return
    (plane, what), first = odd, planes[0]
    found, wanted = {
        "matrix": (f"{plane.shape} pixels", f"{first.shape}"),
        "orientation": (
            f"orientation {plane.placing.orientation}",
            f"{first.placing.orientation}",
        ),
        "spacing": (f"{plane.placing.spacing} mm", f"{first.placing.spacing} mm"),
    }[what]
    raise Unsuitable(
        f"mixed_{what}", f"image {plane.number} of {len(planes)}: found {found}, wanted {wanted}"
    )


def _unit_axes(placing: Placing) -> Axes:
    axes = axes_of(placing)
    stretched = max(abs(length - 1) for length in axes.lengths)
    if abs(axes.row @ axes.column) > AXIS_TOLERANCE or stretched > AXIS_TOLERANCE:
        raise Unsuitable(
            "no_geometry",
            f"found Image Orientation (Patient) {placing.orientation}, wanted two perpendicular "
            "unit vectors",
        )
    return axes.unit()


def _step(positions: FloatArray, along: FloatArray, normal: FloatArray, tolerance: float) -> float:
    """Distance between neighbouring slices in mm, or the reason why there is none."""
    n = len(along)
    if n == 1:
        # One slice has no neighbour: its thickness is unknown here, and no volume comes of it.
        raise Unsuitable("single_slice", "found 1 slice, wanted at least 2 to know their distance")
    steps = np.diff(along)
    middle = float(np.median(steps))
    if (close := np.flatnonzero(steps <= tolerance)).size:
        raise Unsuitable(
            "duplicate_slices",
            f"found {close.size} slices at a place already taken, first at "
            f"{along[close[0]]:.3f} mm along the normal; wanted one slice a place",
        )
    drift = positions - positions[0] - np.outer(along - along[0], normal)
    sideways = np.linalg.norm(drift, axis=1)
    if sideways.max() > tolerance:
        angle = float(np.degrees(np.arctan2(sideways[-1], along[-1] - along[0])))
        raise Unsuitable(
            "gantry_tilt",
            f"found slices moving {sideways.max():.2f} mm sideways over the stack (tilt "
            f"{angle:.1f} degrees), steps {steps.min():.2f} to {steps.max():.2f} mm; wanted at "
            f"most {tolerance} mm",
        )
    _require_even(along, steps, middle, tolerance)
    mean = float(along[-1] - along[0]) / (n - 1)
    # Positions are decimal strings: their noise must not make 3 mm out to be 2.9999999.
    rounded = round(mean, 4)
    return rounded if abs(rounded - mean) * n < tolerance / 10 else mean


def _require_even(along: FloatArray, steps: FloatArray, middle: float, tolerance: float) -> None:
    odd = np.flatnonzero(np.abs(steps - middle) > tolerance)
    if not odd.size:
        return
    ratio = steps[odd] / middle
    whole = np.abs(ratio - np.rint(ratio)) * middle <= tolerance * np.maximum(np.rint(ratio), 1)
    if whole.all() and (ratio > 1.5).all() and odd.size * 3 <= steps.size:
        lacking = int((np.rint(ratio) - 1).sum())
        raise Unsuitable(
            "missing_slices",
            f"found {lacking} slice(s) missing, first after {along[odd[0]]:.3f} mm along the "
            f"normal (step {steps[odd[0]]:.3f} mm); wanted steps of {middle:.3f} mm",
        )
    raise Unsuitable(
        "uneven_slices",
        f"found steps from {steps.min():.3f} to {steps.max():.3f} mm, first odd one after "
        f"{along[odd[0]]:.3f} mm; wanted {middle:.3f} mm within {tolerance} mm",
    )
