"""Quick-check images (R-QI-1): every slice of every lesion, edge where the mask ends."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from scipy import ndimage

from mirv.analysis.model import Volume
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.outputs.pages.pictures import (
    BONE,
    LUNG,
    RED,
    SOFT_TISSUE,
    Window,
    quick_check,
    window_for,
    write_quick_check,
)
from mirv.dicom_io.outputs.segmentation.frames import plane_of


def test_one_image_a_slice_with_the_edge_in_red(study: StudyInput) -> None:
    images = {image.name: image.pixels for image in quick_check(study)}
    planes = [
        (lesion, plane)
        for lesion in study.lesions
        for plane in range(study.volume.geometry.shape[0])
        if plane_of(lesion, plane).any()
    ]
    assert len(images) == len(planes)
    for lesion, plane in planes:
        pixels = images[f"lesion-{lesion.number:03d}_slice-{plane:04d}"]
        columns = pixels.shape[1] // 2
        plain, drawn = pixels[:, :columns], pixels[:, columns:]
        assert (plain[..., 0] == plain[..., 1]).all()
        red = (drawn == RED).all(axis=2)
        mask = plane_of(lesion, plane)
        # Within one pixel of the mask's edge, and all around it.
        ring = ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask)
        assert not (red & ~ring).any()
        np.testing.assert_array_equal(ndimage.binary_fill_holes(red), mask)


def test_files_are_the_same_each_time_and_name_nobody(study: StudyInput, tmp_path: Path) -> None:
    counts = [write_quick_check(study, tmp_path / name) for name in ("a", "b")]
    files = sorted((tmp_path / "a").iterdir())
    assert counts == [len(files)] * 2
    for path in files:
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        assert b"PHANTOM" not in path.read_bytes()
        assert "PHANTOM" not in path.name
    assert matplotlib.image.imread(files[0]).shape[:2] == (128, 256)


@pytest.mark.parametrize(("site", "window"), [("lung", LUNG), ("bone", BONE), ("x", SOFT_TISSUE)])
def test_window_follows_the_site(study: StudyInput, site: str, window: Window) -> None:
    assert window_for(study.volume, site) == window


def test_images_without_hounsfield_units_are_windowed_by_their_values(study: StudyInput) -> None:
    values = study.volume.values.astype(np.float32) / 100
    window = window_for(Volume(values, study.volume.geometry, "BQML"), "lung")
    assert window.centre == pytest.approx(np.percentile(values, (1, 99)).mean(), rel=1e-5)
    assert Window(0, 2).grey(np.array([-5.0, 0.0, 5.0])).tolist() == [0, 0.5, 1]
