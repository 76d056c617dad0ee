"""Enhanced multi-frame CT, MR and PET, and single-frame MR and PET, as volumes."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from mirv.analysis.errors import Unsuitable
from mirv.analysis.model import Geometry
from mirv.config.settings.processing import Reading
from mirv.dicom_io.files.folder import headers_of_folder
from mirv.dicom_io.images.series import read_series
from mirv.dicom_io.phantom.patient import Phantom, write_study
from mirv.dicom_io.phantom.writers import Identity, save, write_ct
from mirv.dicom_io.study.assemble import assemble
from mirv.dicom_io.study.matching import match
from tests.dicom_io.same_grid import same_grid

ENHANCED = {
    "CT": "1.2.840.10008.5.1.4.1.1.2.1",
    "MR": "1.2.840.10008.5.1.4.1.1.4.1",
    "PT": "1.2.840.10008.5.1.4.1.1.130",
}
JPEG_LS = "1.2.840.10008.1.2.4.80"


def _sequence(**tags: object) -> list[pydicom.Dataset]:
    element = pydicom.Dataset()
    for keyword, value in tags.items():
        setattr(element, keyword, value)
    return [element]


def enhanced(slices: list[Path], target: Path, kind: str, syntax: str = "") -> Path:
    """Single slices made one multi-frame object, frames in a mixed order, rescale per frame."""
    order = np.random.default_rng(4).permutation(len(slices))
    parts = [pydicom.dcmread(slices[i]) for i in order]
    ds = parts[0].copy()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = ENHANCED[kind], "1.2.3.4.5", kind
    ds.NumberOfFrames = len(parts)
    ds.PixelData = b"".join(part.PixelData for part in parts)
    shared = pydicom.Dataset()
    shared.PlaneOrientationSequence = _sequence(ImageOrientationPatient=ds.ImageOrientationPatient)
    shared.PixelMeasuresSequence = _sequence(PixelSpacing=ds.PixelSpacing)
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = []
    for part in parts:
        group = pydicom.Dataset()
        group.PlanePositionSequence = _sequence(ImagePositionPatient=part.ImagePositionPatient)
        group.PixelValueTransformationSequence = _sequence(
            RescaleSlope=part.RescaleSlope,
            RescaleIntercept=part.RescaleIntercept,
            RescaleType="HU" if kind == "CT" else "US",
        )
        ds.PerFrameFunctionalGroupsSequence.append(group)
    for keyword in (
        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope",
        "RescaleIntercept", "RescaleType",
    ):  # fmt: skip
        delattr(ds, keyword)
    return save(ds, target, syntax or "1.2.840.10008.1.2.1")


@pytest.fixture
def phantom(tmp_path: Path) -> Phantom:
    return write_study(tmp_path / "plain", n_lesions=2, shape=(16, 64, 64), spacing=(5.0, 2.4, 2.4))


@pytest.mark.parametrize("syntax", ["", JPEG_LS])
@pytest.mark.parametrize("kind", ENHANCED)
def test_enhanced_equals_single_frames(
    phantom: Phantom, tmp_path: Path, kind: str, syntax: str
) -> None:
    path = enhanced(list(phantom.ct), tmp_path / "enhanced.dcm", kind, syntax)
    series = read_series([path])
    assert np.array_equal(series.volume.values, phantom.values)
    assert same_grid(series.volume.geometry, phantom.geometry, 1e-3)
    assert series.volume.unit == ("HU" if kind == "CT" else "1")
    ds = pydicom.dcmread(path)
    for index in (0, 7, 15):
        image, frame = series.frame_of[index]
        assert image == 0
        assert frame is not None
        place = ds.PerFrameFunctionalGroupsSequence[frame - 1].PlanePositionSequence[0]
        wanted = phantom.geometry.to_lps(np.array([[index, 0.0, 0.0]]))[0]
        assert np.array(place.ImagePositionPatient, float) == pytest.approx(wanted, abs=1e-3)


def test_enhanced_with_its_segmentation(phantom: Phantom, tmp_path: Path) -> None:
    """The SEG names the single slices, which are gone: the series still joins them."""
    study = tmp_path / "study"
    study.mkdir()
    enhanced(list(phantom.ct), study / "enhanced.dcm", "CT")
    assert phantom.seg is not None
    (study / "seg.dcm").write_bytes(phantom.seg.read_bytes())
    found = headers_of_folder([study])
    (selection,) = match(found.headers, Reading()).selections
    assert selection.matched_by[0][1] == "series"
    result = assemble(selection, found.paths.__getitem__, Reading())
    assert {x.tracking_uid: x.mask.n_voxels for x in result.lesions} == {
        x.tracking_uid: x.n_voxels for x in phantom.lesions
    }


def test_enhanced_missing_frame_is_refused(phantom: Phantom, tmp_path: Path) -> None:
    path = enhanced([*phantom.ct[:6], *phantom.ct[7:]], tmp_path / "enhanced.dcm", "CT")
    with pytest.raises(Unsuitable, match="missing_slices"):
        read_series([path])


@pytest.mark.parametrize(
    ("kind", "sop_class", "unit"),
    [("MR", "1.2.840.10008.5.1.4.1.1.4", "1"), ("PT", "1.2.840.10008.5.1.4.1.1.128", "BQML")],
)
def test_single_frame_mr_and_pet(tmp_path: Path, kind: str, sop_class: str, unit: str) -> None:
    """PET is scaled slice by slice; MR may have no rescale at all."""
    values = np.random.default_rng(1).integers(0, 900, (4, 8, 9)).astype(np.int16)
    geometry = Geometry((4, 8, 9), np.diag([2.0, 1, 1, 1])[[2, 1, 0, 3]])
    paths = write_ct(tmp_path, values, geometry, Identity())
    slopes = (0.5, 0.25, 2.0, 1.5)
    for path, slope in zip(paths, slopes, strict=True):
        ds = pydicom.dcmread(path)
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
        ds.Modality = kind
        if kind == "PT":
            ds.Units, ds.RescaleSlope, ds.RescaleIntercept = "BQML", str(slope), "0"
        else:
            del ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType
        ds.save_as(path)
    volume = read_series(paths).volume
    stored = values.astype(float) + 1024
    wanted = stored * np.array(slopes)[:, None, None] if kind == "PT" else stored
    along = volume.geometry.directions[:, 0] @ geometry.directions[:, 0]
    assert volume.unit == unit
    assert np.allclose(volume.values if along > 0 else volume.values[::-1], wanted)
