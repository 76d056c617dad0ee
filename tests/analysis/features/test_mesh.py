"""The mesh in numpy against PyRadiomics' routine in C: equal to the last bit."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from mirv.analysis.features import mesh
from mirv.analysis.model import BoolArray
from tests.analysis.extraction import reference

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from radiomics import cShape

SPACINGS = [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (2.5, 0.7, 0.9), (0.8, 0.8, 0.8)]


def shapes() -> dict[str, BoolArray]:
    rng = np.random.default_rng(0)
    grid = reference.grid((40, 50, 50), (1, 1, 1))
    disc = np.zeros(grid.shape, bool)
    disc[20] = reference.ball(grid, (20, 25, 25), 18)[20]
    one = np.zeros((3, 3, 3), bool)
    one[1, 1, 1] = True
    return {
        "ball": reference.ball(grid, (20, 25, 25), 19),
        "noise": rng.random((12, 13, 14)) > 0.5,
        "holes and parts": ndimage.gaussian_filter(rng.normal(size=(40, 45, 50)), 3) > 0.02,
        "one slice": disc,
        "one voxel": one,
    }


@pytest.mark.parametrize("name", shapes())
@pytest.mark.parametrize("spacing", SPACINGS)
def test_equals_pyradiomics(name: str, spacing: tuple[float, float, float]) -> None:
    table = mesh.trusted_table(Path(cShape.__file__), cShape.calculate_coefficients)
    assert table is not None
    mask = np.pad(shapes()[name], 1)
    at = np.array(spacing)
    assert mesh.coefficients(mask, at, table) == cShape.calculate_coefficients(mask, at)


def test_a_library_without_the_table_is_not_trusted(tmp_path: Path) -> None:
    other = tmp_path / "other.so"
    other.write_bytes(b"nothing of the kind")
    assert mesh.trusted_table(other, cShape.calculate_coefficients) is None


def test_a_routine_that_rounds_otherwise_is_not_trusted() -> None:
    def fused(mask: BoolArray, spacing: np.ndarray) -> mesh.Coefficients:
        surface, volume, diameters = cShape.calculate_coefficients(mask, spacing)
        return np.nextafter(surface, 0), volume, diameters

    assert mesh.trusted_table(Path(cShape.__file__), fused) is None
