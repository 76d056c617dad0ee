"""The same masks as plastimatch and dcmqi, read in the same run; where rules differ, by name."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name its users know

from mirv.config.settings.processing import Reading
from mirv.dicom_io.files.values import read_dataset
from mirv.dicom_io.images.series import read_series
from mirv.dicom_io.masks.rtstruct import read_rtstruct
from tests.bench.reading import decompressed, read_folder

pytestmark = [pytest.mark.shared, pytest.mark.peers]

UNION_RULE = {
    # Every contour is stored twice: nothing by even-odd filling, 124.49 ml when contours unite.
    "1,SUV_primair",
}
BORDER_RULE = {
    # Single voxels whose centre lies on a contour: either side is right.
    "PTV-1": 2,
    "Lung R": 3,
}


def _voxels(path: Path) -> int:
    return int(np.count_nonzero(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))))


def test_lung1_against_plastimatch(shared: Path, tmp_path: Path) -> None:
    """17 ROIs: 7 with a volume equal to the voxel, two but for border voxels, one by another rule,
    the rest points without a volume."""
    ct = decompressed(shared / "lung1_001" / "CT", tmp_path / "CT")
    structure = shared / "lung1_001" / "RTSTRUCT_2018_CMS.dcm"
    subprocess.run(
        ["plastimatch", "convert", "--input", structure, "--referenced-ct", ct,
         "--output-prefix", tmp_path / "masks", "--prefix-format", "nrrd"],
        check=True, capture_output=True,
    )  # fmt: skip
    theirs = {path.stem: _voxels(path) for path in (tmp_path / "masks").glob("*.nrrd")}
    geometry = read_series(sorted(ct.glob("*.dcm"))).volume.geometry
    rois = read_rtstruct(read_dataset(structure), geometry)
    compared = 0
    for roi in rois:
        if roi.mask is None:
            assert roi.refusal is not None
            continue
        limit = BORDER_RULE.get(roi.label, 0)
        assert abs(roi.mask.n_voxels - theirs[roi.label]) <= limit, roi.label
        compared += 1
    assert compared == 7
    (union,) = [roi for roi in rois if roi.label in UNION_RULE]
    assert union.refusal is not None
    assert union.refusal.code == "duplicate_contours"


def test_ml40_against_dcmqi(shared: Path, tmp_path: Path) -> None:
    """All 40 segments, voxel counts by tracking UID."""
    tool = Path(sys.executable).parent / "segimage2itkimage"
    source = shared / "multilesion" / "ML40" / "baseline"
    subprocess.run(
        [tool, "--inputDICOM", source / "SEG_lesions.dcm", "--outputDirectory", tmp_path,
         "--prefix", "q", "--outputType", "nrrd"],
        check=True, capture_output=True,
    )  # fmt: skip
    meta = json.loads((tmp_path / "q-meta.json").read_text())
    theirs: dict[str, int] = {}
    for group, segments in enumerate(meta["segmentAttributes"], start=1):
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"q-{group}.nrrd")))
        for segment in segments:
            theirs[segment["TrackingUniqueIdentifier"]] = int(
                np.count_nonzero(values == segment["labelID"])
            )
    study = read_folder(source, Reading())
    assert {x.tracking_uid: x.mask.n_voxels for x in study.lesions} == theirs


def test_ml40_against_plastimatch(shared: Path, tmp_path: Path) -> None:
    """All 40 ROIs of the RTSTRUCT, equal to the voxel."""
    source = shared / "multilesion" / "ML40" / "baseline"
    study = tmp_path / "study"
    ct = decompressed(source / "CT", study / "CT")
    shutil.copy(source / "RTSTRUCT_lesions.dcm", study / "rt.dcm")
    subprocess.run(
        ["plastimatch", "convert", "--input", study / "rt.dcm", "--referenced-ct", ct,
         "--output-prefix", tmp_path / "masks", "--prefix-format", "nrrd"],
        check=True, capture_output=True,
    )  # fmt: skip
    theirs = {path.stem: _voxels(path) for path in (tmp_path / "masks").glob("*.nrrd")}
    found = {x.label: x.mask.n_voxels for x in read_folder(study, Reading()).lesions}
    assert found == theirs
    assert len(found) == 40
