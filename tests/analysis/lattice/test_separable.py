"""The spline as matrix products is ITK's, but for rounding far below what is evaluated again."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name everybody uses

from mirv.analysis.lattice import interpolation, separable, window
from mirv.analysis.model import FloatArray


@pytest.mark.parametrize("n", [1, 2, 3, 4, 10, 17, 18, 19, 40, 175])
def test_prefilter_is_itks_also_at_the_border(n: int) -> None:
    values = np.random.default_rng(n).normal(0, 1000, n)
    wanted = sitk.BSplineDecomposition(sitk.GetImageFromArray(values.reshape(1, 1, n)))
    found = separable.prefilter(n) @ values
    np.testing.assert_allclose(found, sitk.GetArrayFromImage(wanted).ravel(), rtol=0, atol=1e-11)


def test_lattice_points_are_itks_between_and_beside_the_voxels() -> None:
    values = np.random.default_rng(0).normal(0, 1000, (9, 31, 40))
    lines = np.linspace(-0.4, 39.4, 57), np.linspace(10, 30.4, 41), np.linspace(-0.5, 8.4, 23)
    assert_itks(values, lines)


@pytest.mark.parametrize("n", [1, 3, 4])
def test_few_slices_are_itks_also_beyond_the_last_centre(n: int) -> None:
    values = np.random.default_rng(n).normal(0, 1000, (n, 12, 11))
    lines = np.linspace(0, 10, 5), np.linspace(-0.25, 11.25, 7), np.linspace(-0.5, n - 0.6, 9)
    assert_itks(values, lines)


def test_two_slices_are_mirrored_at_both_ends() -> None:
    """ITK reads outside its buffer there. By hand: mirrored, the coefficients of 10 and 40 are -20
    and 70 in turn, and 0.4 voxels from a centre they weigh 0.5493 (its own kind) and 0.4507.
    """
    values = np.broadcast_to(np.array([10.0, 40.0])[:, None, None], (2, 5, 5))
    lines = np.arange(5.0), np.arange(5.0), np.array([-0.4, 0, 0.4, 0.5, 0.6, 1, 1.4])
    found = separable.spline_image(values, (0, 0, 0), values.shape, lines)
    wanted = [20.56, 10, 20.56, 25, 29.44, 40, 29.44]
    np.testing.assert_allclose(found[:, 2, 2], wanted, rtol=0, atol=1e-12)
    index = np.array([[2.0] * 7, [2.0] * 7, lines[2]])
    coefficients = np.broadcast_to(np.array([-20.0, 70.0])[:, None, None], (2, 5, 5))
    direct = interpolation.spline_values(coefficients, (0, 0, 0), (2, 5, 5), index)
    np.testing.assert_allclose(direct, wanted, rtol=0, atol=1e-12)


def test_a_box_too_small_is_refused() -> None:
    values = np.zeros((9, 12, 11))
    lines = np.arange(3.0), np.arange(3.0), np.array([4.0, 8.2])
    with pytest.raises(ValueError, match="needs more than the 5 of 9 voxels from 3 on"):
        separable.spline_image(values[3:8], (3, 0, 0), values.shape, lines)


def assert_itks(values: FloatArray, lines: tuple[FloatArray, FloatArray, FloatArray]) -> None:
    """The spline at every point of evenly spaced lines is what ITK's resampling gives."""
    image = sitk.GetImageFromArray(values)
    resample = sitk.ResampleImageFilter()
    resample.SetInterpolator(sitk.sitkBSpline)
    resample.SetSize([len(line) for line in lines])
    resample.SetOutputOrigin([float(line[0]) for line in lines])
    resample.SetOutputSpacing([float(line[1] - line[0]) for line in lines])
    found = separable.spline_image(values, (0, 0, 0), values.shape, lines)
    wanted = sitk.GetArrayFromImage(resample.Execute(image))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)


def test_a_box_gives_what_the_whole_gives_but_for_its_margin() -> None:
    """Twenty voxels around it leave less of a value than what is evaluated again."""
    values = np.random.default_rng(1).normal(0, 1000, (90, 100, 110))
    lines = tuple(np.linspace(41.3, 48.9, n) for n in (20, 21, 22))
    whole = separable.spline_image(values, (0, 0, 0), values.shape, lines)
    m = window.MARGIN
    start, stop = 41 - m, 49 + m + 1
    box = values[start:stop, start:stop, start:stop]
    found = separable.spline_image(box, (start,) * 3, values.shape, lines)
    assert np.abs(found - whole).max() < window.NEARLY * np.abs(values).max() / 2
