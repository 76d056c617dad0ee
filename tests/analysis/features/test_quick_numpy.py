"""Stand-ins for numpy's wrappers give numpy's bytes, and leave the unusual to numpy."""

import numpy as np
import pytest

from mirv.analysis.features import quick_numpy


def rows() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    found = [rng.normal(40, 30, (1, n)) for n in (1, 2, 3, 7, 13, 100, 601, 5000)]
    found += [np.rint(values) for values in found]
    return found


@pytest.mark.parametrize("q", [0, 10, 25, 50, 75, 90, 99, 100])
def test_percentiles_are_numpys(q: int) -> None:
    for values in rows():
        mine = quick_numpy.nanpercentile(values, q, axis=1)
        assert mine.tobytes() == np.nanpercentile(values, q, axis=1).tobytes()


def test_medians_means_and_sums_are_numpys() -> None:
    for values in rows():
        for name in ("nanmedian", "nanmean", "sum"):
            mine = getattr(quick_numpy.QuickNumpy(), name)(values, 1)
            assert mine.tobytes() == getattr(np, name)(values, 1).tobytes()
    cube = np.random.default_rng(1).random((3, 5, 7, 13))
    assert quick_numpy.total(cube, (1, 2)).tobytes() == np.sum(cube, (1, 2)).tobytes()
    assert quick_numpy.total(cube, (1, 2), keepdims=True).shape == (3, 1, 1, 13)
    assert quick_numpy.total(cube) == np.sum(cube)


def test_what_holds_nan_goes_to_numpy() -> None:
    values = np.array([[1.0, np.nan, 4.0, 7.0]])
    assert quick_numpy.nanmean(values, 1)[0] == 4.0
    assert quick_numpy.nanmedian(values, 1)[0] == 4.0
    assert quick_numpy.nanpercentile(values, 50, 1)[0] == 4.0
    assert quick_numpy.nanmean(values) == 4.0


def test_the_rest_is_numpys_own() -> None:
    quick = quick_numpy.QuickNumpy()
    assert quick.log2 is np.log2
    with pytest.raises(AttributeError):
        _ = quick.no_such_thing
