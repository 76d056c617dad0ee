"""Which features survive a millimetre more or less of mask (R-CCC-1, R-CCC-2).

Masks are perturbed on the analysis grid with a Euclidean ball; a feature is kept when Lin's
concordance with the original stays at or above a threshold for the eroded *and* the dilated mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirv.analysis.errors import Reason
from mirv.analysis.model import FloatArray

KEEP_AT = 0.8
"""Lin's concordance at which a feature is kept (Henry et al. 2022: dropped *below* 0.8)."""

FEWEST = 10
"""Lesions a concordance needs to be stated at all."""


def concordance(x: FloatArray, y: FloatArray) -> float:
    """Lin's concordance correlation coefficient with 1/n moments (Lin 1989; R-CCC-1).

    Two constant, equal samples agree fully (1); constant and different ones not at all (0).

    Parameters
    ----------
    x, y : float64 (n,)
        All finite, at least one; row by row the same lesion.

    Returns
    -------
    float
        -1 to 1.
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
