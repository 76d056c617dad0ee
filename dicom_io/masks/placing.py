"""Masks from one grid to another: placed where they coincide, else nearest neighbour, said so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mirv.analysis.model import BoolArray, FloatArray, Geometry, Index3, Mask

GRID_TOLERANCE = 0.01
"""Voxel centres closer than this (in voxels of the image) are the same."""


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """The filled part of a plane: a hundred lesions must not hold their whole planes."""

    row: int
    column: int
    values: BoolArray


def crop(plane: BoolArray) -> Patch | None:
    """The tight box of what is set in a plane; None when nothing is.

    Parameters
    ----------
    plane : bool array (rows, columns)

    Returns
    -------
    Patch or None
        A copy: the plane need not be kept.
    """
    rows = np.flatnonzero(plane.any(axis=1))
    if rows.size == 0:
        return None
    top = int(rows[0])
    filled = plane[top : int(rows[-1]) + 1]
    columns = np.flatnonzero(filled.any(axis=0))
    left = int(columns[0])
    return Patch(top, left, np.array(filled[:, left : int(columns[-1]) + 1], bool))


def box_of(patches: Mapping[int, Sequence[Patch]], shape: Index3) -> Mask:
    """A mask from patches by slice index; several on one slice are united.

    Parameters
    ----------
    patches : mapping of slice index to sequence of Patch
    shape : (slices, rows, columns)
        Of the grid the mask lies in.

    Returns
    -------
    Mask
        Tight, when the patches are.
    """
    everything = [patch for several in patches.values() for patch in several]
    if not everything:
        return Mask((0, 0, 0), np.zeros((0, 0, 0), bool), shape)
    first = min(patches)
    top = min(patch.row for patch in everything)
    left = min(patch.column for patch in everything)
    bottom = max(patch.row + patch.values.shape[0] for patch in everything)
    right = max(patch.column + patch.values.shape[1] for patch in everything)
    box = np.zeros((max(patches) - first + 1, bottom - top, right - left), bool)
    for index, several in patches.items():
        for patch in several:
            rows, columns = patch.values.shape
            r, c = patch.row - top, patch.column - left
            box[index - first, r : r + rows, c : c + columns] |= patch.values
    return Mask((first, top, left), box, shape)


def offset_between(source: Geometry, target: Geometry) -> Index3 | None:
    """Whole-voxel shift from `source` indices to `target` indices; None when grids differ.

    Parameters
    ----------
    source, target : Geometry
        In one frame of reference.

    Returns
    -------
    (slices, rows, columns) or None
        To add to an index of `source`.
    """
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

    Parameters
    ----------
    mask : Mask
        On the grid of `source`.
    source, target : Geometry

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
