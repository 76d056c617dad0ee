"""Quality: the eleven flags, artifacts in lesions, the description table, and a whole folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from mirv.analysis.model import Geometry, Lesion, Mask, Volume
from mirv.config.settings.processing import Quality, Reading
from mirv.dicom_io.files.folder import headers_of_folder
from mirv.dicom_io.model import QualityRow
from mirv.dicom_io.phantom.patient import Phantom, write_study
from mirv.dicom_io.study.check_folder import check_folder
from mirv.dicom_io.study.description import describe
from mirv.dicom_io.study.lesion_checks import artifact_rows
from mirv.dicom_io.study.series_checks import FLAGS

SMALL: dict[str, Any] = {"n_lesions": 2, "shape": (16, 64, 64), "spacing": (5.0, 2.4, 2.4)}


def rows(folder: Path, quality: Quality | None = None) -> dict[str, QualityRow]:
    """Checks of the series by name."""
    found = check_folder([folder], Reading(quality=quality or Quality()))
    return {row.check: row for row in found}


def outcomes(folder: Path, quality: Quality | None = None) -> dict[str, str]:
    return {check: row.outcome for check, row in rows(folder, quality).items()}


def edit_all(phantom: Phantom, **tags: Any) -> None:
    for path in phantom.ct:
        ds = pydicom.dcmread(path)
        for keyword, value in tags.items():
            if value is None:
                del ds[keyword]
            else:
                setattr(ds, keyword, value)
        ds.save_as(path)


def test_eleven_flags_of_a_good_series(tmp_path: Path) -> None:
    write_study(tmp_path, **SMALL)
    found = outcomes(tmp_path)
    assert len(FLAGS) == 11
    assert {check: found[check] for check in FLAGS} == {
        "modality": "off",
        "axial_projection": "ok",
        "complete_scan": "ok",
        "scan_length": "off",
        "thickness_range": "off",
        "thickness_consistent": "ok",
        "pixel_spacing": "ok",
        "kernel_tag": "ok",
        "kernel_wanted": "off",
        "matrix": "off",
        "rescale": "ok",
    }
    assert (found["slice_distance"], found["contrast_phase"]) == ("ok", "ok")


GOOD = Quality(
    modalities=("CT",),
    thickness_range_mm=(1, 5),
    scan_length_range_mm=(50, 100),
    spacing_range_mm=(2, 3),
    matrix=(64, 64),
    kernels=("B30f", "B31f"),
)
POOR = Quality(
    modalities=("PT",),
    thickness_range_mm=(1, 3),
    scan_length_range_mm=(100, 200),
    spacing_range_mm=(0.5, 1),
    matrix=(512, 512),
    kernels=("B70f",),
    max_slice_distance_mm=4,
)
CONFIGURED = (
    "modality", "thickness_range", "scan_length", "pixel_spacing", "matrix", "kernel_wanted",
)  # fmt: skip


def test_configured_checks_say_ok_or_warn(tmp_path: Path) -> None:
    write_study(tmp_path, **SMALL)
    good, poor = outcomes(tmp_path, GOOD), rows(tmp_path, POOR)
    assert [good[check] for check in CONFIGURED] == ["ok"] * 6
    assert [poor[check].outcome for check in CONFIGURED] == ["warn"] * 6
    assert poor["slice_distance"].outcome == "warn"
    assert (poor["scan_length"].found, poor["scan_length"].wanted) == ("80 mm", "100 to 200 mm")


def test_missing_attributes_are_unknown_not_wrong(tmp_path: Path) -> None:
    phantom = write_study(tmp_path, **SMALL)
    edit_all(phantom, SliceThickness=None, ConvolutionKernel=None, SeriesDescription=None)
    found = outcomes(tmp_path, GOOD)
    for check in (
        "thickness_range", "thickness_consistent", "kernel_tag", "kernel_wanted", "contrast_phase",
    ):  # fmt: skip
        assert found[check] == "unknown", check


def test_a_named_check_refuses_also_when_it_cannot_be_made(tmp_path: Path) -> None:
    phantom = write_study(tmp_path, **SMALL)
    edit_all(phantom, SeriesDescription=None)
    found = outcomes(tmp_path, Quality(refuse=("contrast_phase",)))
    assert found["contrast_phase"] == "refused"


def test_inconsistent_thickness_and_oblong_pixels(tmp_path: Path) -> None:
    phantom = write_study(tmp_path, **{**SMALL, "spacing": (5.0, 2.4, 2.0)})
    ds = pydicom.dcmread(phantom.ct[3])
    ds.SliceThickness = "2.5"
    ds.save_as(phantom.ct[3])
    found = outcomes(tmp_path)
    assert found["thickness_consistent"] == "warn"
    assert found["pixel_spacing"] == "warn"


def test_irregular_series_has_flags_too(tmp_path: Path) -> None:
    phantom = write_study(tmp_path, **SMALL)
    phantom.ct[7].unlink()
    found = rows(tmp_path)
    assert found["missing_slices"].outcome == "refused"
    assert found["complete_scan"].outcome == "warn"
    assert "1 slice(s) missing" in found["complete_scan"].detail
    assert found["slice_distance"].outcome == "unknown"


def test_series_without_segmentation_is_checked(tmp_path: Path) -> None:
    write_study(tmp_path, **SMALL, seg=False)
    found = rows(tmp_path)
    assert found["complete_scan"].outcome == "ok"
    assert found["unmatched"].wanted == "a segmentation"


def test_artifacts_are_counted_in_the_lesion() -> None:
    values = np.full((4, 10, 10), 50, np.int16)
    values[1, 2, 2:7] = 2600
    values[1, 3, 2:4] = 3071
    values[2, 5, 5] = -2000
    values[3, 9, 9] = 3071  # outside the lesion
    full = np.zeros(values.shape, bool)
    full[1:3, 2:7, 2:7] = True
    lesion = Lesion(1, "a", "a", "2.25.1", "liver", Mask.from_full(full))
    volume = Volume(values, Geometry(values.shape, np.eye(4)), "HU")
    found = artifact_rows(volume, [lesion], (-2000.0,), Quality(), "1.2", "1.3")
    assert [(row.check, row.found, row.outcome) for row in found] == [
        ("metal_in_lesion", "7 voxels, 14.00 %", "warn"),
        ("saturated_in_lesion", "2 voxels, 4.00 %", "warn"),
        ("padding_in_lesion", "1 voxels, 2.00 %", "warn"),
    ]
    loose = Quality(max_artifact_percent=10, refuse=("metal_in_lesion",))
    again = artifact_rows(volume, [lesion], (), loose, "1.2", "1.3")
    assert [row.outcome for row in again] == ["refused", "ok"]


def test_clean_lesions_have_no_artifact_rows(tmp_path: Path) -> None:
    write_study(tmp_path, **SMALL)
    assert not [check for check in rows(tmp_path) if check.endswith("_in_lesion")]


def test_description_table(tmp_path: Path) -> None:
    phantom = write_study(tmp_path, **SMALL)
    ds = pydicom.dcmread(phantom.ct[0])
    ds.SliceThickness = "2.5"
    ds.save_as(phantom.ct[0])
    (row,) = describe(headers_of_folder([tmp_path]).headers)
    assert row["Modality"] == "CT"
    assert row["instances"] == 16
    assert row["KVP"] == "120"
    assert row["SliceThickness"] == "2.5 | 5"
    assert row["EchoTime"] is None
    assert "Phantom" not in str(row)
    slices = describe(headers_of_folder([tmp_path]).headers, per_slice=True)
    assert len(slices) == 16
    assert sorted(str(one["SliceThickness"]) for one in slices) == ["2.5"] + ["5"] * 15


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_study(tmp_path, **SMALL)
    (tmp_path / "notes.txt").write_text("a text file")
    assert rows(tmp_path)["not_dicom"].file == "notes.txt"
