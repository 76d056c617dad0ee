"""SEG objects: what is written comes back voxel by voxel; other grids are resampled and said so."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirv.analysis.errors import Unsuitable
from mirv.analysis.model import Geometry, Mask
from mirv.dicom_io.files.values import read_dataset
from mirv.dicom_io.masks.placing import place
from mirv.dicom_io.masks.seg import own_geometry, read_seg
from mirv.dicom_io.phantom.writers import DrawnLesion, Identity, save, write_seg
from mirv.dicom_io.standard import codes

IDENTITY = Identity()


def grid(shape: tuple[int, int, int] = (7, 13, 11), angle: float = 0.0) -> Geometry:
    """A grid of 2.5 x 1.5 x 0.9 mm, turned about the x axis (degrees)."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[0, 0, 0.9], [0, 1.5, 0], [2.5, 0, 0]])
    affine[:3, 3] = [3, -7, 40]
    return Geometry(shape, affine)


def lesion(full: np.ndarray, name: str = "LIVER-01") -> DrawnLesion:
    """A lesion of a full mask."""
    return DrawnLesion(name, name, f"2.25.{abs(hash(name))}", codes.LIVER, Mask.from_full(full))


def blobs(shape: tuple[int, int, int], count: int, seed: int = 0) -> list[DrawnLesion]:
    """Random masks that overlap."""
    rng = np.random.default_rng(seed)
    return [lesion(rng.random(shape) < 0.3, f"L{i}") for i in range(count)]


def edited(path: Path, **tags: Any) -> pydicom.Dataset:
    """A SEG with other attributes."""
    ds = pydicom.dcmread(path)
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    return ds


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(2, 6), st.integers(3, 13), st.integers(3, 11)),
    seed=st.integers(0, 999),
    angle=st.sampled_from([0.0, 33.0, 90.0]),
    fractional=st.booleans(),
    omit_empty=st.booleans(),
)
def test_mask_to_seg_to_mask_is_identical(
    tmp_path: Path,
    shape: tuple[int, int, int],
    seed: int,
    angle: float,
    fractional: bool,
    omit_empty: bool,
) -> None:
    """Frames of odd sizes do not start at a byte; segments overlap; order is reversed."""
    geometry = grid(shape, angle)
    drawn = [d for d in blobs(shape, 3, seed) if d.mask.n_voxels]
    path = tmp_path / "seg.dcm"
    order = list(np.random.default_rng(seed).permutation(len(drawn)))
    write_seg(
        path, drawn, geometry, IDENTITY, order=order, fractional=fractional, omit_empty=omit_empty
    )
    found = read_seg(read_dataset(path), geometry)
    assert [segment.number for segment in found] == list(range(1, len(drawn) + 1))
    for segment, index in zip(found, order, strict=True):
        assert segment.mask is not None
        assert segment.tracking_uid == drawn[index].tracking_uid
        assert segment.notes == ()
        assert np.array_equal(segment.mask.full(), drawn[index].mask.full())


@pytest.mark.parametrize(
    "syntax",
    ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"],
)
def test_native_syntaxes(tmp_path: Path, syntax: str) -> None:
    geometry = grid()
    drawn = blobs(geometry.shape, 2)
    path = write_seg(tmp_path / "seg.dcm", drawn, geometry, IDENTITY, syntax=syntax)
    for segment, wanted in zip(read_seg(read_dataset(path), geometry), drawn, strict=True):
        assert segment.mask is not None
        assert np.array_equal(segment.mask.full(), wanted.mask.full())


def test_what_a_segment_says_of_itself(tmp_path: Path) -> None:
    geometry = grid()
    path = write_seg(tmp_path / "seg.dcm", blobs(geometry.shape, 1), geometry, IDENTITY)
    ds = edited(path)
    ds.SegmentSequence[0].SegmentAlgorithmType = "AUTOMATIC"
    ds.SegmentSequence[0].SegmentAlgorithmName = "net"
    (segment,) = read_seg(ds, geometry)
    assert (segment.label, segment.tracking_id) == ("L0", "L0")
    assert (segment.algorithm_type, segment.algorithm_name) == ("AUTOMATIC", "net")
    assert segment.anatomy == codes.LIVER
    assert segment.finding == codes.METASTASIS


def _fractions(path: Path) -> pydicom.Dataset:
    ds = pydicom.dcmread(path)
    values = np.zeros((int(ds.NumberOfFrames), ds.Rows, ds.Columns), np.uint8)
    values[:] = np.arange(ds.Columns) * 10
    ds.MaximumFractionalValue = 100
    ds.PixelData = values.tobytes() + b"\0" * (values.size % 2)
    return ds


@pytest.mark.parametrize(("threshold", "first"), [(0.5, 5), (0.51, 6), (0.05, 1), (1.0, 10)])
def test_fractional_threshold_is_of_the_maximum(
    tmp_path: Path, threshold: float, first: int
) -> None:
    geometry = grid()
    full = np.ones(geometry.shape, bool)
    path = write_seg(tmp_path / "seg.dcm", [lesion(full)], geometry, IDENTITY, fractional=True)
    (segment,) = read_seg(_fractions(path), geometry, threshold)
    assert segment.mask is not None
    columns = np.flatnonzero(segment.mask.full().any(axis=(0, 1)))
    assert columns.tolist() == list(range(first, 11))


def test_label_map_with_gaps_in_numbers(tmp_path: Path) -> None:
    geometry = grid()
    labels = np.random.default_rng(3).choice([0, 2, 7, 300], geometry.shape).astype(np.uint16)
    path = write_seg(
        tmp_path / "seg.dcm", [lesion(labels > 0)], geometry, IDENTITY, omit_empty=False
    )
    ds = pydicom.dcmread(path)
    ds.SegmentationType = "LABELMAP"
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    # Frames were written last slice first? The group says where each lies: fill by position.
    heights = [
        g.PlanePositionSequence[0].ImagePositionPatient[2]
        for g in ds.PerFrameFunctionalGroupsSequence
    ]
    ds.PixelData = labels[np.argsort(np.argsort(heights))].tobytes()
    template = ds.SegmentSequence[0]
    ds.SegmentSequence = []
    for number in (0, 2, 7, 9, 300):
        segment = pydicom.Dataset()
        segment.update(template)
        segment.SegmentNumber = number
        ds.SegmentSequence.append(segment)
    save(ds, path)
    found = {s.number: s for s in read_seg(read_dataset(path), geometry)}
    assert sorted(found) == [2, 7, 9, 300]
    for number in (2, 7, 300):
        mask = found[number].mask
        assert mask is not None
        assert np.array_equal(mask.full(), labels == number)
    assert found[9].mask is None
    assert found[9].refusal is not None
    assert found[9].refusal.code == "empty_segment"


def sphere(geometry: Geometry, centre: np.ndarray, radius: float) -> np.ndarray:
    """Voxels whose centres lie in a sphere (mm)."""
    index = np.indices(geometry.shape).reshape(3, -1).T.astype(float)
    return (np.linalg.norm(geometry.to_lps(index) - centre, axis=1) <= radius).reshape(
        geometry.shape
    )


def test_another_grid_is_resampled_to_the_nearest_and_said(tmp_path: Path) -> None:
    """A sphere of 9 mm drawn at 1 mm, on an image of 1.7 mm turned by 20 degrees."""
    fine = Geometry((40, 40, 40), np.diag([1.0, 1, 1, 1])[[2, 1, 0, 3]])
    centre = np.array([19.0, 20, 21])
    drawn = lesion(sphere(fine, centre, 9))
    path = write_seg(tmp_path / "seg.dcm", [drawn], fine, IDENTITY)
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ (fine.affine[:3, :3] * 1.7)
    affine[:3, 3] = [-2.03, 0.01, -8.02]  # no centre half way between two others
    image = Geometry((34, 34, 30), affine)
    (segment,) = read_seg(read_dataset(path), image)
    assert segment.mask is not None
    assert [note.check for note in segment.notes] == ["other_grid"]
    # Nearest neighbour straight from the definition, voxel by voxel.
    index = np.indices(image.shape).reshape(3, -1).T.astype(float)
    back = np.rint(fine.to_index(image.to_lps(index))).astype(int)
    inside = ((back >= 0) & (back < 40)).all(axis=1)
    wanted = np.zeros(len(back), bool)
    wanted[inside] = drawn.mask.full()[tuple(back[inside].T)]
    assert np.array_equal(segment.mask.full().ravel(), wanted)


def test_a_flipped_grid_loses_nothing() -> None:
    source = grid()
    drawn = Mask.from_full(np.random.default_rng(1).random(source.shape) < 0.4)
    affine = source.affine.copy()
    affine[:3, 3] = source.to_lps(np.array([[6.0, 12, 10]]))[0]
    affine[:3, :3] *= -1
    result, lost, resampled = place(drawn, source, Geometry(source.shape, affine))
    assert (lost, resampled) == (0, True)
    assert np.array_equal(result.full(), drawn.full()[::-1, ::-1, ::-1])


def test_voxels_outside_the_image_are_counted(tmp_path: Path) -> None:
    geometry = grid()
    drawn = lesion(np.ones(geometry.shape, bool))
    path = write_seg(tmp_path / "seg.dcm", [drawn], geometry, IDENTITY)
    cut = Geometry((5, 13, 11), geometry.affine)
    (segment,) = read_seg(read_dataset(path), cut)
    assert segment.mask is not None
    assert segment.mask.n_voxels == 5 * 13 * 11
    assert segment.notes[0].check == "partly_outside"
    assert segment.notes[0].found == f"{2 * 13 * 11} of {7 * 13 * 11} voxels"
    affine = geometry.affine.copy()
    affine[2, 3] += 500
    (segment,) = read_seg(read_dataset(path), Geometry((7, 13, 11), affine))
    assert segment.mask is None
    assert segment.refusal is not None
    assert segment.refusal.code == "outside_volume"


def test_no_place_no_mask(tmp_path: Path) -> None:
    geometry = grid()
    path = write_seg(tmp_path / "seg.dcm", blobs(geometry.shape, 1), geometry, IDENTITY)
    ds = pydicom.dcmread(path)
    del ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
    with pytest.raises(Unsuitable, match="no_geometry"):
        read_seg(ds, geometry)


def test_unknown_kind_of_segmentation(tmp_path: Path) -> None:
    geometry = grid()
    path = write_seg(tmp_path / "seg.dcm", blobs(geometry.shape, 1), geometry, IDENTITY)
    with pytest.raises(Unsuitable, match="unsupported_segmentation"):
        read_seg(edited(path, SegmentationType="SURFACE"), geometry)


def test_own_grid_keeps_gaps_between_frames(tmp_path: Path) -> None:
    geometry = grid()
    full = np.zeros(geometry.shape, bool)
    full[[1, 4]] = True
    path = write_seg(tmp_path / "seg.dcm", [lesion(full)], geometry, IDENTITY)
    own = own_geometry(read_dataset(path))
    assert own.shape == (4, 13, 11)
    assert own.spacing[0] == pytest.approx(2.5)
