"""Which segments of one object may become lesions, and under which names."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from mirv.analysis.model import Mask
from mirv.config.settings.processing import Reading
from mirv.dicom_io.masks.segment import Segment
from mirv.dicom_io.model import Note, QualityOutcome
from mirv.dicom_io.standard.uids import derive_uid
from mirv.dicom_io.study.quality_rows import QualityRows
from mirv.dicom_io.study.versions import LesionObject

NO_LESION = frozenset({"point_marker", "empty_roi", "empty_segment"})
"""Segments nobody drew as a lesion: said, but no fault of the input."""

LARGE_BOX = 4_000_000
"""Voxels of a box beyond which parts are counted only when wanted: a body outline, not a lesion."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A segment (or a component of one) that becomes a lesion.

    Attributes
    ----------
    segmentation : str
        SOP Instance UID of the object it comes from.
    segment : Segment
    mask : Mask
    tracking_id, tracking_uid : str
    component : int
        1-based, 0 for a whole segment.
    """

    segmentation: str
    segment: Segment
    mask: Mask
    tracking_id: str
    tracking_uid: str
    component: int = 0


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
    drawn: LesionObject, counted: Mapping[int, str], reading: Reading, rows: QualityRows
) -> list[Candidate]:
    """What may become a lesion of the segments of one object.

    Parameters
    ----------
    drawn : LesionObject
    counted : mapping of int to str
        Place of each segment that counts to its tracking UID.
    reading : Reading
        Whether parts are lesions of their own.
    rows : QualityRows
        Takes what there is to say of each segment.

    Returns
    -------
    list of Candidate
        One a segment, or one a part where parts are lesions of their own.
    """
    if drawn.left_out:
        rows.add(selection_note(drawn, reading.rois), segmentation=drawn.uid)
    candidates = []
    for place, tracking_uid in sorted(counted.items()):
        segment = drawn.segments[place]
        for note in _notes(segment, reading):
            rows.add(note, segmentation=drawn.uid, lesion=tracking_uid)
        if segment.mask is not None:
            parts = components(segment.mask) if reading.split_components else (segment.mask,)
            candidates.extend(_candidates(drawn.uid, segment, tracking_uid, parts))
    return candidates


def selection_note(drawn: LesionObject, rules: Sequence[str]) -> Note:
    """What is said of an object of which the settings want some segments only."""
    return Note(
        "roi_selection",
        QualityOutcome.OK,
        found=f"{len(drawn.heads)} of {len(drawn.heads) + drawn.left_out} segments",
        wanted=", ".join(rules),
        detail="the others are left out by the setting reading.rois",
    )


def _candidates(
    segmentation: str, segment: Segment, tracking_uid: str, parts: Sequence[Mask]
) -> list[Candidate]:
    tracking_id = segment.tracking_id or segment.label or f"segment {segment.number}"
    if len(parts) == 1:
        return [Candidate(segmentation, segment, parts[0], tracking_id, tracking_uid)]
    return [
        Candidate(
            segmentation,
            segment,
            part,
            f"{tracking_id}/{index}",
            derive_uid("component", tracking_uid, str(index)),
            index,
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
