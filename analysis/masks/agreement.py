"""Agreement of two segmentations of one lesion (SPEC R-SEGM-1)."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt

from mirv.analysis.model import BoolArray, FloatArray, Geometry, Mask

TAU_MM = 1.18
"""Tolerance of the surface DSC used by Primakov et al. 2022."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well two masks agree.

    Attributes
    ----------
    dsc, jaccard : float
        1 when both masks are empty (see `both_empty`), 0 when one is.
    hausdorff_mm, hausdorff95_mm : float
        Largest, and larger of the two directed 95th percentiles of surface distances; infinite
        when one mask is empty, 0 when both are.
    surface_dsc : float
        Share of both surfaces that lies within `tau_mm` of the other.
    tau_mm : float
    added_path_cm : float
        Length of the reference's in-plane contour that the other does not have.
    both_empty : bool
    """

    dsc: float
    jaccard: float
    hausdorff_mm: float
    hausdorff95_mm: float
    surface_dsc: float
    tau_mm: float
    added_path_cm: float
    both_empty: bool = False


def agreement(
    found: Mask, reference: Mask, geometry: Geometry, *, tau_mm: float = TAU_MM
) -> Agreement:
    """Compare a segmentation with a reference on the same grid.

    Surfaces are the voxels with one of their six neighbours outside; distances run between
    voxel centres in mm.

    Parameters
    ----------
    found, reference : Mask
        On one grid.
    geometry : Geometry
    tau_mm : float
        Distance up to which surfaces agree.

    Raises
    ------
    ValueError
        The grids differ.
    """
    if found.grid_shape != reference.grid_shape:
        raise ValueError(f"grids {found.grid_shape} and {reference.grid_shape} differ")
    if found.n_voxels == 0 or reference.n_voxels == 0:
        return _with_empty(found, reference, geometry, tau_mm)
    a, b = _common_box(found, reference)
    shared = int(np.count_nonzero(a & b))
    total = found.n_voxels + reference.n_voxels
    surface_a, surface_b = _surface(a), _surface(b)
    spacing = geometry.spacing
    from_a: FloatArray = distance_transform_edt(~surface_b, sampling=spacing)[surface_a]
    from_b: FloatArray = distance_transform_edt(~surface_a, sampling=spacing)[surface_b]
    near = np.count_nonzero(from_a <= tau_mm) + np.count_nonzero(from_b <= tau_mm)
    return Agreement(
        dsc=2 * shared / total,
        jaccard=shared / (total - shared),
        hausdorff_mm=float(max(from_a.max(), from_b.max())),
        hausdorff95_mm=float(max(np.percentile(from_a, 95), np.percentile(from_b, 95))),
        surface_dsc=float(near / (len(from_a) + len(from_b))),
        tau_mm=tau_mm,
        added_path_cm=_added_path_cm(a, b, geometry),
    )


def preference_score(n_preferred: int, n_shown: int) -> float:
    """``100 * n_preferred / n_shown`` in percent.

    Parameters
    ----------
    n_preferred, n_shown : int

    Raises
    ------
    ValueError
        Nothing shown, or more preferred than shown.
    """
    if not 0 <= n_preferred <= n_shown or n_shown == 0:
        raise ValueError(f"{n_preferred} of {n_shown} shown: wanted 0 to all of at least 1")
    return 100.0 * n_preferred / n_shown


def _with_empty(found: Mask, reference: Mask, geometry: Geometry, tau_mm: float) -> Agreement:
    if found.n_voxels == reference.n_voxels:
        return Agreement(1.0, 1.0, 0.0, 0.0, 1.0, tau_mm, 0.0, both_empty=True)
    path = 0.0
    if reference.n_voxels:
        path = _added_path_cm(np.zeros_like(reference.values), reference.values, geometry)
    return Agreement(0.0, 0.0, np.inf, np.inf, 0.0, tau_mm, path)


def _common_box(first: Mask, second: Mask) -> tuple[BoolArray, BoolArray]:
    """Both masks in the smallest box that holds both."""
    low = np.minimum(first.start, second.start)
    ends = [np.add(mask.start, mask.values.shape) for mask in (first, second)]
    shape = np.maximum(*ends) - low
    boxes = []
    for mask in (first, second):
        box = np.zeros(shape, bool)
        at = np.subtract(mask.start, low)
        box[tuple(slice(s, s + n) for s, n in zip(at, mask.values.shape, strict=True))] = (
            mask.values
        )
        boxes.append(box)
    return boxes[0], boxes[1]


def _surface(mask: BoolArray) -> BoolArray:
    result: BoolArray = mask & ~binary_erosion(mask)
    return result


def _contour(mask: BoolArray) -> BoolArray:
    """Pixels of each slice with one of their four in-plane neighbours outside."""
    cross = np.zeros((3, 3, 3), bool)
    cross[1, 1, :] = cross[1, :, 1] = True
    result: BoolArray = mask & ~binary_erosion(mask, structure=cross)
    return result


def _added_path_cm(found: BoolArray, reference: BoolArray, geometry: Geometry) -> float:
    """Contour pixels of the reference that are not on the other contour, times the pixel size."""
    added = np.count_nonzero(_contour(reference) & ~_contour(found))
    _, row_mm, column_mm = geometry.spacing
    return float(added * (row_mm + column_mm) / 2 / 10.0)
