"""The tracking UID of every lesion of a set: as received, or one that an edit leaves as it was.

A derived one follows from person, image and the segment's own name (SPEC C5). Of segments that
share a name, those of a new version take over the UIDs of the old ones by overlap.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count

from mirv.dicom_io.masks.overlap import dice
from mirv.dicom_io.model import Note, QualityOutcome
from mirv.dicom_io.standard.uids import derive_uid, is_uid
from mirv.dicom_io.study.quality_rows import QualityRows
from mirv.dicom_io.study.versions import Head, LesionObject, LesionSet, Origin, Step

Names = Mapping[str, Sequence[str]]
"""SOP Instance UID of an object to the tracking UID of each of its heads, in their order."""


def tracking_uids(own: LesionSet) -> Names:
    """The tracking UID of each segment of each object of a set.

    Parameters
    ----------
    own : LesionSet

    Returns
    -------
    Names
        No UID twice in one object; one UID in two objects means one lesion.

    Raises
    ------
    UnreadableError
        Of an object whose voxels alone tell segments apart.
    """
    names: dict[str, Sequence[str]] = {}
    current: dict[str, LesionObject] = {}
    for step in own.steps:
        for one in step.replaces:
            del current[one.uid]
        beside = {uid for other in current for uid in names[other]}
        names[step.object.uid] = _named(step, names, beside)
        current[step.object.uid] = step.object
    return names


def say_names(one: LesionObject, uids: Sequence[str], rows: QualityRows) -> None:
    """Say where a tracking UID is not the one received, and where a name does not tell.

    Parameters
    ----------
    one : LesionObject
    uids : sequence of str
        Of its heads.
    rows : QualityRows
    """
    received: dict[str, Head] = {}
    for head, uid in zip(one.heads, uids, strict=True):
        first = received.setdefault(head.tracking_uid, head)
        if head.tracking_uid and first is not head:
            rows.add(_repeated(first, head), segmentation=one.uid, lesion=uid)
        elif head.tracking_uid and not is_uid(head.tracking_uid):
            rows.add(_no_uid(head), segmentation=one.uid, lesion=uid)
        elif not head.tracking_uid and uid != derive_lesion_uid(one.origin, _name(head)):
            rows.add(_shared_name(head), segmentation=one.uid, lesion=uid)


def derive_lesion_uid(origin: Origin, *name: str) -> str:
    """The tracking UID of a lesion that came without one.

    Parameters
    ----------
    origin : Origin
        Its owner and image count, nothing else of it.
    *name : str
        What the segment is called; a second part tells namesakes apart.
    """
    return derive_uid("lesion", origin.owner, *origin.image, *name)


def _named(step: Step, names: Names, beside: set[str]) -> list[str]:
    one = step.object
    given: dict[int, str] = {}
    before = {uid for old in step.replaces for uid in names[old.uid]}
    taken: set[str] = set()
    further: dict[str, Iterator[str]] = {}
    for index, head in enumerate(one.heads):
        if head.tracking_uid:
            text, uid = head.tracking_uid, _received(head, one.origin)
            # A namesake before it has this one; or another part has it by a text that is no UID.
            if uid in taken or (uid in beside and not is_uid(text)):
                free = further.setdefault(text, _free(one.origin, text, _Either(taken, beside)))
                uid = next(free)
            given[index] = uid
            taken.add(uid)
    for name, indices in _by_name(one.heads).items():
        old = [
            (older, place, names[older.uid][place])
            for older in step.replaces
            for place, head in enumerate(older.heads)
            if _name(head) == name and names[older.uid][place] not in taken
        ]
        given.update(_kept(one, indices, old))
        taken.update(given[index] for index in indices if index in given)
        free = _free(one.origin, name, before | beside | taken)
        for index in indices:
            if index not in given:
                given[index] = next(free)
                taken.add(given[index])
    return [given[index] for index in range(len(one.heads))]


class _Either(Container[str]):
    """What is in one of two sets, as they are when it is asked."""

    def __init__(self, *sets: set[str]) -> None:
        self._sets = sets

    def __contains__(self, uid: object) -> bool:
        return any(uid in one for one in self._sets)


def _received(head: Head, origin: Origin) -> str:
    """The tracking UID received, or one that follows from its text."""
    text = head.tracking_uid
    return text if is_uid(text) else derive_uid("tracking", origin.owner, text)


def _free(origin: Origin, name: str, taken: Container[str]) -> Iterator[str]:
    """UIDs for namesakes that nothing has taken: of each name one series, ten thousand deep."""
    numbered = (derive_lesion_uid(origin, name, str(n)) for n in count(2))
    for uid in chain((derive_lesion_uid(origin, name),), numbered):
        if uid not in taken:
            yield uid


def _by_name(heads: Iterable[Head]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for index, head in enumerate(heads):
        if not head.tracking_uid:
            groups.setdefault(_name(head), []).append(index)
    return groups


def _name(head: Head) -> str:
    return head.label or f"segment {head.number}"


def _kept(
    one: LesionObject, indices: Sequence[int], old: Sequence[tuple[LesionObject, int, str]]
) -> dict[int, str]:
    """Which segments of one name take over which UIDs of the version before."""
    if len(indices) == 1 and len(old) == 1:
        return {indices[0]: old[0][2]}
    pairs = []
    for index in indices:
        for older, place, uid in old:
            new, was = one.segments[index].mask, older.segments[place].mask
            if new is not None and was is not None and (likeness := dice(new, was)) > 0:
                pairs.append((-likeness, index, uid))
    kept: dict[int, str] = {}
    passed: set[str] = set()
    for _, index, uid in sorted(pairs):
        if index not in kept and uid not in passed:
            kept[index] = uid
            passed.add(uid)
    return kept


def _repeated(first: Head, head: Head) -> Note:
    return Note(
        "tracking_uid_repeated",
        QualityOutcome.WARN,
        found=f"segments {first.number} and {head.number} share {head.tracking_uid[:80]}",
        wanted="one tracking UID a segment",
        detail="the later segment was given a tracking UID of its own",
    )


def _no_uid(head: Head) -> Note:
    return Note(
        "invalid_uid",
        QualityOutcome.WARN,
        found=f"segment {head.number} {head.label!r}: tracking UID {head.tracking_uid[:80]!r}",
        wanted="numbers without leading zeros, with single dots between, at most 64 characters",
        detail="the lesion was given a tracking UID derived from the patient and this text",
    )


def _shared_name(head: Head) -> Note:
    return Note(
        "name_repeated",
        QualityOutcome.WARN,
        found=f"segment {head.number} {head.label!r}, named as another",
        wanted="a tracking UID, or a name of its own",
        detail="namesakes are told apart by their order, and between versions by their overlap",
    )
