"""Cubic B-spline on a regular lattice as three matrix products, one along each axis.

ITK evaluates 64 coefficients for every lattice point. A lattice parallel to the image's axes needs
only one matrix an axis: the prefilter, then the weights. The result differs from ITK's by rounding
alone, far less than `analysis.lattice.window.NEARLY`; where that could matter,
`analysis.lattice.resampling` evaluates again in ITK's order of operations.
"""

from functools import lru_cache
from math import ceil, log, sqrt

import numpy as np
from numpy.typing import NDArray

from mirv.analysis.lattice.interpolation import spline_support
from mirv.analysis.model import FloatArray, Index3

POLE = sqrt(3.0) - 2.0
HORIZON = ceil(log(1e-10) / log(-POLE))
"""Voxels after which ITK stops the sum that starts its prefilter."""


def spline_image(
    box: NDArray[np.generic], start: Index3, shape: Index3, lines: tuple[FloatArray, ...]
) -> FloatArray:
    """The spline through a box of the image, at every point of a lattice.

    Parameters
    ----------
    box : array [slice, row, column]
        Part of the image that starts at `start`.
    start, shape : Index3
        Of the box, and of the whole image (mirror boundary).
    lines : three float64 arrays
        Continuous indices of the lattice along x, y and z, in the whole image.

    Returns
    -------
    float64 [slice, row, column]
    """
    x, y, z = (
        _weights(lines[axis], box.shape[2 - axis], start[2 - axis], shape[2 - axis])
        for axis in range(3)
    )
    found = box.astype(np.float64) @ x.T
    found = np.matmul(y, found)
    flat = z @ found.reshape(len(found), -1)
    lattice: FloatArray = flat.reshape(len(z), len(y), len(x))
    return lattice


def _weights(at: FloatArray, n: int, start: int, whole: int) -> FloatArray:
    """Matrix (points, n) from values along one axis of the box to values at `at`."""
    column, weight = spline_support(at, whole, start)
    inside = (at >= -0.5) & (at < whole - 0.5)
    if ((column < 0) | (column >= n))[:, inside].any():
        raise ValueError(
            f"found points of the image whose spline needs more than the {n} of {whole} voxels "
            f"from {start} on; wanted a box that holds them"
        )
    chosen = np.zeros((len(at), n))
    for tap in range(4):
        # A point outside the image is set to zero afterwards; here it must only not fall out.
        np.add.at(chosen, (np.arange(len(at)), np.clip(column[tap], 0, n - 1)), weight[tap])
    combined: FloatArray = chosen @ prefilter(n)
    return combined


@lru_cache(maxsize=64)
def prefilter(n: int) -> FloatArray:
    """Matrix (n, n) from values to B-spline coefficients along one axis, as ITK computes them.

    Parameters
    ----------
    n : int
        Voxels along the axis.

    Returns
    -------
    float64 (n, n)
        Not writable.
    """
    if n == 1:
        return np.ones((1, 1))
    found = np.eye(n) * ((1.0 - POLE) * (1.0 - 1.0 / POLE))
    if n > HORIZON:
        found[0] = POLE ** np.arange(HORIZON) @ found[:HORIZON]
    else:
        mirrored = POLE ** np.arange(n)
        mirrored[1:-1] += POLE ** np.arange(2 * n - 3, n - 1, -1)
        mirrored[-1] = POLE ** (n - 1)
        found[0] = mirrored @ found / (1.0 - POLE ** (2 * n - 2))
    for at in range(1, n):
        found[at] += POLE * found[at - 1]
    found[-1] = POLE / (POLE * POLE - 1.0) * (POLE * found[-2] + found[-1])
    for at in range(n - 2, -1, -1):
        found[at] = POLE * (found[at + 1] - found[at])
    # What is left of a value a hundred voxels away is nothing, but slow to multiply with.
    found[np.abs(found) < 1e-40] = 0.0
    found.setflags(write=False)
    return found
