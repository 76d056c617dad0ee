"""The grid of parallel slices: the tolerances are the caller's."""

import numpy as np
import pytest

from mirv.analysis.errors import Unsuitable
from mirv.dicom_io.files.frame_groups import Placing
from mirv.dicom_io.images.stack import Plane, Tolerances, axes_of, stack

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def planes(turn: float = 0.0, wider_mm: float = 0.0) -> list[Plane]:
    """Three slices 2.5 mm apart, out of order; the last is turned or has wider pixels."""
    odd = (1.0, turn, 0.0, -turn, 1.0, 0.0)
    return [
        Plane(1, Placing((0, 0, 5.0), AXIAL, (0.7, 0.8)), (4, 6)),
        Plane(2, Placing((0, 0, 0.0), AXIAL, (0.7, 0.8)), (4, 6)),
        Plane(3, Placing((0, 0, 2.5), odd, (0.7 + wider_mm, 0.8)), (4, 6)),
    ]


def test_slices_go_along_the_normal() -> None:
    order, geometry = stack(planes(), 0.1, Tolerances())
    assert order == [1, 2, 0]
    assert geometry.shape == (3, 4, 6)
    wanted = [[0, 0, 0.8, 0], [0, 0.7, 0, 0], [2.5, 0, 0, 0], [0, 0, 0, 1]]
    assert np.array_equal(geometry.affine, wanted)


@pytest.mark.parametrize(
    ("odd", "allowed", "code"),
    [
        ({"turn": 2e-4}, Tolerances(orientation=1e-3), "mixed_orientation"),
        ({"wider_mm": 2e-4}, Tolerances(spacing_mm=1e-3), "mixed_spacing"),
    ],
)
def test_what_may_differ_is_handed_in(
    odd: dict[str, float], allowed: Tolerances, code: str
) -> None:
    with pytest.raises(Unsuitable, match=f"{code}: image 3 of 3"):
        stack(planes(**odd), 0.1, Tolerances())
    order, _ = stack(planes(**odd), 0.1, allowed)
    assert order == [1, 2, 0]


def test_axes_as_the_file_says_them_and_of_length_one() -> None:
    stated = axes_of(Placing((0, 0, 0), (1.0005, 0, 0, 0, 0.9995, 0), (1, 1)))
    assert stated.lengths == (1.0005, 0.9995)
    assert stated.unit().lengths == (1.0, 1.0)
