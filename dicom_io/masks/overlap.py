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
    total = first.n_voxels + second.n_voxels
    return 2 * shared_voxels(first, second) / total if total else 1.0


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
    low = np.maximum(first.start, second.start)
    high = np.minimum(
        np.add(first.start, first.values.shape), np.add(second.start, second.values.shape)
    )
    if (high <= low).any():
        return 0
    boxes = [
        mask.values[
            tuple(slice(a - s, b - s) for a, b, s in zip(low, high, mask.start, strict=True))
        ]
        for mask in (first, second)
    ]
    return int(np.count_nonzero(boxes[0] & boxes[1]))
