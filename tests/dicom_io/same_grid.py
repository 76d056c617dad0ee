"""Whether two grids are the same, voxel by voxel."""

import numpy as np

from mirv.analysis.model import Geometry


def same_grid(first: Geometry, second: Geometry, tolerance_mm: float) -> bool:
    """True when shapes are equal and no voxel centres are further apart than the tolerance."""
    if first.shape != second.shape:
        return False
    far = [n - 1 for n in first.shape]
    corners = np.array(
        [[i, j, k] for i in (0, far[0]) for j in (0, far[1]) for k in (0, far[2])], float
    )
    return bool(np.abs(first.to_lps(corners) - second.to_lps(corners)).max() <= tolerance_mm)
