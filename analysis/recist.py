"""Axial diameters of a lesion and RECIST 1.1 response (SPEC R-REC-1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist, squareform

from analysis.errors import Unsuitable
from analysis.model import BoolArray, FloatArray, Geometry, Mask, Reason
from analysis.sampling import Measured, recist_targets

Response = Literal["CR", "PR", "SD", "PD", "NE"]
SHRINKS, GROWS, GROWS_MM = -30.0, 20.0, 5.0
"""RECIST 1.1 (Eisenhauer 2009, section 4.3.1): percent of baseline, percent and mm above nadir."""
NODE_NORMAL_MM = 10.0


@dataclass(frozen=True, slots=True)
class Diameters:
    """Largest extent of a lesion in one native axial plane.

    Attributes
    ----------
    long_mm : float
        Longest line between two points of the outline.
    short_mm : float
        Longest line at a right angle to it, in the same plane.
    slice_index : int
        Plane of the image in which the long axis lies.
    """

    long_mm: float
    short_mm: float
    slice_index: int


def axial_diameters(mask: Mask, geometry: Geometry) -> Diameters:
    """Long and short axis over all slices of the image's own planes.

    The outline runs half a pixel around the pixel centres, where a surface at level 0.5 runs.

    Raises
    ------
    Unsuitable
        The mask has no voxel.
    """
    if mask.n_voxels == 0:
        raise Unsuitable("empty_mask", "the lesion has no voxel, wanted at least 1")
    _, row_mm, column_mm = geometry.spacing
    best: Diameters | None = None
    for offset, plane in enumerate(mask.values):
        if not plane.any():
            continue
        outline = _outline(plane) * np.array([row_mm, column_mm])
        long_mm, short_mm = _axes(outline)
        if best is None or long_mm > best.long_mm:
            best = Diameters(long_mm, short_mm, mask.start[0] + offset)
    if best is None:
        raise Unsuitable("empty_mask", "the lesion has no voxel, wanted at least 1")
    return best


def _outline(plane: BoolArray) -> FloatArray:
    """Middles of the pixel edges between inside and outside, in pixels (n, 2)."""
    padded = np.pad(plane, 1)
    points = []
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        edge = np.argwhere(padded & ~np.roll(padded, -step, axis=axis)).astype(float) - 1.0
        edge[:, axis] += 0.5 * step
        points.append(edge)
    return np.vstack(points)


def _axes(points: FloatArray) -> tuple[float, float]:
    try:
        hull = points[ConvexHull(points).vertices]
    except QhullError:  # cannot happen with a pixel's four edges; a degenerate spacing could
        hull = points
    apart = squareform(pdist(hull))
    first, second = np.unravel_index(int(apart.argmax()), apart.shape)
    long_axis = hull[second] - hull[first]
    length = float(np.linalg.norm(long_axis))
    along = hull @ (long_axis / length)
    across = hull @ (np.array([-long_axis[1], long_axis[0]]) / length)
    return length, _longest_chord(along, across)


def _longest_chord(along: FloatArray, across: FloatArray) -> float:
    """Longest extent `across` of a convex polygon at one place `along`.

    A chord between two straight chains is longest at a corner of either, so only corners count.
    """
    start, end = int(along.argmin()), int(along.argmax())
    line = across[start] + (across[end] - across[start]) * (along - along[start]) / max(
        along[end] - along[start], np.finfo(float).tiny
    )
    heights = []
    for side in (across >= line, across <= line):
        chain = side.copy()
        chain[[start, end]] = True
        order = np.argsort(along[chain], kind="stable")
        heights.append(np.interp(along, along[chain][order], across[chain][order]))
    return float(np.max(heights[0] - heights[1]))


def response(
    baseline_mm: float,
    nadir_mm: float,
    current_mm: float,
    *,
    new_lesions: bool = False,
    all_gone: bool = False,
) -> Response:
    """Overall response of target lesions by sums of diameters.

    Parameters
    ----------
    baseline_mm, nadir_mm, current_mm : float
        Sums of target diameters (nodes: short axes). NaN: not evaluable.
    new_lesions : bool
        Any new lesion is progression.
    all_gone : bool
        Every target has vanished and every target node is below 10 mm.
    """
    if new_lesions:
        return "PD"
    if not np.isfinite([baseline_mm, nadir_mm, current_mm]).all() or baseline_mm <= 0:
        return "NE"
    if all_gone:
        return "CR"
    growth = current_mm - nadir_mm
    grown = np.inf if nadir_mm == 0 and growth > 0 else 100 * growth / (nadir_mm or 1.0)
    if grown >= GROWS and growth >= GROWS_MM:
        return "PD"
    if 100 * (current_mm - baseline_mm) / baseline_mm <= SHRINKS:
        return "PR"
    return "SD"


@dataclass(frozen=True, slots=True)
class Outcome:
    """RECIST 1.1 between a baseline and one later time point.

    Attributes
    ----------
    n_targets : int
    baseline_mm, current_mm : float or None
        Sums of target diameters, lymph nodes by their short axis; a vanished target adds 0.
    change_percent : float or None
    response : Response
    reason : Reason or None
        Why it is not evaluable ("NE").
    """

    n_targets: int
    baseline_mm: float | None
    current_mm: float | None
    change_percent: float | None
    response: Response
    reason: Reason | None = None


def outcome(
    baseline: Sequence[Measured], current: Sequence[Measured | None], *, new_lesions: bool
) -> Outcome:
    """Choose targets at baseline, follow them, and class the change; the baseline is the nadir.

    Parameters
    ----------
    baseline : sequence of Measured
    current : sequence of Measured or None
        Partner of each baseline lesion; None when it has vanished.
    new_lesions : bool
    """
    targets = recist_targets(baseline)
    if not targets:
        reason = Reason("no_target", f"none of {len(baseline)} lesion(s) is a measurable target")
        return Outcome(0, None, None, None, "PD" if new_lesions else "NE", reason)
    before = sum(_size(baseline[i]) for i in targets)
    partners = [current[i] for i in targets]
    sizes = [0.0 if one is None else _size(one) for one in partners]
    after = float(sum(sizes))
    if not np.isfinite(after):
        reason = Reason("no_diameter", "a target has no diameter at the later time point")
        return Outcome(len(targets), before, None, None, "PD" if new_lesions else "NE", reason)
    gone = all(
        one is None or (one.site == "lymph node" and size < NODE_NORMAL_MM)
        for one, size in zip(partners, sizes, strict=True)
    )
    found = response(before, before, after, new_lesions=new_lesions, all_gone=gone)
    return Outcome(len(targets), before, after, 100.0 * (after - before) / before, found)


def _size(lesion: Measured) -> float:
    size = lesion.short_axis_mm if lesion.site == "lymph node" else lesion.long_axis_mm
    return float("nan") if size is None else size
