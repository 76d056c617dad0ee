"""The written rule of the baseline: what a series must be, and which of several is taken."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from math import inf

from mirv.analysis.errors import Reason
from mirv.config.settings.processing import Retrieval

_LONGEST_TEXT = 256
_WHOLE_WORD = 3
_CAMEL = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What is known of an image series; "" and None for what is not told.

    Attributes
    ----------
    modality, body_part, description, protocol, study_description : str
    thickness_mm : float or None
        Largest slice thickness.
    localizer : bool
    from_object : bool
        An object of the series was read: what is not told now is not told at all.
    """

    modality: str
    body_part: str
    description: str
    protocol: str
    study_description: str
    thickness_mm: float | None = None
    localizer: bool = False
    from_object: bool = False


@dataclass(frozen=True, slots=True)
class Rank:
    """Where a series stands among those that fit.

    Attributes
    ----------
    days : int
        From the index date to the study; before it: negative.
    drawn : bool
        A segmentation was drawn on it.
    thickness_mm : float or None
    study_uid, series_uid : str
    """

    days: int
    drawn: bool
    thickness_mm: float | None
    study_uid: str
    series_uid: str

    @property
    def key(self) -> tuple[int, bool, bool, float, str, str]:
        """Smaller is taken before larger: the nearest to the index date, before rather than after
        it, segmented before not, thinner slices, then the smaller UIDs."""
        thickness = inf if self.thickness_mm is None else self.thickness_mm
        after = self.days > 0
        return abs(self.days), after, not self.drawn, thickness, self.study_uid, self.series_uid


def outside_window(day: str, index_date: date, rule: Retrieval) -> Reason | None:
    """Why a study of this Study Date is not looked into; None: it is in the window.

    Parameters
    ----------
    day : str
        YYYYMMDD.
    index_date : date
    rule : Retrieval

    Returns
    -------
    Reason or None
    """
    days = days_from(index_date, day)
    if days is None:
        return Reason("study_without_date", "found no StudyDate")
    if rule.from_days <= days <= rule.to_days:
        return None
    return Reason(
        "outside_window",
        f"found {days:+d} days from the index date, wanted {rule.from_days:+d} to "
        f"{rule.to_days:+d}",
    )


def days_from(index_date: date, day: str) -> int | None:
    """Days from the index date to this one (YYYYMMDD), None when it is none."""
    try:
        return (date.fromisoformat(day) - index_date) // timedelta(days=1)
    except ValueError:
        return None


def refusal(facts: SeriesFacts, rule: Retrieval) -> Reason | None:
    """Why a series is not what a baseline must be; None: it is.

    Before an object of it was read, what is not told is no reason.

    Parameters
    ----------
    facts : SeriesFacts
    rule : Retrieval

    Returns
    -------
    Reason or None
    """
    if facts.modality != rule.modality:
        return Reason("other_modality", f"found {facts.modality[:16]}, wanted {rule.modality}")
    if facts.localizer:
        return Reason("localizer", "found a localizer, wanted slices")
    return _wrong_phase(facts, rule) or _wrong_body_part(facts, rule) or _too_thick(facts, rule)


def _wrong_phase(facts: SeriesFacts, rule: Retrieval) -> Reason | None:
    if not rule.phases:
        return None
    levels = (facts.description, f"{facts.study_description} {facts.protocol}")
    found = _told(levels, rule.phases, rule.other_phases)
    if found is _Told.OTHER:
        return Reason("other_phase", "the description names another contrast phase")
    if found is _Told.BOTH:
        return Reason("phase_unclear", "the description names more than one contrast phase")
    if found is _Told.NOTHING and facts.from_object:
        return Reason("phase_not_told", "no description names the contrast phase")
    return None


def _wrong_body_part(facts: SeriesFacts, rule: Retrieval) -> Reason | None:
    if not rule.body_parts:
        return None
    levels = (
        f"{facts.body_part} {facts.description}",
        f"{facts.study_description} {facts.protocol}",
    )
    found = _told(levels, rule.body_parts, rule.other_body_parts)
    if found is _Told.OTHER:
        return Reason("other_body_part", "body part or description name another part")
    if found is _Told.NOTHING and facts.from_object:
        return Reason("body_part_not_told", "neither body part nor a description name a wanted one")
    return None


def _too_thick(facts: SeriesFacts, rule: Retrieval) -> Reason | None:
    if rule.max_slice_mm is None:
        return None
    if facts.thickness_mm is None:
        wanted = f"wanted at most {rule.max_slice_mm:g} mm"
        missing = Reason("thickness_not_told", f"found no slice thickness, {wanted}")
        return missing if facts.from_object else None
    if facts.thickness_mm > rule.max_slice_mm:
        return Reason(
            "slices_too_thick",
            f"found {facts.thickness_mm:g} mm, wanted at most {rule.max_slice_mm:g} mm",
        )
    return None


def why_not(other: Rank, taken: Rank) -> Reason:
    """Why a series that fits is not the baseline: the first step of the rule that parts them.

    Parameters
    ----------
    other, taken : Rank

    Returns
    -------
    Reason
    """
    if abs(other.days) != abs(taken.days):
        detail = f"found {other.days:+d} days from the index date, the baseline {taken.days:+d}"
        return Reason("other_study_nearer", detail)
    if other.days != taken.days:
        return Reason("other_study_before", "as near, but after the index date")
    if other.drawn != taken.drawn:
        return Reason("other_series_segmented", "of the same day; a segmentation is on the other")
    if other.thickness_mm != taken.thickness_mm:
        found, wanted = (
            "unknown" if one.thickness_mm is None else f"{one.thickness_mm:g} mm"
            for one in (other, taken)
        )
        return Reason("other_series_thinner", f"found {found}, the baseline {wanted}")
    return Reason("other_uid_first", "equal in all else: the smaller UID is the baseline")


# --- words ----------------------------------------------------------------------------------


class _Told(StrEnum):
    WANTED = "wanted"
    OTHER = "other"
    BOTH = "both"
    NOTHING = "nothing"


def _told(levels: Sequence[str], wanted: Sequence[str], others: Sequence[str]) -> _Told:
    """What the first text says that says anything."""
    for text in levels:
        words = _words(text)
        here = any(_stands(pattern, words) for pattern in wanted)
        there = any(_stands(pattern, words) for pattern in others)
        if here or there:
            return _Told.BOTH if here and there else _Told.WANTED if here else _Told.OTHER
    return _Told.NOTHING


def _stands(pattern: str, words: Sequence[str]) -> bool:
    parts = _words(pattern)
    return bool(parts) and all(any(_is_word(part, word) for word in words) for part in parts)


def _is_word(part: str, word: str) -> bool:
    # "intravenous" is no venous phase, and "tape" no thorax-abdomen-pelvis.
    return word == part if len(part) <= _WHOLE_WORD else word.startswith(part)


def _words(text: str) -> list[str]:
    """Words of a text without case and accents; ThoraxAbdomen is two."""
    parted = _CAMEL.sub(" ", text[:_LONGEST_TEXT])
    decomposed = unicodedata.normalize("NFKD", parted.casefold())
    return _WORD.findall("".join(one for one in decomposed if not unicodedata.combining(one)))
