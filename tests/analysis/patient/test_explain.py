"""SPEC R-EXP-1: which pair, which features, which lesion."""

import numpy as np
import pytest

from mirv.analysis.errors import Unsuitable
from mirv.analysis.heterogeneity import henry2022
from mirv.analysis.patient.explain import cosine_shares, cosine_terms, furthest_pair, leave_one_out


def test_euclidean_shares_by_hand():
    """(0,0) to (3,4): 9/25 and 16/25 of the squared distance."""
    found = furthest_pair(np.array([[0.0, 0], [3, 4], [1, 1]]), "euclidean")
    assert (found.first, found.second, found.value) == (0, 1, 5.0)
    assert found.shares == pytest.approx([0.36, 0.64])


def test_cosine_shares_sum_to_one_and_terms_to_the_cosine():
    a, b = np.array([1.0, 2, -1]), np.array([3.0, 0, 2])
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert cosine_terms(a, b).sum() == pytest.approx(cosine)
    assert cosine_shares(a, b).sum() == pytest.approx(1)
    assert (cosine_shares(a, b) >= 0).all()
    units = a / np.linalg.norm(a) - b / np.linalg.norm(b)
    assert (units**2).sum() / 2 == pytest.approx(1 - cosine)


def test_leaving_out_the_odd_lesion_changes_most():
    vectors = np.array([[1.0, 0], [1, 0.1], [1, -0.1], [0, 1]])
    change = leave_one_out(vectors, henry2022.mtd)
    assert int(np.argmin(change)) == 3
    assert change[0] == pytest.approx(0)
    assert np.isnan(leave_one_out(vectors[:2], henry2022.mtd)).all()


def test_zero_vectors_set_no_cosine():
    vectors = np.array([[0.0, 0], [1, 0], [1, 1]])
    found = furthest_pair(vectors)
    assert (found.first, found.second) == (1, 2)
    change = leave_one_out(vectors, henry2022.mtd)
    assert change[0] == 0
    with pytest.raises(Unsuitable):
        furthest_pair(np.zeros((2, 2)))
