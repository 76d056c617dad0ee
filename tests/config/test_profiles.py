"""Profiles: what they hold, their digests, and taking in PyRadiomics' own parameter files."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from mirv.analysis.extraction.pool import Extractor
from mirv.analysis.features.names import feature_names
from mirv.config.profiles import dump_profile, import_parameter_file, load_profile, profile_names
from tests.analysis.extraction import reference

PINNED = {
    "henry2022": "a388ddf4d4814727b6f5a3a84e321a61f4af7fdf98b7d009dfa6ea7a972d5210",
    "ibsi-a": "c62d7cea57855305a26bae69fb408f11c4a0d85e5354960ba73e4c587f2c8378",
    "ibsi-b": "f6ce7f1480188c468a35d2b2ecd3103a7711f878251bae071e0f17a2d9c2e66b",
    "ibsi-c": "d5c5a35bfe24a5327915cffc68ed4f2625162b61ada89b35b780bbe6fba5959c",
    "ibsi-d": "53f08e0d6577e5ff6838b145f3c83ecce8917c0f7b0e0e7d7c0cce1b97a72e8d",
    "ibsi-e": "ad11916c57096270be61edde9f7743a6cd7f71b01706ec942c36bcd55ed51d85",
    "mirv2025": "fa25308ab8f15a6f568a0844b3ec49a44f9a2d53b68fdb07c766985969e11a5d",
}


@pytest.mark.parametrize("name", profile_names())
def test_digests_are_pinned(name: str) -> None:
    """A change here changes numbers, or the identity of every result: bump knowingly."""
    assert load_profile(name).digest() == PINNED[name]


@pytest.mark.parametrize("name", profile_names())
def test_shipped_profiles_can_be_carried_out_and_written(name: str, tmp_path: Path) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert len(feature_names(profile)) == profile.n_features
    again = tmp_path / "again.yaml"
    again.write_text(dump_profile(profile), encoding="utf-8")
    assert load_profile(str(again)) == profile


@pytest.mark.parametrize(
    "change",
    [
        {"pixel_type": "float32"},
        {"preprocessing": "ibsi"},
        {"perturbation_mm": 2.0},
        {"selected": ()},
        {"settings": {"binWidth": 11}},
        {"image_types": {"Original": {"binWidth": 11}}},
        {"n_features": 106},
        {"name": "other"},
    ],
    ids=str,
)
def test_whatever_changes_a_number_changes_the_digest(change: dict[str, object]) -> None:
    profile = load_profile("henry2022")
    assert replace(profile, **change).digest() != profile.digest()
    assert replace(profile, description="said otherwise").digest() == profile.digest()


PARAMETERS = {
    "imageType": {"Original": {}, "LoG": {"sigma": [2.0, 3.0]}, "Wavelet": {}},
    "featureClass": {"shape": None, "firstorder": ["Mean", "Energy"], "glcm": [], "ngtdm": None},
    "setting": {
        "binWidth": 20,
        "interpolator": 2,
        "resampledPixelSpacing": [2, 2, 2],
        "label": 1,
        "geometryTolerance": 0.0001,
        "minimumROISize": None,
    },
}


def written(tmp_path: Path, content: object, name: str = "Params.yaml") -> Path:
    path = tmp_path / name
    text = json.dumps(content) if name.endswith("json") else yaml.safe_dump(content)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["Params.yaml", "Params.json"])
def test_a_parameter_file_means_what_it_means_to_pyradiomics(tmp_path: Path, name: str) -> None:
    """Taken in, extracted, and compared with PyRadiomics reading the same file itself."""
    path = written(tmp_path, PARAMETERS, name)
    profile = import_parameter_file(path, "theirs")
    assert profile.settings["interpolator"] == "sitkLinear"
    assert profile.settings["padDistance"] == 5
    geometry = reference.grid((40, 50, 50), (2.5, 0.9, 0.9))
    volume = reference.noisy(geometry)
    (lesion,) = reference.lesions(reference.ball(geometry, (20, 25, 25), 9))
    with Extractor(1) as pool:
        (result,) = pool.extract(volume, [lesion], [profile])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from radiomics.featureextractor import RadiomicsFeatureExtractor

        from tests.analysis.itk import to_sitk

        extractor = RadiomicsFeatureExtractor(str(path))
        extractor.settings["additionalInfo"] = False
        found = extractor.execute(
            to_sitk(volume.values, geometry),
            to_sitk(lesion.mask.full().astype(np.uint8), geometry),
        )
    assert tuple(found) == result.names
    np.testing.assert_array_equal(result.values, [float(value) for value in found.values()])


def test_an_empty_parameter_file_gets_pyradiomics_defaults(tmp_path: Path) -> None:
    profile = import_parameter_file(written(tmp_path, {"setting": {}}), "defaults")
    assert profile.settings["binWidth"] == 25
    assert profile.image_types == {"Original": {}}
    assert "shape2D" not in profile.feature_classes
    assert profile.n_features == 107


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"setting": {"binWith": 5}}, "unknown setting binWith"),
        ({"imageType": {"LBP3D": {}}}, "'LBP3D' is not supported"),
        ({"featureClass": {"shape": ["Roundness"]}}, "unknown shape feature Roundness"),
        ({"featureClass": {"magic": None}}, "unknown feature class 'magic'"),
        ({"voxelSetting": {"kernelRadius": 2}}, "cannot take in section voxelSetting"),
        ({"setting": {"interpolator": "sitkCubic"}}, "found 'sitkCubic'"),
        ({"setting": [1, 2]}, "found list, wanted a mapping"),
        (["not", "a", "mapping"], "found list, wanted a mapping"),
    ],
    ids=str,
)
def test_what_cannot_be_taken_in_is_named(tmp_path: Path, change: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        import_parameter_file(written(tmp_path, change), "theirs")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": 1}, "unknown field surprise"),
        ({"n_features": None}, "n_features: found None, wanted a int"),
        ({"settings": []}, r"settings: found \[\], wanted a dict"),
        ({"name": "../etc"}, "wanted 1 to 64 letters"),
        ({"pixel_type": "int8"}, "wanted one of int16, float32, float64"),
        ({"preprocessing": "magic"}, "wanted one of pyradiomics, ibsi"),
    ],
    ids=str,
)
def test_a_profile_file_with_a_fault_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    content = yaml.safe_load(dump_profile(load_profile("henry2022")))
    path = written(tmp_path, {**content, **change}, "mine.yaml")
    with pytest.raises(ValueError, match=message):
        load_profile(str(path))


def test_an_unknown_profile_lists_the_shipped_ones() -> None:
    with pytest.raises(ValueError, match="henry2022, ibsi-a"):
        load_profile("henry2020")


def test_a_profile_without_a_field_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="missing field description"):
        load_profile(str(written(tmp_path, {"name": "mine"}, "mine.yaml")))
