"""SPEC R-CLU-1: clusters of features do not depend on order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirv.analysis.errors import Unsuitable
from mirv.analysis.spaces.clustering import cluster_features


def made(n=30):
    """Three blocks: a1 a2 a3 alike, b1 b2 alike (b2 negative), c alone, flat constant."""
    random = np.random.default_rng(5)
    a, b, c = random.normal(size=(3, n))
    noise = random.normal(size=(5, n)) * 0.05
    table = {
        "a3": a + noise[0],
        "a1": a + noise[1],
        "a2": a + noise[2],
        "b2": -b + noise[3],
        "b1": b + noise[4],
        "c": c,
        "flat": np.ones(n),
    }
    return np.column_stack(list(table.values())), list(table)


def test_blocks_are_found_and_represented():
    values, names = made()
    found = cluster_features(values, names, n_clusters=3, preference=["b2", "zzz"])
    assert dict(zip(found.names, found.labels.tolist(), strict=True)) == {
        "a1": 1,
        "a2": 1,
        "a3": 1,
        "b1": 2,
        "b2": 2,
        "c": 3,
    }
    assert found.representatives == ("a1", "b2", "c")
    assert found.constant == ("flat",)


@pytest.mark.parametrize("method", ["pearson", "spearman"])
@settings(max_examples=25)
@given(data=st.data())
def test_order_of_lesions_and_features_changes_nothing(method, data):
    values, names = made()
    rows = data.draw(st.permutations(range(len(values))))
    columns = data.draw(st.permutations(range(len(names))))
    straight = cluster_features(values, names, n_clusters=4, method=method)
    mixed = cluster_features(
        values[np.ix_(rows, columns)], [names[i] for i in columns], n_clusters=4, method=method
    )
    assert straight.names == mixed.names
    assert straight.labels.tolist() == mixed.labels.tolist()
    assert straight.representatives == mixed.representatives


def test_cut_by_height():
    values, names = made()
    assert cluster_features(values, names, n_clusters=None, height=0.5).labels.max() == 3
    assert cluster_features(values, names, n_clusters=None, height=1e-9).labels.max() == 6


def test_what_cannot_be_clustered():
    with pytest.raises(Unsuitable, match="too_few_lesions"):
        cluster_features(np.ones((2, 3)), ["a", "b", "c"])
    with pytest.raises(Unsuitable, match="too_few_features"):
        cluster_features(np.ones((5, 3)), ["a", "b", "c"])
    with pytest.raises(ValueError, match="not both"):
        cluster_features(np.ones((5, 3)), ["a", "b", "c"], n_clusters=None)
