"""Masks a millimetre larger or smaller, in physical distance."""

import numpy as np

from mirv.analysis.model import BoolArray


def ball(spacing: tuple[float, float, float], radius_mm: float) -> BoolArray:
    """Voxels whose centre is within `radius_mm` of the middle one.

    At 1 mm spacing and radius this is the cross of the six face neighbours.

    Parameters
    ----------
    spacing : (slice, row, column) mm
    radius_mm : float

    Returns
    -------
    bool array, odd in every dimension
    """
    reach = [int(np.floor(radius_mm / mm + 1e-9)) for mm in spacing]
    axes = [np.arange(-n, n + 1) * mm for n, mm in zip(reach, spacing, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    result: BoolArray = z**2 + y**2 + x**2 <= radius_mm**2 * (1 + 1e-9)
    return result


def dilate(mask: BoolArray, element: BoolArray) -> BoolArray:
    """Every voxel reached from the mask by the (symmetric) element; the array's border cuts.

    Parameters
    ----------
    mask : bool [slice, row, column]
    element : bool [slice, row, column]
        Odd along every axis, its middle the voxel itself.

    Returns
    -------
    bool [slice, row, column]
        As large as `mask`.
    """
    reach = [n // 2 for n in element.shape]
    padded = np.pad(mask, [(n, n) for n in reach])
    result = np.zeros_like(mask)
    for offset in np.argwhere(element):
        at = tuple(slice(o, o + n) for o, n in zip(offset, mask.shape, strict=True))
        result |= padded[at]
    return result


def erode(mask: BoolArray, element: BoolArray) -> BoolArray:
    """Every voxel whose whole neighbourhood lies in the mask; beyond the array counts as outside
    the lesion.

    Parameters
    ----------
    mask : bool [slice, row, column]
    element : bool [slice, row, column]
        Odd along every axis, its middle the voxel itself.

    Returns
    -------
    bool [slice, row, column]
        As large as `mask`.
    """
    reach = [n // 2 for n in element.shape]
    outside = np.pad(~mask, [(n, n) for n in reach], constant_values=True)
    grown = dilate(outside, element)
    inner = tuple(slice(n, n + m) for n, m in zip(reach, mask.shape, strict=True))
    result: BoolArray = ~grown[inner]
    return result
