"""Measured intrapatient radiomic variability of Geady et al. 2025 (SPEC R-MIRV-1).

The paper reports the maximum over lesion pairs; its code also has mean, median and standard
deviation (divisor n). The same four serve Euclidean distance and cosine dissimilarity.
"""

import numpy as np

from mirv.analysis.model import FloatArray


def largest(pairs: FloatArray) -> float:
    """MIRV (max): the most divergent pair.

    Parameters
    ----------
    pairs : float64 (n (n - 1) / 2,)
        Distances of the pairs i < j, at least one.
    """
    return float(pairs.max())


def mean(pairs: FloatArray) -> float:
    """MIRV (mean) over the pairs.

    Parameters
    ----------
    pairs : float64 (n (n - 1) / 2,)
        Distances of the pairs i < j, at least one.
    """
    return float(pairs.mean())


def median(pairs: FloatArray) -> float:
    """MIRV (median) over the pairs.

    Parameters
    ----------
    pairs : float64 (n (n - 1) / 2,)
        Distances of the pairs i < j, at least one.
    """
    return float(np.median(pairs))


def sd(pairs: FloatArray) -> float:
    """MIRV (SD) over the pairs, divisor n as in the published code: 0 for a single pair.

    Parameters
    ----------
    pairs : float64 (n (n - 1) / 2,)
        Distances of the pairs i < j, at least one.
    """
    return float(pairs.std())
