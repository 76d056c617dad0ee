"""The lesion set of an image: which segments count, which version, under which name."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np
from scipy import ndimage

from mirv.analysis.model import Lesion, Mask
from mirv.config.settings.processing import Reading
from mirv.dicom_io.masks.segment import Segment
from mirv.dicom_io.masks.versions import dice
from mirv.dicom_io.model import LesionSource, Note, QualityOutcome
from mirv.dicom_io.standard.uids import derive_uid, is_uid
from mirv.dicom_io.study.quality_rows import QualityRows
from mirv.dicom_io.study.sites import site_of

NO_LESION = frozenset({"point_marker", "empty_roi", "empty_segment"})
"""Segments nobody drew as a lesion: said, but no fault of the input."""

COINCIDING_DICE = 0.9
LARGE_BOX = 4_000_000
"""Voxels of a box beyond which parts are counted only when wanted: a body outline, not a lesion."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The object a segment comes from.

    Attributes
    ----------
    uid : str
        SOP Instance UID of the SEG or RTSTRUCT.
    created : str
        Date and time it was made, sortable: which of two versions is later.
    owner : str
        Patient ID; of a segmentation without one, the Study Instance UID of the images.
    """

    uid: str
    created: str
    owner: str


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A segment (or a component of one) that may become a lesion.

    Attributes
    ----------
    origin : Origin
    segment : Segment
    whole, whole_uid : Mask, str
        Mask and tracking UID of the segment before splitting.
    mask : Mask
    tracking_id, tracking_uid : str
    component : int
        1-based, 0 for a whole segment.
    """

    origin: Origin
    segment: Segment
    whole: Mask
    whole_uid: str
    mask: Mask
    tracking_id: str
    tracking_uid: str
    component: int = 0

    @property
    def segmentation(self) -> str:
        """SOP Instance UID of the object it comes from."""
        return self.origin.uid


def wanted_roi(name: str, rules: Sequence[str]) -> bool:
    """True when a rule selects a name.

    Rules: ``all``; ``!exact name``; a pattern with ``*``, ``?`` or ``[...]``; else a stem that the
    name contains. Stems and patterns disregard case.

    Parameters
    ----------
    name : str
        Segment label or ROI name: an outside string.
    rules : sequence of str
        The setting ``reading.rois``.

    Returns
    -------
    bool
    """
    for rule in rules:
        if rule == "all" or (rule.startswith("!") and name == rule[1:]):
            return True
        if rule.startswith("!"):
            continue
        low = name.lower()
        if any(sign in rule for sign in "*?["):
            if fnmatch.fnmatchcase(low, rule.lower()):
                return True
        elif rule.lower() in low:
            return True
    return False


def candidates_of(
    segments: Sequence[Segment], origin: Origin, reading: Reading, rows: QualityRows
) -> list[Candidate]:
    """What may become a lesion of the segments of one object.

    Parameters
    ----------
    segments : sequence of Segment
        Of one SEG or RTSTRUCT, by number.
    origin : Origin
    reading : Reading
        Which segments are wanted, and whether parts are lesions of their own.
    rows : QualityRows
        Takes what there is to say of each segment.

    Returns
    -------
    list of Candidate
        One a segment, or one a part where parts are lesions of their own.
    """
    candidates = []
    for segment in _selected(segments, reading.rois, origin.uid, rows):
        named = _with_legal_uid(segment, origin, rows)
        candidates.extend(_candidates(named, origin, reading, rows))
    return candidates


def _selected(
    segments: Sequence[Segment], rules: Sequence[str], uid: str, rows: QualityRows
) -> list[Segment]:
    chosen = [segment for segment in segments if wanted_roi(segment.label, rules)]
    if len(chosen) < len(segments):
        rows.add(
            Note(
                "roi_selection",
                QualityOutcome.OK,
                found=f"{len(chosen)} of {len(segments)} segments",
                wanted=", ".join(rules),
                detail="the others are left out by the setting reading.rois",
            ),
            segmentation=uid,
        )
    return chosen


def _with_legal_uid(segment: Segment, origin: Origin, rows: QualityRows) -> Segment:
    """A segment whose tracking UID can be written: what is none is replaced by a derived one.

    It follows from the patient and the text received, so that versions and time points that share
    the text still share the lesion.
    """
    received = segment.tracking_uid
    if not received or is_uid(received):
        return segment
    derived = derive_uid("tracking", origin.owner, received)
    rows.add(
        Note(
            "invalid_uid",
            QualityOutcome.WARN,
            found=f"segment {segment.number} {segment.label!r}: tracking UID {received[:80]!r}",
            wanted="numbers without leading zeros, with single dots between, at most 64 characters",
            detail="the lesion was given a tracking UID derived from the patient and this text",
        ),
        segmentation=origin.uid,
        lesion=derived,
    )
    return replace(segment, tracking_uid=derived)


def _candidates(
    segment: Segment, origin: Origin, reading: Reading, rows: QualityRows
) -> list[Candidate]:
    tracking_uid = segment.tracking_uid or derive_uid("lesion", origin.uid, str(segment.number))
    for note in _notes(segment, reading):
        rows.add(note, segmentation=origin.uid, lesion=tracking_uid)
    if segment.mask is None:
        return []
    whole = Candidate(
        origin,
        segment,
        whole=segment.mask,
        whole_uid=tracking_uid,
        mask=segment.mask,
        tracking_id=segment.tracking_id or segment.label or f"segment {segment.number}",
        tracking_uid=tracking_uid,
    )
    parts = components(segment.mask) if reading.split_components else (segment.mask,)
    if len(parts) == 1:
        return [whole]
    return [
        replace(
            whole,
            mask=part,
            tracking_id=f"{whole.tracking_id}/{index}",
            tracking_uid=derive_uid("component", tracking_uid, str(index)),
            component=index,
        )
        for index, part in enumerate(parts, start=1)
    ]


def _notes(segment: Segment, reading: Reading) -> list[Note]:
    """What reading has to say of a segment: its own notes, why it has no mask, loose parts."""
    where = f"segment {segment.number} {segment.label!r}"
    notes = [replace(note, detail=f"{where}: {note.detail}") for note in segment.notes]
    if segment.mask is None:
        return [*notes, _no_mask(segment, where)]
    if reading.split_components or segment.mask.values.size > LARGE_BOX:
        return notes
    if (n := len(components(segment.mask))) > 1:
        notes.append(
            Note(
                "components",
                QualityOutcome.WARN,
                found=f"{n} parts",
                wanted="1",
                detail=f"{where}: parts apart from each other are one lesion unless "
                "reading.split_components is set",
            )
        )
    return notes


def _no_mask(segment: Segment, where: str) -> Note:
    reason = segment.refusal
    assert reason is not None  # noqa: S101 - a segment has a mask or says why not
    return Note(
        reason.code,
        QualityOutcome.WARN if reason.code in NO_LESION else QualityOutcome.REFUSED,
        found=where,
        wanted="a mask",
        detail=reason.detail,
    )


def components(mask: Mask) -> tuple[Mask, ...]:
    """26-connected parts, the largest first (then by place).

    Parameters
    ----------
    mask : Mask

    Returns
    -------
    tuple of Mask
        On the same grid; the mask itself when it is of one part or empty.
    """
    labels, count = ndimage.label(mask.values, np.ones((3, 3, 3), bool))
    if count <= 1:
        return (mask,)
    boxes = ndimage.find_objects(labels)
    parts = []
    for index, box in enumerate(boxes, start=1):
        start = (
            mask.start[0] + box[0].start,
            mask.start[1] + box[1].start,
            mask.start[2] + box[2].start,
        )
        parts.append(Mask.from_box(start, labels[box] == index, mask.grid_shape))
    return tuple(sorted(parts, key=lambda part: (-part.n_voxels, part.start)))


def lesion_set(
    candidates: Sequence[Candidate], matched_by: Mapping[str, str], rows: QualityRows
) -> tuple[tuple[Lesion, ...], dict[str, LesionSource]]:
    """The lesions of one image: the latest version of each, numbered.

    Parameters
    ----------
    candidates : sequence of Candidate
        Of all segmentations of the image.
    matched_by : mapping of SOP Instance UID to rule
        What joined each segmentation to the image.
    rows : QualityRows
        Takes what was replaced, renamed, drawn twice or has no known site.

    Returns
    -------
    lesions : tuple of Lesion
        By (segmentation, segment, component).
    sources : mapping of tracking UID to LesionSource
        Where each was drawn.
    """
    lesions, sources = _lesions(_latest(candidates, rows), matched_by, rows)
    _say_coinciding(lesions, rows)
    return lesions, sources


def _latest(candidates: Sequence[Candidate], rows: QualityRows) -> list[Candidate]:
    """The latest object's candidates of each tracking UID; a repeat within one object is renamed.

    Versions are told by the tracking UID before splitting: parts have UIDs of their own.
    """
    versions: dict[str, dict[str, dict[int, list[Candidate]]]] = {}
    for one in sorted(candidates, key=_age):
        objects = versions.setdefault(one.whole_uid, {})
        segments = objects.setdefault(one.segmentation, {})
        segments.setdefault(one.segment.number, []).append(one)
    kept = []
    for uid, objects in versions.items():
        ordered = [list(segments.values()) for segments in objects.values()]
        for before, after in pairwise(ordered):
            _say_superseded(uid, [parts[0] for parts in before], [p[0] for p in after], rows)
        first, *repeats = ordered[-1]
        kept.extend(first)
        for parts in repeats:
            kept.extend(_renamed(uid, parts, first[0].segment.number, rows))
    return kept


def _age(one: Candidate) -> tuple[str, str, int]:
    return one.origin.created, one.segmentation, one.segment.number


def _say_superseded(
    uid: str, before: Sequence[Candidate], after: Sequence[Candidate], rows: QualityRows
) -> None:
    """Say what each segment of a version became: the segment of the next most like it."""
    for old in before:
        likeness = [dice(old.whole, one.whole) for one in after]
        new = after[int(np.argmax(likeness))]
        rows.add(
            Note(
                "superseded",
                QualityOutcome.OK,
                found=f"Dice {max(likeness):.4f}, {old.whole.n_voxels} then "
                f"{new.whole.n_voxels} voxels",
                wanted="the latest version",
                detail=f"replaced by {new.segmentation} of "
                f"{new.origin.created.strip() or 'unknown date'}",
            ),
            segmentation=old.segmentation,
            lesion=uid,
        )


def _renamed(
    uid: str, parts: Sequence[Candidate], first: int, rows: QualityRows
) -> list[Candidate]:
    """Give a segment (all its parts) that repeats a tracking UID one of its own."""
    uid_of = [
        derive_uid("lesion", one.segmentation, str(one.segment.number), one.tracking_uid)
        for one in parts
    ]
    for one, renamed in zip(parts, uid_of, strict=True):
        rows.add(
            Note(
                "tracking_uid_repeated",
                QualityOutcome.WARN,
                found=f"segments {first} and {one.segment.number} share {uid}",
                wanted="one tracking UID a segment",
                detail="the later segment was given a tracking UID of its own",
            ),
            segmentation=one.segmentation,
            lesion=renamed,
        )
    return [replace(one, tracking_uid=renamed) for one, renamed in zip(parts, uid_of, strict=True)]


def _lesions(
    candidates: Sequence[Candidate], matched_by: Mapping[str, str], rows: QualityRows
) -> tuple[tuple[Lesion, ...], dict[str, LesionSource]]:
    """Lesions numbered by (segmentation, segment, component), and where each was drawn."""
    ordered = sorted(candidates, key=lambda c: (c.segmentation, c.segment.number, c.component))
    lesions, sources = [], {}
    for number, one in enumerate(ordered, start=1):
        segment = one.segment
        site = site_of(
            (segment.anatomy, segment.finding),
            (segment.label, one.tracking_id, segment.description),
        )
        if site == "unknown":
            rows.add(
                Note(
                    "site",
                    QualityOutcome.WARN,
                    found=f"segment {segment.number} {segment.label!r}",
                    wanted="an anatomic code or a name in sites.yaml",
                    detail="the site is unknown; statistics by site leave this lesion out",
                ),
                segmentation=one.segmentation,
                lesion=one.tracking_uid,
            )
        lesions.append(
            Lesion(number, segment.label, one.tracking_id, one.tracking_uid, site, one.mask)
        )
        sources[one.tracking_uid] = LesionSource(
            segmentation_uid=one.segmentation,
            number=segment.number,
            algorithm_type=segment.algorithm_type,
            algorithm_name=segment.algorithm_name,
            category=segment.category,
            finding=segment.finding,
            anatomy=segment.anatomy,
            matched_by=matched_by.get(one.segmentation, ""),
        )
    return tuple(lesions), sources


def _say_coinciding(lesions: Sequence[Lesion], rows: QualityRows) -> None:
    """Warn of lesions that are nearly one: a set exported twice would count every lesion twice."""
    sizes = {lesion.number: lesion.mask.n_voxels for lesion in lesions}
    for first, second in combinations(lesions, 2):
        small, large = sorted((sizes[first.number], sizes[second.number]))
        if 2 * small < COINCIDING_DICE * (small + large):  # sizes alone rule it out
            continue
        likeness = dice(first.mask, second.mask)
        if likeness >= COINCIDING_DICE:
            rows.add(
                Note(
                    "lesions_coincide",
                    QualityOutcome.WARN,
                    found=f"Dice {likeness:.3f} of lesions {first.number} and {second.number}",
                    wanted=f"below {COINCIDING_DICE}",
                    detail="two lesions with different tracking UIDs are nearly the same voxels",
                ),
                lesion=second.tracking_uid,
            )
