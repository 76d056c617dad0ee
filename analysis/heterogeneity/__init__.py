"""Patient-level heterogeneity: every index is one pure function and one entry in METRICS.

`METRICS` is the one place that knows the indices: names, titles, units, which of them a paper
reports and where they are shown. Reports, tables, pages, figures and the methods page follow it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from mirv.analysis.choices import FROZEN, Scaling
from mirv.analysis.heterogeneity import henry2022, mirv2025
from mirv.analysis.heterogeneity.distances import Distances, Sums, distances
from mirv.analysis.model import FloatArray

_PERCENTILE = "_percentile"
_ANY = (*FROZEN, Scaling.PATIENT_MINMAX)


class IndexSet(StrEnum):
    """Where an index comes from."""

    HENRY = "Henry 2022"  # also: leave-one-out in ``mirv cohort henry``
    MIRV = "MIRV 2025"
    OWN = "this node"  # no paper reports it


@dataclass(frozen=True, slots=True)
class Term:
    """A concept of a public coding scheme, as text."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class FromSums:
    """How an index follows from largest distance and sum of distances of m lesions.

    Sampling needs it: of thousands of samples only these two are computed.

    Attributes
    ----------
    index : callable
        Takes `Sums` of m of at least 2 lesions, gives the index of each sample.
    linear : bool
        In the sum alone, so that its mean over all possible samples is known exactly.
    """

    index: Callable[[Sums], FloatArray]
    linear: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """An index over a patient's lesion pairs.

    Attributes
    ----------
    name : str
        Column name in ``patients.csv``.
    title : str
        For people: meaning of the SR's concept, line of the PDF.
    definition : str
        Formula on the methods page, D_ij being the cosine distance of lesions i and j, and z
        their scaled features.
    index_set : IndexSet
    distance : ``"cosine"`` or ``"euclidean"``
    summarise : callable
        Takes the distances of the pairs i < j (at least one), gives the index.
    scalings : tuple of Scaling
        Scalings the index is defined for; elsewhere it is null with a reason.
    unit : str
        UCUM.
    code : Term, optional
        Concept of a public scheme; none: the node's own scheme, by name and title.
    narrow_title : str
        Title where there is little room; empty: the title.
    abbreviation : str
        In legends of figures; empty: the title.
    published : bool
        A paper reports it: shown when a revision changes it, and by the demo.
    headline : bool
        Stands in the headline report too.
    percentile : bool
        The patient's place among the reference cohort of a frozen space is given too.
    set_by_a_pair : bool
        One pair of lesions sets it: the patient report names the two.
    sums : FromSums, optional
        Sampling recovers the index when it is given (cosine only).
    """

    name: str
    title: str
    definition: str
    index_set: IndexSet
    distance: Literal["cosine", "euclidean"]
    summarise: Callable[[FloatArray], float]
    scalings: tuple[Scaling, ...] = FROZEN
    unit: str = "1"
    code: Term | None = None
    narrow_title: str = ""
    abbreviation: str = ""
    published: bool = False
    headline: bool = False
    percentile: bool = False
    set_by_a_pair: bool = False
    sums: FromSums | None = None

    def pairs(self, between: Distances) -> FloatArray:
        """The distances this index summarises.

        Parameters
        ----------
        between : Distances
            Of n lesions.

        Returns
        -------
        float64 (at most n (n - 1) / 2,)
            Those of the pairs i < j that have one.
        """
        return between.cosine_pairs if self.distance == "cosine" else between.euclidean_pairs


METRICS: tuple[Metric, ...] = (
    Metric(
        name="mtd",
        title="Maximum tumoral dissimilarity",
        definition="max over i < j of D_ij",
        index_set=IndexSet.HENRY,
        distance="cosine",
        summarise=henry2022.mtd,
        scalings=_ANY,
        abbreviation="MTD",
        published=True,
        headline=True,
        percentile=True,
        set_by_a_pair=True,
        sums=FromSums(henry2022.mtd_from_sums, linear=False),
    ),
    Metric(
        name="ath_pairs",
        title="Average tumoral heterogeneity over pairs",
        definition="2 / (n (n - 1)) * sum over i < j of D_ij",
        index_set=IndexSet.HENRY,
        distance="cosine",
        summarise=henry2022.ath_pairs,
        scalings=_ANY,
        abbreviation="ATH (pairs)",
        published=True,
        headline=True,
        sums=FromSums(henry2022.ath_pairs_from_sums, linear=True),
    ),
    Metric(
        name="ath_matrix",
        title="Average tumoral heterogeneity over the matrix",
        definition="1 / n^2 * sum over all i, j of D_ij = (n - 1) / n * ath_pairs",
        index_set=IndexSet.HENRY,
        distance="cosine",
        summarise=henry2022.ath_matrix,
        scalings=_ANY,
        # "over the matrix, percentile" would run into the first column of the PDF.
        narrow_title="Average tumoral heterogeneity (matrix)",
        abbreviation="ATH (matrix)",
        published=True,
        percentile=True,
        sums=FromSums(henry2022.ath_matrix_from_sums, linear=True),
    ),
    Metric(
        name="mirv_distance_max",
        title="Inter-lesion distance, maximum",
        definition="max over i < j of |z_i - z_j|",
        index_set=IndexSet.MIRV,
        distance="euclidean",
        summarise=mirv2025.largest,
        published=True,
        headline=True,
        percentile=True,
        set_by_a_pair=True,
    ),
    Metric(
        name="mirv_distance_mean",
        title="Inter-lesion distance, mean",
        definition="mean over i < j of |z_i - z_j|",
        index_set=IndexSet.MIRV,
        distance="euclidean",
        summarise=mirv2025.mean,
    ),
    Metric(
        name="mirv_distance_median",
        title="Inter-lesion distance, median",
        definition="median over i < j of |z_i - z_j|",
        index_set=IndexSet.MIRV,
        distance="euclidean",
        summarise=mirv2025.median,
    ),
    Metric(
        name="mirv_distance_sd",
        title="Inter-lesion distance, SD",
        definition="standard deviation (divisor: pairs) over i < j of |z_i - z_j|",
        index_set=IndexSet.MIRV,
        distance="euclidean",
        summarise=mirv2025.sd,
    ),
    Metric(
        name="mirv_dissimilarity_max",
        title="Inter-lesion dissimilarity, maximum",
        definition="max over i < j of D_ij",
        index_set=IndexSet.MIRV,
        distance="cosine",
        summarise=mirv2025.largest,
        published=True,
        headline=True,
        percentile=True,
        set_by_a_pair=True,
    ),
    Metric(
        name="mirv_dissimilarity_mean",
        title="Inter-lesion dissimilarity, mean",
        definition="mean over i < j of D_ij",
        index_set=IndexSet.MIRV,
        distance="cosine",
        summarise=mirv2025.mean,
    ),
    Metric(
        name="mirv_dissimilarity_median",
        title="Inter-lesion dissimilarity, median",
        definition="median over i < j of D_ij",
        index_set=IndexSet.MIRV,
        distance="cosine",
        summarise=mirv2025.median,
    ),
    Metric(
        name="mirv_dissimilarity_sd",
        title="Inter-lesion dissimilarity, SD",
        definition="standard deviation (divisor: pairs) over i < j of D_ij",
        index_set=IndexSet.MIRV,
        distance="cosine",
        summarise=mirv2025.sd,
    ),
)


def percentile_name(metric: Metric) -> str:
    """Name of the patient's place among a reference cohort by this index."""
    return f"{metric.name}{_PERCENTILE}"


def metric_of(name: str) -> tuple[Metric | None, bool]:
    """The index a measure is, or is the percentile of.

    Returns
    -------
    metric : Metric or None
        None: the measure is no index.
    is_percentile : bool
    """
    base = name.removesuffix(_PERCENTILE)
    found = next((metric for metric in METRICS if metric.name == base), None)
    return found, base != name


__all__ = [
    "METRICS",
    "Distances",
    "FromSums",
    "IndexSet",
    "Metric",
    "Sums",
    "Term",
    "distances",
    "metric_of",
    "percentile_name",
]
