"""Patient-level heterogeneity: every index is one pure function and one entry in METRICS."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from analysis.heterogeneity import henry2022, mirv2025
from analysis.heterogeneity.distances import Distances, distances
from analysis.model import FloatArray

Scaling = Literal["zscore", "minmax", "patient_minmax", "none"]
FROZEN: tuple[Scaling, ...] = ("zscore", "minmax", "none")


@dataclass(frozen=True, slots=True)
class Metric:
    """An index over a patient's lesion pairs.

    Attributes
    ----------
    name : str
        Column name in ``patients.csv``.
    distance : ``"cosine"`` or ``"euclidean"``
    summarise : callable
        Takes the distances of the pairs i < j (at least one), gives the index.
    scalings : tuple of str
        Scalings the index is defined for; elsewhere it is null with a reason.
    """

    name: str
    distance: Literal["cosine", "euclidean"]
    summarise: Callable[[FloatArray], float]
    scalings: tuple[Scaling, ...]

    def pairs(self, between: Distances) -> FloatArray:
        """The distances this index summarises."""
        return between.cosine_pairs if self.distance == "cosine" else between.euclidean_pairs


METRICS: tuple[Metric, ...] = (
    Metric("mtd", "cosine", henry2022.mtd, (*FROZEN, "patient_minmax")),
    Metric("ath_pairs", "cosine", henry2022.ath_pairs, (*FROZEN, "patient_minmax")),
    Metric("ath_matrix", "cosine", henry2022.ath_matrix, (*FROZEN, "patient_minmax")),
    Metric("mirv_distance_max", "euclidean", mirv2025.largest, FROZEN),
    Metric("mirv_distance_mean", "euclidean", mirv2025.mean, FROZEN),
    Metric("mirv_distance_median", "euclidean", mirv2025.median, FROZEN),
    Metric("mirv_distance_sd", "euclidean", mirv2025.sd, FROZEN),
    Metric("mirv_dissimilarity_max", "cosine", mirv2025.largest, FROZEN),
    Metric("mirv_dissimilarity_mean", "cosine", mirv2025.mean, FROZEN),
    Metric("mirv_dissimilarity_median", "cosine", mirv2025.median, FROZEN),
    Metric("mirv_dissimilarity_sd", "cosine", mirv2025.sd, FROZEN),
)

__all__ = ["FROZEN", "METRICS", "Distances", "Metric", "Scaling", "distances"]
