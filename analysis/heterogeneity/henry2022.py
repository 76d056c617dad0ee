"""Heterogeneity indices of Henry et al. 2022 (SPEC R-HET-1).

Maximal tumoral divergence (MTD) and average tumoral heterogeneity (ATH) summarise the cosine
distances between a patient's lesions. The paper does not say whether ATH averages over pairs or
over the whole matrix with its zero diagonal; its Table 3 fits the matrix (SPEC F3), so both are
computed and named apart: ``ath_matrix = (n - 1) / n * ath_pairs``.
"""

import math

from mirv.analysis.heterogeneity.distances import Sums
from mirv.analysis.model import FloatArray


def mtd(pairs: FloatArray) -> float:
    """Maximal tumoral divergence: the largest distance of `pairs` (the distances i < j).

    Parameters
    ----------
    pairs : float64 (n (n - 1) / 2,)
        Distances of the pairs i < j, at least one.
    """
    return float(pairs.max())


def ath_pairs(pairs: FloatArray) -> float:
    """Mean distance over the pairs i < j.

    Parameters
    ----------
    pairs : float64 (n (n - 1) / 2,)
        Distances of the pairs i < j, at least one.
    """
    return float(pairs.mean())


def ath_matrix(pairs: FloatArray) -> float:
    """Mean over the whole n x n matrix, zero diagonal included.

    Parameters
    ----------
    pairs : float64 (n (n - 1) / 2,)
        Distances of the pairs i < j, at least one.
    """
    n = n_from_pairs(pairs)
    return float(2.0 * pairs.sum() / n**2)


def mtd_from_sums(sums: Sums) -> FloatArray:
    """`mtd` of each sample."""
    return sums.largest


def ath_pairs_from_sums(sums: Sums) -> FloatArray:
    """`ath_pairs` of each sample."""
    result: FloatArray = 2 * sums.total / (sums.m * (sums.m - 1))
    return result


def ath_matrix_from_sums(sums: Sums) -> FloatArray:
    """`ath_matrix` of each sample."""
    result: FloatArray = 2 * sums.total / sums.m**2
    return result


def n_from_pairs(pairs: FloatArray) -> int:
    """How many lesions have `pairs` distances: solves n (n - 1) / 2 = len(pairs).

    Parameters
    ----------
    pairs : float64 (n (n - 1) / 2,)
    """
    return (1 + math.isqrt(1 + 8 * len(pairs))) // 2
