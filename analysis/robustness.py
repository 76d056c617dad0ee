"""Which features survive a millimetre more or less of mask (R-CCC-1, R-CCC-2).

Masks are perturbed on the analysis grid with a Euclidean ball; a feature is kept when Lin's
concordance with the original stays at or above a threshold for the eroded *and* the dilated mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.errors import Reason
from analysis.model import BoolArray, FloatArray

KEEP_AT = 0.8
"""Lin's concordance at which a feature is kept (Henry et al. 2022: dropped *below* 0.8)."""

FEWEST = 10
"""Lesions a concordance needs to be stated at all."""


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
    """Every voxel reached from the mask by the (symmetric) element; the array's border cuts."""
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
    """
    reach = [n // 2 for n in element.shape]
    outside = np.pad(~mask, [(n, n) for n in reach], constant_values=True)
    grown = dilate(outside, element)
    inner = tuple(slice(n, n + m) for n, m in zip(reach, mask.shape, strict=True))
    result: BoolArray = ~grown[inner]
    return result


def concordance(x: FloatArray, y: FloatArray) -> float:
    """Lin's concordance correlation coefficient with 1/n moments (Lin 1989; R-CCC-1).

    Two constant, equal samples agree fully (1); constant and different ones not at all (0).
    """
    if np.array_equal(x, y):
        return 1.0
    mean_x, mean_y = float(np.mean(x)), float(np.mean(y))
    covariance = float(np.mean((x - mean_x) * (y - mean_y)))
    spread = float(np.var(x) + np.var(y) + (mean_x - mean_y) ** 2)
    return 2.0 * covariance / spread if spread > 0.0 else 1.0


@dataclass(frozen=True, slots=True)
class Robustness:
    """What perturbing the masks does to one feature.

    Attributes
    ----------
    feature : str
    eroded, dilated : float or None
        Lin's concordance with the original mask; None with too few lesions.
    n_eroded, n_dilated : int
        Lesions with a value for both masks.
    kept : bool
    reason : Reason or None
        Why it is not kept.
    """

    feature: str
    eroded: float | None
    dilated: float | None
    n_eroded: int
    n_dilated: int
    kept: bool
    reason: Reason | None


def judge(
    names: Sequence[str],
    original: FloatArray,
    eroded: FloatArray,
    dilated: FloatArray,
    *,
    keep_at: float = KEEP_AT,
    fewest: int = FEWEST,
) -> tuple[Robustness, ...]:
    """Apply the keep rule to every feature.

    Parameters
    ----------
    names : sequence of str
    original, eroded, dilated : float64 (lesions, features)
        NaN where a mask gave no value: such a lesion is left out pairwise and counted.
    keep_at : float
        Kept when both concordances reach it.
    fewest : int
        Lesions either concordance needs.

    Returns
    -------
    tuple of Robustness, in the order of `names`
    """
    found = []
    for at, name in enumerate(names):
        ccc_e, n_e = _paired(original[:, at], eroded[:, at], fewest)
        ccc_d, n_d = _paired(original[:, at], dilated[:, at], fewest)
        reason = _why_not(ccc_e, ccc_d, min(n_e, n_d), keep_at, fewest)
        found.append(Robustness(name, ccc_e, ccc_d, n_e, n_d, reason is None, reason))
    return tuple(found)


def _paired(x: FloatArray, y: FloatArray, fewest: int) -> tuple[float | None, int]:
    both: NDArray[np.bool_] = np.isfinite(x) & np.isfinite(y)
    n = int(both.sum())
    return (concordance(x[both], y[both]) if n >= fewest else None), n


def _why_not(
    eroded: float | None, dilated: float | None, n: int, keep_at: float, fewest: int
) -> Reason | None:
    if eroded is None or dilated is None:
        return Reason("too_few_lesions", f"found {n} lesions with both masks, wanted {fewest}")
    lower = min(eroded, dilated)
    if lower < keep_at:
        which = "eroded" if eroded <= dilated else "dilated"
        return Reason(
            "not_robust", f"found concordance {lower:.3f} with the {which} mask, wanted {keep_at:g}"
        )
    return None
