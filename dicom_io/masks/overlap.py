"""How far two masks on one grid are the same voxels."""

import numpy as np

from mirv.analysis.model import Mask


def dice(first: Mask, second: Mask) -> float:
    """Dice similarity coefficient of two masks on one grid; 1 when both are empty.

    Parameters
    ----------
    first, second : Mask

    Returns
    -------
    float
        0 to 1.

    Raises
    ------
    ValueError
        The grids differ.
    """
    if first.grid_shape != second.grid_shape:
        raise ValueError(f"found grids {first.grid_shape} and {second.grid_shape}, wanted one")
    shared = shared_voxels(first, second)
    if not shared and (first.values.any() or second.values.any()):
        return 0.0
    total = first.n_voxels + second.n_voxels
    return 2 * shared / total if total else 1.0


def shared_voxels(first: Mask, second: Mask) -> int:
    """Voxels that are in both masks.

    Parameters
    ----------
    first, second : Mask
        On one grid.

    Returns
    -------
    int
    """
    ours, theirs = [], []
    for a, n, b, m in zip(
        first.start, first.values.shape, second.start, second.values.shape, strict=True
    ):
        low, high = max(a, b), min(a + n, b + m)
        if high <= low:
            return 0
        ours.append(slice(low - a, high - a))
        theirs.append(slice(low - b, high - b))
    return int(np.count_nonzero(first.values[tuple(ours)] & second.values[tuple(theirs)]))
