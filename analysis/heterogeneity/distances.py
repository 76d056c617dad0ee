"""Distances between lesions in a scaled feature space: the ground both papers stand on."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import pdist, squareform

from mirv.analysis.model import BoolArray, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Distances:
    """All pairwise distances of n lesions.

    Attributes
    ----------
    cosine : float64 (n, n)
        ``1 - cos``: 0 for one direction, 1 for a right angle, 2 for opposite directions.
        NaN in the row and column of a zero vector, which has no direction.
    euclidean : float64 (n, n)
        In units of the scaled features.
    directed : bool (n,)
        False for a zero vector.
    """

    cosine: FloatArray
    euclidean: FloatArray
    directed: BoolArray

    @property
    def cosine_pairs(self) -> FloatArray:
        """Cosine distances of the pairs i < j that have one."""
        return upper(self.cosine[np.ix_(self.directed, self.directed)])

    @property
    def euclidean_pairs(self) -> FloatArray:
        """Euclidean distances of the pairs i < j."""
        return upper(self.euclidean)


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """What is kept of the pairs of many samples, each of `m` lesions.

    Attributes
    ----------
    largest, total : float64, one value a sample
        Largest distance and sum of distances over the pairs i < j.
    m : int
        At least 2.
    """

    largest: FloatArray
    total: FloatArray
    m: int


def upper(matrix: FloatArray) -> FloatArray:
    """The entries i < j of a square matrix, row by row.

    Parameters
    ----------
    matrix : float64 (n, n)

    Returns
    -------
    float64 (n (n - 1) / 2,)
    """
    values: FloatArray = matrix[np.triu_indices(matrix.shape[0], k=1)]
    return values


def distances(vectors: FloatArray) -> Distances:
    """Pairwise cosine and Euclidean distances.

    Parameters
    ----------
    vectors : float64 (n_lesions, n_features)
        Scaled features, all finite.
    """
    norms = np.linalg.norm(vectors, axis=1)
    directed = norms > 0
    cosine = np.full((len(vectors), len(vectors)), np.nan)
    units = vectors[directed] / norms[directed, None]
    # Rounding alone can leave [0, 2]; nothing else is clamped.
    inner = np.clip(1.0 - units @ units.T, 0.0, 2.0)
    np.fill_diagonal(inner, 0.0)
    cosine[np.ix_(directed, directed)] = (inner + inner.T) / 2
    euclidean = squareform(pdist(vectors)) if len(vectors) > 1 else np.zeros((len(vectors),) * 2)
    return Distances(cosine, euclidean, directed)
