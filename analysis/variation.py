"""Coefficient of variation of each feature over a group of lesions (SPEC R-CV-1)."""

from collections.abc import Sequence

import numpy as np

from analysis.model import FloatArray, LesionResult, Reason, Variation
from config.sites import SITES

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
    """``(Q3 - Q1) / (Q3 + Q1)``, quartiles interpolated linearly; None where undefined."""
    if len(values) < 2:
        return None
    low, high = np.percentile(values, [25, 75])
    total = float(high + low)
    if abs(total) <= RELATIVE_ZERO * float(np.abs(values).max()):
        return None
    ratio = float(high - low) / total
    return ratio if np.isfinite(ratio) else None


def _row(profile: str, feature: str, site: str, column: FloatArray) -> Variation:
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
        _row(profile, feature, site, table[inside, column])
        for site, inside in groups
        for column, feature in enumerate(names)
    )
