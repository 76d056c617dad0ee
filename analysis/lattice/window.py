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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mirv.analysis.model import FloatArray, Geometry, Index3

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
    geometry: Geometry,
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
    geometry : Geometry
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
    size = np.array(geometry.shape[::-1])
    low = np.array(box_start[::-1])
    span = np.array(box_shape[::-1])
    own = np.array(geometry.spacing[::-1])
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
