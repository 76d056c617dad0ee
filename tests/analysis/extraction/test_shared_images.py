"""Difference 0 from PyRadiomics on whole volumes, on real CT with real and synthetic lesions."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest

from mirv.analysis.extraction.pool import Extractor
from mirv.analysis.model import Geometry, Lesion, Mask, Volume
from mirv.config.profiles import ExtractionProfile, load_profile
from tests.analysis.extraction import reference

pytestmark = pytest.mark.shared
PROFILES = [load_profile("henry2022"), load_profile("mirv2025")]
IBSI = [load_profile(f"ibsi-{letter}") for letter in "abcde"]


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


def read_contours(path: Path, volume: Volume, roi: str) -> Lesion:
    """An ROI of an RTSTRUCT: voxel centres inside an odd number of contours of a slice."""
    structure = pydicom.dcmread(path)
    names = {r.ROINumber: r.ROIName for r in structure.StructureSetROISequence}
    (drawn,) = (r for r in structure.ROIContourSequence if names[r.ReferencedROINumber] == roi)
    full = np.zeros(volume.geometry.shape, bool)
    rows, columns = np.indices(full.shape[1:])
    for contour in drawn.ContourSequence:
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        index = volume.geometry.to_index(points)
        inside = np.zeros(full.shape[1:], bool)
        for (_, y0, x0), (_, y1, x1) in zip(index, np.roll(index, -1, axis=0), strict=True):
            if y0 != y1:
                crosses = (rows >= y0) != (rows >= y1)
                inside ^= crosses & (columns < x0 + (rows - y0) * (x1 - x0) / (y1 - y0))
        full[round(float(index[:, 0].mean()))] ^= inside
    return Lesion(1, "ROI", "", "2.25.1", "unknown", Mask.from_full(full))


def read_patient(shared: Path, patient: str) -> tuple[Volume, tuple[Lesion, ...]]:
    """Baseline CT and lesions of a patient of many."""
    folder = shared / "multilesion" / patient / "baseline"
    volume, _ = read_ct(folder / "CT")
    return volume, read_lesions(folder / "SEG_lesions.dcm", volume)


@pytest.fixture(scope="module")
def whole() -> Iterator[reference.WholeVolume]:
    with reference.WholeVolume() as pool:
        yield pool


def differences(
    extractor: Extractor,
    whole: reference.WholeVolume,
    volume: Volume,
    found: tuple[Lesion, ...],
    profiles: Sequence[ExtractionProfile] = PROFILES,
) -> list[str]:
    """Names of features that differ at all from the whole-volume call."""
    off = []
    results = extractor.extract(volume, found, profiles)
    wanted = whole.values(volume, found, profiles)
    for result, expected in zip(results, wanted, strict=True):
        assert result.excluded is None, (result.label, result.excluded)
        same = (result.values == expected) | (np.isnan(result.values) & ~np.isfinite(expected))
        off += [f"{result.profile} {result.label} {n}" for n in np.array(result.names)[~same]]
    return off


@pytest.mark.parametrize(("patient", "n"), [("ML12", 12), ("ML40", 40)])
def test_drawn_lesions_equal_the_whole_volume(
    extractor: Extractor, whole: reference.WholeVolume, shared: Path, patient: str, n: int
) -> None:
    """Every lesion, both profiles."""
    volume, found = read_patient(shared, patient)
    assert len(found) == n
    assert differences(extractor, whole, volume, found) == []


@pytest.mark.parametrize("patient", ["ML12", "ML40"])
def test_ibsi_profiles_equal_the_whole_volume(
    extractor: Extractor, whole: reference.WholeVolume, shared: Path, patient: str
) -> None:
    """Every lesion, A to E: PyRadiomics' feature classes on all of the CT as IBSI prepares it."""
    volume, found = read_patient(shared, patient)
    assert differences(extractor, whole, volume, found, IBSI) == []


def test_plain_arithmetic_gives_the_same_bytes_on_real_lesions(
    extractor: Extractor, shared: Path
) -> None:
    """All seven profiles: the tests above have found fast arithmetic equal to the whole volume."""
    volume, found = read_patient(shared, "ML12")
    profiles = [*PROFILES, *IBSI]
    fast = extractor.extract(volume, found, profiles)
    with Extractor(workers=2, arithmetic="plain") as pool:
        plain = pool.extract(volume, found, profiles)
    assert sum(result.excluded is None for result in fast) >= 12 * 6
    assert [r.excluded for r in fast] == [r.excluded for r in plain]
    assert [r.values.tobytes() for r in fast] == [r.values.tobytes() for r in plain]


STRUCTURES = {
    "soft tissue sarcoma": (
        "sts/STS_002/CT/image",
        "sts/STS_002/CT/mask/RS*.dcm",
        "GTV_Mass_CT",
    ),
    "IBSI phantom, 359 ml": (
        "ibsi1_ct_phantom/dicom/image",
        "ibsi1_ct_phantom/dicom/mask/*.dcm",
        "GTV-1",
    ),
    "lung, 512 x 512": ("lung1_001/CT", "lung1_001/RTSTRUCT_2018_CMS.dcm", "GTV-1"),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_contoured_lesions_equal_the_whole_volume(
    extractor: Extractor, whole: reference.WholeVolume, shared: Path, name: str
) -> None:
    images, structure, roi = STRUCTURES[name]
    volume, _ = read_ct(shared / images)
    lesion = read_contours(next(shared.glob(structure)), volume, roi)
    assert lesion.mask.n_voxels > 1000
    assert differences(extractor, whole, volume, (lesion,)) == []
