"""SPEC R-SEGM-1: two cubes, and nothing."""

import numpy as np
import pytest

from mirv.analysis.masks.agreement import agreement, preference_score
from mirv.analysis.model import Geometry, Mask

SHAPE = (20, 20, 30)
GRID = Geometry(SHAPE, np.diag([1.0, 1.0, 1.0, 1.0]))


def cube(shift=0, size=10) -> Mask:
    full = np.zeros(SHAPE, bool)
    full[5 : 5 + size, 5 : 5 + size, 5 + shift : 5 + shift + size] = True
    return Mask.from_full(full)


def nothing() -> Mask:
    return Mask.from_full(np.zeros(SHAPE, bool))


def test_cubes_shifted_by_5_mm():
    """SPEC R-SEGM-1: DSC 0.5, Jaccard 1/3, H95 5 mm."""
    found = agreement(cube(), cube(5), GRID)
    assert found.dsc == pytest.approx(0.5)
    assert found.jaccard == pytest.approx(1 / 3)
    assert found.hausdorff95_mm == pytest.approx(5)
    assert found.jaccard == pytest.approx(found.dsc / (2 - found.dsc))


def test_cubes_shifted_by_1_mm():
    """SPEC R-SEGM-1: surface DSC at 1.18 mm is 1, Hausdorff 1 mm."""
    found = agreement(cube(), cube(1), GRID)
    assert found.surface_dsc == 1
    assert found.hausdorff_mm == 1
    assert agreement(cube(), cube(1), GRID, tau_mm=0.5).surface_dsc < 1


def test_equal_masks():
    found = agreement(cube(), cube(), GRID)
    assert (found.dsc, found.jaccard, found.hausdorff_mm, found.added_path_cm) == (1, 1, 0, 0)
    assert not found.both_empty


def test_spacing_counts():
    wide = Geometry(SHAPE, np.diag([1.0, 1.0, 3.0, 1.0]))
    assert agreement(cube(), cube(5), wide).hausdorff95_mm == pytest.approx(15)


def test_added_path_of_a_missing_lesion_is_its_whole_contour():
    """A 10 x 10 square has 36 contour pixels; ten slices of 1 mm pixels: 36 cm."""
    assert agreement(nothing(), cube(), GRID).added_path_cm == pytest.approx(36)


def test_empty_masks():
    both = agreement(nothing(), nothing(), GRID)
    assert both.both_empty
    assert (both.dsc, both.hausdorff_mm) == (1, 0)
    one = agreement(cube(), nothing(), GRID)
    assert (one.dsc, one.jaccard, one.hausdorff95_mm) == (0, 0, np.inf)


def test_masks_of_two_grids_are_refused():
    with pytest.raises(ValueError, match="differ"):
        agreement(cube(), Mask.from_full(np.ones((2, 2, 2), bool)), GRID)


def test_preference_score():
    assert preference_score(56, 100) == 56
    with pytest.raises(ValueError, match="of 0"):
        preference_score(0, 0)
