"""SPEC R-MIRV-2/3 and section 5: reduction, scaling, and the published run to its last digit."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirv.analysis.choices import ReductionMode
from mirv.analysis.errors import Unsuitable
from mirv.analysis.heterogeneity import distances
from mirv.analysis.spaces.files import load_space, write_space
from mirv.analysis.spaces.fitting import WantedSpace, fit_space, groups
from mirv.analysis.spaces.reduction import reduce_features
from mirv.analysis.spaces.space import FeatureSpace, patient_minmax, vectors
from mirv.analysis.tables import feature_columns, identifiers, read_table
from mirv.config.profiles import load_profile
from mirv.config.spaces import space_names

FIXED = [
    "wavelet-LLH_glcm_ClusterShade",
    "wavelet-LHH_glcm_ClusterShade",
    "wavelet-HLH_glcm_ClusterShade",
    "wavelet-HHL_glcm_ClusterShade",
    "wavelet-HHH_gldm_DependenceVariance",
    "logarithm_firstorder_Kurtosis",
    "exponential_gldm_DependenceVariance",
]


@pytest.fixture(scope="module")
def cohort(shared):
    """The public lung table: features (362 x 1218) and the patient of each row."""
    table = read_table(shared / "sarc021" / "lung_baseline_features.csv.gz", ["USUBJID"])
    return table[feature_columns(table)], identifiers(table, "USUBJID")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("mode", "population", "filtered", "kept"),
    [
        ("published_compat", "all", 248, 16),
        ("code_fixed", "all", 248, 7),
        ("paper", "all", 53, 5),
        ("published_compat", "multiple", 246, 18),
        ("paper", "multiple", 56, 4),
    ],
)
def test_counts_of_each_mode(cohort, mode, population, filtered, kept):
    """SPEC section 5: counts after the filters, run on the public table."""
    space = fit_space(
        *cohort, WantedSpace("t", "mirv2025", population=population), ReductionMode(mode)
    ).fitted_on
    assert space["reduction"]["n_features"] == 1218
    assert (space["reduction"]["n_filtered"], space["reduction"]["n_kept"]) == (filtered, kept)
    assert space["n_lesions"] == (362 if population == "all" else 312)
    assert space["n_patients"] == (135 if population == "all" else 85)


@pytest.mark.shared
def test_names_of_code_fixed(cohort):
    """SPEC section 5 lists the seven names."""
    features, _ = cohort
    reduction = reduce_features(features.to_numpy(), list(features.columns), "code_fixed")
    assert list(reduction.names) == FIXED
    assert reduction.median_variance == pytest.approx(11.870476, abs=5e-7)


@pytest.mark.shared
def test_published_features_and_patients_are_reproduced(cohort, shared):
    """The published program's own output (bhklab/MIRV, expected_*.csv), all 85 patients."""
    features, patients = cohort
    space = load_space("sarc021-lung-published-compat")
    published = pd.read_csv(shared / "sarc021" / "expected_features_as_published.csv")
    assert list(space.names) == published["feature"].tolist()
    expected = pd.read_csv(shared / "sarc021" / "expected_mirv_as_published.csv")
    scaled = space.scaled(features[list(space.names)].to_numpy())
    found = {
        patient: distances(scaled[rows])
        for patient, rows in groups(patients).items()
        if len(rows) > 1
    }
    assert sorted(found) == sorted(expected["USUBJID"])
    for row in expected.itertuples():
        between = found[row.USUBJID]
        assert abs(between.cosine_pairs.max() - row.mirv_dissimilarity_max) <= 5e-10
        assert abs(between.euclidean_pairs.max() - row.mirv_distance_max) <= 5e-10


@pytest.mark.shared
@pytest.mark.parametrize("name", ["sarc021-lung-paper", "sarc021-lung-published-compat"])
def test_shipped_spaces_are_what_fitting_gives(cohort, name):
    shipped = load_space(name)
    mode = shipped.fitted_on["reduction"]["mode"]
    fitted = fit_space(*cohort, WantedSpace(name, "mirv2025"), ReductionMode(mode))
    assert fitted.names == shipped.names
    np.testing.assert_allclose(fitted.centre, shipped.centre, rtol=1e-12)
    np.testing.assert_allclose(fitted.scale, shipped.scale, rtol=1e-12)
    for measure, quantiles in shipped.reference.items():
        np.testing.assert_allclose(fitted.reference[measure], quantiles, rtol=1e-9, atol=1e-12)


@pytest.mark.shared
def test_reference_quantiles_hold_the_published_medians():
    """SPEC section 5: medians 1.068 and 4.159; ranges 0.047-1.642 and 1.526-18.945."""
    reference = load_space("sarc021-lung-published-compat").reference
    for measure, low, middle, high in (
        ("mirv_dissimilarity_max", 0.047, 1.068, 1.642),
        ("mirv_distance_max", 1.526, 4.159, 18.945),
    ):
        assert np.array(reference[measure])[[0, 50, 100]] == pytest.approx(
            [low, middle, high], abs=5e-4
        )


def table(n=40, seed=0) -> pd.DataFrame:
    """Features of a made cohort: a, b nearly equal; c, d alone; flat; volume."""
    random = np.random.default_rng(seed)
    a, c, d, v = random.normal(size=(4, n)) * np.array([[30], [20], [25], [10]])
    return pd.DataFrame(
        {
            "p_shape_A": a,
            "p_shape_B": a + random.normal(size=n) * 0.01,
            "p_shape_C": c,
            "p_shape_D": d,
            "p_shape_Small1": random.normal(size=n) * 1e-3,
            "p_shape_Small2": random.normal(size=n) * 1e-4,
            "p_shape_Small3": random.normal(size=n) * 1e-5,
            "p_shape_Flat": np.ones(n),
            "original_shape_VoxelVolume": v + 100,
        }
    )


def test_both_members_of_a_correlated_pair_go():
    made = table()
    reduction = reduce_features(made.to_numpy(), list(made.columns), "code_fixed", volume_limit=0.9)
    assert reduction.names == ("p_shape_C", "p_shape_D")


@given(st.permutations(list(table().columns)))
def test_column_order_matters_to_the_published_program_only(order):
    made = table()
    for mode in ("paper", "code_fixed"):
        straight = reduce_features(made.to_numpy(), list(made.columns), mode, volume_limit=0.5)
        mixed = reduce_features(made[order].to_numpy(), order, mode, volume_limit=0.5)
        assert set(straight.names) == set(mixed.names)


def test_the_published_program_keeps_the_column_before():
    """Columns x, y, volume: y alone passes every filter, x is kept in its place (SPEC F6)."""
    x, y, volume = [3.0, 3.1, 3.0, 3.1], [50.0, -50.0, -50.0, 50.0], [1.0, 2.0, 3.0, 4.0]
    values = np.column_stack([x, y, volume])
    names = ["x", "y", "volume"]
    for mode, kept in (("code_fixed", ("y",)), ("published_compat", ("x",))):
        assert reduce_features(values, names, mode, volume="volume").names == kept


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        (lambda t: t.assign(p_shape_C=np.nan), "missing_value", "'p_shape_C', row 1"),
        (lambda t: t.assign(p_shape_D=["x"] * len(t)), "not_a_number", "'p_shape_D', row 1"),
        (lambda t: t.drop(columns="original_shape_VoxelVolume"), "missing_column", "VoxelVolume"),
        (lambda t: t.assign(original_shape_VoxelVolume=5.0), "constant_feature", "VoxelVolume"),
        (lambda t: t.iloc[:2], "too_few_lesions", "2"),
    ],
)
def test_bad_tables_are_refused_by_name(change, code, named):
    made = change(table())
    with pytest.raises(Unsuitable) as refusal:
        fit_space(made, ["p"] * len(made), WantedSpace("t", "mirv2025"))
    assert refusal.value.reason.code == code
    assert named in refusal.value.reason.detail


def test_a_constant_feature_cannot_be_scaled():
    made = table()
    with pytest.raises(Unsuitable, match="p_shape_Flat"):
        fit_space(made, ["p"] * 40, WantedSpace("t", "m"), ["p_shape_C", "p_shape_Flat"])


def test_file_round_trip_is_exact(tmp_path):
    fitted = fit_space(table(), ["p", "q"] * 20, WantedSpace("t", "m"), ["p_shape_C"])
    loaded = load_space(str(write_space(fitted, tmp_path)))
    assert loaded.digest == fitted.digest
    assert loaded.centre.tolist() == fitted.centre.tolist()
    assert loaded.reference == fitted.reference


def test_a_changed_file_is_refused(tmp_path):
    path = write_space(load_space("sarc021-lung-paper"), tmp_path)
    content = json.loads(path.read_text())
    content["centre"][0] += 1e-6
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="changed after it was fitted"):
        load_space(str(path))


@pytest.mark.parametrize("text", ["[]", "{", '{"format": "mirv-space/1"}'])
def test_what_is_no_space_is_refused_by_name(tmp_path, text):
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"odd\.json"):
        load_space(str(path))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="sarc021-lung-paper"):
        load_space("nowhere")


def test_digest_follows_numbers_not_prose():
    space = load_space("sarc021-lung-paper")
    assert replace(space, description="other").digest == space.digest
    assert replace(space, scale=space.scale * 2).digest != space.digest
    assert len({load_space(name).digest for name in space_names()}) == len(space_names())


def one(kind, centre, scale, reference=None) -> FeatureSpace:
    names = tuple("ab"[: len(centre)])
    return FeatureSpace(
        "s", "mirv2025", kind, names, np.array(centre), np.array(scale), reference=reference or {}
    )


def test_reference_minmax_clips_and_counts():
    values = np.array([[1.0, 9.0], [3.0, 15.0]])
    space = replace(
        one("minmax", [0.0, 10.0], [2.0, 5.0]), low=np.array([0.0, 10]), high=np.array([2.0, 15])
    )
    assert space.scaled(values).tolist() == [[0.5, 0.0], [1.0, 1.0]]
    assert space.n_outside(values) == 2
    assert one("minmax", [0.0, 10.0], [2.0, 5.0]).n_outside(values) is None


def test_zscore_is_not_clipped():
    scaled = one("zscore", [1.0], [2.0]).scaled(np.array([[7.0], [-1.0]]))
    assert scaled.ravel().tolist() == [3.0, -1.0]


def test_patient_minmax_takes_the_patient_s_own_range():
    space = patient_minmax(load_profile("henry2022"))
    assert len(space.names) == 8
    values = np.column_stack([np.arange(5.0)] * 7 + [np.full(5, 3.0)])
    scaled = space.scaled(values)
    assert scaled[:, 0].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert not scaled[:, 7].any()


def test_percentiles():
    space = one("zscore", [0.0], [1.0], {"mtd": tuple(np.linspace(0, 2, 101)), "flat": (1.0,) * 3})
    assert space.percentile("mtd", 0.5) == pytest.approx(25)
    assert space.percentile("mtd", 3.0) == 100
    assert space.percentile("mtd", -1.0) == 0
    assert space.percentile("flat", 1.0) == pytest.approx(50)
    assert space.percentile("other", 1.0) is None


def test_lesions_without_a_feature_are_left_out_and_said(lesions):
    space = one("zscore", [0.0, 0.0], [1.0, 1.0])
    used, values, left_out = vectors(
        space, lesions([[1, 2], [3, 4], [5, 6]], names="ab", missing={1: "b"}, excluded=[2])
    )
    assert used == [0]
    assert values.tolist() == [[1, 2]]
    assert left_out[1].code == "feature_missing"
    assert "b" in left_out[1].detail
    assert left_out[2].code == "timeout"
