"""Points of a resampling lattice in the index space of the image, as ITK computes them."""

from dataclasses import dataclass

import numpy as np

from mirv.analysis.model import BoolArray, FloatArray, Index3


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """What ITK uses to go from a lattice point to a continuous index of the whole image.

    Attributes
    ----------
    forward : float64 (3, 3)
        Lattice index to mm (direction times lattice spacing), as ITK holds it.
    inverse : float64 (3, 3)
        mm to image index, as ITK holds it (its inverse differs from numpy's in the last bit).
    lattice_origin, image_origin : float64 (3,)
        LPS mm.
    """

    forward: FloatArray
    inverse: FloatArray
    lattice_origin: FloatArray
    image_origin: FloatArray


def continuous_index(frame: Frame, size: tuple[int, int, int]) -> FloatArray:
    """Continuous index (x, y, z) in the whole image of every lattice point, bit for bit as ITK.

    ITK maps the two ends of every scan line and interpolates between them; sums run over the axes
    in ascending order.

    Parameters
    ----------
    frame : Frame
    size : (x, y, z)
        Lattice points.

    Returns
    -------
    float64 (3, slices, rows, columns)
    """
    nx, ny, nz = size
    z, y = np.meshgrid(np.arange(nz, dtype=float), np.arange(ny, dtype=float), indexing="ij")
    begin = _image_index(frame, (np.zeros_like(z), y, z))
    end = _image_index(frame, (np.full_like(z, float(nx)), y, z))
    along = np.arange(nx) / float(nx)
    return np.stack(
        [
            first[..., None] + along * (last - first)[..., None]
            for first, last in zip(begin, end, strict=True)
        ]
    )


def _image_index(
    frame: Frame, at: tuple[FloatArray, FloatArray, FloatArray]
) -> tuple[FloatArray, ...]:
    offsets = []
    for row in range(3):
        point = np.full_like(at[0], frame.lattice_origin[row])
        for column in range(3):
            point = point + frame.forward[row, column] * at[column]
        offsets.append(point - frame.image_origin[row])
    result = []
    for row in range(3):
        index = frame.inverse[row, 0] * offsets[0]
        for column in (1, 2):
            index = index + frame.inverse[row, column] * offsets[column]
        result.append(index)
    return tuple(result)


def inside(index: FloatArray, shape: Index3) -> BoolArray:
    """Which continuous indices lie in the image buffer: [-0.5, n - 0.5) on every axis.

    Parameters
    ----------
    index : float64 (3, ...)
        Continuous indices (x, y, z).
    shape : Index3
        Of the image [slice, row, column].

    Returns
    -------
    bool (...)
    """
    result = np.ones(index.shape[1:], bool)
    for axis, n in enumerate(shape[::-1]):
        result &= (index[axis] >= -0.5) & (index[axis] < n - 0.5)
    return result
