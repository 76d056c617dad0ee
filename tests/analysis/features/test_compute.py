"""Feature names against PyRadiomics' own tables."""

import warnings
from dataclasses import replace

import pytest

from mirv.analysis.features.names import feature_names
from mirv.config.feature_names import DEPRECATED, FEATURES
from mirv.config.profiles import load_profile

HENRY = load_profile("henry2022")


def test_the_table_is_pyradiomics_own() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from radiomics import getFeatureClasses
    own = {kind: found.getFeatureNames() for kind, found in getFeatureClasses().items()}
    assert set(own) == set(FEATURES)
    for kind, features in own.items():
        assert FEATURES[kind] == tuple(name for name, old in features.items() if not old)
        assert set(DEPRECATED.get(kind, ())) <= {name for name, old in features.items() if old}


def test_counts_by_class() -> None:
    """107 = 14 shape + 18 + 24 + 16 + 16 + 5 + 14 (R-FEAT-1); 1218 = 14 * 86 + 14 (R-FEAT-2)."""
    names = feature_names(HENRY)
    kinds = [name.split("_")[1] for name in names]
    assert [kinds.count(kind) for kind in HENRY.feature_classes] == [14, 18, 24, 16, 16, 5, 14]
    assert len(set(feature_names(load_profile("mirv2025")))) == 1218


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_features": 108}, "found 107 features, wanted n_features = 108"),
        ({"feature_classes": {"shape": [], "magic": []}}, "unknown feature class 'magic'"),
        ({"feature_classes": {"shape": ["Roundness"]}}, "unknown shape feature Roundness"),
        ({"image_types": {"LBP3D": {}}}, "'LBP3D' is not supported"),
        ({"selected": ("original_shape_Nothing",)}, "does not yield"),
    ],
)
def test_a_profile_that_cannot_be_carried_out_is_refused(
    changed: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        feature_names(replace(HENRY, **changed))


def test_names_of_filtered_images() -> None:
    profile = replace(
        HENRY,
        feature_classes={"ngtdm": ["Busyness"]},
        image_types={"LoG": {"sigma": [1.0, 2.5]}, "Wavelet": {"level": 2}},
        settings={**HENRY.settings, "force2D": True},
        selected=(),
        n_features=9,
    )
    assert feature_names(profile)[:3] == (
        "log-sigma-1-0-mm-3D_ngtdm_Busyness",
        "log-sigma-2-5-mm-3D_ngtdm_Busyness",
        "wavelet-LH_ngtdm_Busyness",
    )
    assert feature_names(profile)[-1] == "wavelet2-LL_ngtdm_Busyness"
