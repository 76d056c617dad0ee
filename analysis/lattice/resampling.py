"""Fill a lesion's lattice: the image and mask PyRadiomics would have after its own resampling.

Runs in the extraction workers; see `analysis.lattice.window` for why it is more than a crop.
"""

from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name everybody uses
from numpy.typing import NDArray

from mirv.analysis.lattice import interpolation, separable
from mirv.analysis.lattice.points import Frame, continuous_index, inside
from mirv.analysis.lattice.window import MARGIN, NEARLY, Window
from mirv.analysis.model import BoolArray, FloatArray, Geometry, Index3, Mask

UNIT = np.eye(3).tolist()


def _probe(geometry: Geometry) -> Any:
    """One voxel with the geometry of the whole image: enough to ask ITK for coordinates."""
    image = sitk.Image([1, 1, 1], sitk.sitkUInt8)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetDirection(geometry.directions[:, ::-1].ravel().tolist())
    image.SetOrigin(geometry.affine[:3, 3].tolist())
    return image


def fill(
    crop: NDArray[np.generic],
    window: Window,
    geometry: Geometry,
    mask: Mask,
    interpolator: str,
    *,
    ibsi: bool = False,
) -> tuple[Any, Any]:
    """Image and mask on the lattice, as SimpleITK images.

    Parameters
    ----------
    crop : array [slice, row, column]
        The image inside `window`'s box, in the profile's pixel type.
    window : Window
    geometry : Geometry
        Of the whole image.
    mask : Mask
        The lesion in the whole image.
    interpolator : str
        SimpleITK's name, for the image.
    ibsi : bool
        Image values rounded to integers; the mask interpolated linearly and cut at one half,
        instead of its nearest neighbours.

    Returns
    -------
    image, mask : SimpleITK.Image
        The mask is unsigned 8-bit, 1 inside.
    """
    whole = _probe(geometry)
    if window.branch != "resampled":
        corner = _corner(whole, window.start)
        image = _with_geometry(crop, whole, corner, window.spacing)
        cropped = _embedded(mask, window, crop.shape)
        return image, _with_geometry(cropped, whole, corner, window.spacing)
    corner = whole.TransformContinuousIndexToPhysicalPoint(window.origin_index)
    index = continuous_index(_frame(whole, window.spacing, corner), window.size)
    values: NDArray[Any] = _image_values(crop, window, geometry.shape, whole, index, interpolator)
    points: NDArray[Any]
    if ibsi:
        values = np.floor(values + 0.5 + HALF)
        whole_box = _embedded(mask, window, crop.shape).astype(float)
        known = inside(index, geometry.shape)
        points = np.zeros(known.shape, np.uint8)
        part = interpolation.linear_values(whole_box, window.start, geometry.shape, index[:, known])
        points[known] = part >= 0.5 - HALF
    else:
        drawn = mask.values.view(np.uint8)
        points = interpolation.nearest(drawn, mask.start, geometry.shape, index)
    return (
        _with_geometry(values, whole, corner, window.spacing),
        _with_geometry(points, whole, corner, window.spacing),
    )


HALF = 1e-9
"""Slack where halves decide, so that a half in exact arithmetic counts as one."""


def _embedded(mask: Mask, window: Window, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The mask on the window's part of the image grid."""
    drawn = np.zeros(shape, np.uint8)
    at = tuple(
        slice(a - b, a - b + n)
        for a, b, n in zip(mask.start, window.start, mask.values.shape, strict=True)
    )
    drawn[at] = mask.values
    return drawn


def _corner(whole: Any, start: Index3) -> Any:
    return whole.TransformIndexToPhysicalPoint(start[::-1])


def _with_geometry(values: NDArray[np.generic], whole: Any, origin: Any, spacing: Any) -> Any:
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing)
    image.SetDirection(whole.GetDirection())
    image.SetOrigin(origin)
    return image


def _frame(whole: Any, spacing: tuple[float, float, float], corner: Any) -> Frame:
    """ITK's own matrices, read off by mapping the unit vectors."""
    centred = sitk.Image([1, 1, 1], sitk.sitkUInt8)
    centred.SetDirection(whole.GetDirection())
    centred.SetSpacing(whole.GetSpacing())
    inverse = [centred.TransformPhysicalPointToContinuousIndex(unit) for unit in UNIT]
    centred.SetSpacing(spacing)
    forward = [centred.TransformContinuousIndexToPhysicalPoint(unit) for unit in UNIT]
    return Frame(
        np.array(forward).T, np.array(inverse).T, np.array(corner), np.array(whole.GetOrigin())
    )


def _image_values(
    crop: NDArray[np.generic],
    window: Window,
    shape: Index3,
    whole: Any,
    index: FloatArray,
    interpolator: str,
) -> NDArray[np.generic]:
    if interpolator == "sitkNearestNeighbor":
        return interpolation.nearest(crop, window.start, shape, index)
    known = inside(index, shape)
    if interpolator == "sitkLinear":
        found = np.zeros(known.shape)
        at = index[:, known]
        found[known] = interpolation.linear_values(crop.astype(float), window.start, shape, at)
        return _cut_to(found, crop.dtype)
    if interpolator != "sitkBSpline":
        return _cut_to(_interpolate(crop, window, whole, interpolator), crop.dtype)
    near, start = _trim(crop, window, whole.GetSpacing())
    lines = index[0, 0, 0, :], index[1, 0, :, 0], index[2, :, 0, 0]
    found = separable.spline_image(near, start, shape, lines)
    found[~known] = 0.0
    unsure = _unsure(found, crop) & known
    if unsure.any():
        coefficients = sitk.GetArrayFromImage(
            sitk.BSplineDecomposition(sitk.GetImageFromArray(crop.astype(np.float64)))
        )
        at = index[:, unsure]
        found[unsure] = interpolation.spline_values(coefficients, window.start, shape, at)
    return _cut_to(found, crop.dtype)


def _interpolate(
    crop: NDArray[np.generic], window: Window, whole: Any, interpolator: str
) -> FloatArray:
    """SimpleITK's interpolation of the crop, in double precision."""
    corner = _corner(whole, window.start)
    image = _with_geometry(crop.astype(np.float64), whole, corner, whole.GetSpacing())
    resample = sitk.ResampleImageFilter()
    resample.SetOutputSpacing(window.spacing)
    resample.SetOutputDirection(whole.GetDirection())
    resample.SetOutputOrigin(whole.TransformContinuousIndexToPhysicalPoint(window.origin_index))
    resample.SetSize(window.size)
    resample.SetInterpolator(getattr(sitk, interpolator))
    values: FloatArray = sitk.GetArrayFromImage(resample.Execute(image))
    return values


def _trim(
    crop: NDArray[np.generic], window: Window, spacing: tuple[float, float, float]
) -> tuple[NDArray[np.generic], Index3]:
    """Cut the far margin down to the near one; a side at the image border stays."""
    cut, start = [], []
    for axis in range(3):
        itk = 2 - axis
        origin = window.origin_index[itk]
        reach = origin + (window.size[itk] - 1) * window.spacing[itk] / spacing[itk]
        low = max(int(np.floor(origin)) - MARGIN, window.start[axis])
        low = min(low, window.stop[axis] - 1)
        high = min(int(np.ceil(reach)) + MARGIN + 1, window.stop[axis])
        cut.append(slice(low - window.start[axis], max(high - window.start[axis], 1)))
        start.append(low)
    return crop[tuple(cut)], (start[0], start[1], start[2])


def _unsure(values: FloatArray, crop: NDArray[np.generic]) -> BoolArray:
    """Where the crop's rounding noise could step over a boundary of the pixel type."""
    slack = NEARLY * max(1.0, abs(float(crop.max())), abs(float(crop.min())))
    result: BoolArray
    if np.issubdtype(crop.dtype, np.integer):
        result = np.abs(values - np.rint(values)) <= slack
    else:
        result = _cut_to(values - slack, crop.dtype) != _cut_to(values + slack, crop.dtype)
    return result


def _cut_to(values: FloatArray, kind: np.dtype[Any]) -> NDArray[np.generic]:
    """As ITK casts: clamp to the type's range, then towards zero for integers."""
    if np.issubdtype(kind, np.integer):
        limits = np.iinfo(kind)
        return np.clip(values, limits.min, limits.max).astype(kind)
    return values.astype(kind)
