"""SPEC R-CV-1: coefficient of variation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirv.analysis.patient.variation import (
    coefficient_of_variation,
    quartile_coefficient,
    variation,
)


@pytest.mark.parametrize(
    ("values", "percent"),
    [([1, 2, 3], 50.0), ([-1, -2, -3], 50.0), ([4, 4, 4], 0.0), ([0.1, 0.1, 0.1], 0.0)],
)
def test_values_of_the_specification(values, percent):
    """SPEC R-CV-1: [1,2,3] and [-1,-2,-3] give 50; a constant feature varies by 0."""
    found, reason = coefficient_of_variation(np.array(values, float))
    assert found == pytest.approx(percent, abs=1e-12)
    assert reason is None


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([-1, 1], "mean_zero"),
        ([0, 0, 0], "mean_zero"),
        ([1e300, -1e300, 1e280], "mean_zero"),
        ([5], "too_few_lesions"),
        ([], "too_few_lesions"),
    ],
)
def test_undefined_is_null_with_a_reason(values, code):
    found, reason = coefficient_of_variation(np.array(values, float))
    assert found is None
    assert reason is not None
    assert reason.code == code


def test_standard_deviation_has_divisor_n_minus_1():
    """Two lesions show the choice best: the divisor changes the CV by a factor of sqrt(2) (A3)."""
    assert coefficient_of_variation(np.array([1.0, 3.0]))[0] == pytest.approx(70.710678118654755)


@given(st.lists(st.floats(0.5, 1e6), min_size=2, max_size=20), st.floats(0.01, 1000))
def test_a_positive_factor_changes_nothing(values, factor):
    plain = coefficient_of_variation(np.array(values))[0]
    scaled = coefficient_of_variation(np.array(values) * factor)[0]
    assert scaled == pytest.approx(plain, rel=1e-6, abs=1e-9)


def test_quartile_coefficient():
    """Quartiles of 1..5 are 2 and 4: (4 - 2) / (4 + 2)."""
    assert quartile_coefficient(np.arange(1.0, 6.0)) == pytest.approx(1 / 3)
    assert quartile_coefficient(np.array([-1.0, 1.0])) is None
    assert quartile_coefficient(np.array([1.0])) is None


def test_rows_for_the_patient_and_each_site_with_two_lesions(lesions):
    rows = variation(
        lesions(
            [[1, -1], [2, 1], [3, 3], [9, 9], [7, 7]],
            sites=["lung", "lung", "liver", "unknown", "unknown"],
        )
    )
    assert [(row.site, row.feature, row.n_lesions) for row in rows] == [
        ("", "f0", 5),
        ("", "f1", 5),
        ("lung", "f0", 2),
        ("lung", "f1", 2),
    ]
    assert [row.sign_change for row in rows] == [False, True, False, True]
    assert rows[3].cv_percent is None
    assert rows[3].reason is not None


def test_a_missing_value_leaves_the_lesion_out_of_that_feature_only(lesions):
    rows = variation(lesions([[1, 5], [2, 6], [3, 9]], missing={2: "f1"}))
    assert [(row.feature, row.n_lesions) for row in rows if row.site == ""] == [
        ("f0", 3),
        ("f1", 2),
    ]


def test_fast_equals_slow(lesions):
    """All features at once give what the plain functions give one by one, oddities included."""
    random = np.random.default_rng(0)
    table = random.normal(size=(6, 7)) * 10.0 ** random.integers(-8, 8, 7)
    table[:, 0], table[:, 1], table[:, 2] = 3.0, 0.0, [1, -1, 2, -2, 3, -3]
    table[:, 3] = [0.1] * 6
    for row in variation(lesions(table, missing={4: "f5"})):
        column = table[:, int(row.feature[1:])]
        values = np.delete(column, 4) if row.feature == "f5" else column
        assert (row.cv_percent, row.reason) == (
            pytest.approx(coefficient_of_variation(values)[0]),
            coefficient_of_variation(values)[1],
        )
        assert row.quartile_coefficient == pytest.approx(quartile_coefficient(values))
        assert row.sign_change == (values.min() < 0 < values.max())
        assert row.n_lesions == len(values)
