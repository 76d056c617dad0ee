"""Perturbed masks and the concordance rule."""

import numpy as np
import pytest
from scipy import ndimage

from mirv.analysis.cohort import robustness
from mirv.analysis.masks import morphology
from tests.analysis.extraction import reference


def test_concordance_by_hand() -> None:
    """y = x: 1; y = x + 1 over 1..5: 2 * 2 / (2 + 2 + 1) = 0.8; y = -x centred: -1 (R-CCC-1)."""
    x = np.arange(1.0, 6.0)
    assert robustness.concordance(x, x) == 1.0
    assert robustness.concordance(x, x + 1) == pytest.approx(0.8, abs=1e-15)
    assert robustness.concordance(x - 3, 3 - x) == pytest.approx(-1.0, abs=1e-15)
    assert robustness.concordance(np.ones(4), np.ones(4)) == 1.0
    assert robustness.concordance(np.ones(4), np.full(4, 2.0)) == 0.0


@pytest.mark.parametrize(
    ("spacing", "n"), [((1.0, 1.0, 1.0), 7), ((2.0, 1.0, 1.0), 5), ((0.5, 0.5, 0.5), 33)]
)
def test_ball_is_euclidean(spacing: tuple[float, float, float], n: int) -> None:
    """The six-neighbour cross at 1 mm; in-plane only when slices are 2 mm apart."""
    assert int(morphology.ball(spacing, 1.0).sum()) == n


def test_masks_equal_scipy_morphology() -> None:
    rng = np.random.default_rng(0)
    for spacing in [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (0.6, 0.7, 0.5)]:
        element = morphology.ball(spacing, 1.0)
        mask = ndimage.binary_opening(rng.random((14, 15, 16)) > 0.2)
        assert np.array_equal(
            morphology.dilate(mask, element), ndimage.binary_dilation(mask, element)
        )
        assert np.array_equal(
            morphology.erode(mask, element), ndimage.binary_erosion(mask, element)
        )


def test_a_ball_grows_and_shrinks_by_its_radius() -> None:
    geometry = reference.grid((30, 30, 30), (1, 1, 1))
    mask = reference.ball(geometry, (15, 15, 15), 8)
    element = morphology.ball((1, 1, 1), 1.0)
    assert not (morphology.erode(mask, element) & ~mask).any()
    assert not (mask & ~morphology.dilate(mask, element)).any()
    assert morphology.erode(mask, element)[15, 15, :].sum() == mask[15, 15, :].sum() - 2


def test_keep_rule_drops_below_the_threshold_only() -> None:
    """Concordance exactly 0.8 is kept; one mask below it drops; nine lesions are too few."""
    x = np.tile(np.arange(1.0, 6.0), 2)
    original = np.stack([x, x, x], axis=1)
    eroded = np.stack([x, x + 1, x + 2], axis=1)
    dilated = np.stack([x, x, x], axis=1)
    found = robustness.judge(["same", "edge", "moved"], original, eroded, dilated)
    assert [f.kept for f in found] == [True, True, False]
    assert found[2].reason is not None
    assert "eroded" in found[2].reason.detail
    eroded[0] = np.nan
    few = robustness.judge(["same", "edge", "moved"], original, eroded, dilated)
    assert [(f.kept, f.n_eroded, f.n_dilated) for f in few] == [(False, 9, 10)] * 3
    assert few[0].eroded is None
    assert few[0].reason is not None
    assert few[0].reason.code == "too_few_lesions"
