"""SPEC R-HET-1 and R-MIRV-1: the indices as pure functions of lesion vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mirv.analysis.heterogeneity import METRICS, distances

VECTORS = st.integers(2, 12).flatmap(
    lambda n: arrays(float, (n, 4), elements=st.floats(-100, 100).map(lambda x: round(x, 3)))
)


def indices(vectors) -> dict[str, float]:
    """Every index that has at least one pair."""
    between = distances(np.asarray(vectors, float))
    return {
        metric.name: metric.summarise(metric.pairs(between))
        for metric in METRICS
        if metric.pairs(between).size
    }


@pytest.mark.parametrize(
    ("vectors", "mtd", "pairs", "matrix"),
    [
        ([(1, 0), (0, 1)], 1, 1, 0.5),
        ([(1, 0), (2, 0)], 0, 0, 0),
        ([(1, 0, 0), (0, 1, 0), (0, 0, 1)], 1, 1, 2 / 3),
    ],
)
def test_henry_values_of_the_specification(vectors, mtd, pairs, matrix):
    """SPEC R-HET-1, by hand."""
    found = indices(vectors)
    assert found["mtd"] == pytest.approx(mtd, abs=1e-15)
    assert found["ath_pairs"] == pytest.approx(pairs, abs=1e-15)
    assert found["ath_matrix"] == pytest.approx(matrix, abs=1e-15)


def test_mirv_values_of_the_specification():
    """SPEC R-MIRV-1: (1,0), (0,1), (-1,0); distances sqrt 2, 2, sqrt 2; dissimilarities 1, 2, 1."""
    found = indices([(1, 0), (0, 1), (-1, 0)])
    assert found["mirv_distance_max"] == pytest.approx(2)
    assert found["mirv_distance_median"] == pytest.approx(np.sqrt(2))
    assert found["mirv_dissimilarity_max"] == pytest.approx(2)
    assert found["mirv_dissimilarity_mean"] == pytest.approx(4 / 3)
    assert found["mirv_dissimilarity_median"] == pytest.approx(1)
    assert found["mirv_dissimilarity_sd"] == pytest.approx(np.sqrt(2) / 3)  # divisor n


def test_a_zero_vector_has_no_direction_but_a_distance():
    between = distances(np.array([[0.0, 0.0], [3.0, 4.0], [4.0, -3.0]]))
    assert not between.directed[0]
    assert np.isnan(between.cosine[0]).all()
    assert between.euclidean[0, 1] == 5
    assert between.cosine_pairs == pytest.approx([1.0])


@given(VECTORS, st.randoms(use_true_random=False))
def test_lesion_order_never_matters(vectors, random):
    order = list(range(len(vectors)))
    random.shuffle(order)
    assert indices(vectors[order]) == pytest.approx(indices(vectors), rel=1e-9, abs=1e-12)


@given(VECTORS)
def test_a_lesion_counted_twice_never_changes_the_maxima(vectors):
    before, after = indices(vectors), indices(np.vstack([vectors, vectors[:1]]))
    for name in before.keys() & {"mtd", "mirv_distance_max", "mirv_dissimilarity_max"}:
        assert after[name] == pytest.approx(before[name], abs=1e-12)


@given(VECTORS)
def test_ranges_and_the_two_averages(vectors):
    """[0, 1] holds for non-negative vectors only; the matrix mean is (n-1)/n of the pair mean."""
    n = int(distances(vectors).directed.sum())
    for low, high, table in ((0, 2, vectors), (0, 1, np.abs(vectors))):
        found = indices(table)
        if "mtd" in found:
            assert low <= found["mtd"] <= high + 1e-12
            assert found["ath_matrix"] == pytest.approx(found["ath_pairs"] * (n - 1) / n)
            assert found["mtd"] == found["mirv_dissimilarity_max"]


@given(VECTORS)
def test_distances_equal_a_plain_loop(vectors):
    """Fast equals slow."""
    between = distances(vectors)
    for i, a in enumerate(vectors):
        for j, b in enumerate(vectors):
            assert between.euclidean[i, j] == pytest.approx(np.sqrt(((a - b) ** 2).sum()))
            if i != j and a.any() and b.any():
                cosine = 1 - (a * b).sum() / (np.sqrt((a * a).sum()) * np.sqrt((b * b).sum()))
                assert between.cosine[i, j] == pytest.approx(cosine, abs=1e-12)
