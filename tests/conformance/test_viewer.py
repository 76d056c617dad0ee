"""What OHIF reads with (dcmjs, @cornerstonejs/adapters from npm) sees in our objects."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from mirv.analysis.masks.axes import axial_axes
from mirv.analysis.model import Lesion
from mirv.dicom_io.model import Predecessor, StudyInput
from mirv.dicom_io.outputs import render
from mirv.dicom_io.outputs.segmentation.lesion_seg import LESION_SEG
from tests.conformance.odd_orders import odd_study
from tests.conftest import IN_CI
from tests.dicom_io.outputs.samples import PROFILES, context_of, result_of

pytestmark = pytest.mark.peers
SOURCE = Path(__file__).parent / "viewer"


def leave_out(reason: str) -> NoReturn:
    """Skip what cannot run here; in CI nothing may be skipped."""
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def packages() -> Path:
    """A folder with the packages, installed once and kept for the next run."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        leave_out("not installed: node, npm")
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
            leave_out(f"npm cannot install the packages: {done.stderr[-300:]}")
    shutil.copy(SOURCE / "read.mjs", cache / "read.mjs")
    return cache


def _described(study: StudyInput, folder: Path, **options: object) -> Path:
    """Outputs of the study as files, and what the viewer knows of the images."""
    artifacts = {
        a.role: a
        for a in render(study, result_of(study, PROFILES[:1]), context_of("core", **options))
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


def _read(study: StudyInput, folder: Path, packages: Path, **options: object) -> dict[str, Any]:
    done = subprocess.run(
        ["node", packages / "read.mjs", _described(study, folder, **options)],
        capture_output=True, text=True, timeout=120, check=False, cwd=packages,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    read: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return read


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyInput:
    """Twelve lesions received as segments 1, 10, 11, 12, 2 ... with gaps in their numbers."""
    return odd_study(tmp_path_factory.mktemp("viewer"), gaps=True)[0]


@pytest.fixture(scope="module")
def overlapping(tmp_path_factory: pytest.TempPathFactory) -> StudyInput:
    """The same with overlaps."""
    return odd_study(tmp_path_factory.mktemp("overlapping"), overlaps=True)[0]


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


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segments_have_their_voxels(
    study: StudyInput, packages: Path, tmp_path: Path, kind: str
) -> None:
    """Of a revision too: what it replaces is named beside the images and hides none."""
    before = {"lesion_seg": Predecessor(LESION_SEG.sop_class_uid, "1.2.3", "1.2")}
    options = {"segmentation": kind, "predecessor": before}
    segments = _read(study, tmp_path, packages, **options)["segments"]
    read = _voxels(segments, study.volume.geometry.shape[2])
    assert not segments["overlapping"]
    for lesion in study.lesions:
        assert read[lesion.tracking_uid] == _wanted(lesion)


def _wanted(lesion: Lesion) -> set[tuple[int, int, int]]:
    inside = np.argwhere(lesion.mask.values) + np.array(lesion.mask.start)
    return {(voxel[0], voxel[1], voxel[2]) for voxel in inside.tolist()}


def test_overlapping_segments_have_their_voxels_from_the_lowest_top_upwards(
    overlapping: StudyInput, packages: Path, tmp_path: Path
) -> None:
    lesions = sorted(
        overlapping.lesions, key=lambda a: int(np.flatnonzero(a.mask.full().any(axis=(1, 2)))[-1])
    )
    study = replace(overlapping, lesions=tuple(lesions))
    segments = _read(study, tmp_path, packages)["segments"]
    assert segments["overlapping"]
    read = _voxels(segments, study.volume.geometry.shape[2])
    for lesion in study.lesions:
        assert read[lesion.tracking_uid] == _wanted(lesion)


def test_overlapping_segments_in_another_order_are_never_mixed_up(
    overlapping: StudyInput, packages: Path, tmp_path: Path
) -> None:
    """What is shown is right, and of its lesion; but adapters 5.14.0 lose planes.

    To merge segments into layers they walk over the longer of two sparse arrays of planes
    (`compactMergeSegmentDataWithoutInformationLoss`), which skips the planes that only the
    shorter one has. Every other reader finds them: `test_tracking`.
    """
    segments = _read(overlapping, tmp_path, packages)["segments"]
    assert segments["overlapping"]
    read = _voxels(segments, overlapping.volume.geometry.shape[2])
    for lesion in overlapping.lesions:
        assert read.get(lesion.tracking_uid, set()) <= _wanted(lesion)
