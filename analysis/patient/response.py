"""How lesions changed between two time points (SPEC R-MIRV-4, R-MIRV-5, R-MIRV-6)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from mirv.analysis.errors import Reason
from mirv.analysis.model import Measure, StudyResult

State = Literal["matched", "vanished", "new", "unknown"]
Definition = Literal["methods", "reduction", "absolute", "table2"]
DEFINITIONS: tuple[Definition, ...] = get_args(Definition)
UNKNOWN_SITE = "unknown"
THRESHOLD_PERCENT = 33.0
VANISHED_PERCENT, NEW_PERCENT = -100.0, 100.0
"""A vanished lesion lost all its volume; a new one counts +100 % as in the published program."""


@dataclass(frozen=True, slots=True)
class LesionVolume:
    """A lesion at one time point.

    Attributes
    ----------
    tracking_uid : str
        Unique in its time point.
    name : str
        Tracking identifier or label; matches lesions when no UID does.
    site : str
    volume_ml : float
    """

    tracking_uid: str
    name: str
    site: str
    volume_ml: float


@dataclass(frozen=True, slots=True)
class LesionChange:
    """One lesion over two time points.

    Attributes
    ----------
    tracking_uid, name, site : str
        Of the current time point; of the previous one for a vanished lesion.
    state : {"matched", "vanished", "new", "unknown"}
        ``unknown``: measured before, not measured now, and not said to have vanished.
    matched_by : str
        ``"tracking_uid"``, ``"name"`` or "".
    previous_ml, current_ml : float or None
    change_percent : float or None
        ``100 (current - previous) / previous``; -100 vanished, +100 new, None unknown.
    reason : Reason or None
        Why `change_percent` is None.
    previous_uid : str
        Tracking UID at the earlier time point; "" for a new lesion.
    """

    tracking_uid: str
    name: str
    site: str
    state: State
    matched_by: str
    previous_ml: float | None
    current_ml: float | None
    change_percent: float | None
    reason: Reason | None = None
    previous_uid: str = ""


def volume_change(previous: float, current: float) -> float:
    """``100 (current - previous) / previous`` in percent; `previous` above zero."""
    return 100.0 * (current - previous) / previous


def volumes_of(result: StudyResult) -> tuple[LesionVolume, ...]:
    """The lesions of a study with their native volumes, each once, lesions without voxels left out.

    Lesions come in the order of their number.
    """
    found: dict[str, LesionVolume] = {}
    for lesion in sorted(result.lesions, key=lambda one: one.number):
        if lesion.volume_ml > 0:
            name = lesion.tracking_id or lesion.label
            found.setdefault(
                lesion.tracking_uid,
                LesionVolume(lesion.tracking_uid, name, lesion.site, lesion.volume_ml),
            )
    return tuple(found.values())


# --- matching -------------------------------------------------------------------------------


def match_lesions(
    previous: Sequence[LesionVolume], current: Sequence[LesionVolume]
) -> tuple[LesionChange, ...]:
    """Match lesions by tracking UID, then by name, and say which vanished and which are new.

    A name matches only when it stands once among the unmatched of each side (upper and lower
    case and outer blanks do not matter): an ambiguous name matches nothing. The node sees
    complete lesion sets, so a lesion without partner has vanished or is new.
    """
    before = {lesion.tracking_uid: lesion for lesion in previous}
    partner = {
        lesion.tracking_uid: (before[lesion.tracking_uid], "tracking_uid")
        for lesion in current
        if lesion.tracking_uid in before
    }
    left = [lesion for lesion in previous if lesion.tracking_uid not in partner]
    arrived = [lesion for lesion in current if lesion.tracking_uid not in partner]
    old, fresh = _by_unique_name(left), _by_unique_name(arrived)
    for key in old.keys() & fresh.keys():
        if UNKNOWN_SITE not in (sites := {old[key].site, fresh[key].site}) and len(sites) > 1:
            continue  # "Lesion 1" of the liver is not "Lesion 1" of the lung
        partner[fresh[key].tracking_uid] = (old[key], "name")
    taken = {found.tracking_uid for found, _ in partner.values()}
    changes = [_change(lesion, *partner.get(lesion.tracking_uid, (None, ""))) for lesion in current]
    changes += [_vanished(lesion) for lesion in previous if lesion.tracking_uid not in taken]
    return tuple(changes)


def _by_unique_name(lesions: Sequence[LesionVolume]) -> dict[str, LesionVolume]:
    keys = [lesion.name.strip().casefold() for lesion in lesions]
    counts = Counter(keys)
    return {
        key: lesion for key, lesion in zip(keys, lesions, strict=True) if key and counts[key] == 1
    }


def _change(lesion: LesionVolume, earlier: LesionVolume | None, by: str) -> LesionChange:
    if earlier is None:
        return LesionChange(
            lesion.tracking_uid,
            lesion.name,
            lesion.site,
            "new",
            "",
            None,
            lesion.volume_ml,
            NEW_PERCENT,
        )
    return LesionChange(
        lesion.tracking_uid,
        lesion.name,
        lesion.site,
        "matched",
        by,
        earlier.volume_ml,
        lesion.volume_ml,
        volume_change(earlier.volume_ml, lesion.volume_ml),
        previous_uid=earlier.tracking_uid,
    )


def _vanished(lesion: LesionVolume) -> LesionChange:
    return LesionChange(
        lesion.tracking_uid,
        lesion.name,
        lesion.site,
        "vanished",
        "",
        lesion.volume_ml,
        None,
        VANISHED_PERCENT,
        previous_uid=lesion.tracking_uid,
    )


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
    measured twice only.
    """
    states = Counter(change.state for change in changes)
    known = [change.change_percent for change in changes if change.change_percent is not None]
    matched = [
        change.change_percent
        for change in changes
        if change.state == "matched" and change.change_percent is not None
    ]
    measures = [
        Measure(f"n_{state}", float(states[state]), "{count}", "", "", len(changes))
        for state in ("matched", "vanished", "new")
    ]
    measures += [
        _extent("volume_change_range_percent", known),
        _extent("volume_change_range_matched_percent", matched),
        _total_change(changes),
    ]
    for definition in DEFINITIONS:
        met = tsrc([change.change_percent for change in changes], definition, threshold)
        name = f"tsrc_{definition}"
        if met is None:
            code = "no_lesions" if not changes else "follow_up_unknown"
            detail = "no lesion at either time point"
            if changes:
                n = len(changes) - len(known)
                detail = f"{n} of {len(changes)} lesion(s) have no follow-up, and they decide it"
            measures.append(Measure(name, None, "1", "", "", len(known), Reason(code, detail)))
        else:
            measures.append(Measure(name, float(met), "1", "", "", len(known)))
    return tuple(measures)


def _extent(name: str, changes: Sequence[float]) -> Measure:
    n = len(changes)
    if n < 2:
        detail = f"found {n} lesion(s) with a known change, wanted at least 2"
        return Measure(name, None, "%", "", "", n, Reason("too_few_lesions", detail))
    return Measure(name, float(np.ptp(changes)), "%", "", "", n)


def _total_change(changes: Sequence[LesionChange]) -> Measure:
    """Change of the summed volume of all lesions, vanished and new ones included."""
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

    Notes
    -----
    When no lesion is found again, what the two studies drew cannot be compared (other names, other
    identifiers): the counts are told and every other measure is null, never "all vanished".
    """
    changes = match_lesions(volumes_of(previous), volumes_of(result))
    doubted = {
        state for state, sure in (("vanished", complete), ("new", previous_complete)) if not sure
    }
    changes = tuple(
        replace(one, state="unknown", change_percent=None) if one.state in doubted else one
        for one in changes
    )
    measures = response_measures(changes, threshold)
    if not any(one.name == "n_matched" and one.value for one in measures):
        why = Reason("no_lesion_matched", "no lesion of the earlier study was found again")
        measures = tuple(
            one if one.unit == "{count}" else replace(one, value=None, reason=why)
            for one in measures
        )
    return replace(result, measures=(*result.measures, *measures))
