"""Difference 0 from PyRadiomics on whole volumes, on real CT with real and synthetic lesions."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest

from analysis.extraction import Extractor
from analysis.model import Geometry, Lesion, Mask, Volume
from config.profiles import load_profile
from tests.analysis import extraction_reference as reference

pytestmark = pytest.mark.shared
PROFILES = [load_profile("henry2022"), load_profile("mirv2025")]


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    with Extractor(2) as pool:
        yield pool


def read_ct(folder: Path) -> tuple[Volume, list[str]]:
    """A CT series by position, HU as 16-bit integers; and its SOP Instance UIDs in slice order."""
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    along = np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(*along)
    slices.sort(key=lambda s: float(normal @ np.array(s.ImagePositionPatient, float)))
    corners = np.array([s.ImagePositionPatient for s in slices], float)
    row_mm, column_mm = (float(mm) for mm in slices[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0] = (corners[-1] - corners[0]) / (len(slices) - 1)
    affine[:3, 1] = along[1] * row_mm
    affine[:3, 2] = along[0] * column_mm
    affine[:3, 3] = corners[0]
    values = np.stack(
        [s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices]
    )
    geometry = Geometry(values.shape, affine)
    return Volume(values.astype(np.int16), geometry, "HU"), [s.SOPInstanceUID for s in slices]


def read_lesions(path: Path, volume: Volume) -> tuple[Lesion, ...]:
    """Segments of a BINARY SEG on the CT's slices."""
    seg = pydicom.dcmread(path)
    pixels = seg.pixel_array
    masks: dict[int, np.ndarray] = {}
    for frame, groups in enumerate(seg.PerFrameFunctionalGroupsSequence):
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        corner = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        at = round(float(volume.geometry.to_index(corner[None])[0, 0]))
        masks.setdefault(number, np.zeros(volume.geometry.shape, bool))[at] |= pixels[frame] > 0
    return tuple(
        Lesion(number, f"segment {number}", "", f"2.25.{number}", "unknown", Mask.from_full(mask))
        for number, mask in sorted(masks.items())
    )


def differences(extractor: Extractor, volume: Volume, found: tuple[Lesion, ...]) -> list[str]:
    """Names of features that differ at all from the whole-volume call."""
    off = []
    results = extractor.extract(volume, found, PROFILES)
    pairs = [(profile, lesion) for profile in PROFILES for lesion in found]
    for result, (profile, lesion) in zip(results, pairs, strict=True):
        assert result.excluded is None, (lesion.label, result.excluded)
        expected = reference.plain(volume, lesion.mask, profile)
        same = (result.values == expected) | (np.isnan(result.values) & ~np.isfinite(expected))
        off += [f"{profile.name} {lesion.label} {n}" for n in np.array(result.names)[~same]]
    return off


def test_ml12_lesions_equal_the_whole_volume(extractor: Extractor, shared: Path) -> None:
    """All 12 lesions, both profiles."""
    folder = shared / "multilesion/ML12/baseline"
    volume, _ = read_ct(folder / "CT")
    found = read_lesions(folder / "SEG_lesions.dcm", volume)
    assert len(found) == 12
    assert differences(extractor, volume, found) == []
