"""Coefficient of variation of each feature over a group of lesions (SPEC R-CV-1)."""

from collections.abc import Sequence

import numpy as np

from mirv.analysis.errors import Reason
from mirv.analysis.model import BoolArray, FloatArray, LesionResult, Variation
from mirv.config.sites import SITES

RELATIVE_ZERO = 1e-12
"""A mean smaller than this times the largest magnitude is rounding, not a mean."""


def coefficient_of_variation(values: FloatArray) -> tuple[float | None, Reason | None]:
    """``100 * |s / mean|`` in percent, s with ddof 1; null with a reason where undefined.

    Parameters
    ----------
    values : float64 (n,)
        One feature over n lesions, all finite.
    """
    if len(values) < 2:
        return None, Reason("too_few_lesions", f"found {len(values)} lesion(s), wanted at least 2")
    mean = float(values.mean())
    if abs(mean) <= RELATIVE_ZERO * float(np.abs(values).max()):
        return None, Reason("mean_zero", f"the mean {mean:.3g} is zero to rounding")
    spread = float(values.std(ddof=1)) if np.ptp(values) > 0 else 0.0
    percent = 100.0 * abs(spread / mean)
    if not np.isfinite(percent):
        return None, Reason("overflow", f"SD {spread:.3g} over mean {mean:.3g} is no finite number")
    return percent, None


def quartile_coefficient(values: FloatArray) -> float | None:
    """``(Q3 - Q1) / (Q3 + Q1)``, quartiles interpolated linearly; None where undefined.

    Parameters
    ----------
    values : float64 (n,)
        One feature over n lesions, all finite.
    """
    if len(values) < 2:
        return None
    low, high = np.percentile(values, [25, 75])
    total = float(high + low)
    if abs(total) <= RELATIVE_ZERO * float(np.abs(values).max()):
        return None
    ratio = float(high - low) / total
    return ratio if np.isfinite(ratio) else None


def _row(profile: str, feature: str, site: str, column: FloatArray) -> Variation:
    """One row the plain way, for a feature that some lesions lack."""
    values = column[np.isfinite(column)]
    percent, reason = coefficient_of_variation(values)
    return Variation(
        profile=profile,
        feature=feature,
        site=site,
        n_lesions=len(values),
        cv_percent=percent,
        quartile_coefficient=quartile_coefficient(values),
        sign_change=bool(np.any(values > 0) and np.any(values < 0)),
        reason=reason,
    )


def _rows(profile: str, names: Sequence[str], site: str, table: FloatArray) -> list[Variation]:
    """Rows of one group of lesions, all features at once where no value is missing."""
    n = len(table)
    if n < 2:
        return [_row(profile, name, site, table[:, i]) for i, name in enumerate(names)]
    with np.errstate(all="ignore"):
        mean, largest = table.mean(axis=0), np.abs(table).max(axis=0)
        spread = np.where(np.ptp(table, axis=0) > 0, table.std(axis=0, ddof=1), 0.0)
        percent = 100.0 * np.abs(spread / mean)
        low, high = np.percentile(table, [25, 75], axis=0)
        quartile = (high - low) / (high + low)
    # Whatever is special is left to the plain way, which says why.
    plain: BoolArray = np.isfinite(percent) & (np.abs(mean) > RELATIVE_ZERO * largest)
    total = np.asarray(high + low)
    ratio: BoolArray = np.isfinite(quartile) & (np.abs(total) > RELATIVE_ZERO * largest)
    both: BoolArray = (table.min(axis=0) < 0) & (table.max(axis=0) > 0)
    return [
        Variation(
            profile,
            name,
            site,
            n,
            float(percent[i]),
            float(quartile[i]) if ratio[i] else None,
            bool(both[i]),
        )
        if plain[i]
        else _row(profile, name, site, table[:, i])
        for i, name in enumerate(names)
    ]


def variation(lesions: Sequence[LesionResult]) -> tuple[Variation, ...]:
    """Variation of every feature over all lesions, then over each site with two or more.

    Parameters
    ----------
    lesions : sequence of LesionResult
        One patient, one profile. A lesion without a feature (NaN) does not enter that feature's
        row, whose `n_lesions` says how many did. Lesions of unknown site enter the patient rows
        only. Sites come in the order of ``config.sites.SITES``.
    """
    if not lesions:
        return ()
    profile, names = lesions[0].profile, lesions[0].names
    table = np.array([lesion.values for lesion in lesions])
    sites = [lesion.site for lesion in lesions]
    groups = [("", np.ones(len(lesions), bool))]
    for site in SITES:
        inside = np.array([s == site for s in sites])
        if site != "unknown" and inside.sum() >= 2:
            groups.append((site, inside))
    return tuple(
        row for site, inside in groups for row in _rows(profile, names, site, table[inside])
    )
