"""Where IBSI-1 and PyRadiomics part: re-segmentation, grey levels, kurtosis.

The formulas of features agree; preprocessing does not (IBSI reference manual, chapter 2).
Resampling on IBSI's lattice is in `analysis.lattice.window` and `analysis.lattice.resampling`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirv.analysis.model import BoolArray

BINS = "ibsiBins"
"""Setting: discretise as IBSI does. Set by a profile's ``preprocessing: ibsi``."""

BIN_FROM = "binFrom"
"""Setting: lower bound of the first bin, with ``binWidth``; silent: the smallest value."""

OUTLIERS = "resegmentSigma"
"""Setting: keep what lies within so many standard deviations of the mean (after the range)."""


def resegment(values: NDArray[Any], inside: BoolArray, settings: Mapping[str, Any]) -> BoolArray:
    """Intensity mask: range first, then outliers from the mean of what is left.

    Parameters
    ----------
    values : array [slice, row, column]
    inside : bool array
    settings : mapping
        ``resegmentRange`` (lower, upper) or none, and `OUTLIERS`.

    Returns
    -------
    bool array
        As large as `inside`.
    """
    kept = inside.copy()
    if (limits := settings.get("resegmentRange")) is not None:
        kept &= (values >= min(limits)) & (values <= max(limits))
    found = values[kept].astype(float)
    reach = float(settings[OUTLIERS]) * float(found.std()) if found.size else 0.0
    middle = float(found.mean()) if found.size else 0.0
    kept &= (values >= middle - reach) & (values <= middle + reach)
    return kept


def levels(values: NDArray[Any], settings: Mapping[str, Any]) -> NDArray[np.int_]:
    """Grey levels from 1: fixed bin size from a fixed bound, or a fixed number of bins.

    Parameters
    ----------
    values : array (n,)
        Of the voxels in the mask.
    settings : mapping
        ``binCount``, or ``binWidth`` and `BIN_FROM`.

    Returns
    -------
    int (n,)
    """
    found = values.astype(float)
    low, high = float(found.min()), float(found.max())
    count = settings.get("binCount")
    if count is None:
        bound = float(settings.get(BIN_FROM, low))
        at = np.floor((found - bound) / float(settings["binWidth"])) + 1
    elif high == low:
        at = np.ones_like(found)
    else:
        at = np.minimum(np.floor(count * (found - low) / (high - low)) + 1, count)
    return at.astype(np.int_)


AXES = ("MajorAxisLength", "MinorAxisLength", "LeastAxisLength")


def restate(found: dict[str, Any], voxel_mm3: float) -> None:
    """Change features in place whose definition differs.

    IBSI's kurtosis is in excess of 3; its axis lengths come from the sample covariance (n - 1),
    PyRadiomics' from the population's (n).

    Parameters
    ----------
    found : dict of feature name to value
    voxel_mm3 : float
        Of the analysis grid.
    """
    for name in found:
        if name.endswith("_firstorder_Kurtosis"):
            found[name] = found[name] - 3.0
    volume = found.get("original_shape_VoxelVolume")
    if volume is None:
        return
    n = round(float(volume) / voxel_mm3)
    for axis in AXES:
        if (name := f"original_shape_{axis}") in found and n > 1:
            found[name] = found[name] * np.sqrt(n / (n - 1.0))
