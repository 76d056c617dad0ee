"""Masks from one grid to another: placed where they coincide, else nearest neighbour, said so."""

from collections.abc import Mapping

import numpy as np

from analysis.model import BoolArray, FloatArray, Geometry, Index3, Mask

GRID_TOLERANCE = 0.01
"""Voxel centres closer than this (in voxels of the image) are the same."""


def box_of(planes: Mapping[int, BoolArray], shape: Index3) -> Mask:
    """A mask from its planes (slice index to whole plane), cropped."""
    filled = {index: plane for index, plane in planes.items() if plane.any()}
    if not filled:
        return Mask((0, 0, 0), np.zeros((0, 0, 0), bool), shape)
    low, high = min(filled), max(filled) + 1
    seen = np.zeros(next(iter(filled.values())).shape, bool)
    for plane in filled.values():
        seen |= plane
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    r0, r1, c0, c1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    box = np.zeros((high - low, r1 - r0, c1 - c0), bool)
    for index, plane in filled.items():
        box[index - low] = plane[r0:r1, c0:c1]
    return Mask((low, r0, c0), box, shape)


def offset_between(source: Geometry, target: Geometry) -> Index3 | None:
    """Whole-voxel shift from `source` indices to `target` indices; None when grids differ."""
    matrix = np.linalg.inv(target.affine) @ source.affine
    far = np.array([n - 1 for n in source.shape], float)
    # What matters is how far the last voxel of the source ends up from its whole-number place.
    drift = np.abs((matrix[:3, :3] - np.eye(3)) * np.maximum(far, 1)).sum(axis=1).max()
    shift = np.rint(matrix[:3, 3])
    if drift > GRID_TOLERANCE or np.abs(matrix[:3, 3] - shift).max() > GRID_TOLERANCE:
        return None
    return int(shift[0]), int(shift[1]), int(shift[2])


def place(mask: Mask, source: Geometry, target: Geometry) -> tuple[Mask, int, bool]:
    """Bring a mask drawn on `source` to `target` (one frame of reference).

    Returns
    -------
    mask : Mask
        On the target grid.
    lost : int
        Voxels of the source mask outside the target grid.
    resampled : bool
        True when the grids do not coincide and nearest neighbours were taken.
    """
    if mask.n_voxels == 0:
        return Mask((0, 0, 0), np.zeros((0, 0, 0), bool), target.shape), 0, False
    shift = offset_between(source, target)
    if shift is None:
        return _resampled(mask, source, target)
    return *_shifted(mask, shift, target), False


def _shifted(mask: Mask, shift: Index3, target: Geometry) -> tuple[Mask, int]:
    start = [s + d for s, d in zip(mask.start, shift, strict=True)]
    low = [max(0, -s) for s in start]
    high = [
        min(n, limit - s)
        for s, n, limit in zip(start, mask.values.shape, target.shape, strict=True)
    ]
    cut = mask.values[tuple(slice(a, max(a, b)) for a, b in zip(low, high, strict=True))]
    first = start[0] + low[0], start[1] + low[1], start[2] + low[2]
    result = Mask.from_box(first, cut, target.shape)
    return result, mask.n_voxels - result.n_voxels


def _resampled(mask: Mask, source: Geometry, target: Geometry) -> tuple[Mask, int, bool]:
    """Nearest source voxel of every target voxel near the mask."""
    low = np.array(mask.start, float) - 0.5
    high = low + mask.values.shape
    corners = np.array(
        [[a, b, c] for a in (low[0], high[0]) for b in (low[1], high[1]) for c in (low[2], high[2])]
    )
    there = target.to_index(source.to_lps(corners))
    lost = _outside(mask, source, target)
    first = np.maximum(np.floor(there.min(axis=0)).astype(int), 0)
    last = np.minimum(np.ceil(there.max(axis=0)).astype(int), np.array(target.shape) - 1)
    empty = Mask((0, 0, 0), np.zeros((0, 0, 0), bool), target.shape)
    if (last < first).any():
        return empty, lost, True
    size = last - first + 1
    box = np.zeros(tuple(size), bool)
    rows, columns = np.meshgrid(
        np.arange(first[1], last[1] + 1), np.arange(first[2], last[2] + 1), indexing="ij"
    )
    flat = np.column_stack([np.zeros(rows.size), rows.ravel(), columns.ravel()])
    for k in range(int(size[0])):
        flat[:, 0] = first[0] + k
        back = source.to_index(target.to_lps(flat))
        box[k] = _looked_up(mask, back).reshape(rows.shape)
    start = int(first[0]), int(first[1]), int(first[2])
    return Mask.from_box(start, box, target.shape), lost, True


def _looked_up(mask: Mask, index: FloatArray) -> BoolArray:
    # Halves go down on every axis, so that no voxel is counted by two neighbours.
    nearest = np.ceil(index - 0.5 - 1e-9).astype(int) - np.array(mask.start)
    inside = ((nearest >= 0) & (nearest < np.array(mask.values.shape))).all(axis=1)
    result = np.zeros(len(index), bool)
    result[inside] = mask.values[tuple(nearest[inside].T)]
    return result


def _outside(mask: Mask, source: Geometry, target: Geometry) -> int:
    """Mask voxels whose centres lie outside the target grid."""
    centres = np.argwhere(mask.values) + np.array(mask.start)
    index = target.to_index(source.to_lps(centres.astype(float)))
    limit = np.array(target.shape) - 0.5
    return int(((index < -0.5) | (index > limit)).any(axis=1).sum())
