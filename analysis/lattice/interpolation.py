"""Values between voxels: nearest, linear and cubic B-spline, as ITK computes them."""

import math

import numpy as np
from numpy.typing import NDArray

from mirv.analysis.lattice.points import inside
from mirv.analysis.model import FloatArray, Index3


def nearest(
    box: NDArray[np.generic], start: Index3, shape: Index3, index: FloatArray
) -> NDArray[np.generic]:
    """Nearest neighbour (halves go up, as ITK) of an image known inside a box, else 0.

    Parameters
    ----------
    box : array [slice, row, column]
        Part of the image that starts at `start`; what lies outside counts as 0.
    start, shape : Index3
        Of the box and the whole image.
    index : float64 (3, ...)
        Continuous indices (x, y, z) in the whole image.

    Returns
    -------
    array (...)
        Of the type of `box`.
    """
    flat = np.zeros(index.shape[1:], np.intp)
    known = inside(index, shape)
    for axis, (first, n) in enumerate(zip(start[::-1], box.shape[::-1], strict=True)):
        at = np.floor(index[axis] + 0.5).astype(np.intp) - first
        known &= (at >= 0) & (at < n)
        flat += at * math.prod(box.shape[::-1][:axis])
    result = np.zeros(index.shape[1:], box.dtype)
    result[known] = box.ravel()[flat[known]]
    return result


def spline_values(
    coefficients: FloatArray, start: Index3, shape: Index3, index: FloatArray
) -> FloatArray:
    """Cubic B-spline at continuous indices, in ITK's order of operations.

    Parameters
    ----------
    coefficients : float64 [slice, row, column]
        Of a part of the image that starts at `start`.
    start, shape : Index3
        Of that part, and of the whole image (mirror boundary).
    index : float64 (3, n)
        Continuous indices (x, y, z) in the whole image.

    Returns
    -------
    float64 (n,)
    """
    supports = [spline_support(index[axis], shape[2 - axis], start[2 - axis]) for axis in range(3)]
    total = np.zeros(index.shape[1])
    for point in range(64):
        at = [(point >> (2 * axis)) & 3 for axis in range(3)]
        weight = np.ones(index.shape[1])
        for axis in range(3):
            weight = weight * supports[axis][1][at[axis]]
        x, y, z = (supports[axis][0][at[axis]] for axis in range(3))
        total = total + weight * coefficients[z, y, x]
    return total


def spline_support(x: FloatArray, n: int, start: int) -> tuple[NDArray[np.intp], FloatArray]:
    """Indices (4, n) into the coefficients, and weights (4, n), of one axis.

    Parameters
    ----------
    x : float64 (m,)
        Continuous indices along the axis.
    n : int
        Voxels of the whole image along the axis.
    start : int
        Index at which the coefficients begin.

    Returns
    -------
    at : int (4, m)
        Counted from `start`.
    weights : float64 (4, m)
    """
    # ITK finds the support in single precision: an index a hair under 10 starts at 10, not 9.
    base = np.floor(x.astype(np.float32)).astype(np.intp)
    w = x - base
    last = (1.0 / 6.0) * w * w * w
    first = (1.0 / 6.0) + 0.5 * w * (w - 1.0) - last
    third = w + first - 2.0 * last
    second = 1.0 - first - third - last
    at = base + np.arange(-1, 3)[:, None]
    at = np.abs(at)
    # Behind the last of two voxels the mirrored support reaches beyond the first: mirrored again.
    at = np.abs(np.where(at > n - 1, 2 * (n - 1) - at, at))
    if n == 1:
        at = np.zeros_like(at)
    return at - start, np.stack([first, second, third, last])


def linear_values(
    values: FloatArray, start: Index3, shape: Index3, index: FloatArray
) -> FloatArray:
    """Trilinear interpolation at continuous indices, in ITK's order of operations.

    Parameters and result as `spline_values`, with image values for coefficients.
    """
    low, high, part = [], [], []
    for axis in range(3):
        n, first = shape[2 - axis], start[2 - axis]
        base = np.maximum(np.floor(index[axis]).astype(np.intp), 0)
        part.append(np.maximum(index[axis] - base, 0.0))
        low.append(base - first)
        high.append(np.minimum(base + 1, n - 1) - first)

    def along_x(y: NDArray[np.intp], z: NDArray[np.intp]) -> FloatArray:
        left: FloatArray = values[z, y, low[0]]
        right: FloatArray = values[z, y, high[0]]
        row: FloatArray = left + (right - left) * part[0]
        return row

    def along_y(z: NDArray[np.intp]) -> FloatArray:
        near = along_x(low[1], z)
        plane: FloatArray = near + (along_x(high[1], z) - near) * part[1]
        return plane

    below = along_y(low[2])
    result: FloatArray = below + (along_y(high[2]) - below) * part[2]
    return result
