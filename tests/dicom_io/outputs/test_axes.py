"""Axes to draw: the lengths RECIST reports, between points of the outline on the right slice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from analysis.model import Geometry, Mask
from analysis.recist import axial_diameters
from dicom_io.outputs.axes import axial_axes


def _geometry(shape: tuple[int, ...], row_mm: float = 1, column_mm: float = 1) -> Geometry:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 2.5, row_mm, column_mm, 1
    return Geometry((shape[0], shape[1], shape[2]), affine)


def test_rectangle_has_its_diagonal() -> None:
    full = np.zeros((5, 20, 20), bool)
    full[2, 4:7, 5:15] = True  # 3 rows of 2 mm, 10 columns of 1 mm
    axes = axial_axes(Mask.from_full(full), _geometry(full.shape, 2.0, 1.0))
    assert axes.plane == 2
    # Between the middles of the outermost pixel edges: half a pixel inside the corners.
    assert axes.long_mm == pytest.approx(np.hypot(9, 6))
    assert axes.long_mm == pytest.approx(np.linalg.norm((axes.long[1] - axes.long[0]) * [2, 1]))
    assert axes.long.tolist() == [[3.5, 5], [6.5, 14]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.4, 2.0), st.floats(0.4, 2.0))
def test_lengths_are_those_of_recist(seed: int, row_mm: float, column_mm: float) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 12, 3))
    full = ndimage.gaussian_filter(rng.standard_normal(shape), 1) > 0
    full[tuple(n // 2 for n in shape)] = True
    mask, geometry = Mask.from_full(full), _geometry(shape, row_mm, column_mm)
    axes, reference = axial_axes(mask, geometry), axial_diameters(mask, geometry)
    assert axes.long_mm == pytest.approx(reference.long_mm, abs=1e-9)
    spacing = np.array([row_mm, column_mm])
    for line, length in ((axes.long, axes.long_mm), (axes.short, axes.short_mm)):
        assert np.linalg.norm((line[1] - line[0]) * spacing) == pytest.approx(length)
    across = ((axes.long[1] - axes.long[0]) * spacing) @ ((axes.short[1] - axes.short[0]) * spacing)
    assert across == pytest.approx(0, abs=1e-6)
    assert full[axes.plane].any()


def test_short_axis_is_that_of_recist_where_the_long_one_is_unique() -> None:
    full = np.zeros((1, 30, 30), bool)
    row, column = np.mgrid[:30, :30]
    full[0] = ((row - 14) / 6.2) ** 2 + ((column - 15 - 0.4 * (row - 14)) / 11.3) ** 2 < 1
    mask, geometry = Mask.from_full(full), _geometry(full.shape, 0.8, 0.9)
    reference = axial_diameters(mask, geometry)
    assert axial_axes(mask, geometry).short_mm == pytest.approx(reference.short_mm, abs=1e-9)


def test_no_voxel_no_axes() -> None:
    with pytest.raises(ValueError, match="without voxels"):
        axial_axes(Mask.from_full(np.zeros((2, 2, 2), bool)), _geometry((2, 2, 2)))
