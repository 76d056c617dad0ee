"""What a user chooses of an analysis, by the words that commands, tables and spaces use.

Apart from the analyses, so that commands can name a choice without loading what carries it out.
"""

from enum import StrEnum
from typing import Literal


class Scaling(StrEnum):
    """How a feature space scales features (SPEC R-HET-2)."""

    ZSCORE = "zscore"  # mean and SD of a reference cohort
    MINMAX = "minmax"  # minimum and range of a reference cohort, clipped to [0, 1]
    PATIENT_MINMAX = "patient_minmax"  # minimum and range of the patient's own lesions
    NONE = "none"  # as extracted


Fitted = Literal[Scaling.ZSCORE, Scaling.MINMAX]
"""What a cohort can give: centre and scale are frozen with the space."""
FROZEN = (Scaling.ZSCORE, Scaling.MINMAX, Scaling.NONE)
"""Scalings under which values of different patients can be compared."""


class CohortScaling(StrEnum):
    """How `mirv cohort` scales a given list of features: by whom, then how."""

    REFERENCE_MINMAX = "reference_minmax"  # the cohort at hand is the reference
    PATIENT_MINMAX = "patient_minmax"
    REFERENCE_ZSCORE = "reference_zscore"
    NONE = "none"


class ReductionMode(StrEnum):
    """Which reading of the MIRV reduction is carried out (SPEC R-MIRV-2)."""

    PAPER = "paper"  # as the text has it
    CODE_FIXED = "code_fixed"  # as the published program means it
    PUBLISHED_COMPAT = "published_compat"  # as the published program runs


class Population(StrEnum):
    """Whose lesions a space is fitted on (SPEC F8)."""

    ALL = "all"
    MULTIPLE = "multiple"  # of patients with two lesions or more


class TimePoint(StrEnum):
    """Which study of a person counts, where a table holds several."""

    BASELINE = "baseline"  # the first; with an index date the last up to it, else the first after
    LATEST = "latest"
    ALL = "all"


class Aggregate(StrEnum):
    """How the lesions of a patient become one value."""

    MAX = "max"
    MEAN = "mean"
    ANY = "any"  # 1 when any lesion is not 0
    VOLUME_WEIGHTED = "volume_weighted"  # mean, by volume


class Correlation(StrEnum):
    """Which correlation clusters features."""

    PEARSON = "pearson"
    SPEARMAN = "spearman"


class MedianSplit(StrEnum):
    """On which side of a median split the median itself falls."""

    HIGH = ">="
    LOW = ">"


class MissingLater(StrEnum):
    """What an empty later volume of a lesion means."""

    UNKNOWN = "unknown"
    VANISHED = "vanished"
    AS_PUBLISHED = "as_published"  # unknown, and the patient is not complete
