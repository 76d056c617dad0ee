"""Survival analyses with lifelines (SPEC R-SURV-1)."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.exceptions import ConvergenceError, ConvergenceWarning
from lifelines.statistics import multivariate_logrank_test, proportional_hazard_test

from mirv.analysis.choices import MedianSplit
from mirv.analysis.errors import Unsuitable
from mirv.analysis.model import FloatArray
from mirv.analysis.tables import numeric, require_columns

EVENTS_PER_TERM = 10
VIF_LIMIT = 5.0
COLLINEAR = 1e8
HOPELESS_ERROR = 100.0
"""A log hazard ratio known no better than this has run off to infinity."""
PRECISION = 1e-12
"""Newton steps until the gradient is this small: the default of 1e-7 differs from R in the sixth
digit of a coefficient."""


@dataclass(frozen=True, slots=True, eq=False)
class Cox:
    """A fitted Cox proportional-hazards model.

    Attributes
    ----------
    terms : DataFrame
        ``term, coefficient, hazard_ratio, low, high, z, p, vif``; 95 % confidence limits.
    proportionality : DataFrame
        ``term, statistic, p``: scaled Schoenfeld residuals against the rank of time.
    n, n_events, n_left_out : int
    concordance : float
    cautions : tuple of str
        Few events per term, collinear terms, rows left out.
    """

    terms: pd.DataFrame
    proportionality: pd.DataFrame
    n: int
    n_events: int
    n_left_out: int
    concordance: float
    cautions: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class KaplanMeier:
    """Survival by group.

    Attributes
    ----------
    curves : DataFrame
        ``group, time, at_risk, events, censored, survival, low, high``, one row a time.
    groups : DataFrame
        ``group, n, events, median``; median is NaN when the curve stays above one half.
    statistic, p : float or None
        Log-rank over all groups; None for a single group.
    degrees : int
    """

    curves: pd.DataFrame
    groups: pd.DataFrame
    statistic: float | None
    p: float | None
    degrees: int


def check_survival(table: pd.DataFrame, duration: str, event: str) -> pd.DataFrame:
    """Durations above zero and events of 0 or 1.

    Parameters
    ----------
    table : DataFrame
        One row a patient.
    duration, event : str
        Its columns; time in any unit.

    Returns
    -------
    DataFrame of float
        The two columns.

    Raises
    ------
    Unsuitable
        Names column and row.
    """
    found = numeric(table, [duration, event])
    for column, bad, wanted in (
        (duration, found[duration].to_numpy() < 0, "a time of 0 or more"),
        (event, ~np.isin(found[event].to_numpy(), (0, 1)), "0 or 1"),
    ):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise Unsuitable(
                "not_survival",
                f"column {column!r}, row {row + 1}: found {found[column].iloc[row]:g}, "
                f"wanted {wanted}",
            )
    return found


def split_at_median(
    values: "pd.Series[float]", rule: MedianSplit = MedianSplit.HIGH
) -> "pd.Series[str]":
    """``High`` and ``Low`` at the median; `rule` says on which side the median itself falls.

    The published pipeline splits by ``>=`` and its subgroup code by ``>`` (D21).
    """
    middle = values.median()
    high = values >= middle if rule == MedianSplit.HIGH else values > middle
    return high.map({True: "High", False: "Low"}).where(values.notna())


# --- Cox ------------------------------------------------------------------------------------


def design(
    table: pd.DataFrame,
    terms: Sequence[str],
    categories: Mapping[str, str | None] | None = None,
    interactions: Sequence[tuple[str, str]] = (),
) -> pd.DataFrame:
    """Columns of a Cox model.

    Parameters
    ----------
    table : DataFrame
    terms : sequence of str
        Numeric columns, and those of `categories`.
    categories : mapping of column to reference level (None: first in the alphabet)
        Coded as one 0/1 column a level but the reference: ``histology[LMS]``.
    interactions : sequence of (column, column)
        Products of all columns of the two terms: ``a:b``.

    Returns
    -------
    DataFrame of float
        NaN where a value is missing.

    Raises
    ------
    Unsuitable
        A column is missing, no number, or has too few levels; a term or interaction is named
        twice.
    """
    categories = categories or {}
    if twice := [term for n, term in enumerate(terms) if term in terms[:n]]:
        raise Unsuitable("repeated_term", f"term {twice[0]!r} is named twice, wanted once")
    require_columns(table, terms)
    parts = {
        term: _dummies(table[term], term, categories[term])
        if term in categories
        else numeric(table, [term], missing_allowed=True)
        for term in terms
    }
    for first, second in interactions:
        for term in (first, second):
            if term not in parts:
                raise Unsuitable("missing_column", f"interaction with {term!r}, which is no term")
    columns = [parts[term] for term in terms]
    for first, second in interactions:
        columns.append(
            pd.DataFrame(
                {
                    f"{a}:{b}": parts[first][a] * parts[second][b]
                    for a in parts[first]
                    for b in parts[second]
                }
            )
        )
    found = pd.concat(columns, axis=1)
    if repeated := found.columns[found.columns.duplicated()].tolist():
        raise Unsuitable("repeated_term", f"term {repeated[0]!r} is made twice, wanted once")
    return found


def _dummies(column: "pd.Series[str]", name: str, reference: str | None) -> pd.DataFrame:
    text = column.astype("string")
    levels = sorted({str(level) for level in text.dropna()})
    base = levels[0] if reference is None and levels else reference
    if base not in levels or len(levels) < 2:
        raise Unsuitable(
            "bad_category",
            f"column {name!r}: reference {base!r} among levels {', '.join(levels) or 'none'}, "
            "wanted two levels or more, the reference one of them",
        )
    return pd.DataFrame(
        {
            f"{name}[{level}]": (text == level).astype(float).where(text.notna())
            for level in levels
            if level != base
        }
    )


def cox(
    table: pd.DataFrame,
    duration: str,
    event: str,
    terms: Sequence[str],
    categories: Mapping[str, str | None] | None = None,
    interactions: Sequence[tuple[str, str]] = (),
) -> Cox:
    """Multivariable Cox model (Efron's method for ties), rows with a missing term left out.

    Parameters
    ----------
    table : DataFrame
        One row a patient.
    duration, event : str
        Columns of time and of 0 or 1.
    terms, categories, interactions
        See `design`.

    Raises
    ------
    Unsuitable
        Faulty columns, a constant term, no event, or a model that does not converge.
    """
    outcome = check_survival(table, duration, event)
    columns = design(table, terms, categories, interactions)
    there = columns.notna().all(axis=1)
    columns, outcome = columns[there], outcome[there]
    n_events = int(outcome[event].sum())
    for name in columns:
        if columns[name].nunique() < 2:
            raise Unsuitable("constant_feature", f"term {name!r} is the same for every patient")
    if n_events == 0:
        raise Unsuitable("no_event", f"none of {len(columns)} patients has an event")
    names = [str(name) for name in columns]
    inflation = vif(columns.to_numpy(float))
    tied = [name for name, v in zip(names, inflation, strict=True) if not v < COLLINEAR]
    if tied:
        raise Unsuitable(
            "collinear_terms", f"terms {', '.join(tied)} are combinations of one another"
        )
    fitter, training, told = _fit(columns, outcome, duration, event)
    n_left_out = int((~there).sum())
    return Cox(
        terms=_terms(fitter, names, inflation),
        proportionality=_proportionality(fitter, training, names),
        n=len(columns),
        n_events=n_events,
        n_left_out=n_left_out,
        concordance=float(fitter.concordance_index_),
        cautions=(*_cautions(names, n_events, inflation, n_left_out), *told),
    )


def _fit(
    columns: pd.DataFrame, outcome: pd.DataFrame, duration: str, event: str
) -> tuple[CoxPHFitter, pd.DataFrame, tuple[str, ...]]:
    # lifelines reads formulas into column names: it gets plain ones.
    training = pd.DataFrame({f"x{i}": columns[name] for i, name in enumerate(columns)})
    training["T"], training["E"] = outcome[duration], outcome[event]
    fitter = CoxPHFitter()
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always", ConvergenceWarning)
        try:
            fitter.fit(training, "T", "E", fit_options={"precision": PRECISION})
        except ConvergenceError as error:
            raise Unsuitable("no_convergence", _in_words(str(error), columns)) from error
    errors = fitter.standard_errors_.to_numpy(float)
    told = tuple(_in_words(str(warning.message), columns) for warning in raised)
    if not np.all(errors < HOPELESS_ERROR):
        worst = str(columns.columns[int(np.nan_to_num(errors, nan=np.inf).argmax())])
        raise Unsuitable("no_convergence", f"term {worst!r} has no finite estimate; {told[:1]}")
    return fitter, training, told


def _in_words(text: str, columns: pd.DataFrame) -> str:
    """The first sentence of what lifelines says, with the terms' own names."""
    first = text.strip().splitlines()[0].split(". ")[0]
    names = [str(name) for name in columns]
    return re.sub(r"\bx(\d+)\b", lambda match: names[int(match[1])], first)


def _terms(fitter: CoxPHFitter, names: Sequence[str], inflation: FloatArray) -> pd.DataFrame:
    found = fitter.summary
    return pd.DataFrame(
        {
            "term": names,
            "coefficient": found["coef"].to_numpy(float),
            "hazard_ratio": found["exp(coef)"].to_numpy(float),
            "low": found["exp(coef) lower 95%"].to_numpy(float),
            "high": found["exp(coef) upper 95%"].to_numpy(float),
            "standard_error": found["se(coef)"].to_numpy(float),
            "z": found["z"].to_numpy(float),
            "p": found["p"].to_numpy(float),
            "vif": inflation,
        }
    )


def _proportionality(
    fitter: CoxPHFitter, training: pd.DataFrame, names: Sequence[str]
) -> pd.DataFrame:
    found = proportional_hazard_test(fitter, training, time_transform="rank").summary
    keyed = found.loc[[f"x{i}" for i in range(len(names))]]
    return pd.DataFrame(
        {
            "term": names,
            "statistic": keyed["test_statistic"].to_numpy(float),
            "p": keyed["p"].to_numpy(float),
        }
    )


def vif(columns: FloatArray) -> FloatArray:
    """Variance inflation of each column: the diagonal of the inverse correlation matrix.

    Parameters
    ----------
    columns : float64 (n_patients, n_columns)
        All finite, none constant.

    Returns
    -------
    float64 (n_columns,)
        Infinite where columns depend on each other.
    """
    if columns.shape[1] == 1:
        return np.ones(1)
    correlation = np.corrcoef(columns, rowvar=False)
    try:
        inverse = np.linalg.inv(correlation)
    except np.linalg.LinAlgError:
        return np.full(columns.shape[1], np.inf)
    result: FloatArray = np.diag(inverse).copy()
    return result


def _cautions(
    names: Sequence[str], n_events: int, inflation: FloatArray, n_left_out: int
) -> tuple[str, ...]:
    found = []
    if n_events < EVENTS_PER_TERM * len(names):
        found.append(
            f"{n_events} events for {len(names)} terms: fewer than {EVENTS_PER_TERM} per term"
        )
    collinear = [name for name, v in zip(names, inflation, strict=True) if not v <= VIF_LIMIT]
    if collinear:
        found.append(f"variance inflation above {VIF_LIMIT:g}: {', '.join(collinear)}")
    if n_left_out:
        found.append(f"{n_left_out} row(s) left out: a term is missing")
    return tuple(found)


# --- Kaplan-Meier ---------------------------------------------------------------------------


def kaplan_meier(
    table: pd.DataFrame, duration: str, event: str, group: str | None = None
) -> KaplanMeier:
    """Kaplan-Meier curves by group and the log-rank test over them.

    Rows without a group are left out.

    Parameters
    ----------
    table : DataFrame
        One row a patient.
    duration, event : str
        Columns of time and of 0 or 1.
    group : str, optional
        Column of the group; none: all together.

    Raises
    ------
    Unsuitable
        Faulty columns, or a group for no row.
    """
    outcome = check_survival(table, duration, event)
    labels = pd.Series("all", index=table.index, dtype=object)
    if group is not None:
        require_columns(table, [group])
        labels = table[group]
    there = labels.notna()
    outcome, labels = outcome[there], labels[there].astype(str)
    if outcome.empty:
        raise Unsuitable("missing_value", f"column {group!r} is empty in every row")
    curves, groups = [], []
    for name in sorted(labels.unique()):
        rows = outcome[labels == name]
        curve, median = _curve(rows[duration], rows[event])
        curve.insert(0, "group", name)
        curves.append(curve)
        groups.append((name, len(rows), int(rows[event].sum()), median))
    statistic = p = None
    if len(groups) > 1:
        test = multivariate_logrank_test(outcome[duration], labels, outcome[event])
        statistic, p = float(test.test_statistic), float(test.p_value)
    return KaplanMeier(
        pd.concat(curves, ignore_index=True),
        pd.DataFrame(groups, columns=["group", "n", "events", "median"]),
        statistic,
        p,
        len(groups) - 1,
    )


def _curve(times: "pd.Series[float]", events: "pd.Series[float]") -> tuple[pd.DataFrame, float]:
    fitter = KaplanMeierFitter().fit(times, events)
    steps, limits = fitter.event_table, fitter.confidence_interval_
    found = pd.DataFrame(
        {
            "time": steps.index.to_numpy(float),
            "at_risk": steps["at_risk"].to_numpy(int),
            "events": steps["observed"].to_numpy(int),
            "censored": steps["censored"].to_numpy(int),
            "survival": fitter.survival_function_.iloc[:, 0].to_numpy(float),
            "low": limits.iloc[:, 0].to_numpy(float),
            "high": limits.iloc[:, 1].to_numpy(float),
        }
    )
    median = float(fitter.median_survival_time_)
    return found, median if np.isfinite(median) else float("nan")


def at_risk(curves: pd.DataFrame, times: Sequence[float]) -> pd.DataFrame:
    """Patients at risk at each time, one row a group: the table under a Kaplan-Meier plot.

    Parameters
    ----------
    curves : DataFrame
        ``group, time, at_risk, events, censored``, see `KaplanMeier`.
    times : sequence of float

    Returns
    -------
    DataFrame of int (n_groups, len(times))
    """
    rows = {}
    for name, curve in curves.groupby("group", sort=True):
        left = curve["at_risk"] - curve["events"] - curve["censored"]
        counts = []
        for time in times:
            upcoming = curve[curve["time"] >= time]
            counts.append(int(upcoming["at_risk"].iloc[0]) if len(upcoming) else int(left.iloc[-1]))
        rows[str(name)] = counts
    return pd.DataFrame.from_dict(rows, orient="index", columns=[f"{time:g}" for time in times])
