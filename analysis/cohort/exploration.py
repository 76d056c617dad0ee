"""First looks at a feature table (SPEC R-RES-1), and lesions to patient (R-AGG-1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from mirv.analysis.choices import Aggregate
from mirv.analysis.errors import Unsuitable
from mirv.analysis.model import BoolArray, FloatArray
from mirv.analysis.tables import numeric

VOLUME_SURROGATE = 0.75
"""|rho| with volume above which a feature is flagged as a surrogate of it."""


@dataclass(frozen=True, slots=True)
class Roc:
    """How one feature tells two classes apart.

    Attributes
    ----------
    auc : float
        From ranks, exact; at least 0.5 in the stated `direction`.
    direction : {"higher", "lower"}
        Whether higher or lower values speak for the positive class.
    low, high : float
        95 % bootstrap limits (both classes resampled apart).
    threshold, youden : float
        Cut with the largest sensitivity + specificity - 1: at or beyond it is positive.
    sensitivity, specificity : float
        At the threshold.
    """

    auc: float
    direction: Literal["higher", "lower"]
    low: float
    high: float
    threshold: float
    youden: float
    sensitivity: float
    specificity: float


def auc(values: FloatArray, positive: BoolArray) -> float:
    """Area under the ROC curve from ranks: P(positive > negative) + P(equal) / 2.

    Parameters
    ----------
    values : float64 (n,)
        All finite.
    positive : bool (n,)
        At least one of each class.

    Returns
    -------
    float
        0 to 1; 0.5 tells nothing apart.
    """
    n, m = int(positive.sum()), int((~positive).sum())
    ranks = stats.rankdata(values, axis=-1)
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def roc(values: FloatArray, positive: BoolArray, *, n_bootstrap: int = 2000, seed: int = 0) -> Roc:
    """Univariate ROC analysis.

    Parameters
    ----------
    values : float64 (n,), all finite
    positive : bool (n,)

    Raises
    ------
    Unsuitable
        One of the classes is empty.
    """
    n, m = int(positive.sum()), int((~positive).sum())
    if not (n and m):
        raise Unsuitable("one_class", f"found {n} positive and {m} negative rows, wanted both")
    plain = auc(values, positive)
    sign = 1.0 if plain >= 0.5 else -1.0
    scores = sign * values
    low, high = _bootstrap(scores[positive], scores[~positive], n_bootstrap, seed)
    cuts = np.unique(scores)
    sensitivity = 1 - np.searchsorted(np.sort(scores[positive]), cuts, side="left") / n
    specificity = np.searchsorted(np.sort(scores[~positive]), cuts, side="left") / m
    youden = sensitivity + specificity - 1
    best = int(youden.argmax())
    return Roc(
        auc=plain if sign > 0 else 1 - plain,
        direction="higher" if sign > 0 else "lower",
        low=low,
        high=high,
        threshold=float(sign * cuts[best]),
        youden=float(youden[best]),
        sensitivity=float(sensitivity[best]),
        specificity=float(specificity[best]),
    )


def _bootstrap(
    positive: FloatArray, negative: FloatArray, n_bootstrap: int, seed: int
) -> tuple[float, float]:
    random = np.random.default_rng(seed)
    n, m = len(positive), len(negative)
    drawn = np.hstack(
        [
            positive[random.integers(0, n, (n_bootstrap, n))],
            negative[random.integers(0, m, (n_bootstrap, m))],
        ]
    )
    ranks = stats.rankdata(drawn, axis=1)
    areas = (ranks[:, :n].sum(axis=1) - n * (n + 1) / 2) / (n * m)
    low, high = np.percentile(areas, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True, slots=True, eq=False)
class Cleaned:
    """A feature table without columns that carry nothing.

    Attributes
    ----------
    table : DataFrame of float, no NaN
    dropped : DataFrame
        ``feature, reason``.
    """

    table: pd.DataFrame
    dropped: pd.DataFrame


def clean(table: pd.DataFrame, features: Sequence[str]) -> Cleaned:
    """Drop features with a missing value or the same value everywhere, and say which.

    Parameters
    ----------
    table : DataFrame (n_lesions, any)
    features : sequence of str
        Its columns to look at.

    Raises
    ------
    Unsuitable
        A column is not there, or a cell is no number.
    """
    found = numeric(table, features, missing_allowed=True)
    dropped, kept = [], []
    for name in features:
        column = found[name].to_numpy()
        missing = int(np.isnan(column).sum())
        if missing:
            row = int(np.flatnonzero(np.isnan(column))[0]) + 1
            dropped.append((name, f"missing_value: {missing} row(s), the first {row}"))
        elif np.ptp(column) == 0:
            dropped.append((name, "constant_feature: the same in every row"))
        else:
            kept.append(name)
    return Cleaned(found[kept], pd.DataFrame(dropped, columns=["feature", "reason"]))


def two_classes(
    outcome: "pd.Series[str]", pair: tuple[str, str] | None
) -> tuple[BoolArray, BoolArray]:
    """Which rows take part, and which of them are positive.

    Parameters
    ----------
    outcome : Series of str
    pair : (negative, positive) or None
        Needed when the outcome has more than two classes; else the second in the alphabet is
        positive.

    Returns
    -------
    taking_part : bool (n_rows,)
    positive : bool (number taking part,)

    Raises
    ------
    Unsuitable
        More or fewer than two classes, one of them twice, or a class that is not there.
    """
    text = outcome.astype("string")
    levels = sorted({str(level) for level in text.dropna()})
    if pair is None:
        if len(levels) != 2:
            raise Unsuitable(
                "not_two_classes",
                f"column {outcome.name!r} has {len(levels)} classes ({', '.join(levels[:5])}), "
                "wanted 2: choose a pair",
            )
        pair = (levels[0], levels[1])
    if pair[0] == pair[1]:
        raise Unsuitable("not_two_classes", f"found class {pair[0]!r} twice, wanted two classes")
    for name in pair:
        if name not in levels:
            raise Unsuitable("not_two_classes", f"column {outcome.name!r} has no class {name!r}")
    inside = text.isin(pair).to_numpy(bool)
    return inside, (text == pair[1]).fillna(False).to_numpy(bool)[inside]


@dataclass(frozen=True, slots=True, eq=False)
class Separation:
    """Which two classes features are to tell apart, and how sure that is made.

    Attributes
    ----------
    outcome : Series of str
        Class of each row.
    pair : (negative, positive) or None
        As in `two_classes`.
    n_bootstrap, seed : int
        Of the limits of the area under the curve.
    """

    outcome: "pd.Series[str]"
    pair: tuple[str, str] | None = None
    n_bootstrap: int = 2000
    seed: int = 0


def describe(
    table: pd.DataFrame,
    features: Sequence[str],
    *,
    volume: str | None = None,
    separation: Separation | None = None,
) -> pd.DataFrame:
    """One row a feature: basic statistics, normality, volume, and class separation.

    Parameters
    ----------
    table : DataFrame
        Cleaned features (`clean`).
    volume : str or None
        Column for the Spearman rho with volume; flagged above 0.75.
    separation : Separation or None
        Adds the two-sided rank-sum p, its Bonferroni correction over all features, and ROC.

    Returns
    -------
    DataFrame (n_features, any)

    Raises
    ------
    Unsuitable
        No two classes to tell apart.
    """
    rows = pd.DataFrame(
        {
            "feature": list(features),
            "n": len(table),
            "mean": [float(table[name].mean()) for name in features],
            "sd": [float(table[name].std()) for name in features],
            "min": [float(table[name].min()) for name in features],
            "median": [float(table[name].median()) for name in features],
            "max": [float(table[name].max()) for name in features],
            "shapiro_p": [_shapiro(table[name].to_numpy(float)) for name in features],
        }
    )
    if volume is not None:
        sizes = numeric(table, [volume])[volume].to_numpy()
        rho = [float(stats.spearmanr(table[name], sizes)[0]) for name in features]
        rows["volume_rho"] = rho
        rows["volume_surrogate"] = [abs(value) > VOLUME_SURROGATE for value in rho]
    if separation is not None:
        inside, positive = two_classes(separation.outcome, separation.pair)
        values = table[list(features)].to_numpy(float)[inside]
        p = [
            float(stats.mannwhitneyu(column[positive], column[~positive]).pvalue)
            for column in values.T
        ]
        rows["rank_sum_p"] = p
        rows["bonferroni_p"] = np.minimum(1.0, np.array(p) * len(p))
        n_bootstrap, seed = separation.n_bootstrap, separation.seed
        curves = [roc(column, positive, n_bootstrap=n_bootstrap, seed=seed) for column in values.T]
        for name in Roc.__dataclass_fields__:
            rows[f"roc_{name}" if name != "auc" else "auc"] = [getattr(c, name) for c in curves]
    return rows


def _shapiro(values: FloatArray) -> float:
    """p of the Shapiro-Wilk test; NaN outside its range of 3 to 5000 values."""
    if not 3 <= len(values) <= 5000:
        return float("nan")
    return float(stats.shapiro(values).pvalue)


def aggregate(
    values: FloatArray,
    patients: Sequence[str],
    how: Aggregate,
    volumes: FloatArray | None = None,
) -> dict[str, float]:
    """One value a patient from the values of its lesions.

    Parameters
    ----------
    values : float64 (n_lesions,), all finite
    how : Aggregate
    volumes : float64 (n_lesions,)
        Above zero; for ``volume_weighted``.

    Raises
    ------
    Unsuitable
        ``volume_weighted`` without a volume above zero for every lesion.
    """
    if how == Aggregate.VOLUME_WEIGHTED and (volumes is None or not np.all(volumes > 0)):
        raise Unsuitable("missing_value", "volume-weighted mean: every lesion needs a volume")
    rows: dict[str, list[int]] = {}
    for row, patient in enumerate(patients):
        rows.setdefault(patient, []).append(row)
    found = {}
    for patient, own in rows.items():
        inside = values[own]
        if how == Aggregate.MAX:
            found[patient] = float(inside.max())
        elif how == Aggregate.ANY:
            found[patient] = float(np.any(inside != 0))
        else:
            weighted = how == Aggregate.VOLUME_WEIGHTED
            weights = volumes[own] if weighted and volumes is not None else None
            found[patient] = float(np.average(inside, weights=weights))
    return found
