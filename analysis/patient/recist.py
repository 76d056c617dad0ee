"""RECIST 1.1 response from axial diameters (SPEC R-REC-1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mirv.analysis.errors import Reason
from mirv.analysis.patient.target_lesions import Measured, recist_targets

Response = Literal["CR", "PR", "SD", "PD", "NE"]
SHRINKS, GROWS, GROWS_MM = -30.0, 20.0, 5.0
"""RECIST 1.1 (Eisenhauer 2009, section 4.3.1): percent of baseline, percent and mm above nadir."""
NODE_NORMAL_MM = 10.0


def response(
    baseline_mm: float,
    nadir_mm: float,
    current_mm: float,
    *,
    new_lesions: bool = False,
    all_gone: bool = False,
) -> Response:
    """Overall response of target lesions by sums of diameters.

    Parameters
    ----------
    baseline_mm, nadir_mm, current_mm : float
        Sums of target diameters (nodes: short axes). NaN: not evaluable.
    new_lesions : bool
        Any new lesion is progression.
    all_gone : bool
        Every target has vanished and every target node is below 10 mm.
    """
    if new_lesions:
        return "PD"
    if not np.isfinite([baseline_mm, nadir_mm, current_mm]).all() or baseline_mm <= 0:
        return "NE"
    if all_gone:
        return "CR"
    growth = current_mm - nadir_mm
    grown = np.inf if nadir_mm == 0 and growth > 0 else 100 * growth / (nadir_mm or 1.0)
    if grown >= GROWS and growth >= GROWS_MM:
        return "PD"
    if 100 * (current_mm - baseline_mm) / baseline_mm <= SHRINKS:
        return "PR"
    return "SD"


@dataclass(frozen=True, slots=True)
class Outcome:
    """RECIST 1.1 between a baseline and one later time point.

    Attributes
    ----------
    n_targets : int
    baseline_mm, current_mm : float or None
        Sums of target diameters, lymph nodes by their short axis; a vanished target adds 0.
    change_percent : float or None
    response : Response
    reason : Reason or None
        Why it is not evaluable ("NE").
    """

    n_targets: int
    baseline_mm: float | None
    current_mm: float | None
    change_percent: float | None
    response: Response
    reason: Reason | None = None


def outcome(
    baseline: Sequence[Measured], current: Sequence[Measured | None], *, new_lesions: bool
) -> Outcome:
    """Choose targets at baseline, follow them, and class the change; the baseline is the nadir.

    Parameters
    ----------
    baseline : sequence of Measured
    current : sequence of Measured or None
        Partner of each baseline lesion; None when it has vanished.
    new_lesions : bool
    """
    targets = recist_targets(baseline)
    if not targets:
        reason = Reason("no_target", f"none of {len(baseline)} lesion(s) is a measurable target")
        return Outcome(0, None, None, None, "PD" if new_lesions else "NE", reason)
    before = sum(_size(baseline[i]) for i in targets)
    partners = [current[i] for i in targets]
    sizes = [0.0 if one is None else _size(one) for one in partners]
    after = float(sum(sizes))
    if not np.isfinite(after):
        reason = Reason("no_diameter", "a target has no diameter at the later time point")
        return Outcome(len(targets), before, None, None, "PD" if new_lesions else "NE", reason)
    gone = all(
        one is None or (one.site == "lymph node" and size < NODE_NORMAL_MM)
        for one, size in zip(partners, sizes, strict=True)
    )
    found = response(before, before, after, new_lesions=new_lesions, all_gone=gone)
    return Outcome(len(targets), before, after, 100.0 * (after - before) / before, found)


def _size(lesion: Measured) -> float:
    size = lesion.short_axis_mm if lesion.site == "lymph node" else lesion.long_axis_mm
    return float("nan") if size is None else size
