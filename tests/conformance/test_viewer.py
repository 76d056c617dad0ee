"""What OHIF reads with (dcmjs, @cornerstonejs/adapters from npm) sees in our objects."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.axes import axial_axes
from dicom_io.model import StudyInput
from dicom_io.outputs import render
from tests.dicom_io.outputs.samples import PROFILES, context_of, phantom_study, result_of

pytestmark = pytest.mark.peers
SOURCE = Path(__file__).parent / "viewer"


@pytest.fixture(scope="module")
def packages() -> Path:
    """A folder with the packages, installed once and kept for the next run."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("not installed: node, npm")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mirv-node-viewer"
    cache.mkdir(parents=True, exist_ok=True)
    wanted = (SOURCE / "package.json").read_text()
    marker = cache / "package.json"
    if not (cache / "node_modules").is_dir() or marker.read_text() != wanted:
        marker.write_text(wanted)
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", cache],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if done.returncode:
            shutil.rmtree(cache / "node_modules", ignore_errors=True)
            pytest.skip(f"npm cannot install the packages: {done.stderr[-300:]}")
    shutil.copy(SOURCE / "read.mjs", cache / "read.mjs")
    return cache


def _described(study: StudyInput, folder: Path) -> Path:
    """Outputs of the study as files, and what the viewer knows of the images."""
    artifacts = {
        a.role: a for a in render(study, result_of(study, PROFILES[:1]), context_of("core"))
    }
    for role in ("headline_sr", "lesion_seg"):
        (folder / f"{role}.dcm").write_bytes(artifacts[role].content)
    first = study.evidence.images[0]
    images = [
        {
            "uid": str(image.SOPInstanceUID),
            "rows": int(image.Rows),
            "columns": int(image.Columns),
            "position": [float(v) for v in image.ImagePositionPatient],
            "orientation": [float(v) for v in image.ImageOrientationPatient],
            "spacing": [float(v) for v in image.PixelSpacing],
            "thickness": float(image.SliceThickness),
        }
        for image in study.evidence.images
    ]
    content = {
        "report": str(folder / "headline_sr.dcm"),
        "segmentation": str(folder / "lesion_seg.dcm"),
        "frameOfReference": str(first.FrameOfReferenceUID),
        "series": str(first.SeriesInstanceUID),
        "imageClass": str(first.SOPClassUID),
        "images": images,
    }
    path = folder / "study.json"
    path.write_text(json.dumps(content))
    return path


def _read(study: StudyInput, folder: Path, packages: Path) -> dict[str, Any]:
    done = subprocess.run(
        ["node", packages / "read.mjs", _described(study, folder)],
        capture_output=True, text=True, timeout=120, check=False, cwd=packages,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    read: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return read


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyInput:
    """A phantom of 12 lesions."""
    return phantom_study(tmp_path_factory.mktemp("viewer"))


@pytest.fixture(scope="module")
def seen(
    study: StudyInput, packages: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Measurements and segments as read."""
    return _read(study, tmp_path_factory.mktemp("seen"), packages)


def test_axes_have_length_slice_and_tracking_uid(study: StudyInput, seen: dict[str, Any]) -> None:
    found = {m["tracking"]: m for m in seen["measurements"]}
    assert set(found) == {lesion.tracking_uid for lesion in study.lesions}
    for lesion in study.lesions:
        drawn, wanted = (
            found[lesion.tracking_uid],
            axial_axes(lesion.mask, study.volume.geometry),
        )
        assert drawn["tool"] == "Bidirectional"
        assert drawn["label"] == lesion.tracking_id
        assert drawn["stats"]["length"] == pytest.approx(wanted.long_mm, rel=1e-8)
        assert drawn["stats"]["unit"] == "mm"
        image = study.evidence.images[wanted.plane]
        assert drawn["image"] == image.SOPInstanceUID
        ends = np.array(drawn["points"])
        assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(wanted.long_mm, abs=1e-3)
        assert np.linalg.norm(ends[3] - ends[2]) == pytest.approx(drawn["stats"]["width"], abs=1e-3)
        np.testing.assert_allclose(ends[:, 2], float(image.ImagePositionPatient[2]))


def _voxels(segments: dict[str, Any], columns: int) -> dict[str, set[tuple[int, int, int]]]:
    return {
        segments["tracked"][number]: {(s, *divmod(index, columns)) for s, index in found}
        for number, found in segments["counts"].items()
    }


def test_segments_have_their_voxels(study: StudyInput, seen: dict[str, Any]) -> None:
    segments = seen["segments"]
    read = _voxels(segments, study.volume.geometry.shape[2])
    assert not segments["overlapping"]
    for lesion in study.lesions:
        inside = np.argwhere(lesion.mask.values) + np.array(lesion.mask.start)
        assert read[lesion.tracking_uid] == {tuple(voxel) for voxel in inside.tolist()}
