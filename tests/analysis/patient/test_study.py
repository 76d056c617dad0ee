"""All measures of a study: values by hand, null with a reason everywhere else."""

import numpy as np
import pytest

from mirv.analysis.heterogeneity import METRICS
from mirv.analysis.patient.study import analyse, divergent_pair
from mirv.analysis.spaces.files import load_space
from mirv.analysis.spaces.space import FeatureSpace
from mirv.config.profiles import ExtractionProfile, load_profile

MIRV = load_profile("mirv2025")
HENRY = load_profile("henry2022")


def space(kind="zscore", n=2) -> FeatureSpace:
    names = tuple(f"f{index}" for index in range(n))
    return FeatureSpace("unit", "mirv2025", kind, names, np.zeros(n), np.ones(n))


def measures(result, profile=None, space=None) -> dict:
    return {
        m.name: m
        for m in result.measures
        if (profile is None or m.profile == profile) and (space is None or m.space == space)
    }


def test_counts_volumes_and_indices(lesions, provenance):
    """Volumes 1, 2, 6 ml: total 9, range 5, SD sqrt 7; vectors of SPEC R-MIRV-1."""
    made = lesions(
        [[1, 0], [0, 1], [-1, 0]], sites=["lung", "liver", "unknown"], volumes=[1.0, 2.0, 6.0]
    )
    result = analyse(made, [MIRV], [space()], provenance)
    found = measures(result)
    assert found["n_lesions"].value == 3
    assert (found["n_sites"].value, found["n_sites"].n_lesions) == (2, 2)
    assert found["volume_total_ml"].value == 9
    assert found["volume_range_ml"].value == 5
    assert found["volume_sd_ml"].value == pytest.approx(np.sqrt(7))
    assert found["mtd"].value == pytest.approx(2)
    assert found["mirv_dissimilarity_mean"].value == pytest.approx(4 / 3)
    assert found["ath_matrix"].value == pytest.approx(8 / 9)
    assert found["mirv_distance_max"].value == pytest.approx(2)
    assert all(m.reason is None for m in result.measures if m.value is not None)
    assert [(p.tracking_uid_a, p.tracking_uid_b) for p in result.pairs] == [
        ("2.25.1", "2.25.2"),
        ("2.25.1", "2.25.3"),
        ("2.25.2", "2.25.3"),
    ]
    furthest = divergent_pair(result, "mirv2025", "unit", "euclidean")
    assert furthest is not None
    assert (furthest.tracking_uid_a, furthest.tracking_uid_b) == ("2.25.1", "2.25.3")


@pytest.mark.parametrize("n", [0, 1])
def test_without_two_lesions_every_index_is_null_with_a_reason(lesions, provenance, n):
    made = lesions([[1.0, 2.0]] * n) if n else []
    result = analyse(made, [MIRV], [space()], provenance)
    found = measures(result)
    for metric in METRICS:
        assert found[metric.name].value is None
        assert found[metric.name].reason.code == "too_few_lesions"
    assert found["volume_range_ml"].value is None
    assert found["volume_sd_ml"].value is None
    assert found["cv_mean_percent"].value is None
    assert found["n_lesions"].value == n
    assert (found["volume_total_ml"].value is None) == (n == 0)
    assert result.pairs == ()


def test_a_lesion_left_out_is_said_not_hidden(lesions, provenance):
    made = lesions([[1, 0], [0, 1], [5, 5], [6, 6]], missing={2: "f1"}, excluded=[3])
    result = analyse(made, [MIRV], [space()], provenance)
    found = measures(result, "mirv2025", "unit")
    assert (found["mtd"].value, found["mtd"].n_lesions) == (1, 2)
    reasons = {(p.tracking_uid_a[-1], p.tracking_uid_b[-1]): p.reason for p in result.pairs}
    assert len(reasons) == 6
    assert reasons["1", "2"] is None
    assert reasons["1", "3"].code == "feature_missing"
    assert reasons["1", "4"].code == "timeout"
    assert measures(result)["n_lesions"].value == 4


def test_a_zero_vector_has_distance_but_no_direction(lesions, provenance):
    result = analyse(lesions([[0, 0], [3, 4]]), [MIRV], [space()], provenance)
    found = measures(result, "mirv2025", "unit")
    assert found["mtd"].value is None
    assert found["mtd"].reason.code == "zero_vector"
    assert found["mirv_distance_max"].value == 5
    assert result.pairs[0].euclidean == 5
    assert result.pairs[0].cosine is None
    assert result.pairs[0].reason.code == "zero_vector"


@pytest.mark.parametrize(("n", "there"), [(4, False), (5, True)])
def test_patient_minmax_needs_five_lesions(lesions, provenance, n, there):
    """SPEC R-HET-2; with fewer lesions the MTD is 1 whatever they look like (F2)."""
    values = np.random.default_rng(0).uniform(1, 2, (n, 8))
    made = lesions(values, profile="henry2022", names=HENRY.selected)
    found = measures(analyse(made, [HENRY], [], provenance), "henry2022", "patient-minmax")
    assert (found["mtd"].value is not None) == there
    assert found["mirv_distance_max"].reason.code == "not_defined_in_space"
    if there:
        assert 0 <= found["mtd"].value <= 1
    else:
        assert found["mtd"].reason.code == "too_few_lesions"


def test_each_space_serves_its_own_profile(lesions, provenance):
    values = np.random.default_rng(1).normal(size=(6, 8))
    frozen = load_space("sarc021-lung-henry8-minmax")
    made = lesions(values, names=frozen.names) + lesions(
        values, profile="henry2022", names=HENRY.selected
    )
    result = analyse(made, [HENRY, MIRV], [frozen], provenance)
    spaces = {(m.profile, m.space) for m in result.measures if m.space}
    assert spaces == {
        ("henry2022", "patient-minmax"),
        ("mirv2025", "sarc021-lung-henry8-minmax"),
    }
    found = measures(result, "mirv2025", frozen.name)
    assert found["n_outside_reference"].value > 0
    assert 0 <= found["mtd_percentile"].value <= 100
    assert measures(result)["n_lesions"].value == 6


def test_lesion_order_never_matters(lesions, provenance):
    values = np.random.default_rng(2).normal(size=(7, 2))
    made = lesions(values)
    straight = analyse(made, [MIRV], [space()], provenance)
    turned = analyse(made[::-1], [MIRV], [space()], provenance)
    assert straight.measures == turned.measures
    assert straight.pairs == turned.pairs
    assert straight.variation == turned.variation


def test_all_values_overflowing_or_constant_give_reasons(lesions, provenance):
    """CV of a constant feature is 0; of a feature of mean zero it is null; the mean skips it."""
    result = analyse(lesions([[1, -1], [1, 1]]), [MIRV], [], provenance)
    assert measures(result)["cv_mean_percent"].value == 0
    only = analyse(lesions([[-1.0], [1.0]]), [MIRV], [], provenance)
    assert measures(only)["cv_mean_percent"].reason.code == "undefined"


def test_a_profile_without_short_list_and_space_has_no_indices(lesions, provenance):
    bare = ExtractionProfile("bare", "", "int16", {}, {}, {}, 2)
    result = analyse(lesions([[1, 2], [3, 4]], profile="bare"), [bare], [], provenance)
    assert {m.name: m.value is None for m in result.measures if m.profile} == {
        "cv_mean_percent": False,
        "cv_selected_mean_percent": True,
    }
    assert result.pairs == ()
