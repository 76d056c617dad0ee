"""What several segmentations of one image are to each other (SPEC C5, R-VER-1).

Whose lesion set a later one belongs to, by the first rule that holds:

1. A tracking UID in common with one of the set: to that set, whoever made it.
2. One author, or one reader named in the descriptions, as one of the set: to that set.
3. Another author or another reader named: to another reader's set.
4. Nobody knows whose. No lesion in common: to the set, as a further part. A lesion voxel for voxel
   the same: to the set. One of both wholly automatic and the other not: to another reader's. One
   segmentation series, or a common lesion of one name: to the set. Else another reader's.

Within a set, a later one with a tracking UID or a lesion in common is a *version*: it replaces the
earlier whole. Any other is *another part*, and both count. Of several sets one counts. Lesions are
common from Dice 0.5 on, or with one name and half of the smaller in the larger.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from mirv.analysis.errors import Reason, Unsuitable
from mirv.analysis.model import Mask
from mirv.config.settings.processing import Several
from mirv.dicom_io.masks.overlap import shared_voxels
from mirv.dicom_io.masks.segment import Segment
from mirv.dicom_io.standard.uids import is_uid

SAME_LESION = 0.5
_READER = re.compile(
    r"\b(?:reader|observer|rater|radiologist|annotator)[\W_]{0,3}([0-9a-z]{1,16})\b", re.IGNORECASE
)
_LONGEST = 200


class Relation(StrEnum):
    """What a later segmentation is to an earlier one of the same lesion set."""

    VERSION = "version"  # it replaces the earlier whole
    PART = "part"  # both count


@dataclass(frozen=True, slots=True)
class Origin:
    """The object segments come from.

    Attributes
    ----------
    uid : str
        SOP Instance UID of the SEG or RTSTRUCT.
    created : str
        Date and time it was made, sortable: which of two versions is later.
    owner : str
        Patient ID; of a segmentation without one, the Study Instance UID of the images.
    image : tuple of str
        Study and Series Instance UID of the image it is drawn on.
    author : str
        Who made it, "" when it does not say.
    series_uid : str
        Of the segmentation itself.
    description : str
        What its series and content are called.
    """

    uid: str
    created: str = ""
    owner: str = ""
    image: tuple[str, str] = ("", "")
    author: str = ""
    series_uid: str = ""
    description: str = ""

    @property
    def when(self) -> str:
        """For people: when it was made."""
        return self.created.strip() or "unknown date"


@dataclass(frozen=True, slots=True)
class Head:
    """What a segment or ROI says of itself without its voxels.

    Attributes
    ----------
    number : int
        Segment or ROI number.
    label, tracking_uid : str
    """

    number: int
    label: str
    tracking_uid: str = ""


class UnreadableError(Unsuitable):
    """The voxels of a segmentation cannot be read.

    Attributes
    ----------
    uid : str
        SOP Instance UID.
    """

    def __init__(self, uid: str, reason: Reason) -> None:
        super().__init__(reason.code, reason.detail)
        self.uid = uid


class LesionObject:
    """A segmentation of an image; its voxels are read when they are first asked for.

    Parameters
    ----------
    origin : Origin
    heads : sequence of Head
        Of the wanted segments, by number.
    read : callable
        Gives the same segments with their masks.
    left_out : int
        Segments that the settings do not want.
    """

    def __init__(
        self,
        origin: Origin,
        heads: Sequence[Head],
        read: Callable[[], Sequence[Segment]],
        left_out: int = 0,
    ) -> None:
        self.origin, self.heads, self.left_out = origin, tuple(heads), left_out
        self._read = read
        self._segments: tuple[Segment, ...] | None = None

    @property
    def uid(self) -> str:
        """SOP Instance UID."""
        return self.origin.uid

    @property
    def age(self) -> tuple[str, str]:
        """What orders objects in time; of two made at one time the UID decides."""
        return self.origin.created, self.origin.uid

    @property
    def tracking(self) -> frozenset[str]:
        """Tracking UIDs as received; what is none (``N/A``, ``0``) tells nothing."""
        return frozenset(head.tracking_uid for head in self.heads if is_uid(head.tracking_uid))

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The wanted segments, in the order of `heads`.

        Raises
        ------
        UnreadableError
        """
        if self._segments is None:
            try:
                segments = tuple(self._read())
            except Unsuitable as error:
                raise UnreadableError(self.uid, error.reason) from error
            told = [(one.number, one.label) for one in segments]
            if told != [(head.number, head.label) for head in self.heads]:
                reason = Reason("malformed", "its segments are not those of its head")
                raise UnreadableError(self.uid, reason)
            self._segments = segments
        return self._segments


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """How an object came into a lesion set.

    Attributes
    ----------
    object : LesionObject
    relation : Relation or None
        To what was there before it; None for the first object of the set.
    why : str
        The rule that decided, with what it found.
    replaces : tuple of LesionObject
        What it is a version of.
    """

    object: LesionObject
    relation: Relation | None
    why: str
    replaces: tuple[LesionObject, ...] = ()


class LesionSet:
    """The segmentations of one image that are one reader's.

    Versions and parts are told apart when they are first asked for: of a set that does not count
    no voxel need be read.

    Parameters
    ----------
    members : list of LesionObject
        In the order they were made.
    why : str
        Why it is not of the first set; "" for the first.
    several : Several
    """

    def __init__(self, members: list[LesionObject], why: str, several: Several) -> None:
        self.members, self.why, self.several = members, why, several
        self._steps: list[Step] = []

    @property
    def steps(self) -> list[Step]:
        """How each object came in, in the order they were made.

        Raises
        ------
        UnreadableError
            Of an object whose voxels decide.
        """
        for later in self.members[len(self._steps) :]:
            self._steps.append(self._step(later, _unreplaced(self._steps)))
        return self._steps

    @property
    def current(self) -> list[LesionObject]:
        """The objects that nothing replaced."""
        return _unreplaced(self.steps)

    def _step(self, later: LesionObject, current: Sequence[LesionObject]) -> Step:
        if not current:
            return Step(later, None, "")
        found = [(one, *relation(one, later, self.several)) for one in current]
        versions = [one for one in found if one[1] is Relation.VERSION]
        if versions:
            return Step(later, Relation.VERSION, versions[0][2], tuple(one[0] for one in versions))
        return Step(later, Relation.PART, found[0][2])


def _unreplaced(steps: Sequence[Step]) -> list[LesionObject]:
    replaced = {one.uid for step in steps for one in step.replaces}
    return [step.object for step in steps if step.object.uid not in replaced]


def lesion_sets(objects: Sequence[LesionObject], several: Several) -> list[LesionSet]:
    """Sort the segmentations of one image into the lesion sets of its readers.

    Parameters
    ----------
    objects : sequence of LesionObject
        In any order.
    several : Several
        `AUTO`, or what to take every further object for.

    Returns
    -------
    list of LesionSet
        By the age of their first objects.

    Raises
    ------
    UnreadableError
        An object whose voxels decide.
    """
    sets: list[LesionSet] = []
    for one in sorted(objects, key=lambda each: each.age):
        own, why = _set_of(one, sets, several)
        if own is None:
            sets.append(LesionSet([one], why, several))
        else:
            own.members.append(one)
    return sets


def _set_of(
    later: LesionObject, sets: Sequence[LesionSet], several: Several
) -> tuple[LesionSet | None, str]:
    """The set a later object belongs to; None, and why, where it begins another reader's."""
    if several != "auto":
        own = sets[0] if sets and several != "readers" else None
        return own, f"the setting reading.several is {several}" if sets else ""
    for own in sets:
        if any(one.tracking & later.tracking for one in own.members):
            return own, ""
    apart = [(own, _same_reader(own, later)) for own in sets]
    for own, same in apart:
        if same:
            return own, ""
    why = ""
    for own, same in apart:
        if same is None:
            belongs, found = _by_voxels(own, later)
            if belongs:
                return own, ""
        else:
            found = "another author, or another reader by its description"
        why = why or found
    return None, why


def _same_reader(own: LesionSet, later: LesionObject) -> bool | None:
    """Whether headers say that an object is of the reader of a set; None where they do not say."""
    known = [
        same for one in own.members if (same := same_reader(one.origin, later.origin)) is not None
    ]
    return any(known) if known else None


def _by_voxels(own: LesionSet, later: LesionObject) -> tuple[bool, str]:
    """Whether an object nobody knows the reader of belongs to a set, and what tells."""
    common = [
        (earlier, pair)
        for earlier in own.current
        for pair in common_lesions(earlier.segments, later.segments)
    ]
    if not common or any(likeness == 1 for _, (_, _, likeness) in common):
        return True, ""
    said = _count(len(common), "lesion") + " in common"
    earlier = [one for one, _ in common]
    if any(_automatic(one) != _automatic(later) for one in earlier):
        return False, f"{said}, and one of both sets is automatic"
    one_series = any(one.origin.series_uid == later.origin.series_uid for one in earlier)
    if one_series or any(_one_name(one, other) for _, (one, other, _) in common):
        return True, ""
    return False, f"{said}, under other names and by an unknown author"


def relation(
    earlier: LesionObject, later: LesionObject, several: Several = "auto"
) -> tuple[Relation, str]:
    """What a later segmentation is to an earlier one of the same lesion set, and what tells.

    Parameters
    ----------
    earlier, later : LesionObject
    several : Several

    Returns
    -------
    relation : Relation
    why : str

    Raises
    ------
    UnreadableError
        Of the object whose voxels decide.
    """
    if several == "parts" or several == "versions":
        kind = Relation.PART if several == "parts" else Relation.VERSION
        return kind, f"the setting reading.several is {several}"
    if shared := earlier.tracking & later.tracking:
        return Relation.VERSION, _count(len(shared), "tracking UID") + " in common"
    common = common_lesions(earlier.segments, later.segments)
    if not common:
        return Relation.PART, "no lesion in common"
    same = sum(likeness == 1 for _, _, likeness in common)
    said = _count(len(common), "lesion") + " in common"
    return Relation.VERSION, f"{said}, {same} voxel for voxel the same"


def common_lesions(
    earlier: Sequence[Segment], later: Sequence[Segment]
) -> list[tuple[Segment, Segment, float]]:
    """Pairs of segments that are one lesion: see the top of this module.

    Parameters
    ----------
    earlier, later : sequence of Segment
        On one grid; those without a mask are passed over.

    Returns
    -------
    list of (earlier, later, Dice)
    """
    ours = [(one, one.mask) for one in earlier if one.mask is not None]
    theirs = [(one, one.mask) for one in later if one.mask is not None]
    pairs = _meeting([mask for _, mask in ours], [mask for _, mask in theirs])
    sizes, its_sizes = ([mask.n_voxels for _, mask in side] for side in (ours, theirs))
    found = []
    for i, j in pairs:
        (one, mask), (other, its) = ours[i], theirs[j]
        shared = shared_voxels(mask, its)
        likeness = 2 * shared / (sizes[i] + its_sizes[j])
        within = shared / min(sizes[i], its_sizes[j])
        if likeness >= SAME_LESION or (_one_name(one, other) and within >= SAME_LESION):
            found.append((one, other, likeness))
    return found


def _one_name(one: Segment, other: Segment) -> bool:
    return bool(one.label) and one.label.casefold() == other.label.casefold()


def _meeting(ours: Sequence[Mask], theirs: Sequence[Mask]) -> list[tuple[int, int]]:
    """Index pairs of masks whose boxes meet."""
    if not ours or not theirs:
        return []
    low, high = _boxes(ours)
    its_low, its_high = _boxes(theirs)
    meet = (low[:, None] < its_high[None]) & (its_low[None] < high[:, None])
    return [(int(i), int(j)) for i, j in np.argwhere(meet.all(axis=2))]


def _boxes(masks: Sequence[Mask]) -> tuple[np.ndarray, np.ndarray]:
    low = np.array([mask.start for mask in masks])
    return low, low + np.array([mask.values.shape for mask in masks])


def same_author(one: Origin, other: Origin) -> bool | None:
    """Whether two objects are of one author; None when one does not say.

    A name whose words are all in the other (``Smith`` in ``Smith^Anna``) is taken for the same.
    """
    ours, theirs = words_of(one.author), words_of(other.author)
    if not ours or not theirs:
        return None
    return ours <= theirs or theirs <= ours


def same_reader(one: Origin, other: Origin) -> bool | None:
    """Whether two objects are of one reader, by description first; None when one does not say."""
    ours, theirs = _reader(one), _reader(other)
    if ours and theirs:
        return ours == theirs
    return same_author(one, other)


def words_of(name: str) -> set[str]:
    """The words of an author or a description, letter case aside; of a long one, of its start."""
    return set(re.findall(r"[^\W_]+", name[:_LONGEST].casefold()))


def _reader(origin: Origin) -> str:
    """The reader a description names (``Reader 2``), "" for none."""
    found = _READER.search(origin.description[:_LONGEST])
    return found.group(1).casefold() if found else ""


def _automatic(one: LesionObject) -> bool:
    return all(segment.algorithm_type == "AUTOMATIC" for segment in one.segments)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
