"""PyRadiomics' resampling lattice, reproduced exactly from a crop of the image.

PyRadiomics resamples image and mask on a grid aligned to the corner of the *whole* image. Cropping
first moves that grid and with it most features. Here the grid is computed from the whole image's
geometry, and the crop is only as large as the interpolation needs.

Two things make a crop differ from the whole image although the grid is the same: coordinates
that come out of floating point a last bit apart, and the memory of the recursive B-spline
prefilter. Both matter where a value is cut to an integer (40 - 1e-13 becomes 39) and where a
nearest neighbour is a tie. So the continuous index of every lattice point is computed here in the
order of operations ITK uses on the whole image, the mask is sampled at those indices, and image
values near a step of the pixel type are evaluated again at them (`spline_values`).

Vectors are in ITK order (x, y, z) = (column, row, slice); arrays are ``[slice, row, column]``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.model import BoolArray, FloatArray, Index3

Branch = Literal["resampled", "matching", "native"]

MARGIN = 20
"""Voxels of image around the window for the first pass: leaves 0.268**20 = 4e-12 of a value."""

FAR_MARGIN = 48
"""Voxels for values that must be right to the last bit: 0.268**48 is below double precision."""

NEARLY = 3e-11
"""Relative to the largest image value: closer to a step of the pixel type, evaluate again."""


@dataclass(frozen=True, slots=True)
class Window:
    """The lattice of one lesion and the part of the image it needs.

    Attributes
    ----------
    branch : str
        ``resampled``; ``matching``: spacing is already right, cut out with padding; ``native``:
        the profile does not resample.
    start, stop : Index3
        Box of the image [slice, row, column] needed, `stop` exclusive.
    spacing : (x, y, z) mm
        Of the lattice.
    origin_index : (x, y, z)
        Continuous index of the first lattice point in the whole image.
    size : (x, y, z)
        Lattice points; zeros unless resampled.
    """

    branch: Branch
    start: Index3
    stop: Index3
    spacing: tuple[float, float, float]
    origin_index: tuple[float, float, float]
    size: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as slices into the image."""
        a, b, c = (slice(lo, hi) for lo, hi in zip(self.start, self.stop, strict=True))
        return a, b, c


def find_window(
    spacing: tuple[float, float, float],
    shape: Index3,
    box_start: Index3,
    box_shape: Index3,
    settings: Mapping[str, Any],
    *,
    filtered: bool,
    centred: bool = False,
) -> Window:
    """Find the lattice PyRadiomics would use, and the image box it takes to fill it.

    Parameters
    ----------
    spacing : (slice, row, column) mm
    shape : Index3
        Of the whole image.
    box_start, box_shape : Index3
        The lesion's tight box in the image.
    settings : mapping
        PyRadiomics settings of the profile.
    filtered : bool
        The profile has image types other than Original. Without resampling they need the whole
        image, because filters there see all of it.
    centred : bool
        IBSI's lattice: centred on the image, instead of PyRadiomics' that starts at its corner.
    """
    size = np.array(shape[::-1])
    low = np.array(box_start[::-1])
    span = np.array(box_shape[::-1])
    own = np.array(spacing[::-1])
    pad = settings.get("padDistance", 5)
    wanted = settings.get("resampledPixelSpacing")
    # PyRadiomics' own default applies when the profile does not name an interpolator.
    interpolator = settings.get("interpolator", "sitkBSpline")
    if wanted is None or interpolator is None:
        if settings.get("preCrop", False):
            return _cut_out("native", size, low, span, pad, own)
        return _cut_out("native", size, low, span, max(size) if filtered else 0, own)
    new = np.where(np.array(wanted, float) == 0, own, wanted)
    if not centred:  # IBSI knows no such exception: all lesions on one grid
        new = np.where(span != 1, new, own)
    if np.allclose(own, new):
        return _cut_out("matching", size, low, span, pad, own)
    ratio = own / new
    end = np.ceil(size * ratio) - 1
    if centred:
        shift = 0.5 * ((size - 1) - end / ratio)
        first = np.floor((low - 0.5 - shift) * ratio - pad)
        last = np.ceil((low + span - 0.5 - shift) * ratio + pad)
    else:
        shift = 0.5 * (new - own) / own
        first = np.floor((low - 0.5) * ratio - pad)
        last = np.ceil((low + span - 0.5) * ratio + pad)
    first = np.where(first < 0, 0, first)
    last = np.where(last > end, end, last)
    points = np.array(last - first + 1, dtype=int)
    origin = shift + first / ratio
    reach = origin + (points - 1) / ratio
    margin = FAR_MARGIN if interpolator in EXACT else int(size.max())
    start = np.clip(np.floor(origin).astype(int) - margin, 0, size - 1)
    stop = np.clip(np.ceil(reach).astype(int) + margin + 1, start + 1, size)
    return Window(
        "resampled",
        _index(start[::-1]),
        _index(stop[::-1]),
        _triple(new),
        _triple(origin),
        _index(points),
    )


EXACT = ("sitkBSpline", "sitkLinear", "sitkNearestNeighbor")
"""Interpolators evaluated exactly from a crop; any other gets the whole image."""


def _cut_out(
    branch: Branch,
    size: NDArray[np.int_],
    low: NDArray[np.int_],
    span: NDArray[np.int_],
    pad: float,
    spacing: FloatArray,
) -> Window:
    start = np.maximum(low - pad, 0).astype(int)
    stop = np.minimum(low + span + pad, size).astype(int)
    zeros = (0.0, 0.0, 0.0)
    return Window(
        branch, _index(start[::-1]), _index(stop[::-1]), _triple(spacing), zeros, (0, 0, 0)
    )


def _index(values: NDArray[np.int_]) -> Index3:
    return int(values[0]), int(values[1]), int(values[2])


def _triple(values: FloatArray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


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
    """Which continuous indices lie in the image buffer: [-0.5, n - 0.5) on every axis."""
    result = np.ones(index.shape[1:], bool)
    for axis, n in enumerate(shape[::-1]):
        result &= (index[axis] >= -0.5) & (index[axis] < n - 0.5)
    return result


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
    """Indices (4, n) into the coefficients, and weights (4, n), of one axis."""
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
