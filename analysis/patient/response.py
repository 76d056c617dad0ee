"""How lesions changed between two time points (SPEC R-MIRV-4, R-MIRV-5, R-MIRV-6)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from mirv.analysis.errors import Reason
from mirv.analysis.model import LesionChange, Measure, StudyResult
from mirv.analysis.patient.matching import match_lesions, volume_change, volumes_of

Definition = Literal["methods", "reduction", "absolute", "table2"]
DEFINITIONS: tuple[Definition, ...] = get_args(Definition)
THRESHOLD_PERCENT = 33.0


# --- tumour-specific response classification ------------------------------------------------


def tsrc(
    changes: Sequence[float | None],
    definition: Definition = "methods",
    threshold: float = THRESHOLD_PERCENT,
) -> bool | None:
    """Whether every lesion meets the definition; None when an unknown change decides it.

    Parameters
    ----------
    changes : sequence of float or None
        Volume change of each lesion in percent; None where it is unknown.
    definition : {"methods", "reduction", "absolute", "table2"}
        ``methods``: no change above +33 % (the paper's Methods; signed, as the program).
        ``reduction``: every lesion lost 33 % or more (its Results).
        ``absolute``: no change beyond 33 % either way.
        ``table2``: every lesion grew by more than 33 % (its Table 2).
    threshold : float
        In percent. Equality counts as not exceeding.
    """
    known = [change for change in changes if change is not None]
    if not changes:
        return None
    if not all(_meets(change, definition, threshold) for change in known):
        return False
    return True if len(known) == len(changes) else None


def _meets(change: float, definition: Definition, threshold: float) -> bool:
    if definition == "methods":
        return change <= threshold
    if definition == "reduction":
        return change <= -threshold
    if definition == "absolute":
        return abs(change) <= threshold
    return change > threshold


# --- measures -------------------------------------------------------------------------------


def response_measures(
    changes: Sequence[LesionChange], threshold: float = THRESHOLD_PERCENT
) -> tuple[Measure, ...]:
    """Patient-level response from the changes of all lesions.

    The range of volume change is over all lesions whose change is known, vanished at -100 % and
    new at +100 % as published; ``volume_change_range_matched_percent`` is over the lesions
    measured twice only. Where lesions could not be matched, what depends on which is which is null;
    the total volumes compare all the same.
    """
    matched = [
        change.change_percent
        for change in changes
        if change.state == "matched" and change.change_percent is not None
    ]
    known = [change.change_percent for change in changes if change.change_percent is not None]
    unmatched = [change for change in changes if change.state == "unmatched"]
    before = sum(change.previous_ml is not None for change in unmatched)
    measures = [
        _count("n_matched", changes, "matched", 0),
        _count("n_vanished", changes, "vanished", before),
        _count("n_new", changes, "new", len(unmatched) - before),
        _count("n_unmatched", changes, "unmatched", 0),
        _extent("volume_change_range_percent", known, len(unmatched)),
        _extent("volume_change_range_matched_percent", matched),
        _total_change(changes),
    ]
    for definition in DEFINITIONS:
        met = tsrc([change.change_percent for change in changes], definition, threshold)
        name = f"tsrc_{definition}"
        if met is not None:
            measures.append(Measure(name, float(met), "1", "", "", len(known)))
        elif not changes:
            reason = Reason("no_lesions", "no lesion at either time point")
            measures.append(Measure(name, None, "1", "", "", 0, reason))
        else:
            n = len(changes) - len(known)
            detail = f"{n} of {len(changes)} lesion(s) have no follow-up, and they decide it"
            reason = _not_matched(len(unmatched)) or Reason("follow_up_unknown", detail)
            measures.append(Measure(name, None, "1", "", "", len(known), reason))
    return tuple(measures)


def _not_matched(n: int) -> Reason | None:
    """Why a number is null where nothing tells which lesion is which; None when all are told."""
    if not n:
        return None
    detail = f"nothing tells which lesion of the other time point {n} lesion(s) are, if any"
    return Reason("lesions_not_matched", detail)


def _count(name: str, changes: Sequence[LesionChange], state: str, undecided: int) -> Measure:
    """How many lesions are in a state; null where `undecided` others may be."""
    reason = _not_matched(undecided)
    n = sum(change.state == state for change in changes)
    return Measure(name, None if reason else float(n), "{count}", "", "", len(changes), reason)


def _extent(name: str, changes: Sequence[float], undecided: int = 0) -> Measure:
    n = len(changes)
    if reason := _not_matched(undecided):
        return Measure(name, None, "%", "", "", n, reason)
    if n < 2:
        detail = f"found {n} lesion(s) with a known change, wanted at least 2"
        return Measure(name, None, "%", "", "", n, Reason("too_few_lesions", detail))
    return Measure(name, float(np.ptp(changes)), "%", "", "", n)


def _total_change(changes: Sequence[LesionChange]) -> Measure:
    """Change of the summed volume of all lesions, whether or not it is told which is which."""
    name = "volume_total_change_percent"
    n = len(changes)
    if any(change.state == "unknown" for change in changes):
        unknown = sum(change.state == "unknown" for change in changes)
        reason = Reason("follow_up_unknown", f"{unknown} of {n} lesion(s) have no follow-up")
        return Measure(name, None, "%", "", "", n - unknown, reason)
    before = sum(change.previous_ml or 0.0 for change in changes)
    after = sum(change.current_ml or 0.0 for change in changes)
    if before <= 0:
        reason = Reason("no_lesions", "found no lesion at the earlier time point, wanted 1")
        return Measure(name, None, "%", "", "", n, reason)
    return Measure(name, volume_change(before, after), "%", "", "", n)


def with_response(
    result: StudyResult,
    previous: StudyResult,
    threshold: float = THRESHOLD_PERCENT,
    *,
    complete: bool = True,
    previous_complete: bool = True,
) -> StudyResult:
    """A follow-up's result with the response since an earlier study of the same patient.

    Parameters
    ----------
    complete, previous_complete : bool
        False when something drawn in the later or earlier study could not be read: a lesion
        without partner may then be there, so its change is unknown, not vanished or new.

    Returns
    -------
    StudyResult
        With the measures of the response and the change of each lesion.

    Notes
    -----
    When no lesion is found again, what the two studies drew cannot be compared lesion by lesion
    (other names, other identifiers): only the totals are, and nothing is told to have vanished.
    """
    changes = match_lesions(volumes_of(previous), volumes_of(result))
    if not any(change.state == "matched" for change in changes):
        changes = _none_matched(changes)
    unread = Reason("not_all_read", "something drawn in the other study could not be read")
    changes = tuple(
        replace(one, state="unknown", change_percent=None, reason=unread)
        if one.state != "matched"
        and not (previous_complete if one.previous_ml is None else complete)
        else one
        for one in changes
    )
    measures = response_measures(changes, threshold)
    return replace(result, measures=(*result.measures, *measures), changes=changes)


def _none_matched(changes: Sequence[LesionChange]) -> tuple[LesionChange, ...]:
    """Changes where both studies have lesions and not one was found again."""
    if len({change.previous_ml is None for change in changes}) < 2:
        return tuple(changes)
    why = Reason("no_lesion_matched", "no lesion of the earlier study was found again")
    return tuple(
        replace(one, state="unmatched", change_percent=None, reason=one.reason or why)
        for one in changes
    )
