"""SPEC R-REC-1: axial diameters of known shapes, and where they are drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mirv.analysis.masks.axes import axial_axes
from mirv.analysis.model import Geometry, Mask


def _grid(shape: tuple[int, ...], spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Geometry:
    return Geometry((shape[0], shape[1], shape[2]), np.diag([*spacing, 1.0]))


def _ellipsoid(radii, spacing=(1.0, 1.0, 1.0), turn=0.0) -> tuple[Mask, Geometry]:
    """An ellipsoid with half axes (z, y, x) in mm, turned in the axial plane by `turn` rad."""
    shape = tuple(int(2 * max(radii) / s) + 6 for s in spacing)
    middle = [(n - 1) / 2 for n in shape]
    z, y, x = ((np.arange(n) - m) * s for n, m, s in zip(shape, middle, spacing, strict=True))
    z, y, x = np.meshgrid(z, y, x, indexing="ij")
    a, b = np.cos(turn) * y + np.sin(turn) * x, -np.sin(turn) * y + np.cos(turn) * x
    inside = (z / radii[0]) ** 2 + (a / radii[1]) ** 2 + (b / radii[2]) ** 2 <= 1
    return Mask.from_full(inside), _grid(shape, spacing)


def test_sphere_of_15_mm() -> None:
    """SPEC R-REC-1: 30 mm within a voxel, 14137 mm3 within 2 %."""
    mask, geometry = _ellipsoid((15, 15, 15))
    found = axial_axes(mask, geometry)
    assert found.long_mm == pytest.approx(30, abs=1)
    assert found.short_mm == pytest.approx(30, abs=1)
    assert found.plane in (16, 17, 18, 19)
    volume = mask.n_voxels * geometry.voxel_volume_ml * 1000
    assert volume == pytest.approx(14137, rel=0.02)


@pytest.mark.parametrize("turn", [0.0, 0.5, 1.2])
def test_ellipse_in_any_direction(turn: float) -> None:
    mask, geometry = _ellipsoid((20, 20, 8), (2.5, 0.7, 0.7), turn)
    found = axial_axes(mask, geometry)
    assert found.long_mm == pytest.approx(40, abs=1)
    assert found.short_mm == pytest.approx(16, abs=1)


def test_a_single_voxel_measures_one_pixel() -> None:
    full = np.zeros((3, 5, 5), bool)
    full[1, 2, 2] = True
    found = axial_axes(Mask.from_full(full), _grid((3, 5, 5), (5.0, 0.8, 0.8)))
    assert (found.long_mm, found.short_mm) == pytest.approx((0.8, 0.8))
    assert found.plane == 1


def test_a_bar() -> None:
    """Ten pixels by two: the outline is ten long, two wide; the long axis runs a little askew."""
    full = np.zeros((1, 6, 14), bool)
    full[0, 2:4, 2:12] = True
    found = axial_axes(Mask.from_full(full), _grid((1, 6, 14)))
    assert found.long_mm == pytest.approx(np.hypot(10, 1))
    assert found.short_mm == pytest.approx(2, abs=0.3)


def test_rectangle_has_its_diagonal() -> None:
    full = np.zeros((5, 20, 20), bool)
    full[2, 4:7, 5:15] = True  # 3 rows of 2 mm, 10 columns of 1 mm
    axes = axial_axes(Mask.from_full(full), _grid(full.shape, (2.5, 2.0, 1.0)))
    assert axes.plane == 2
    # Between the middles of the outermost pixel edges: half a pixel inside the corners.
    assert axes.long_mm == pytest.approx(np.hypot(9, 6))
    assert axes.long_mm == pytest.approx(np.linalg.norm((axes.long[1] - axes.long[0]) * [2, 1]))
    assert axes.long.tolist() == [[3.5, 5], [6.5, 14]]


def _outline(plane: np.ndarray) -> np.ndarray:
    """Middles of the pixel sides between inside and outside, one by one."""
    inside = {tuple(pixel) for pixel in np.argwhere(plane).tolist()}
    return np.array(
        [
            (row + 0.5 * down, column + 0.5 * across)
            for row, column in inside
            for down, across in ((1, 0), (-1, 0), (0, 1), (0, -1))
            if (row + down, column + across) not in inside
        ]
    )


def _width(points: np.ndarray, along: np.ndarray) -> float:
    """Longest chord of the points' hull across `along`: between any two lines of two points."""
    across = np.array([-along[1], along[0]])
    a, b = points @ along, points @ across
    reach = []
    for place in a:
        pairs = (a[:, None] - place) * (a[None] - place) <= 1e-12
        first, second = np.nonzero(pairs)
        span = a[second] - a[first]
        part = (place - a[first]) / np.where(np.abs(span) > 1e-12, span, np.inf)
        heights = b[first] + part * (b[second] - b[first])
        reach.append(heights.max() - heights.min())
    return max(reach)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.4, 2.0), st.floats(0.4, 2.0))
def test_lengths_are_those_of_every_pair_of_points(
    seed: int, row_mm: float, column_mm: float
) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 10, 3))
    full = ndimage.gaussian_filter(rng.standard_normal(shape), 1) > 0
    full[tuple(n // 2 for n in shape)] = True
    spacing = np.array([row_mm, column_mm])
    axes = axial_axes(Mask.from_full(full), _grid(shape, (2.5, row_mm, column_mm)))
    longest = [
        np.linalg.norm(points[:, None] - points[None], axis=2).max()
        for points in (_outline(plane) * spacing for plane in full if plane.any())
    ]
    assert axes.long_mm == pytest.approx(max(longest), abs=1e-9)
    for line, length in ((axes.long, axes.long_mm), (axes.short, axes.short_mm)):
        assert np.linalg.norm((line[1] - line[0]) * spacing) == pytest.approx(length)
    along = (axes.long[1] - axes.long[0]) * spacing / axes.long_mm
    assert along @ ((axes.short[1] - axes.short[0]) * spacing) == pytest.approx(0, abs=1e-6)
    width = _width(_outline(full[axes.plane]) * spacing, along)
    assert axes.short_mm == pytest.approx(width, abs=1e-9)


def test_no_voxel_no_axes() -> None:
    with pytest.raises(ValueError, match="without voxels"):
        axial_axes(Mask.from_full(np.zeros((2, 2, 2), bool)), _grid((2, 2, 2)))
