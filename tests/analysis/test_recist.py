"""SPEC R-REC-1: diameters of known shapes, RECIST 1.1 thresholds."""

import numpy as np
import pytest

from analysis.errors import Unsuitable
from analysis.model import Geometry, Mask
from analysis.recist import axial_diameters, outcome, response
from analysis.sampling import Measured


def grid(shape, spacing=(1.0, 1.0, 1.0)) -> Geometry:
    return Geometry(shape, np.diag([*spacing, 1.0]))


def ellipsoid(radii, spacing=(1.0, 1.0, 1.0), turn=0.0) -> tuple[Mask, Geometry]:
    """An ellipsoid with half axes (z, y, x) in mm, turned in the axial plane by `turn` rad."""
    shape = tuple(int(2 * max(radii) / s) + 6 for s in spacing)
    middle = [(n - 1) / 2 for n in shape]
    z, y, x = ((np.arange(n) - m) * s for n, m, s in zip(shape, middle, spacing, strict=True))
    z, y, x = np.meshgrid(z, y, x, indexing="ij")
    a, b = np.cos(turn) * y + np.sin(turn) * x, -np.sin(turn) * y + np.cos(turn) * x
    inside = (z / radii[0]) ** 2 + (a / radii[1]) ** 2 + (b / radii[2]) ** 2 <= 1
    return Mask.from_full(inside), grid(shape, spacing)


def test_sphere_of_15_mm():
    """SPEC R-REC-1: 30 mm within a voxel, 14137 mm3 within 2 %."""
    mask, geometry = ellipsoid((15, 15, 15))
    found = axial_diameters(mask, geometry)
    assert found.long_mm == pytest.approx(30, abs=1)
    assert found.short_mm == pytest.approx(30, abs=1)
    assert found.slice_index in (16, 17, 18, 19)
    volume = mask.n_voxels * geometry.voxel_volume_ml * 1000
    assert volume == pytest.approx(14137, rel=0.02)


@pytest.mark.parametrize("turn", [0.0, 0.5, 1.2])
def test_ellipse_in_any_direction(turn):
    mask, geometry = ellipsoid((20, 20, 8), (2.5, 0.7, 0.7), turn)
    found = axial_diameters(mask, geometry)
    assert found.long_mm == pytest.approx(40, abs=1)
    assert found.short_mm == pytest.approx(16, abs=1)


def test_a_single_voxel_measures_one_pixel():
    full = np.zeros((3, 5, 5), bool)
    full[1, 2, 2] = True
    found = axial_diameters(Mask.from_full(full), grid((3, 5, 5), (5.0, 0.8, 0.8)))
    assert (found.long_mm, found.short_mm, found.slice_index) == (0.8, 0.8, 1)


def test_a_bar():
    """Ten pixels by two: the outline is ten long, two wide; the long axis runs a little askew."""
    full = np.zeros((1, 6, 14), bool)
    full[0, 2:4, 2:12] = True
    found = axial_diameters(Mask.from_full(full), grid((1, 6, 14)))
    assert found.long_mm == pytest.approx(np.hypot(10, 1))
    assert found.short_mm == pytest.approx(2, abs=0.3)


def test_an_empty_mask_has_no_diameter():
    with pytest.raises(Unsuitable, match="empty_mask"):
        axial_diameters(Mask.from_full(np.zeros((2, 2, 2), bool)), grid((2, 2, 2)))


@pytest.mark.parametrize(
    ("sums", "extra", "wanted"),
    [
        ((100, 100, 70), {}, "PR"),
        ((100, 100, 70.1), {}, "SD"),
        ((100, 50, 60), {}, "PD"),
        ((100, 50, 59.9), {}, "PR"),
        ((20, 20, 24), {}, "SD"),  # 20 % but only 4 mm
        ((100, 100, 119), {}, "SD"),
        ((100, 0, 6), {}, "PD"),
        ((100, 0, 0), {"all_gone": True}, "CR"),
        ((100, 80, 50), {"new_lesions": True}, "PD"),
        ((100, 80, float("nan")), {}, "NE"),
        ((0, 0, 10), {}, "NE"),
    ],
)
def test_response_by_its_thresholds(sums, extra, wanted):
    """Eisenhauer 2009: -30 % of baseline; +20 % and 5 mm above nadir."""
    assert response(*sums, **extra) == wanted


def test_outcome_follows_the_targets_of_the_baseline():
    """Targets 40 + 30 (two a lung) and a node of 16 mm: 86; later 20 + gone + 9: 29."""
    baseline = [
        Measured("lung", 1, 40.0),
        Measured("lung", 1, 30.0),
        Measured("lung", 1, 25.0),
        Measured("lymph node", 1, 30.0, 16.0),
    ]
    current = [Measured("lung", 1, 20.0), None, None, Measured("lymph node", 1, 12.0, 9.0)]
    found = outcome(baseline, current, new_lesions=False)
    assert (found.n_targets, found.baseline_mm, found.current_mm) == (3, 86, 29)
    assert found.change_percent == pytest.approx(-66.279, abs=1e-3)
    assert found.response == "PR"
    assert outcome(baseline, current, new_lesions=True).response == "PD"
    gone = [None, None, None, Measured("lymph node", 1, 12.0, 9.0)]
    assert outcome(baseline, gone, new_lesions=False).response == "CR"


def test_outcome_without_targets_or_diameters_is_not_evaluable():
    small = [Measured("liver", 1, 9.0)]
    found = outcome(small, small, new_lesions=False)
    assert (found.response, found.reason.code) == ("NE", "no_target")
    found = outcome([Measured("liver", 1, 20.0)], [Measured("liver", 1)], new_lesions=False)
    assert (found.response, found.reason.code) == ("NE", "no_diameter")
