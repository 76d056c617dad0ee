"""Which lesion of one time point is which of another (SPEC R-MIRV-6), and by what that is told."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import hypot

import numpy as np

from mirv.analysis.errors import Reason
from mirv.analysis.model import FloatArray, LesionChange, LesionIdentity, StudyResult
from mirv.analysis.patient.names import is_generic, name_key

UNKNOWN_SITE = "unknown"
NEAR_MM = 25.0
"""Gap between the boxes of a lesion at two time points beyond which it is another place: breathing
moves a liver by 10 to 20 mm."""
VANISHED_PERCENT, NEW_PERCENT = -100.0, 100.0
"""A vanished lesion lost all its volume; a new one counts +100 % as in the published program."""
_NAME_SHOWN = 64


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
    identity : LesionIdentity
    """

    tracking_uid: str
    name: str
    site: str
    volume_ml: float
    identity: LesionIdentity = field(default_factory=LesionIdentity)


_Pair = tuple[LesionVolume, LesionVolume]


def volume_change(previous: float, current: float) -> float:
    """``100 (current - previous) / previous`` in percent; `previous` above zero."""
    return 100.0 * (current - previous) / previous


def volumes_of(result: StudyResult) -> tuple[LesionVolume, ...]:
    """The lesions of a study with their native volumes, each once, lesions without voxels left out.

    Lesions come in the order of their number.
    """
    found: dict[str, LesionVolume] = {}
    for lesion in sorted(result.lesions, key=lambda one: one.number):
        if lesion.volume_ml > 0 and (uid := lesion.tracking_uid) not in found:
            name = lesion.tracking_id or lesion.label
            identity = result.identities.get(uid, LesionIdentity())
            found[uid] = LesionVolume(uid, name, lesion.site, lesion.volume_ml, identity)
    return tuple(found.values())


def match_lesions(
    previous: Sequence[LesionVolume], current: Sequence[LesionVolume], *, key: str = ""
) -> tuple[LesionChange, ...]:
    """Match lesions of two complete sets, and say of the others what is known.

    First by equal tracking UIDs, both received. Then by equal names, where they can be trusted: a
    name that is not generic (`names.is_generic`), stands once at each time point, and whose lesions
    contradict each other neither in site nor in place. A lesion without partner has vanished or is
    new where everything left at the other time point is surely another lesion: of another site, at
    another place of one frame of reference, or of another identifier of a kind that the two sets
    share (at least one pair was matched by it). Otherwise it is `unmatched`.

    Parameters
    ----------
    previous, current : sequence of LesionVolume
    key : str
        What matches by `tracking_uid` are said to be made by where that is a user's own
        identifier: then lesions of different ones are different lesions. "": as above.

    Returns
    -------
    tuple of LesionChange
        The current lesions in their order, then the previous ones without partner in theirs.
    """
    both = _Matching(previous, current)
    both.by_uid(key or "tracking_uid")
    both.by_name()
    left, arrived = both.without_partner()
    apart = _Apart(both, uids_kept=bool(key))
    unsure = {id(a) for a in left if not all(apart.told(a, b) for b in arrived)}
    unsure |= {id(b) for b in arrived if not all(apart.told(a, b) for a in left)}
    changes = [
        _matched(lesion, *both.partner[lesion.tracking_uid])
        if lesion.tracking_uid in both.partner
        else _new(lesion, both.why(lesion, both.new) if id(lesion) in unsure else None)
        for lesion in current
    ]
    changes += [
        _vanished(lesion, both.why(lesion, both.old) if id(lesion) in unsure else None)
        for lesion in left
    ]
    return tuple(changes)


class _Side:
    """The lesions of one time point with the names that are told apart there."""

    def __init__(self, lesions: Sequence[LesionVolume]) -> None:
        self.lesions = lesions
        self.keys = {one.tracking_uid: name_key(one.name) for one in lesions}
        self.counts = Counter(self.keys.values())
        self.trusted = {
            self.keys[one.tracking_uid]: one
            for one in lesions
            if self.counts[self.keys[one.tracking_uid]] == 1
            and not one.identity.part
            and not is_generic(one.name)
        }

    def trusts(self, lesion: LesionVolume) -> bool:
        return self.trusted.get(self.keys[lesion.tracking_uid]) is lesion


class _Matching:
    """Partners found so far: of each current lesion its earlier one, and by what."""

    def __init__(self, previous: Sequence[LesionVolume], current: Sequence[LesionVolume]) -> None:
        self.old, self.new = _Side(previous), _Side(current)
        self.partner: dict[str, tuple[LesionVolume, str]] = {}
        self.doubts: dict[int, Reason] = {}
        """By the identity of the lesion's object: both sides may share a tracking UID."""

    def by_uid(self, said: str) -> None:
        before = {one.tracking_uid: one for one in self.old.lesions}
        for lesion in self.new.lesions:
            old = before.get(lesion.tracking_uid)
            if old and old.identity.tracking_received and lesion.identity.tracking_received:
                self.partner[lesion.tracking_uid] = (old, said)

    def by_name(self) -> None:
        anchors = [
            (old, lesion)
            for lesion in self.new.lesions
            for old, _ in [self.partner.get(lesion.tracking_uid, (None, ""))]
            if old is not None
        ]
        taken = {old.tracking_uid for old, _ in anchors}
        pairs = [
            (old, new)
            for key, new in self.new.trusted.items()
            for old in [self.old.trusted.get(key)]
            if old and new.tracking_uid not in self.partner and old.tracking_uid not in taken
        ]
        of_one_site = [pair for pair in pairs if not _other_site(*pair)]
        shift = _shift(anchors or of_one_site)
        for old, new in pairs:
            if _other_site(old, new):
                self._doubt(old, new, "other_site", f"{old.site} then {new.site}")
            elif (gap := _gap(old, new, shift)) > NEAR_MM:
                self._doubt(old, new, "other_place", f"{gap:.0f} mm apart")
            else:
                self.partner[new.tracking_uid] = (old, "name")

    def without_partner(self) -> tuple[list[LesionVolume], list[LesionVolume]]:
        """What is left of the earlier and of the current lesions."""
        taken = {old.tracking_uid for old, _ in self.partner.values()}
        return (
            [one for one in self.old.lesions if one.tracking_uid not in taken],
            [one for one in self.new.lesions if one.tracking_uid not in self.partner],
        )

    def _doubt(self, old: LesionVolume, new: LesionVolume, code: str, found: str) -> None:
        detail = f"the name {_short(new.name)} of both time points is not believed: {found}"
        for one in (old, new):
            self.doubts[id(one)] = Reason(code, detail)

    def why(self, lesion: LesionVolume, side: _Side) -> Reason:
        """Why nothing tells which lesion of the other time point it is."""
        if doubt := self.doubts.get(id(lesion)):
            return doubt
        uid = (
            "its tracking UID is not at the other time point"
            if lesion.identity.tracking_received
            else "it came without a tracking UID"
        )
        shown = f"the name {_short(lesion.name)}"
        if lesion.identity.part:
            return Reason("part_of_segment", "parts of a segment are numbered by size")
        if is_generic(lesion.name):
            return Reason("generic_name", f"{uid}, and {shown} says nothing of which lesion it is")
        if not side.trusts(lesion):
            n = side.counts[side.keys[lesion.tracking_uid]]
            return Reason("name_repeated", f"{uid}, and {shown} stands {n} times")
        return Reason("no_partner", f"{uid}, nor is {shown}")


class _Apart:
    """Whether two lesions without partners are surely two."""

    def __init__(self, both: _Matching, *, uids_kept: bool) -> None:
        kinds = {by for _, by in both.partner.values()}
        self._uids_kept = uids_kept or "tracking_uid" in kinds
        self._names_kept = "name" in kinds
        self._old, self._new = both.old, both.new

    def told(self, old: LesionVolume, new: LesionVolume) -> bool:
        if _other_site(old, new) or (_one_frame(old, new) and _gap(old, new, None) > NEAR_MM):
            return True
        received = old.identity.tracking_received and new.identity.tracking_received
        if self._uids_kept and received:
            return True
        if not (self._names_kept and self._old.trusts(old) and self._new.trusts(new)):
            return False
        return self._old.keys[old.tracking_uid] != self._new.keys[new.tracking_uid]


def _other_site(old: LesionVolume, new: LesionVolume) -> bool:
    sites = {old.site, new.site}
    return len(sites) > 1 and UNKNOWN_SITE not in sites


# --- places ---------------------------------------------------------------------------------


def _one_frame(old: LesionVolume, new: LesionVolume) -> bool:
    frame = old.identity.frame_of_reference
    return bool(frame) and frame == new.identity.frame_of_reference


def _shift(pairs: Iterable[_Pair]) -> FloatArray | None:
    """How far bodies lie apart in two frames of reference: the median over pairs, in mm."""
    moves = [
        np.mean(new.identity.box, axis=0) - np.mean(old.identity.box, axis=0)
        for old, new in pairs
        if old.identity.box and new.identity.box
    ]
    return np.asarray(np.median(moves, axis=0), np.float64) if moves else None


def _gap(old: LesionVolume, new: LesionVolume, shift: FloatArray | None) -> float:
    """Distance of two boxes in mm, the earlier one moved by `shift`; 0 where none can be told."""
    if not (old.identity.box and new.identity.box):
        return 0.0
    if _one_frame(old, new):
        shift = None
    elif shift is None:
        return 0.0
    moved = (0.0, 0.0, 0.0) if shift is None else shift.tolist()
    (low, high), (its_low, its_high) = old.identity.box, new.identity.box
    return hypot(
        *(
            max(0.0, a + by - d, c - (b + by))
            for a, b, by, c, d in zip(low, high, moved, its_low, its_high, strict=True)
        )
    )


# --- what is said ---------------------------------------------------------------------------


def match_in_words(matched_by: str) -> str:
    """What a match was made by, for people; "" for none."""
    words = {"tracking_uid": "tracking UID", "table": "identifier of the table"}
    return words.get(matched_by, matched_by)


def changes_in_words(changes: Sequence[LesionChange]) -> str:
    """How many lesions are in which state, and by what they were matched."""
    counts = Counter(
        f"matched by {match_in_words(one.matched_by)}" if one.matched_by else one.state
        for one in changes
    )
    return ", ".join(f"{n} {said}" for said, n in counts.items()) or "no lesion at either time"


def _short(name: str) -> str:
    return repr(name[:_NAME_SHOWN])


def _matched(lesion: LesionVolume, old: LesionVolume, by: str) -> LesionChange:
    return LesionChange(
        lesion.tracking_uid,
        lesion.name,
        lesion.site,
        "matched",
        by,
        old.volume_ml,
        lesion.volume_ml,
        volume_change(old.volume_ml, lesion.volume_ml),
        previous_uid=old.tracking_uid,
    )


def _new(lesion: LesionVolume, doubt: Reason | None) -> LesionChange:
    return LesionChange(
        lesion.tracking_uid,
        lesion.name,
        lesion.site,
        "unmatched" if doubt else "new",
        "",
        None,
        lesion.volume_ml,
        None if doubt else NEW_PERCENT,
        doubt,
    )


def _vanished(lesion: LesionVolume, doubt: Reason | None) -> LesionChange:
    return LesionChange(
        lesion.tracking_uid,
        lesion.name,
        lesion.site,
        "unmatched" if doubt else "vanished",
        "",
        lesion.volume_ml,
        None,
        None if doubt else VANISHED_PERCENT,
        doubt,
        previous_uid=lesion.tracking_uid,
    )
