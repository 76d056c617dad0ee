"""RTSTRUCT: even-odd filling on pixel centres, and a reason for whatever has no volume."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from mirv.analysis.model import Geometry, Mask
from mirv.dicom_io.files.values import read_dataset
from mirv.dicom_io.images.series import read_series
from mirv.dicom_io.masks.overlap import dice
from mirv.dicom_io.masks.rtstruct import fill, read_rtstruct
from mirv.dicom_io.masks.segment import Segment
from mirv.dicom_io.phantom.writers import DrawnLesion, Identity, outlines, write_rtstruct

IDENTITY = Identity()


def grid(
    shape: tuple[int, int, int] = (40, 44, 42),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    angle: float = 0.0,
) -> Geometry:
    """A grid around the origin, turned about y then x (degrees)."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array(
        [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ (np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]]) * np.array(spacing))
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry(shape, affine)


def structure(contours: list[tuple[str, np.ndarray]], name: str = "GTV") -> Dataset:
    """An RTSTRUCT of one ROI with contours given as (type, points in LPS mm)."""
    roi, content, ds = Dataset(), Dataset(), Dataset()
    roi.ROINumber, roi.ROIName = 1, name
    content.ReferencedROINumber = 1
    content.ContourSequence = []
    for kind, points in contours:
        contour = Dataset()
        contour.ContourGeometricType = kind
        contour.ContourData = [f"{x:.5f}" for x in np.asarray(points, float).ravel()]
        content.ContourSequence.append(contour)
    ds.StructureSetROISequence, ds.ROIContourSequence = [roi], [content]
    return ds


def one(ds: Dataset, geometry: Geometry) -> Segment:
    """The only ROI."""
    (segment,) = read_rtstruct(ds, geometry)
    return segment


def circles(geometry: Geometry, radius: float) -> list[tuple[str, np.ndarray]]:
    """Contours of a sphere around the origin on every slice of a grid it meets."""
    result = []
    turns = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    rows, columns = geometry.directions[:, 1], geometry.directions[:, 2]
    for index in range(geometry.shape[0]):
        middle = geometry.to_lps(
            np.array([[index, (geometry.shape[1] - 1) / 2, (geometry.shape[2] - 1) / 2]])
        )[0]
        height = float(np.linalg.norm(middle))
        if height >= radius:
            continue
        r = np.sqrt(radius**2 - height**2)
        points = middle + r * (np.outer(np.cos(turns), columns) + np.outer(np.sin(turns), rows))
        result.append(("CLOSED_PLANAR", points))
    return result


def test_sphere_of_15_mm_at_1_mm() -> None:
    """SPEC R-DCM-3: volume within 2 %, DSC >= 0.98 with the voxel sphere."""
    geometry = grid()
    segment = one(structure(circles(geometry, 15)), geometry)
    assert segment.mask is not None
    volume = segment.mask.n_voxels * geometry.voxel_volume_ml * 1000
    assert volume == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.02)
    index = np.indices(geometry.shape).reshape(3, -1).T.astype(float)
    voxels = np.linalg.norm(geometry.to_lps(index), axis=1) <= 15
    assert dice(segment.mask, Mask.from_full(voxels.reshape(geometry.shape))) >= 0.98


@pytest.mark.parametrize("spacing", [(1, 1, 1), (2, 0.8, 0.8), (3, 1, 0.7)])
@pytest.mark.parametrize("angle", [0.0, 17.0, 45.0])
def test_oblique_and_anisotropic_grids_give_the_same_volume(
    spacing: tuple[float, float, float], angle: float
) -> None:
    shape = tuple(int(np.ceil(36 / s)) | 1 for s in spacing)
    geometry = grid((shape[0], shape[1], shape[2]), spacing, angle)
    axial = grid((shape[0], shape[1], shape[2]), spacing)
    found = one(structure(circles(geometry, 15)), geometry)
    wanted = one(structure(circles(axial, 15)), axial)
    assert found.mask is not None
    assert wanted.mask is not None
    # Voxels whose centre lies on a contour to the last digit may fall either way.
    assert found.mask.n_voxels == pytest.approx(wanted.mask.n_voxels, rel=1e-3)


def slow_fill(loops: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Crossings to the right of each pixel centre, one at a time."""
    result = np.zeros(shape, bool)
    for r in range(shape[0]):
        for c in range(shape[1]):
            count = 0
            for loop in loops:
                for (r0, c0), (r1, c1) in zip(loop, np.roll(loop, -1, axis=0), strict=True):
                    if (r0 <= r) != (r1 <= r) and c0 + (r - r0) * ((c1 - c0) / (r1 - r0)) <= c:
                        count += 1
            result[r, c] = count % 2 == 1
    return result


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(3, 12), min_size=1, max_size=4),
    whole=st.booleans(),
)
def test_fast_filling_equals_slow_filling(seed: int, sizes: list[int], whole: bool) -> None:
    """Random polygons, crossing themselves and the border; also with corners on centres."""
    rng = np.random.default_rng(seed)
    loops = [rng.uniform(-3, 15, (n, 2)) for n in sizes]
    if whole:
        loops = [np.rint(loop) for loop in loops]
    assert np.array_equal(fill(loops, (12, 11)), slow_fill(loops, (12, 11)))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), density=st.floats(0.1, 0.9))
def test_outlines_fill_back(seed: int, density: float) -> None:
    plane = np.random.default_rng(seed).random((14, 9)) < density
    if plane.any():
        assert np.array_equal(fill(outlines(plane), (14, 9)), plane)


def test_mask_to_rtstruct_to_mask_is_identical(tmp_path: Path) -> None:
    geometry = grid((9, 20, 18), (2.5, 0.9, 0.8), 12.0)
    full = np.random.default_rng(2).random(geometry.shape) < 0.5
    drawn = DrawnLesion("GTV", "GTV", "2.25.1", None, Mask.from_full(full))
    path = write_rtstruct(tmp_path / "rt.dcm", [drawn], geometry, IDENTITY)
    segment = one(read_dataset(path), geometry)
    assert segment.mask is not None
    assert np.array_equal(segment.mask.full(), full)


def box(z: float, low: float = -5.0, high: float = 5.0) -> np.ndarray:
    """A square at height z."""
    return np.array([[low, low, z], [high, low, z], [high, high, z], [low, high, z]])


def test_first_and_last_slice_and_half_a_slice_beyond() -> None:
    geometry = grid((5, 20, 20), (3.0, 1, 1))
    for z in (-6.0, 6.0, -7.4, 7.4):
        segment = one(structure([("CLOSED_PLANAR", box(z))]), geometry)
        assert segment.mask is not None
        assert segment.mask.n_voxels == 100
        assert segment.mask.start[0] == (0 if z < 0 else 4)
    for z in (-7.6, 7.6):
        segment = one(structure([("CLOSED_PLANAR", box(z))]), geometry)
        assert segment.refusal is not None
        assert segment.refusal.code == "outside_volume"


def test_slightly_slanted_contours_are_taken_and_steep_ones_refused() -> None:
    geometry = grid((5, 20, 20), (3.0, 1, 1))
    points = box(0.0)
    points[:2, 2] += 1.2
    assert one(structure([("CLOSED_PLANAR", points)]), geometry).mask is not None
    points[:2, 2] += 3
    refusal = one(structure([("CLOSED_PLANAR", points)]), geometry).refusal
    assert refusal is not None
    assert refusal.code == "contour_not_in_slice"


def test_contours_that_run_out_of_the_picture_keep_what_is_inside() -> None:
    geometry = grid((5, 20, 20), (3.0, 1, 1))
    segment = one(structure([("CLOSED_PLANAR", box(0.0, -50, 0.0))]), geometry)
    assert segment.mask is not None
    assert segment.mask.n_voxels == 100


def test_points_beside_closed_contours_are_said() -> None:
    geometry = grid((5, 20, 20), (3.0, 1, 1))
    segment = one(structure([("CLOSED_PLANAR", box(0.0)), ("POINT", box(0.0)[:1])]), geometry)
    assert segment.mask is not None
    assert [(n.check, n.found) for n in segment.notes] == [("contours_left_out", "1 POINT")]


def test_one_contour_twice_on_one_of_two_slices() -> None:
    geometry = grid((5, 20, 20), (3.0, 1, 1))
    twice = np.roll(box(0.0)[::-1], 1, axis=0)  # other start, other way round
    contours = [("CLOSED_PLANAR", p) for p in (box(0.0), twice, box(3.0))]
    segment = one(structure(contours), geometry)
    assert segment.mask is not None
    assert segment.mask.n_voxels == 100
    assert [note.check for note in segment.notes] == ["duplicate_contours"]


@pytest.mark.parametrize("thickness", [0.75, 1.0, 1.5, 2.0])
def test_contours_of_a_thinner_reconstruction_do_not_cancel(thickness: float) -> None:
    """A sphere drawn on thinner slices is the sphere (and its poles); what is left out is said."""
    image = grid((13, 44, 42), (3.0, 1.0, 1.0))
    thin = grid((2 * int(18 / thickness) + 1, 44, 42), (thickness, 1.0, 1.0))
    drawn = circles(thin, 15)
    segment = one(structure(drawn), image)
    wanted = one(structure(circles(image, 15)), image)
    assert segment.mask is not None
    assert wanted.mask is not None
    assert segment.mask.n_voxels == pytest.approx(wanted.mask.n_voxels, rel=0.04)
    assert dice(segment.mask, wanted.mask) >= 0.96
    (note,) = segment.notes
    left = len(drawn) - segment.mask.values.shape[0]
    assert note.check == "contours_off_slice"
    assert note.found.startswith(f"{left} of {len(drawn)} contours at {left} more levels on slice")


def test_contours_midway_between_slices_have_a_slice_each() -> None:
    geometry = grid((5, 20, 20), (3.0, 1, 1))
    contours = [("CLOSED_PLANAR", box(z)) for z in (-4.5, -1.5, 1.5)]
    segment = one(structure(contours), geometry)
    assert segment.mask is not None
    assert segment.mask.n_voxels == 300
    assert segment.notes == ()


def test_holes_and_islands_on_a_slanted_plane_are_one_level() -> None:
    geometry = grid((5, 40, 40), (3.0, 1, 1))
    shapes = [box(0.0, -18, 0), box(0.0, -12, -6), box(0.0, 8, 18)]
    for points in shapes:
        points[:, 2] = 0.3 + 0.03 * points[:, 0]
    segment = one(structure([("CLOSED_PLANAR", points) for points in shapes]), geometry)
    assert segment.mask is not None
    assert segment.mask.n_voxels == 18**2 - 6**2 + 10**2
    assert segment.notes == ()


SHARED = Path(__file__).parents[4] / "shared" / "data" / "odd_rtstruct"
WANTED = {
    6: ("duplicate_contours", ()),
    7: ("", ("contour_gap",)),
    10: ("outside_volume", ()),
    11: ("point_marker", ()),
    12: ("no_closed_contour", ()),
    13: ("degenerate_contour", ()),
    14: ("contour_not_in_slice", ()),
    15: ("empty_roi", ()),
    16: ("no_voxel_centre", ()),
}
"""ROI number to the reason or the notes that ``truth.csv`` asks for in words."""


def _truth() -> list[dict[str, str]]:
    path = SHARED / "truth.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def odd() -> tuple[dict[int, Segment], Geometry]:
    geometry = read_series(sorted((SHARED / "CT").glob("*.dcm"))).volume.geometry
    rois = read_rtstruct(read_dataset(SHARED / "RTSTRUCT_odd.dcm"), geometry)
    return {roi.number: roi for roi in rois}, geometry


@pytest.mark.shared
@pytest.mark.parametrize("row", _truth(), ids=lambda row: f"{row['roi_number']}-{row['roi']}")
def test_odd_roi(row: dict[str, str], odd: tuple[dict[int, Segment], Geometry]) -> None:
    """One row of the truth table: the exact volume, or the reason why there is none."""
    rois, geometry = odd
    number = int(row["roi_number"])
    roi = rois[number]
    reason, notes = WANTED.get(number, ("", ()))
    assert roi.label == row["roi"]
    if reason:
        assert roi.mask is None
        assert roi.refusal is not None
        assert roi.refusal.code == reason
        return
    assert roi.mask is not None
    volume = roi.mask.n_voxels * geometry.voxel_volume_ml
    assert volume == pytest.approx(float(row["expected_ml_xor_pixel_centre"]), abs=1e-9)
    assert tuple(note.check for note in roi.notes) == notes
