"""A selection read into memory: one volume, one lesion set, and what is known of their quality."""

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from pydicom import Dataset
from scipy import ndimage

from analysis.errors import Unsuitable
from analysis.model import Geometry, Lesion, Mask
from config.settings import Reading
from dicom_io.classes import RTSTRUCT_CLASS
from dicom_io.header import creation_time
from dicom_io.matching import Selection
from dicom_io.model import Evidence, LesionSource, QualityRow, StudyInput
from dicom_io.parsing import PARSE_FAULTS, numbers, read_dataset, text
from dicom_io.quality import artifact_rows, require, series_rows
from dicom_io.rtstruct import CLOSED, read_rtstruct
from dicom_io.seg import read_seg
from dicom_io.segments import Segment
from dicom_io.series import ImageSeries, read_series
from dicom_io.sites import site_of
from dicom_io.uids import derive_uid, is_uid
from dicom_io.versions import dice

NO_LESION = frozenset({"point_marker", "empty_roi", "empty_segment"})
"""Segments nobody drew as a lesion: said, but no fault of the input."""

COINCIDING_DICE = 0.9
LARGE_BOX = 4_000_000
"""Voxels of a box beyond which parts are counted only when wanted: a body outline, not a lesion."""


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """A segment (or a component of one) that may become a lesion.

    `whole` and `whole_uid` are the mask and the tracking UID of the segment before splitting.
    """

    segment: Segment
    whole: Mask
    whole_uid: str
    mask: Mask
    tracking_id: str
    tracking_uid: str
    segmentation: str
    created: str
    component: int = 0


class _Rows:
    """Quality rows of one study as they come up."""

    def __init__(self, selection: Selection) -> None:
        self.study, self.series = selection.study_uid, selection.series_uid
        self.rows: list[QualityRow] = list(selection.quality)

    def add(
        self,
        check: str,
        outcome: str,
        *,
        segmentation: str = "",
        lesion: str = "",
        found: str = "",
        wanted: str = "",
        detail: str = "",
    ) -> None:
        """Add a row about this study."""
        self.rows.append(
            QualityRow(
                study_uid=self.study,
                series_uid=self.series,
                object_uid=segmentation,
                lesion=lesion,
                check=check,
                outcome=outcome,
                found=found,
                wanted=wanted,
                detail=detail,
            )
        )


def assemble(
    selection: Selection, open_object: Callable[[str], Path], reading: Reading
) -> StudyInput:
    """Read the objects of a selection.

    Parameters
    ----------
    selection : Selection
    open_object : callable
        SOP Instance UID to the path of the object.
    reading : Reading

    Raises
    ------
    Unsuitable
        The study as a whole gives no result: the image cannot be read as a volume, or no lesion
        is left. Single lesions that cannot be used are rows of `quality`.
    """
    rows = _Rows(selection)
    series = read_series([open_object(uid) for uid in selection.images], reading.slice_tolerance_mm)
    for check, found, wanted, detail in series.notes:
        rows.add(check, "warn", found=found, wanted=wanted, detail=detail)
    flags = series_rows(series.images, series.volume.geometry, reading.quality)
    require(flags)
    rows.rows.extend(flags)
    headers, candidates = _read_segmentations(selection, open_object, reading, series, rows)
    if not candidates:
        raise Unsuitable("no_lesions", _why_none(rows))
    lesions, sources = _lesions(_latest(candidates, rows), selection, rows)
    _say_coinciding(lesions, rows)
    artifacts = artifact_rows(
        series.volume, lesions, series.padding, reading.quality, rows.study, rows.series
    )
    rows.rows.extend(artifacts)
    _enforce(rows, reading)
    return StudyInput(
        volume=series.volume,
        lesions=lesions,
        sources=sources,
        evidence=Evidence(series.images, tuple(headers), series.frame_of),
        input_digest=selection.input_digest,
        quality=tuple(rows.rows),
    )


def _say_coinciding(lesions: Sequence[Lesion], rows: _Rows) -> None:
    """Warn of lesions that are nearly one: a set exported twice would count every lesion twice."""
    sizes = {lesion.number: lesion.mask.n_voxels for lesion in lesions}
    for first, second in combinations(lesions, 2):
        small, large = sorted((sizes[first.number], sizes[second.number]))
        if 2 * small < COINCIDING_DICE * (small + large):  # sizes alone rule it out
            continue
        likeness = dice(first.mask, second.mask)
        if likeness >= COINCIDING_DICE:
            rows.add(
                "lesions_coincide",
                "warn",
                lesion=second.tracking_uid,
                found=f"Dice {likeness:.3f} of lesions {first.number} and {second.number}",
                wanted=f"below {COINCIDING_DICE}",
                detail="two lesions with different tracking UIDs are nearly the same voxels",
            )


def _enforce(rows: _Rows, reading: Reading) -> None:
    """Refuse the study for any warning the settings name."""
    named = set(reading.quality.refuse)
    require(
        replace(row, outcome="refused")
        for row in rows.rows
        if row.check in named and row.outcome in {"warn", "unknown", "refused"}
    )


def _why_none(rows: _Rows) -> str:
    refused = [row for row in rows.rows if row.outcome == "refused" or row.check in NO_LESION]
    said = "; ".join(f"{row.found}: {row.check}, {row.detail}" for row in refused[:6])
    more = f" and {len(refused) - 6} more" if len(refused) > 6 else ""
    return f"found no segment or ROI that can be analysed ({said or 'none selected'}{more})"


def _read_segmentations(
    selection: Selection,
    open_object: Callable[[str], Path],
    reading: Reading,
    series: ImageSeries,
    rows: _Rows,
) -> tuple[list[Dataset], list[_Candidate]]:
    """Headers of the segmentations (sorted by UID) and every usable segment."""
    headers, candidates = [], []
    refusals = []
    disputed = {row.object_uid for row in selection.quality if row.check == "frame_of_reference"}
    for uid in selection.segmentations:
        dataset = read_dataset(open_object(uid))
        try:
            if uid in disputed:
                _require_contours_on_images(dataset, series)
            segments = _read_one(dataset, series.volume.geometry, reading)
        except Unsuitable as error:
            refusals.append(error)
            rows.add(error.reason.code, "refused", segmentation=uid, detail=error.reason.detail)
            continue
        if "PixelData" in dataset:
            del dataset.PixelData
        headers.append(dataset)
        created = creation_time(dataset)
        owner = text(dataset, "PatientID") or selection.study_uid
        for segment in _selected(segments, reading.rois, uid, rows):
            tracked = _with_legal_uid(segment, uid, owner, rows)
            candidates.extend(_candidates(tracked, uid, created, reading, rows))
    if refusals and not headers:
        raise refusals[0]
    return headers, candidates


def _read_one(dataset: Dataset, geometry: Geometry, reading: Reading) -> tuple[Segment, ...]:
    if str(dataset.SOPClassUID) == RTSTRUCT_CLASS:
        return read_rtstruct(dataset, geometry)
    return read_seg(dataset, geometry, reading.fractional_threshold)


def _require_contours_on_images(dataset: Dataset, series: ImageSeries) -> None:
    """Hold every contour that names its image against the place of that image.

    For an RTSTRUCT of another frame of reference: only contours that lie where their images lie
    show that the coordinates mean the same.
    """
    geometry = series.volume.geometry
    slice_of = {
        text(series.images[image], "SOPInstanceUID"): index
        for index, (image, frame) in enumerate(series.frame_of)
        if frame is None
    }
    checked = 0
    try:
        for roi in dataset.get("ROIContourSequence") or ():
            for contour in roi.get("ContourSequence") or ():
                named = contour.get("ContourImageSequence")
                if text(contour, "ContourGeometricType").upper() not in CLOSED or not named:
                    continue
                wanted = slice_of.get(text(named[0], "ReferencedSOPInstanceUID"))
                points = np.array(numbers(contour, "ContourData")).reshape(-1, 3)
                found = float(geometry.to_index(points)[:, 0].mean())
                if wanted is None or abs(found - wanted) > 0.5:
                    raise Unsuitable(
                        "frame_of_reference",
                        f"found a contour at slice {found + 1:.1f} that names slice "
                        f"{'elsewhere' if wanted is None else wanted + 1}, in another frame of "
                        "reference than the image",
                    )
                checked += 1
    except PARSE_FAULTS as error:
        raise Unsuitable("malformed", f"contours cannot be read: {error}"[:200]) from error
    if not checked:
        raise Unsuitable(
            "frame_of_reference",
            "found another frame of reference than that of the image, and no contour that names "
            "the image it was drawn on",
        )


def wanted_roi(name: str, rules: Sequence[str]) -> bool:
    """True when a rule selects a name.

    Rules: ``all``; ``!exact name``; a pattern with ``*``, ``?`` or ``[...]``; else a stem that the
    name contains. Stems and patterns disregard case.
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


def _selected(
    segments: Sequence[Segment], rules: Sequence[str], uid: str, rows: _Rows
) -> list[Segment]:
    chosen = [segment for segment in segments if wanted_roi(segment.label, rules)]
    if len(chosen) < len(segments):
        rows.add(
            "roi_selection",
            "ok",
            segmentation=uid,
            found=f"{len(chosen)} of {len(segments)} segments",
            wanted=", ".join(rules),
            detail="the others are left out by the setting reading.rois",
        )
    return chosen


def _with_legal_uid(segment: Segment, uid: str, owner: str, rows: _Rows) -> Segment:
    """A segment whose tracking UID can be written: what is none is replaced by a derived one.

    It follows from the patient and the text received, so that versions and time points that share
    the text still share the lesion.
    """
    received = segment.tracking_uid
    if not received or is_uid(received):
        return segment
    derived = derive_uid("tracking", owner, received)
    rows.add(
        "invalid_uid",
        "warn",
        segmentation=uid,
        lesion=derived,
        found=f"segment {segment.number} {segment.label!r}: tracking UID {received[:80]!r}",
        wanted="numbers without leading zeros, with single dots between, at most 64 characters",
        detail="the lesion was given a tracking UID derived from the patient and this text",
    )
    return replace(segment, tracking_uid=derived)


def _candidates(
    segment: Segment, uid: str, created: str, reading: Reading, rows: _Rows
) -> list[_Candidate]:
    tracking_uid = segment.tracking_uid or derive_uid("lesion", uid, str(segment.number))
    where = f"segment {segment.number} {segment.label!r}"
    for note in segment.notes:
        rows.add(
            note.check,
            note.outcome,
            segmentation=uid,
            lesion=tracking_uid,
            found=note.found,
            wanted=note.wanted,
            detail=f"{where}: {note.detail}",
        )
    if segment.mask is None:
        reason = segment.refusal
        assert reason is not None  # noqa: S101 - a segment has a mask or says why not
        rows.add(
            reason.code,
            "warn" if reason.code in NO_LESION else "refused",
            segmentation=uid,
            lesion=tracking_uid,
            found=where,
            wanted="a mask",
            detail=reason.detail,
        )
        return []
    whole = _Candidate(
        segment,
        segment.mask,
        tracking_uid,
        segment.mask,
        segment.tracking_id or segment.label or f"segment {segment.number}",
        tracking_uid,
        uid,
        created,
    )
    large = segment.mask.values.size > LARGE_BOX and not reading.split_components
    parts = (segment.mask,) if large else components(segment.mask)
    if len(parts) > 1 and not reading.split_components:
        rows.add(
            "components",
            "warn",
            segmentation=uid,
            lesion=tracking_uid,
            found=f"{len(parts)} parts",
            wanted="1",
            detail=f"{where}: parts apart from each other are one lesion unless "
            "reading.split_components is set",
        )
    if len(parts) == 1 or not reading.split_components:
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


def components(mask: Mask) -> tuple[Mask, ...]:
    """26-connected parts, the largest first (then by place)."""
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


def _latest(candidates: Sequence[_Candidate], rows: _Rows) -> list[_Candidate]:
    """The latest object's candidates of each tracking UID; a repeat within one object is renamed.

    Versions are told by the tracking UID before splitting: parts have UIDs of their own.
    """
    versions: dict[str, dict[str, dict[int, list[_Candidate]]]] = {}
    for one in sorted(candidates, key=lambda c: (c.created, c.segmentation, c.segment.number)):
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


def _say_superseded(
    uid: str, before: Sequence[_Candidate], after: Sequence[_Candidate], rows: _Rows
) -> None:
    """Say what each segment of a version became: the segment of the next most like it."""
    for old in before:
        likeness = [dice(old.whole, one.whole) for one in after]
        new = after[int(np.argmax(likeness))]
        rows.add(
            "superseded",
            "ok",
            segmentation=old.segmentation,
            lesion=uid,
            found=f"Dice {max(likeness):.4f}, {old.whole.n_voxels} then "
            f"{new.whole.n_voxels} voxels",
            wanted="the latest version",
            detail=f"replaced by {new.segmentation} of {new.created.strip() or 'unknown date'}",
        )


def _renamed(uid: str, parts: Sequence[_Candidate], first: int, rows: _Rows) -> list[_Candidate]:
    """Give a segment (all its parts) that repeats a tracking UID one of its own."""
    uid_of = [
        derive_uid("lesion", one.segmentation, str(one.segment.number), one.tracking_uid)
        for one in parts
    ]
    for one, renamed in zip(parts, uid_of, strict=True):
        rows.add(
            "tracking_uid_repeated",
            "warn",
            segmentation=one.segmentation,
            lesion=renamed,
            found=f"segments {first} and {one.segment.number} share {uid}",
            wanted="one tracking UID a segment",
            detail="the later segment was given a tracking UID of its own",
        )
    return [replace(one, tracking_uid=renamed) for one, renamed in zip(parts, uid_of, strict=True)]


def _lesions(
    candidates: Sequence[_Candidate], selection: Selection, rows: _Rows
) -> tuple[tuple[Lesion, ...], dict[str, LesionSource]]:
    """Lesions numbered by (segmentation, segment, component), and where each was drawn."""
    rules = dict(selection.matched_by)
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
                "site",
                "warn",
                segmentation=one.segmentation,
                lesion=one.tracking_uid,
                found=f"segment {segment.number} {segment.label!r}",
                wanted="an anatomic code or a name in sites.yaml",
                detail="the site is unknown; statistics by site leave this lesion out",
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
            matched_by=rules.get(one.segmentation, ""),
        )
    return tuple(lesions), sources
