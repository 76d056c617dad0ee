"""SPEC R-RES-1 and R-AGG-1."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mirv.analysis.cohort.exploration import (
    Separation,
    aggregate,
    auc,
    clean,
    describe,
    roc,
    two_classes,
)
from mirv.analysis.errors import Unsuitable


def test_perfect_separation():
    """SPEC R-RES-1: AUC 1 and the p value of scipy."""
    values, positive = np.arange(20.0), np.arange(20) >= 12
    found = roc(values, positive)
    assert (found.auc, found.direction, found.youden) == (1, "higher", 1)
    assert found.threshold == 12
    assert (found.low, found.high) == (1, 1)
    classes = Separation(pd.Series(np.where(positive, "yes", "no")))
    table = describe(pd.DataFrame({"x": values}), ["x"], separation=classes)
    expected = stats.mannwhitneyu(values[positive], values[~positive]).pvalue
    assert table.loc[0, "rank_sum_p"] == pytest.approx(expected)


def test_lower_values_may_speak_for_the_class():
    found = roc(np.array([1.0, 2, 3, 4, 5, 6]), np.array([1, 1, 0, 1, 0, 0], bool))
    assert found.direction == "lower"
    assert found.auc == pytest.approx(8 / 9)
    assert (found.threshold, found.sensitivity) in ((2.0, pytest.approx(2 / 3)), (4.0, 1.0))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auc_is_the_share_of_pairs_won(rows):
    values, positive = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows])
    if positive.all() or not positive.any():
        with pytest.raises(Unsuitable):
            roc(values, positive)
        return
    gaps = values[positive][:, None] - values[~positive][None, :]
    assert auc(values, positive) == pytest.approx(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def test_several_classes_are_refused_unless_a_pair_is_chosen():
    outcome = pd.Series(["a", "b", "c", None, "b"], name="kind")
    with pytest.raises(Unsuitable, match="choose a pair"):
        two_classes(outcome, None)
    with pytest.raises(Unsuitable, match="no class 'z'"):
        two_classes(outcome, ("a", "z"))
    inside, positive = two_classes(outcome, ("a", "b"))
    assert inside.tolist() == [True, True, False, False, True]
    assert positive.tolist() == [False, True, True]


def test_columns_that_carry_nothing_are_dropped_by_name():
    table = pd.DataFrame({"x": [1.0, 2, 3], "hole": [1, None, 3], "flat": [2.0, 2, 2]})
    found = clean(table, ["x", "hole", "flat"])
    assert list(found.table.columns) == ["x"]
    assert found.dropped.set_index("feature")["reason"].to_dict() == {
        "hole": "missing_value: 1 row(s), the first 2",
        "flat": "constant_feature: the same in every row",
    }


def test_statistics_volume_flag_and_bonferroni():
    random = np.random.default_rng(0)
    table = pd.DataFrame({"a": random.normal(size=40), "volume": random.uniform(size=40)})
    table["b"] = table["volume"] ** 2
    outcome = pd.Series(np.where(table["a"] > 0, "y", "n"))
    found = describe(table, ["a", "b"], volume="volume", separation=Separation(outcome))
    found = found.set_index("feature")
    assert found["volume_surrogate"].tolist() == [False, True]
    assert found.loc["b", "volume_rho"] == pytest.approx(1)
    assert found.loc["a", "sd"] == pytest.approx(table["a"].std(ddof=1))
    assert found.loc["b", "bonferroni_p"] == pytest.approx(min(1, 2 * found.loc["b", "rank_sum_p"]))
    assert found.loc["a", "shapiro_p"] == pytest.approx(stats.shapiro(table["a"]).pvalue)


def test_lesions_to_patients():
    values, patients = np.array([1.0, 3, 0, 0]), ["p", "p", "q", "q"]
    assert aggregate(values, patients, "max") == {"p": 3, "q": 0}
    assert aggregate(values, patients, "mean") == {"p": 2, "q": 0}
    assert aggregate(values, patients, "any") == {"p": 1, "q": 0}
    weighted = aggregate(values, patients, "volume_weighted", np.array([3.0, 1, 1, 1]))
    assert weighted == {"p": 1.5, "q": 0}
    with pytest.raises(Unsuitable):
        aggregate(values, patients, "volume_weighted")
