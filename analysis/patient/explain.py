"""Why a patient is heterogeneous: the pair that sets an index, feature by feature (R-EXP-1)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirv.analysis.errors import Unsuitable
from mirv.analysis.heterogeneity import distances
from mirv.analysis.model import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """The most divergent pair of a distance, and each feature's share in it.

    Attributes
    ----------
    first, second : int
        Positions of the two lesions.
    value : float
        Their distance.
    shares : float64 (n_features,)
        Sum to 1 (both distances; cosine: of the similarity, see `cosine_shares`).
    """

    first: int
    second: int
    value: float
    shares: FloatArray


def euclidean_shares(a: FloatArray, b: FloatArray) -> FloatArray:
    """Each feature's part of the squared distance; sums to 1, zeros for equal vectors.

    Parameters
    ----------
    a, b : float64 (n_features,)
        Scaled.

    Returns
    -------
    float64 (n_features,)
    """
    squared = (a - b) ** 2
    total = squared.sum()
    return squared / total if total > 0 else np.zeros_like(squared)


def cosine_terms(a: FloatArray, b: FloatArray) -> FloatArray:
    """Each feature's term of the cosine: their sum is the cosine, 1 minus it the distance.

    Parameters
    ----------
    a, b : float64 (n_features,)
        Scaled, neither of them zero.

    Returns
    -------
    float64 (n_features,)
    """
    result: FloatArray = (a / np.linalg.norm(a)) * (b / np.linalg.norm(b))
    return result


def cosine_shares(a: FloatArray, b: FloatArray) -> FloatArray:
    """Each feature's part of the cosine distance; never negative, sums to 1.

    ``1 - cos`` equals half the squared distance of the unit vectors, which splits by feature
    where the terms of the cosine can have either sign.

    Parameters
    ----------
    a, b : float64 (n_features,)
        Scaled, neither of them zero.

    Returns
    -------
    float64 (n_features,)
    """
    return euclidean_shares(a / np.linalg.norm(a), b / np.linalg.norm(b))


def furthest_pair(vectors: FloatArray, distance: str = "cosine") -> Explanation:
    """The pair of lesions furthest apart and what sets them apart.

    Parameters
    ----------
    vectors : float64 (n, n_features), scaled
    distance : {"cosine", "euclidean"}

    Raises
    ------
    Unsuitable
        No pair has a distance.
    """
    between = distances(vectors)
    matrix = between.cosine if distance == "cosine" else between.euclidean
    upper = np.where(np.tri(len(matrix), dtype=bool), np.nan, matrix)
    if np.isnan(upper).all():
        raise Unsuitable("too_few_lesions", "no pair of lesions has a distance, wanted at least 1")
    first, second = np.unravel_index(int(np.nanargmax(upper)), upper.shape)
    split = cosine_shares if distance == "cosine" else euclidean_shares
    return Explanation(
        int(first),
        int(second),
        float(matrix[first, second]),
        split(vectors[first], vectors[second]),
    )


def leave_one_out(
    vectors: FloatArray, index: Callable[[FloatArray], float], distance: str = "cosine"
) -> FloatArray:
    """Change of an index when each lesion is left out: without it minus with it.

    Parameters
    ----------
    index : callable
        Takes the distances of the pairs, as in ``analysis.heterogeneity.METRICS``.

    Returns
    -------
    float64 (n,)
        NaN where fewer than two lesions with a distance remain.
    """
    between = distances(vectors)
    matrix = between.cosine if distance == "cosine" else between.euclidean
    present = np.flatnonzero(
        between.directed if distance == "cosine" else np.ones(len(matrix), bool)
    )

    def value(rows: NDArray[np.intp]) -> float:
        pairs = matrix[np.ix_(rows, rows)][np.triu_indices(len(rows), 1)]
        return index(pairs) if pairs.size else float("nan")

    whole = value(present)
    changes = [value(present[present != row]) - whole for row in range(len(matrix))]
    return np.array(changes)
