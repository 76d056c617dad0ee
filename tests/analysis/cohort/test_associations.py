"""SPEC R-STAT-1: correlation, FDR, tests over a cohort."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mirv.analysis.cohort.associations import (
    benjamini_hochberg,
    kruskal_wallis,
    one_sample_t,
    rank_sum,
    spearman_table,
)
from mirv.analysis.patient.response import tsrc


def test_benjamini_hochberg_by_hand():
    """Benjamini and Hochberg 1995 on 0, 0.01, 0.02, 0.04: times 4/1, 4/2, 4/3, 4/4, monotone."""
    q = benjamini_hochberg(np.array([0.04, 0.0, np.nan, 0.02, 0.01]))
    assert q == pytest.approx([0.04, 0.0, np.nan, 0.08 / 3, 0.02], nan_ok=True)


def test_spearman_pairs_and_their_correction():
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(30, 4)), columns=list("abcd"))
    table["copy"] = table["a"] ** 3
    table["flat"] = 1.0
    table.loc[:3, "b"] = np.nan
    found = spearman_table(table).set_index(["a", "b"])
    assert len(found) == 15
    assert found.loc[("copy", "a"), "rho"] == pytest.approx(1)
    assert found.loc[("copy", "a"), "p"] == 0  # an exact zero is kept, the published code drops it
    assert found.loc[("c", "b"), "n"] == 26
    kept = table[["c", "b"]].dropna()
    assert found.loc[("c", "b"), "p"] == pytest.approx(stats.spearmanr(kept["c"], kept["b"])[1])
    assert found.loc[("flat", "a"), "reason"].startswith("constant_feature")
    assert found["q"].notna().sum() == 10
    assert (found["q"] >= found["p"])[found["q"].notna()].all()


@pytest.mark.shared
def test_published_tsrc_correlations(shared):
    """Geady et al. 2025 (SPEC D10): TSRC against MIRV, rho -0.32 and -0.28, n = 85."""
    volumes = pd.read_csv(shared / "sarc021" / "lung_volumes.csv")
    patients = pd.read_csv(shared / "sarc021" / "expected_mirv_as_published.csv").set_index(
        "USUBJID"
    )
    changes = volumes.groupby("USUBJID")["VOLUME_CHANGE_PCT"]
    patients["tsrc"] = changes.apply(
        lambda own: float(tsrc([None if np.isnan(c) else c for c in own]) is True)
    )
    found = spearman_table(patients).set_index(["a", "b"])
    rho = sorted(
        found.loc[("tsrc", name), "rho"] for name in ("mirv_dissimilarity_max", "mirv_distance_max")
    )
    assert rho == pytest.approx([-0.32, -0.28], abs=0.005)
    assert (found["n"] == 85).all()


def test_exact_rank_sum_equals_enumeration():
    """All ways to choose 3 of 7 ranks; U at least as far from its mean as found."""
    a, b = [1.5, 2.5, 9.0], [3.0, 4.0, 5.0, 8.0]
    found = rank_sum(a, b)
    values = np.array(a + b)
    u = [
        sum((values[i] > values[j]) for i in chosen for j in set(range(7)) - set(chosen))
        for chosen in itertools.combinations(range(7), 3)
    ]
    observed = u[0]
    extreme = np.mean([abs(one - 6) >= abs(observed - 6) for one in u])
    assert found.statistic == observed
    assert found.p == pytest.approx(extreme)
    assert "exact" in found.name


def test_ties_and_large_groups_use_the_normal_distribution_and_say_so():
    assert "tie-corrected" in rank_sum([1, 2, 2], [2, 3, 4]).name
    assert rank_sum(np.arange(60.0), np.arange(60.0) + 0.5).name == "rank-sum (normal)"


def test_one_sample_t_by_hand():
    """1, 2, 3 against 0: mean 2, s 1, t = 2 sqrt 3 = 3.4641, p (2 df) 0.0742."""
    found = one_sample_t([1.0, 2.0, 3.0, np.nan])
    assert found.statistic == pytest.approx(3.4641016)
    assert found.p == pytest.approx(0.0741799)


def test_what_cannot_be_tested_says_why():
    for found, code in (
        (one_sample_t([1.0]), "too_few_patients"),
        (one_sample_t([2.0, 2.0]), "constant_feature"),
        (rank_sum([], [1.0]), "too_few_patients"),
        (rank_sum([1.0, 1.0], [1.0]), "constant_feature"),
        (kruskal_wallis({"a": [1.0, 2.0]}), "too_few_groups"),
        (kruskal_wallis({"a": [1.0], "b": [1.0]}), "constant_feature"),
    ):
        assert found.p is None
        assert found.reason.code == code


def test_kruskal_wallis_of_separate_groups():
    """Ranks 1-3, 4-6, 7-9: H = 12/90 * 3 * (4 + 25 + 64) - 30 = 7.2."""
    found = kruskal_wallis({"a": [1, 2, 3], "b": [4, 5, 6], "c": [7, 8, 9], "none": []})
    assert found.statistic == pytest.approx(7.2)
    assert found.n == (3, 3, 3)
