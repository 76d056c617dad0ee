"""The spline as matrix products is ITK's, but for rounding far below what is evaluated again."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name everybody uses

from analysis import lattice, separable


@pytest.mark.parametrize("n", [1, 2, 3, 4, 10, 17, 18, 19, 40, 175])
def test_prefilter_is_itks_also_at_the_border(n: int) -> None:
    values = np.random.default_rng(n).normal(0, 1000, n)
    wanted = sitk.BSplineDecomposition(sitk.GetImageFromArray(values.reshape(1, 1, n)))
    found = separable.prefilter(n) @ values
    np.testing.assert_allclose(found, sitk.GetArrayFromImage(wanted).ravel(), rtol=0, atol=1e-11)


def test_lattice_points_are_itks_between_and_beside_the_voxels() -> None:
    values = np.random.default_rng(0).normal(0, 1000, (9, 31, 40))
    lines = np.linspace(-0.4, 39.4, 57), np.linspace(10, 30.4, 41), np.array([-0.5, 0, 3.25, 8.4])
    image = sitk.GetImageFromArray(values)
    resample = sitk.ResampleImageFilter()
    resample.SetInterpolator(sitk.sitkBSpline)
    resample.SetSize([len(line) for line in lines])
    resample.SetOutputOrigin([float(line[0]) for line in lines])
    resample.SetOutputSpacing([float(line[1] - line[0]) for line in lines])
    found = separable.spline_image(values, (0, 0, 0), values.shape, lines)
    wanted = sitk.GetArrayFromImage(resample.Execute(image))[:2]  # z is not evenly spaced
    np.testing.assert_allclose(found[:2], wanted, rtol=0, atol=1e-9)


def test_a_box_gives_what_the_whole_gives_but_for_its_margin() -> None:
    """Twenty voxels around it leave less of a value than what is evaluated again."""
    values = np.random.default_rng(1).normal(0, 1000, (90, 100, 110))
    lines = tuple(np.linspace(41.3, 48.9, n) for n in (20, 21, 22))
    whole = separable.spline_image(values, (0, 0, 0), values.shape, lines)
    m = lattice.MARGIN
    start, stop = 41 - m, 49 + m + 1
    box = values[start:stop, start:stop, start:stop]
    found = separable.spline_image(box, (start,) * 3, values.shape, lines)
    assert np.abs(found - whole).max() < lattice.NEARLY * np.abs(values).max() / 2
