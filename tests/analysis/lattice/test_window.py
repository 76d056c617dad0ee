"""The lattice against SimpleITK itself, bit for bit."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name everybody uses

from mirv.analysis.lattice import interpolation, resampling
from mirv.analysis.lattice.points import continuous_index
from mirv.analysis.lattice.window import FAR_MARGIN, Window, find_window
from mirv.analysis.model import Geometry, Mask
from tests.analysis.extraction import reference
from tests.analysis.itk import to_sitk

SPACINGS = [(1.5, 1.5, 1.5), (3.0, 0.75, 0.75), (2.5, 0.9765625, 0.9765625), (3.0, 1.5, 1.5)]
TURNS = [np.eye(3), np.diag([-1.0, -1.0, 1.0]), reference.rotation(0.3, 0.21)]


def itk(image: object, geometry: Geometry, window: Window, how: int) -> np.ndarray:
    """SimpleITK's own resampling of the whole image on the window's lattice."""
    resample = sitk.ResampleImageFilter()
    resample.SetOutputSpacing(window.spacing)
    resample.SetOutputDirection(image.GetDirection())
    resample.SetOutputOrigin(image.TransformContinuousIndexToPhysicalPoint(window.origin_index))
    resample.SetSize(window.size)
    resample.SetInterpolator(how)
    return sitk.GetArrayFromImage(resample.Execute(image))


@pytest.mark.parametrize("turned", range(len(TURNS)))
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("new", [(1.0, 1.0, 1.0), (1.0, 1.0, 2.0)])
def test_image_and_random_mask_equal_itk_on_the_whole_image(
    turned: int, spacing: tuple[float, float, float], new: tuple[float, float, float]
) -> None:
    """A random mask has a boundary at every voxel, so a single tie decided otherwise shows."""
    geometry = reference.grid((40, 44, 48), spacing, TURNS[turned])
    rng = np.random.default_rng(turned)
    values = rng.integers(-1000, 1000, geometry.shape).astype(np.int16)
    full = np.zeros(geometry.shape, bool)
    full[2:21, 4:30, 9:33] = rng.random((19, 26, 24)) > 0.5
    mask = Mask.from_full(full)
    shape = mask.values.shape
    window = find_window(
        geometry,
        mask.start,
        (shape[0], shape[1], shape[2]),
        {"resampledPixelSpacing": list(new), "padDistance": 7},
        filtered=True,
    )
    crop = values[window.slices]
    image, points = resampling.fill(crop, window, geometry, mask, "sitkBSpline")
    whole = to_sitk(values, geometry)
    drawn = to_sitk(full.astype(np.uint8), geometry)
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(points), itk(drawn, geometry, window, sitk.sitkNearestNeighbor)
    )
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(image), itk(whole, geometry, window, sitk.sitkBSpline)
    )
    assert image.GetOrigin() == whole.TransformContinuousIndexToPhysicalPoint(window.origin_index)


def resampled(
    geometry: Geometry, box_start: tuple[int, int, int], box_shape: tuple[int, int, int]
) -> Window:
    """The window of a box resampled to 1 mm."""
    settings = {"resampledPixelSpacing": [1, 1, 1]}
    return find_window(geometry, box_start, box_shape, settings, filtered=True)


def noise_around_a_constant(geometry: Geometry) -> np.ndarray:
    """Noise that the prefilter remembers on its way into a constant block."""
    values = np.rint(np.random.default_rng(5).normal(0, 200, geometry.shape))
    if geometry.shape[0] > 100:
        values[20:100, 20:110, 30:110] = -1000
    return values


BOXES = {
    "far from every border": ((120, 130, 140), (2.5, 0.7, 0.9765625), (58, 60, 65), (6, 14, 12)),
    # Every third lattice plane falls on a slice, a last bit too low: ITK finds the spline's
    # support in single precision and takes the slice's.
    "a hair below a slice": ((30, 50, 50), (3.0, 0.9, 0.9), (12, 17, 17), (5, 17, 17)),
}


@pytest.mark.parametrize("name", BOXES)
def test_spline_from_the_far_margin_equals_itk_in_double_precision(name: str) -> None:
    shape, spacing, start, size = BOXES[name]
    geometry = reference.grid(shape, spacing)
    values = noise_around_a_constant(geometry)
    window = resampled(geometry, start, size)
    whole = to_sitk(values, geometry)
    frame = resampling._frame(
        whole, window.spacing, whole.TransformContinuousIndexToPhysicalPoint(window.origin_index)
    )
    index = continuous_index(frame, window.size)
    crop = sitk.GetImageFromArray(values[window.slices])
    coefficients = sitk.GetArrayFromImage(sitk.BSplineDecomposition(crop))
    found = interpolation.spline_values(
        coefficients, window.start, geometry.shape, index.reshape(3, -1)
    )
    np.testing.assert_array_equal(found, itk(whole, geometry, window, sitk.sitkBSpline).ravel())


@pytest.mark.parametrize("spacing", [(2.5, 0.7, 0.7), (3.0, 1.5, 1.5)])
def test_constant_regions_keep_the_rounding_of_the_whole_image(
    spacing: tuple[float, float, float],
) -> None:
    """-1000 comes out as -1000 give or take 1e-13, and is cut to -1000 or -999: as it would be."""
    geometry = reference.grid((120, 130, 140), spacing)
    values = noise_around_a_constant(geometry).astype(np.int16)
    window = resampled(geometry, (58, 60, 65), (6, 14, 12))
    mask = Mask((58, 60, 65), np.ones((6, 14, 12), bool), geometry.shape)
    image, _ = resampling.fill(values[window.slices], window, geometry, mask, "sitkBSpline")
    wanted = itk(to_sitk(values, geometry), geometry, window, sitk.sitkBSpline)
    assert set(np.unique(wanted)) == {-1000, -999}
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), wanted)


def test_window_by_hand() -> None:
    """Spacing 3 x 1.5 x 1.5 to 1 mm, box of 4 x 10 x 10 at (10, 20, 20), pad 5.

    x: L = floor(19.5 * 1.5 - 5) = 24, U = ceil(29.5 * 1.5 + 5) = 50, 27 points,
    origin 0.5 * (1 - 1.5) / 1.5 + 24 / 1.5 = 15.8333; z: L = floor(9.5 * 3 - 5) = 23,
    U = ceil(13.5 * 3 + 5) = 46, 24 points, origin -1/3 + 23/3 = 7.3333.
    """
    window = find_window(
        reference.grid((200, 300, 400), (3.0, 1.5, 1.5)), (10, 20, 20), (4, 10, 10),
        {"resampledPixelSpacing": [1, 1, 1]}, filtered=True,
    )  # fmt: skip
    assert window.branch == "resampled"
    assert window.size == (27, 27, 24)
    assert window.origin_index == pytest.approx((15.833333, 15.833333, 7.333333), abs=1e-6)
    assert window.start == (0, 0, 0)
    assert window.stop[0] == 15 + 1 + FAR_MARGIN


def test_a_single_slice_keeps_its_spacing() -> None:
    window = find_window(
        reference.grid((50, 60, 60), (3.0, 1.5, 1.5)), (10, 20, 20), (1, 10, 10),
        {"resampledPixelSpacing": [1, 1, 1]}, filtered=True,
    )  # fmt: skip
    assert window.spacing == (1.0, 1.0, 3.0)


@pytest.mark.parametrize(
    ("settings", "filtered", "branch", "start", "stop"),
    [
        ({"resampledPixelSpacing": [1.5, 1.5, 3]}, True, "matching", (5, 15, 15), (19, 35, 35)),
        ({"resampledPixelSpacing": [0, 0, 0]}, True, "matching", (5, 15, 15), (19, 35, 35)),
        ({"preCrop": True, "padDistance": 2}, True, "native", (8, 18, 18), (16, 32, 32)),
        ({}, False, "native", (10, 20, 20), (14, 30, 30)),
        ({}, True, "native", (0, 0, 0), (50, 60, 60)),
    ],
)
def test_branches_without_interpolation(
    settings: dict[str, object],
    filtered: bool,
    branch: str,
    start: tuple[int, int, int],
    stop: tuple[int, int, int],
) -> None:
    window = find_window(
        reference.grid((50, 60, 60), (3.0, 1.5, 1.5)),
        (10, 20, 20),
        (4, 10, 10),
        settings,
        filtered=filtered,
    )
    assert (window.branch, window.start, window.stop) == (branch, start, stop)


def test_nearest_takes_halves_up_and_leaves_the_outside_zero() -> None:
    box = np.arange(1, 28).reshape(3, 3, 3)
    index = np.array([[-0.5, 0.5, 1.49, 2.5, -0.51], [0.0] * 5, [0.0] * 5])
    assert interpolation.nearest(box, (0, 0, 0), (3, 3, 3), index).tolist() == [1, 2, 2, 0, 0]
    shifted = interpolation.nearest(box, (0, 0, 1), (3, 3, 9), index)
    assert shifted.tolist() == [0, 1, 1, 3, 0]
