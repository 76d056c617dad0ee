"""Statistics over a cohort of patients (SPEC R-STAT-1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from mirv.analysis.errors import Reason
from mirv.analysis.model import FloatArray

EXACT_AT_MOST = 50
"""Group size up to which the rank-sum distribution is exact (as R's ``wilcox.test``)."""


@dataclass(frozen=True, slots=True)
class Test:
    """Result of one statistical test.

    Attributes
    ----------
    name : str
        Which test, and by which method its p value was found.
    n : tuple of int
        Size of each group.
    statistic, p : float or None
        None with `reason`.
    reason : Reason or None
    """

    name: str
    n: tuple[int, ...]
    statistic: float | None
    p: float | None
    reason: Reason | None = None

    # pytest collects classes called Test*; this one is not a test of the program.
    __test__ = False


def finite(values: Sequence[float] | FloatArray) -> FloatArray:
    """The values that are there.

    Parameters
    ----------
    values : float64 (n,)
        NaN and infinity stand for nothing.

    Returns
    -------
    float64 (at most n,)
    """
    array = np.asarray(values, float)
    there: FloatArray = array[np.isfinite(array)]
    return there


def spearman_table(table: pd.DataFrame) -> pd.DataFrame:
    """Spearman correlation of every pair of columns, with Benjamini-Hochberg q values.

    Parameters
    ----------
    table : DataFrame of float
        One row a patient; NaN leaves the row out of that pair.

    Returns
    -------
    DataFrame
        ``a, b, n, rho, p, q, reason``: one row a pair of the lower triangle; q is corrected over
        all pairs that have a p value, exact zeros included.
    """
    rows = []
    columns = [str(name) for name in table.columns]
    for i, first in enumerate(columns):
        for second in columns[:i]:
            pair = table[[first, second]].dropna().to_numpy(float)
            reason = _no_correlation(pair, first, second)
            rho, p = (np.nan, np.nan) if reason else stats.spearmanr(pair[:, 0], pair[:, 1])
            rows.append((first, second, len(pair), float(rho), float(p), str(reason or "")))
    found = pd.DataFrame(rows, columns=["a", "b", "n", "rho", "p", "reason"])
    found.insert(5, "q", benjamini_hochberg(found["p"].to_numpy(float)))
    return found


def _no_correlation(pair: FloatArray, first: str, second: str) -> Reason | None:
    if len(pair) < 3:
        return Reason("too_few_patients", f"found {len(pair)} row(s) with both, wanted 3")
    for position, name in enumerate((first, second)):
        if np.ptp(pair[:, position]) == 0:
            return Reason(
                "constant_feature", f"column {name!r} is the same in all {len(pair)} rows"
            )
    return None


def benjamini_hochberg(p: FloatArray) -> FloatArray:
    """False discovery rate of each p value; NaN stays NaN and does not count.

    Parameters
    ----------
    p : float64 (n,)

    Returns
    -------
    float64 (n,)
    """
    q = np.full(len(p), np.nan)
    there = np.isfinite(p)
    if there.any():
        q[there] = stats.false_discovery_control(p[there], method="bh")
    return q


def one_sample_t(values: Sequence[float] | FloatArray, mean: float = 0.0) -> Test:
    """Two-sided one-sample t-test.

    A coefficient of variation cannot be negative, so that testing its mean against 0 asks almost
    nothing: it is here because the 2022 paper reports it.

    Parameters
    ----------
    values : float64 (n,)
        What is not finite is left out.
    mean : float
        Mean under the null hypothesis.
    """
    found = finite(values)
    name = "one-sample t"
    if len(found) < 2:
        return _untested(name, (len(found),), "too_few_patients", "wanted at least 2")
    if np.ptp(found) == 0:
        return _untested(name, (len(found),), "constant_feature", "all values are the same")
    statistic, p = stats.ttest_1samp(found, mean)
    return Test(name, (len(found),), float(statistic), float(p))


def rank_sum(first: Sequence[float] | FloatArray, second: Sequence[float] | FloatArray) -> Test:
    """Two-sided Wilcoxon rank-sum (Mann-Whitney) test; the statistic is U of `first`.

    Exact for groups of up to 50 without ties; else the normal approximation with correction for
    ties and continuity, and the name says so.

    Parameters
    ----------
    first, second : float64 (n,), (m,)
        What is not finite is left out.
    """
    a, b = finite(first), finite(second)
    n = (len(a), len(b))
    if min(n) < 1:
        return _untested("rank-sum", n, "too_few_patients", f"groups of {n[0]} and {n[1]}")
    together = np.concatenate([a, b])
    tied = len(np.unique(together)) < len(together)
    if tied and np.ptp(together) == 0:
        return _untested("rank-sum", n, "constant_feature", "all values are the same")
    exact = not tied and max(n) <= EXACT_AT_MOST
    statistic, p = stats.mannwhitneyu(a, b, method="exact" if exact else "asymptotic")
    how = "exact" if exact else "normal, tie-corrected" if tied else "normal"
    return Test(f"rank-sum ({how})", n, float(statistic), float(p))


def kruskal_wallis(groups: Mapping[str, Sequence[float] | FloatArray]) -> Test:
    """Kruskal-Wallis test over categories; empty categories are left out.

    Parameters
    ----------
    groups : mapping of category to float64 (n,)
        What is not finite is left out.
    """
    found = [finite(values) for values in groups.values()]
    found = [values for values in found if len(values)]
    n = tuple(len(values) for values in found)
    if len(found) < 2:
        return _untested("Kruskal-Wallis", n, "too_few_groups", f"found {len(found)}, wanted 2")
    if np.ptp(np.concatenate(found)) == 0:
        return _untested("Kruskal-Wallis", n, "constant_feature", "all values are the same")
    statistic, p = stats.kruskal(*found)
    return Test("Kruskal-Wallis", n, float(statistic), float(p))


def _untested(name: str, n: tuple[int, ...], code: str, detail: str) -> Test:
    return Test(name, n, None, None, Reason(code, f"{name}: {detail}"))
