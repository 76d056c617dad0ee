"""Axial diameters of a lesion (SPEC R-REC-1): their lengths, and the end points to draw."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from mirv.analysis.model import BoolArray, FloatArray, Geometry, Mask


@dataclass(frozen=True, slots=True, eq=False)
class Axes:
    """Longest line in a native plane, and the longest one at a right angle to it.

    Attributes
    ----------
    plane : int
        Slice of the volume both lie in.
    long, short : float64 (2, 2)
        End points as (row, column) of that slice, pixel centres at whole numbers.
    long_mm, short_mm : float
        Their lengths.
    """

    plane: int
    long: FloatArray
    short: FloatArray
    long_mm: float
    short_mm: float


def axial_axes(mask: Mask, geometry: Geometry) -> Axes:
    """Long and short axis over all of the image's own planes; the mask has at least one voxel.

    The outline runs half a pixel around the pixel centres, where a surface at level 0.5 runs.

    Parameters
    ----------
    mask : Mask
    geometry : Geometry
        Of the image the mask was drawn on.

    Returns
    -------
    Axes
        Lengths in mm.

    Raises
    ------
    ValueError
        The mask has no voxel.
    """
    spacing = np.array(geometry.spacing[1:])
    reach = [_reach(plane, spacing) for plane in mask.values]
    best: tuple[float, int, FloatArray, FloatArray] | None = None
    # Largest planes first: most others cannot hold a longer line and are never looked at.
    for offset in sorted(range(len(reach)), key=lambda plane: (-reach[plane], plane)):
        if reach[offset] == 0 or (best is not None and reach[offset] < best[0]):
            break
        hull = _hull((_edge_middles(mask.values[offset]) + np.array(mask.start[1:])) * spacing)
        line = _longest(hull)
        length = float(np.linalg.norm(line[1] - line[0]))
        if best is None or (length, -offset) > (best[0], -best[1]):
            best = length, offset, hull, line
    if best is None:
        raise ValueError("a mask without voxels has no axes")
    length, offset, hull, line = best
    short = _widest_across(hull, line)
    width = float(np.linalg.norm(short[1] - short[0]))
    return Axes(mask.start[0] + offset, line / spacing, short / spacing, length, width)


def _reach(plane: BoolArray, spacing: FloatArray) -> float:
    """Diagonal in mm of the box around a plane's pixels, 0 when there are none."""
    sides = [np.flatnonzero(plane.any(axis=axis)) for axis in (1, 0)]
    if sides[0].size == 0:
        return 0.0
    return float(np.linalg.norm([side[-1] - side[0] + 1 for side in sides] * spacing))


def _edge_middles(plane: BoolArray) -> FloatArray:
    """Middles of the pixel sides between inside and outside (n, 2)."""
    inside = np.pad(plane, 1)
    middles = []
    for step in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        outer = inside & ~np.roll(inside, (-step[0], -step[1]), axis=(0, 1))
        middles.append(np.argwhere(outer) - 1 + 0.5 * np.array(step))
    return np.concatenate(middles).astype(float)


def _hull(points: FloatArray) -> FloatArray:
    """Corners of the convex hull, in order around it."""
    corners: FloatArray = points[ConvexHull(points).vertices]
    return corners


def _longest(hull: FloatArray) -> FloatArray:
    apart = squareform(pdist(hull))
    # Equally long lines: the first by coordinates, so that the drawing never depends on the hull.
    candidates = np.argwhere(np.triu(apart) >= apart.max() - 1e-9)
    lines = [np.array(sorted((hull[a].tolist(), hull[b].tolist()))) for a, b in candidates]
    return min(lines, key=lambda line: line.ravel().tolist())


def _widest_across(hull: FloatArray, long: FloatArray) -> FloatArray:
    """Longest chord of a convex polygon at a right angle to `long`; it has an end at a corner."""
    along_axis = (long[1] - long[0]) / np.linalg.norm(long[1] - long[0])
    across_axis = np.array([-along_axis[1], along_axis[0]])
    along, across = hull @ along_axis, hull @ across_axis
    next_along, next_across = np.roll(along, -1), np.roll(across, -1)
    span = next_along - along
    level = np.abs(span) < 1e-12
    part = (along[:, None] - along) / np.where(level, 1, span)
    crossed = np.where(level, across, across + part * (next_across - across))
    reached = (part >= -1e-12) & (part <= 1 + 1e-12) & ~level
    low = np.where(reached, crossed, np.inf).min(axis=1)
    high = np.where(reached, crossed, -np.inf).max(axis=1)
    place = int(np.argmax(high - low))
    ends = (along[place] * along_axis + value * across_axis for value in (low[place], high[place]))
    result: FloatArray = np.array(list(ends))
    return result
