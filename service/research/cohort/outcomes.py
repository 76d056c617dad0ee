"""Analyses of patients: correlation, survival, exploration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mirv.analysis.choices import Aggregate, Correlation, MedianSplit
from mirv.analysis.cohort import figures
from mirv.analysis.cohort.associations import kruskal_wallis, spearman_table
from mirv.analysis.cohort.exploration import Separation, aggregate, clean, describe
from mirv.analysis.cohort.survival import Cox, cox, kaplan_meier, split_at_median
from mirv.analysis.errors import Unsuitable
from mirv.analysis.spaces.clustering import cluster_features
from mirv.analysis.tables import FEATURE_NAME, numeric, require_columns
from mirv.service.research.cohort.joins import Report
from mirv.service.research.cohort.persons import studies_of
from mirv.service.research.cohort.sink import Sink

LARGEST_MATRIX = 400

# --- correlation --------------------------------------------------------------------------------


def write_correlation(
    table: pd.DataFrame, sink: Sink, columns: Sequence[str], patient: str, category: str = ""
) -> None:
    """Spearman and q of every pair of columns; Kruskal-Wallis of each column by a category."""
    names = list(columns) or _numeric_columns(table, patient)
    values = numeric(table, names, missing_allowed=True)
    found = spearman_table(values)
    sink.table("spearman", found)
    for content in ("rho", "p", "q"):
        square = found.pivot_table(index="a", columns="b", values=content, dropna=False)
        order = [n for n in names[1:] if n in square.index]
        sink.table(f"{content}_matrix", square.reindex(index=order).reset_index())
    if not category:
        return
    require_columns(table, [category])
    rows = []
    labels = table[category]
    for name in names:
        groups = {
            str(label): values.loc[labels == label, name].dropna().to_numpy(float)
            for label in sorted(labels.dropna().unique(), key=str)
        }
        test = kruskal_wallis(groups)
        rows.append(
            {
                "column": name,
                "category": category,
                "groups": " / ".join(groups),
                "n": " / ".join(map(str, test.n)),
                "statistic": test.statistic,
                "p": test.p,
                "reason": str(test.reason) if test.reason else None,
            }
        )
        filled = {label: own for label, own in groups.items() if len(own)}
        if len(rows) <= 20 and filled:
            made = figures.box_by_group(filled, ylabel=name, title=f"{name} by {category}")
            sink.figure(f"by_category_{len(rows):02d}", made)
    sink.table("kruskal", pd.DataFrame(rows))


def _numeric_columns(table: pd.DataFrame, patient: str) -> list[str]:
    found = [
        str(name)
        for name in table.columns
        if name != patient and pd.api.types.is_numeric_dtype(table[name])
    ]
    if len(found) < 2:
        raise Unsuitable("missing_column", f"found {len(found)} numeric column(s), wanted 2")
    return found


# --- survival -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SurvivalTime:
    """The columns of a survival time, and its unit for the axes.

    Attributes
    ----------
    duration, event : str
    unit : str
        "": not said.
    """

    duration: str
    event: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class CoxTerms:
    """What a Cox model is made of, as `analysis.cohort.survival.design` takes it."""

    terms: Sequence[str]
    categories: Mapping[str, str | None]
    interactions: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Halves:
    """Columns whose median splits the patients.

    Attributes
    ----------
    columns : sequence of str
        Empty: one curve for all.
    rule : MedianSplit
        On which side the median itself falls.
    subgroup : str
        Column within each level of which the halves are made again; "": none.
    """

    columns: Sequence[str]
    rule: MedianSplit
    subgroup: str


def write_survival(
    table: pd.DataFrame, sink: Sink, time: SurvivalTime, model: CoxTerms, halves: Halves
) -> None:
    """Cox model, Kaplan-Meier and log-rank by median halves, and the same within subgroups."""
    split_rule, subgroup = halves.rule, halves.subgroup
    if model.terms:
        given = (model.terms, model.categories, model.interactions)
        _write_cox(cox(table, time.duration, time.event, *given), sink)
    if not halves.columns:
        _write_curves([("all", "", table, None)], time, sink)
        return
    parts: list[tuple[str, str, pd.DataFrame, str | None]] = []
    for column in halves.columns:
        values = numeric(table, [column], missing_allowed=True)[column]
        # The median is that of the patients compared, as in the published subgroup code.
        parts.append((column, "", table.assign(_half=split_at_median(values, split_rule)), "_half"))
        if subgroup:
            require_columns(table, [subgroup])
            for level in sorted(table[subgroup].dropna().astype(str).unique()):
                inside = table[table[subgroup].astype(str) == level].reset_index(drop=True)
                own = numeric(inside, [column], missing_allowed=True)[column]
                split = inside.assign(_half=split_at_median(own, split_rule))
                parts.append((column, level, split, "_half"))
    _write_curves(parts, time, sink)


def _write_cox(found: Cox, sink: Sink) -> None:
    sink.table("cox", found.terms)
    sink.table("proportionality", found.proportionality)
    sink.figure("forest", figures.forest_plot(found.terms))
    sink.fact(
        "cox",
        {
            "n": found.n,
            "n_events": found.n_events,
            "n_left_out": found.n_left_out,
            "concordance": found.concordance,
            "cautions": list(found.cautions),
        },
    )
    for caution in found.cautions:
        sink.note(caution)


def _write_curves(
    parts: Sequence[tuple[str, str, pd.DataFrame, str | None]], time: SurvivalTime, sink: Sink
) -> None:
    curves, groups = [], []
    tests: list[dict[str, Any]] = []
    for number, (column, level, table, group) in enumerate(parts):
        label = {"split": column, "subgroup": level}
        try:
            found = kaplan_meier(table, time.duration, time.event, group)
        except Unsuitable as error:
            tests.append({**label, "statistic": None, "p": None, "reason": str(error.reason)})
            continue
        curves.append(found.curves.assign(**label))
        groups.append(found.groups.assign(**label))
        reason = None if found.p is not None else "one_group: nothing to compare"
        tests.append({**label, "statistic": found.statistic, "p": found.p, "reason": reason})
        title = f"{column}{f', {level}' if level else ''}"
        made = figures.kaplan_meier_plot(found, unit=time.unit, title=title)
        sink.figure(f"kaplan_meier_{number:02d}", made)
    if curves:
        sink.table("curves", pd.concat(curves, ignore_index=True))
        sink.table("groups", pd.concat(groups, ignore_index=True))
    sink.table("logrank", pd.DataFrame(tests))


# --- exploration --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exploration:
    """What is looked at in a feature table.

    Attributes
    ----------
    patient : str
        Column of the patient; "": ``person``, else ``patient_id``.
    outcome, volume : str
        Columns of the class and the volume; "": none.
    pair : (negative, positive) or None
        Needed when there are more than two classes.
    how : {"max", "mean", "any", "volume_weighted"} or None
        First make one row a patient of its lesions.
    n_bootstrap, seed : int
        For the limits of the AUC.
    """

    patient: str
    outcome: str
    pair: tuple[str, str] | None
    volume: str
    how: Aggregate | None
    n_bootstrap: int
    seed: int


def write_exploration(table: pd.DataFrame, sink: Sink, settings: Exploration) -> None:
    """Clean a feature table, describe every feature, and see which tell two classes apart."""
    outcome, volume = settings.outcome, settings.volume
    features = [str(name) for name in table.columns if FEATURE_NAME.match(str(name))]
    if not features:
        skip = {settings.patient, outcome, volume}
        features = [n for n in _numeric_columns(table, settings.patient) if n not in skip]
    needed = [name for name in (outcome, volume) if name]
    require_columns(table, needed)
    cleaned = clean(table, features)
    sink.table("dropped", cleaned.dropped)
    if cleaned.table.shape[1] == 0:
        raise Unsuitable("constant_feature", "no feature is complete and varies: see dropped")
    if len(cleaned.dropped):
        sink.note(f"{len(cleaned.dropped)} feature(s) dropped: see dropped")
    used = pd.concat([cleaned.table, table[[n for n in needed if n not in cleaned.table]]], axis=1)
    names = [str(name) for name in cleaned.table]
    if settings.how is not None:
        owners = studies_of(table, settings.patient, "", Report()).people
        used = _to_patients(used, names, owners, settings.how, settings, sink)
    separation = (
        Separation(used[outcome], settings.pair, settings.n_bootstrap, settings.seed)
        if outcome
        else None
    )
    found = describe(used, names, volume=volume or None, separation=separation)
    sink.table("features", found)
    _correlation(used, names, sink)
    if outcome:
        _distributions(used, found, outcome, sink)


def _to_patients(
    used: pd.DataFrame,
    features: Sequence[str],
    owners: list[str],
    how: Aggregate,
    settings: Exploration,
    sink: Sink,
) -> pd.DataFrame:
    volume, outcome = settings.volume, settings.outcome
    weights = numeric(used, [volume])[volume].to_numpy(float) if volume else None
    made = {
        name: aggregate(used[name].to_numpy(float), owners, how, weights)
        for name in sink.watch(features, "patients")
    }
    patients = pd.DataFrame(made)
    if volume and volume not in patients:
        patients[volume] = pd.Series(
            aggregate(used[volume].to_numpy(float), owners, Aggregate.MEAN)
        )
    if outcome:
        first = pd.Series(used[outcome].to_numpy(), index=owners)
        levels = first.groupby(level=0).nunique()
        if (levels > 1).any():
            name = str(levels[levels > 1].index[0])
            raise Unsuitable(
                "several_classes", f"column {outcome!r}: patient {name!r} has several classes"
            )
        patients[outcome] = first[~first.index.duplicated()]
    return patients.reset_index(drop=True)


def _correlation(used: pd.DataFrame, names: Sequence[str], sink: Sink) -> None:
    varied = [name for name in names if used[name].nunique() > 1]
    if not 2 <= len(varied) <= LARGEST_MATRIX or len(used) < 3:
        sink.note(f"no correlation matrix: {len(varied)} features, drawn for 2 to {LARGEST_MATRIX}")
        return
    values = used[varied].to_numpy(float)
    found = cluster_features(
        values, varied, n_clusters=min(8, len(varied)), method=Correlation.SPEARMAN
    )
    matrix = pd.DataFrame(found.correlation, columns=list(found.names))
    matrix.insert(0, "feature", found.names)
    sink.table("spearman_abs", matrix)
    sink.figure("correlation", figures.correlation_map(found))


def _distributions(used: pd.DataFrame, found: pd.DataFrame, outcome: str, sink: Sink) -> None:
    """Boxes of the six features with the smallest p."""
    best: list[Any] = found.sort_values("rank_sum_p", kind="stable")["feature"].head(6).tolist()
    for number, name in enumerate(best):
        groups = {
            str(label): own[name].to_numpy(float) for label, own in used.groupby(outcome, sort=True)
        }
        made = figures.box_by_group(groups, ylabel=str(name), title=f"{name} by {outcome}")
        sink.figure(f"distribution_{number:02d}", made)
