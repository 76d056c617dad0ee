"""Analyses of features: variation, robustness, reduction, clusters."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from mirv.analysis.choices import Correlation, ReductionMode
from mirv.analysis.cohort import figures
from mirv.analysis.cohort.associations import one_sample_t, rank_sum
from mirv.analysis.cohort.robustness import judge
from mirv.analysis.errors import Unsuitable
from mirv.analysis.model import FloatArray, Variation
from mirv.analysis.patient.variation import variation
from mirv.analysis.spaces.clustering import cluster_features
from mirv.analysis.spaces.reduction import reduce_features
from mirv.analysis.tables import numeric, require_columns
from mirv.service.research.cohort.cohorts import COHORT, LESION_COLUMNS
from mirv.service.research.cohort.joins import Keyed, Report, join
from mirv.service.research.cohort.persons import PERSON
from mirv.service.research.cohort.sink import Sink, left_out
from mirv.service.research.cohort.source import Cohort


def write_variation(cohort: Cohort, sink: Sink, selected: Sequence[str], group: str = "") -> None:
    """CV of each feature in each patient and site; tests over patients (R-CV-1, H 1.5, 1.12).

    Parameters
    ----------
    cohort : Cohort
    sink : Sink
    selected : sequence of str
        Features whose mean CV is told of each patient.
    group : str
        Column whose groups are compared; "" for none.

    Raises
    ------
    Unsuitable
        ``missing_column``: the table has no such group; ``not_two_groups``: it has more or fewer.
    """
    lesions = cohort.lesions(cohort.features)
    if group in cohort.keys.columns and group != COHORT:
        raise Unsuitable(
            "not_two_groups", f"column {group!r} tells patients apart, wanted one of two groups"
        )
    if group:
        require_columns(cohort.table, [group])
    rows: list[dict[str, Any]] = []
    means: list[dict[str, Any]] = []
    for unit_rows in sink.watch(list(cohort.rows().values()), "variation"):
        key = cohort.key(unit_rows)
        found = variation([lesions[row] for row in unit_rows])
        rows += [{**key, **_variation_row(row)} for row in found]
        own = {**key, "n_lesions": len(unit_rows)}
        if group:
            own[group] = cohort.table[group].iloc[unit_rows[0]]
        means.append({**own, **_mean_cv(found, selected)})
    table = pd.DataFrame(rows)
    sink.table("variation", table)
    patients = pd.DataFrame(means)
    sink.table("patients", patients)
    whole = table[table["site"] == ""].reset_index(drop=True)
    sink.table("classes", _by_class(whole, list(cohort.keys.columns)))
    sink.table("sites", _by_site(table))
    groups = None
    if group:
        keys = [name for name in cohort.keys.columns if name != group]
        of_unit = dict(zip(_keys(patients, keys), patients[group], strict=True))
        groups = pd.Series([of_unit[key] for key in _keys(whole, keys)], whole.index, name=group)
    sink.table("features", _feature_tests(whole, groups))
    if whole["cv_percent"].notna().any():
        sink.figure("variation_by_class", figures.variation_by_class(whole))
    left_out(cohort, sink)


def _keys(table: pd.DataFrame, columns: Sequence[str]) -> list[tuple[str, ...]]:
    return list(table[list(columns)].itertuples(index=False, name=None))


def _variation_row(row: Variation) -> dict[str, Any]:
    return {
        "feature": row.feature,
        "site": row.site,
        "n_lesions": row.n_lesions,
        "cv_percent": row.cv_percent,
        "quartile_coefficient": row.quartile_coefficient,
        "sign_change": row.sign_change,
        "reason": str(row.reason) if row.reason else None,
    }


def _mean_cv(found: Sequence[Variation], selected: Sequence[str]) -> dict[str, float | None]:
    defined = {
        row.feature: row.cv_percent
        for row in found
        if row.site == "" and row.cv_percent is not None
    }
    every = list(defined.values())
    short = [percent for name, percent in defined.items() if name in set(selected)]
    return {
        "cv_mean_percent": float(np.mean(every)) if every else None,
        "cv_selected_mean_percent": float(np.mean(short)) if short else None,
        "n_features_defined": len(every),
    }


def feature_class(name: str) -> str:
    """``original_glcm_Imc1`` -> ``glcm``."""
    return name.rsplit("_", 2)[-2]


def _by_class(whole: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    named = whole.assign(feature_class=whole["feature"].map(feature_class))
    found = named.groupby([*keys, "feature_class"], sort=False)["cv_percent"]
    table = found.agg(["count", "mean", "median", "min", "max"]).reset_index()
    return table.rename(columns={"count": "n_features"})


def _by_site(table: pd.DataFrame) -> pd.DataFrame:
    found = table.groupby(["site", "feature"], sort=False)["cv_percent"]
    means = found.agg(["count", "mean", "min", "max"]).reset_index()
    return means.rename(columns={"count": "n_patients"})


def _feature_tests(whole: pd.DataFrame, groups: "pd.Series[str] | None") -> pd.DataFrame:
    labels = sorted({str(label) for label in groups.dropna()}) if groups is not None else []
    if groups is not None and len(labels) != 2:
        raise Unsuitable(
            "not_two_groups",
            f"column {groups.name!r} has {len(labels)} groups ({', '.join(labels[:5])}), wanted 2",
        )
    rows = []
    for feature, own in whole.groupby("feature", sort=False):
        values = own["cv_percent"].to_numpy(float)
        test = one_sample_t(values)
        there = values[np.isfinite(values)]
        row = {
            "feature": feature,
            "n_patients": len(there),
            "mean_cv_percent": float(there.mean()) if len(there) else None,
            "t": test.statistic,
            "t_p": test.p,
            "t_reason": str(test.reason) if test.reason else None,
        }
        if groups is not None:
            sides = groups.loc[own.index].astype(str).to_numpy()
            compared = rank_sum(values[sides == labels[0]], values[sides == labels[1]])
            row |= {
                "rank_sum_groups": " / ".join(labels),
                "rank_sum_n": " / ".join(map(str, compared.n)),
                "rank_sum_method": compared.name,
                "rank_sum_u": compared.statistic,
                "rank_sum_p": compared.p,
                "rank_sum_reason": str(compared.reason) if compared.reason else None,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def write_robustness(
    original: Cohort, eroded: Cohort, dilated: Cohort, sink: Sink, keep_at: float, fewest: int
) -> None:
    """Concordance of every feature with itself on the eroded and dilated masks (R-CCC).

    Parameters
    ----------
    original, eroded, dilated : Cohort
        The same lesions, from their masks and from those a little smaller and larger.
    sink : Sink
    keep_at : float
        Concordance from which a feature is kept, 0 to 1.
    fewest : int
        Lesions a concordance is computed from at least.

    Raises
    ------
    Unsuitable
        ``missing_column``: the tables share no feature, or have no column of the lesion or the
        study to be joined on; ``no_lesions``: they share no lesion.
    """
    features = [
        name for name in original.features if name in eroded.table and name in dilated.table
    ]
    if not features:
        raise Unsuitable("missing_column", "the three tables have no feature in common")
    base = numeric(original.table, features, missing_allowed=True).to_numpy(np.float64)
    sides = [
        _aligned(original, other, features, name, sink)
        for name, other in (("eroded", eroded), ("dilated", dilated))
    ]
    found = judge(features, base, *sides, keep_at=keep_at, fewest=fewest)
    rows = [{**asdict(row), "reason": str(row.reason) if row.reason else None} for row in found]
    sink.table("robustness", pd.DataFrame(rows))
    kept = [row.feature for row in found if row.kept]
    sink.text("kept.txt", "".join(f"{name}\n" for name in kept))
    for name, side in zip(("eroded", "dilated"), sides, strict=True):
        gone = int(np.isnan(side).all(axis=1).sum())
        if gone:
            sink.note(f"{gone} of {len(base)} lesion(s) have no {name} mask: left out pairwise")
    sink.fact("n_kept", len(kept))


def _aligned(
    original: Cohort, other: Cohort, features: Sequence[str], name: str, sink: Sink
) -> FloatArray:
    """The other table's rows in the order of the original's lesions, NaN where one is absent."""
    values = numeric(other.table, features, missing_allowed=True).to_numpy(np.float64)
    met = join(_lesion_keys(original, "original"), _lesion_keys(other, name))
    report = Report()
    report.joined(met)
    sink.report(report)
    if not met.pairs:
        raise Unsuitable("no_lesions", "no lesion of the first table stands in the other one")
    found = np.full((len(original.units), len(features)), np.nan)
    for row, partner in met.pairs:
        found[row] = values[partner]
    return found


def _lesion_keys(cohort: Cohort, name: str) -> Keyed:
    """Lesions by person, study and their own identifier, which must be there."""
    if not cohort.lesion_column:
        raise Unsuitable(
            "missing_column",
            f"the {name} table has no column {' or '.join(LESION_COLUMNS)} to join lesions on",
        )
    columns = (PERSON, *([cohort.study_column] if cohort.study_column else []))
    keys = [
        (*own, label) for own, label in zip(_keys(cohort.keys, columns), cohort.labels, strict=True)
    ]
    return Keyed(name, (*columns, cohort.lesion_column), keys)


# --- reduction ----------------------------------------------------------------------------------


def write_reduction(cohort: Cohort, sink: Sink, mode: ReductionMode) -> None:
    """Which features the published reduction keeps (R-MIRV-2)."""
    values = cohort.values(cohort.features)
    found = reduce_features(values, cohort.features, mode)
    kept = set(found.names)
    variance = values.var(axis=0, ddof=1)
    sink.table(
        "features",
        pd.DataFrame(
            {
                "feature": cohort.features,
                "variance": variance,
                "kept": [name in kept for name in cohort.features],
            }
        ),
    )
    sink.text("kept.txt", "".join(f"{name}\n" for name in found.names))
    sink.fact("reduction", {k: v for k, v in asdict(found).items() if k != "names"})
    left_out(cohort, sink)


@dataclass(frozen=True, slots=True)
class ClusterRule:
    """How features are clustered.

    Attributes
    ----------
    n_clusters : int or None
    height : float or None
        Of the cut through the tree, 1 - abs(rho); one of the two.
    method : Correlation
    preference : sequence of str
        Features to represent their cluster, most wanted first.
    only : sequence of str or None
        Features to cluster; None: all.
    """

    n_clusters: int | None
    height: float | None
    method: Correlation
    preference: Sequence[str]
    only: Sequence[str] | None


def write_clusters(cohort: Cohort, sink: Sink, rule: ClusterRule) -> None:
    """Clusters of correlated features, one representative each (R-CLU-1)."""
    wanted = None if rule.only is None else set(rule.only)
    names = [name for name in cohort.features if wanted is None or name in wanted]
    found = cluster_features(
        cohort.values(names),
        names,
        n_clusters=rule.n_clusters,
        height=rule.height,
        method=rule.method,
        preference=rule.preference,
    )
    sink.table(
        "clusters",
        pd.DataFrame(
            {
                "feature": found.names,
                "cluster": found.labels,
                "representative": [name in found.representatives for name in found.names],
            }
        ),
    )
    sink.text("kept.txt", "".join(f"{name}\n" for name in found.representatives))
    if found.constant:
        sink.note(f"{len(found.constant)} constant feature(s) left out: {found.constant[0]} ...")
    sink.figure("correlation", figures.correlation_map(found))
    left_out(cohort, sink)
