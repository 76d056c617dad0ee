"""numpy for PyRadiomics' feature classes, with its costliest wrappers thinned out.

A feature is a handful of numbers, and for a small lesion most of its time goes into numpy's
Python-level wrappers: looking for NaN where there is none, passing arguments on. These stand-ins
call the same ufuncs on the same arrays, so results are the same bytes; anything unusual (NaN, other
arguments) goes to numpy itself.
"""

from typing import Any

import numpy as np


def total(array: Any, axis: Any = None, **options: Any) -> Any:
    """``numpy.sum``."""
    return np.add.reduce(array, axis, **options)


def nanmean(array: Any, axis: Any = None, **options: Any) -> Any:
    """``numpy.nanmean``."""
    if options or not isinstance(axis, int) or np.isnan(array).any():
        return np.nanmean(array, axis, **options)
    return np.add.reduce(array, axis) / array.shape[axis]


def nanpercentile(array: Any, q: Any, axis: Any = None, **options: Any) -> Any:
    """``numpy.nanpercentile``, for one row of values by linear interpolation as numpy does it."""
    if options or not _one_row(array, axis) or not isinstance(q, int):
        return np.nanpercentile(array, q, axis, **options)
    n = array.shape[1]
    at = (n - 1) * (q / 100.0)
    low = int(at)
    high = min(low + 1, n - 1)
    ordered = np.partition(array[0], [low, high])
    gap, part = ordered[high] - ordered[low], at - low
    found = ordered[high] - gap * (1 - part) if part >= 0.5 else ordered[low] + gap * part
    return np.array([found])


def nanmedian(array: Any, axis: Any = None, **options: Any) -> Any:
    """``numpy.nanmedian``."""
    if options or not _one_row(array, axis):
        return np.nanmedian(array, axis, **options)
    return np.median(array, axis)


def _one_row(array: Any, axis: Any) -> bool:
    return (
        axis == 1
        and array.ndim == 2
        and array.shape[0] == 1
        and array.dtype == np.float64
        and not np.isnan(array).any()
    )


class QuickNumpy:
    """Stands where a module has imported numpy; what it does not replace is numpy's own."""

    sum = staticmethod(total)
    nanmean = staticmethod(nanmean)
    nanmedian = staticmethod(nanmedian)
    nanpercentile = staticmethod(nanpercentile)

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        setattr(self, name, found)
        return found
