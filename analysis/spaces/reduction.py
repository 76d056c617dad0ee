"""Which features a MIRV space is made of: the published reduction in three modes (R-MIRV-2).

``paper``
    As the text of Geady et al. 2025 has it: drop variance below the median variance, drop
    |Spearman rho with volume| > 0.1, then drop *both* members of every pair with
    |Spearman rho| > 0.7.
``code_fixed``
    As the published program means it: signed rho with volume <= 0.1, Pearson in the pair filter.
``published_compat``
    As the published program runs. It looks its results up in a list of column names that starts
    with the patient column, so each name it keeps is the feature *before* the one that passed
    (SPEC F6). For reproduction only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from mirv.analysis.choices import ReductionMode
from mirv.analysis.errors import Unsuitable
from mirv.analysis.model import BoolArray, FloatArray

VOLUME = "original_shape_VoxelVolume"


@dataclass(frozen=True, slots=True)
class Reduction:
    """What a reduction kept, and how.

    Attributes
    ----------
    mode : ReductionMode
    names : tuple of str
        Features kept, in the order of the table.
    n_features, n_filtered, n_kept : int
        Features of the table; after the variance and volume filters; after the pair filter.
    median_variance : float
        The variance threshold (ddof 1), in the mixed units of the features.
    volume_limit, pair_limit : float
    """

    mode: ReductionMode
    names: tuple[str, ...]
    n_features: int
    n_filtered: int
    n_kept: int
    median_variance: float
    volume_limit: float
    pair_limit: float


def reduce_features(
    values: FloatArray,
    names: Sequence[str],
    mode: ReductionMode = ReductionMode.PAPER,
    *,
    volume: str = VOLUME,
    volume_limit: float = 0.1,
    pair_limit: float = 0.7,
) -> Reduction:
    """Reduce a cohort's features to the few that carry MIRV.

    Parameters
    ----------
    values : float64 (n_lesions, n_features)
        All finite; at least three lesions.
    names : sequence of str
        Column names; their order matters in mode ``published_compat``.
    mode : ReductionMode
    volume : str
        The feature that is the lesion's volume.
    volume_limit, pair_limit : float
        The edges are as published: ``<= 0.1`` stays, ``> 0.7`` goes.

    Raises
    ------
    Unsuitable
        Too few lesions, no volume column, constant volume, or no feature left.
    """
    if mode not in tuple(ReductionMode):
        raise ValueError(f"mode {mode!r}: wanted one of {', '.join(ReductionMode)}")
    size = _volumes(values, names, volume)
    variance = values.var(axis=0, ddof=1)
    threshold = float(np.median(variance))
    varied = np.flatnonzero((variance >= threshold) & (np.ptp(values, axis=0) > 0))
    ranks = _ranks(values[:, varied])
    rho = ranks.T @ _ranks(size[:, None])[:, 0]
    judged = np.abs(rho) if mode == ReductionMode.PAPER else rho
    passed = judged <= volume_limit
    candidates = varied[passed]
    if mode == ReductionMode.PUBLISHED_COMPAT:
        # The first feature has only the patient column before it: nothing to keep there.
        candidates = candidates[candidates > 0] - 1
        candidates = candidates[np.ptp(values[:, candidates], axis=0) > 0]
    units = ranks[:, passed] if mode == ReductionMode.PAPER else _standard(values[:, candidates])
    kept = candidates[_without_partner(units, pair_limit)]
    if kept.size == 0:
        raise Unsuitable(
            "no_features_left",
            f"of {len(names)} features {len(candidates)} passed the variance and volume filters "
            f"and none the pair filter (> {pair_limit})",
        )
    return Reduction(
        mode=mode,
        names=tuple(names[index] for index in kept),
        n_features=len(names),
        n_filtered=len(candidates),
        n_kept=len(kept),
        median_variance=threshold,
        volume_limit=volume_limit,
        pair_limit=pair_limit,
    )


def _volumes(values: FloatArray, names: Sequence[str], volume: str) -> FloatArray:
    """Volume of each lesion, which every feature is judged by."""
    if len(values) < 3:
        raise Unsuitable("too_few_lesions", f"found {len(values)} lesion(s), wanted at least 3")
    if volume not in names:
        raise Unsuitable("missing_column", f"no volume column {volume!r} among the features")
    size = values[:, list(names).index(volume)]
    if np.ptp(size) == 0:
        raise Unsuitable("constant_feature", f"column {volume!r} is the same for every lesion")
    return size


def _standard(values: FloatArray) -> FloatArray:
    """Columns of mean 0 and length 1: their inner products are correlations."""
    centred = values - values.mean(axis=0)
    result: FloatArray = centred / np.linalg.norm(centred, axis=0)
    return result


def _ranks(values: FloatArray) -> FloatArray:
    """Columns of standardised ranks: their inner products are Spearman's rho."""
    return _standard(rankdata(values, axis=0))


def _without_partner(units: FloatArray, limit: float) -> BoolArray:
    """True for standardised columns that correlate with no other column above `limit`."""
    if units.shape[1] == 0:
        return np.zeros(0, bool)
    correlation = np.abs(units.T @ units)
    np.fill_diagonal(correlation, 0.0)
    lonely: BoolArray = correlation.max(axis=0) <= limit
    return lonely
