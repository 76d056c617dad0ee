"""A selection read into memory: one volume, one lesion set, and what is known of their quality."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydicom import Dataset

from mirv.analysis.errors import Unsuitable
from mirv.analysis.model import Geometry
from mirv.config.settings.processing import Reading
from mirv.dicom_io.files.header import author, creation_time
from mirv.dicom_io.files.values import PARSE_FAULTS, numbers, read_dataset, said, text
from mirv.dicom_io.images.series import ImageSeries, read_series
from mirv.dicom_io.masks.rtstruct import ANY_IMAGE, CLOSED, DrawnOn, read_rtstruct, regions
from mirv.dicom_io.masks.seg import described, read_seg
from mirv.dicom_io.masks.segment import Segment
from mirv.dicom_io.model import Evidence, Note, QualityOutcome, StudyInput
from mirv.dicom_io.standard.classes import RTSTRUCT_CLASS
from mirv.dicom_io.study.candidates import (
    NO_LESION,
    Candidate,
    candidates_of,
    selection_note,
    wanted_roi,
)
from mirv.dicom_io.study.lesion_changes import counted_set, latest_of_each, say_steps
from mirv.dicom_io.study.lesion_checks import artifact_rows
from mirv.dicom_io.study.lesions import lesion_set
from mirv.dicom_io.study.matching import Selection
from mirv.dicom_io.study.naming import say_names, tracking_uids
from mirv.dicom_io.study.quality_rows import QualityRows, require
from mirv.dicom_io.study.series_checks import series_rows
from mirv.dicom_io.study.versions import (
    Head,
    LesionObject,
    LesionSet,
    Origin,
    UnreadableError,
    lesion_sets,
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

    Returns
    -------
    StudyInput
        Volume, lesions by (segmentation, segment, component), and what there is to say of them.

    Raises
    ------
    Unsuitable
        The study as a whole gives no result: the image cannot be read as a volume, or no lesion
        is left. Single lesions that cannot be used are rows of `quality`.
    """
    rows = QualityRows(selection.study_uid, selection.series_uid, selection.quality)
    series = read_series([open_object(uid) for uid in selection.images], reading.slice_tolerance_mm)
    for note in series.notes:
        rows.add(note)
    flags = series_rows(series.images, series.volume.geometry, reading.quality)
    require(flags)
    rows.rows.extend(flags)
    segmentations = _Segmentations(selection, open_object, reading, series)
    headers, candidates = segmentations.read(rows)
    if not candidates:
        raise Unsuitable("no_lesions", _why_none(rows))
    lesions, sources = lesion_set(candidates, dict(selection.matched_by), rows)
    artifacts = artifact_rows(
        series.volume, lesions, series.padding, reading.quality, rows.study_uid, rows.series_uid
    )
    rows.rows.extend(artifacts)
    rows.enforce(reading.quality)
    return StudyInput(
        volume=series.volume,
        lesions=lesions,
        sources=sources,
        evidence=Evidence(series.images, tuple(headers), series.frame_of),
        input_digest=selection.input_digest,
        quality=tuple(rows.rows),
    )


def _why_none(rows: QualityRows) -> str:
    refused = [row for row in rows.rows if row.refused or row.check in NO_LESION]
    said = "; ".join(f"{row.found}: {row.check}, {row.detail}" for row in refused[:6])
    more = f" and {len(refused) - 6} more" if len(refused) > 6 else ""
    return f"found no segment or ROI that can be analysed ({said or 'none selected'}{more})"


@dataclass(frozen=True, slots=True)
class _Segmentations:
    """The segmentations of one image: opened, sorted into versions, and those that count read."""

    selection: Selection
    open_object: Callable[[str], Path]
    reading: Reading
    series: ImageSeries

    def read(self, rows: QualityRows) -> tuple[list[Dataset], list[Candidate]]:
        """Headers of the segmentations that count (sorted by UID) and every usable segment.

        One that cannot be read is refused and the others are sorted without it.
        """
        heads: dict[str, Dataset] = {}
        objects: dict[str, LesionObject] = {}
        refusals: list[UnreadableError] = []
        for uid in self.selection.segmentations:
            try:
                heads[uid] = read_dataset(self.open_object(uid), pixels=False)
                objects[uid] = self._object(uid, heads[uid])
            except Unsuitable as error:
                refusals.append(UnreadableError(uid, error.reason))
        for one in [one for one in objects.values() if not one.heads]:
            rows.add(selection_note(objects.pop(one.uid), self.reading.rois), segmentation=one.uid)
        candidates: list[Candidate] = []
        while objects:
            attempt = QualityRows(rows.study_uid, rows.series_uid, ())
            try:
                own, candidates = self._counted(list(objects.values()), attempt)
            except UnreadableError:
                # All at once: sorting anew for each would cost the cube of their number.
                broken = [fault for one in objects.values() if (fault := _fault_of(one))]
                refusals.extend(broken)
                for fault in broken:
                    del objects[fault.uid]
                continue
            rows.rows.extend(attempt.rows)
            objects = {one.uid: one for one in own.current}
            break
        for refusal in refusals:
            note = Note(refusal.reason.code, QualityOutcome.REFUSED, detail=refusal.reason.detail)
            rows.add(note, segmentation=refusal.uid)
        if refusals and not objects:
            raise Unsuitable(refusals[0].reason.code, refusals[0].reason.detail)
        return [heads[uid] for uid in sorted(objects)], candidates

    def _counted(
        self, objects: Sequence[LesionObject], rows: QualityRows
    ) -> tuple[LesionSet, list[Candidate]]:
        """The set that counts and its candidates, with all there is to say of it."""
        voxel_ml = self.series.volume.geometry.voxel_volume_ml
        own = counted_set(lesion_sets(objects, self.reading.several), self.reading.reader, rows)
        names = tracking_uids(own)
        say_steps(own, names, voxel_ml, rows)
        latest = latest_of_each(own, names, voxel_ml, rows)
        candidates = []
        for one in own.current:
            say_names(one, names[one.uid], rows)
            counted = {place: names[one.uid][place] for place in latest[one.uid]}
            candidates.extend(candidates_of(one, counted, self.reading, rows))
        return own, candidates

    def _object(self, uid: str, head: Dataset) -> LesionObject:
        try:
            origin = self._origin(uid, head)
        except PARSE_FAULTS as error:
            raise Unsuitable("malformed", f"its header cannot be read: {said(error)}") from error
        everything = _heads(head)
        wanted = [one for one in everything if wanted_roi(one.label, self.reading.rois)]
        left_out = len(everything) - len(wanted)
        return LesionObject(origin, wanted, partial(self._segments, uid), left_out)

    def _origin(self, uid: str, head: Dataset) -> Origin:
        owner = text(head, "PatientID") or self.selection.study_uid
        described = (
            "SeriesDescription",
            "ContentLabel",
            "ContentDescription",
            "StructureSetLabel",
            "StructureSetName",
            "StructureSetDescription",
        )
        return Origin(
            uid,
            created=creation_time(head),
            owner=owner,
            image=(self.selection.study_uid, self.selection.series_uid),
            author=author(head),
            series_uid=text(head, "SeriesInstanceUID"),
            description=" ".join(text(head, keyword) for keyword in described),
        )

    def _segments(self, uid: str) -> list[Segment]:
        """The wanted segments of one object, with their masks."""
        dataset = read_dataset(self.open_object(uid))
        disputed = any(
            row.check == "frame_of_reference" and row.object_uid == uid
            for row in self.selection.quality
        )
        if disputed:
            _require_contours_on_images(dataset, self.series)
        drawn_on = ANY_IMAGE if disputed else _drawn_on(self.series)
        segments = _read_one(dataset, self.series.volume.geometry, self.reading, drawn_on)
        return [one for one in segments if wanted_roi(one.label, self.reading.rois)]


def _fault_of(one: LesionObject) -> UnreadableError | None:
    try:
        _ = one.segments
    except UnreadableError as error:
        return error
    return None


def _heads(dataset: Dataset) -> list[Head]:
    """What the segments or ROIs of an object say of themselves, by number."""
    try:
        if str(dataset.SOPClassUID) == RTSTRUCT_CLASS:
            return [Head(int(one.ROINumber), text(one, "ROIName")) for one in regions(dataset)]
        return [
            Head(int(one.SegmentNumber), text(one, "SegmentLabel"), text(one, "TrackingUID"))
            for one in described(dataset)
        ]
    except PARSE_FAULTS as error:
        raise Unsuitable(
            "malformed", f"its segments cannot be read: {type(error).__name__}: {error}"[:300]
        ) from error


def _drawn_on(series: ImageSeries) -> DrawnOn:
    return DrawnOn(
        frames=frozenset(text(one, "FrameOfReferenceUID") for one in series.images) - {""},
        instances=frozenset(text(one, "SOPInstanceUID") for one in series.images),
    )


def _read_one(
    dataset: Dataset, geometry: Geometry, reading: Reading, drawn_on: DrawnOn
) -> tuple[Segment, ...]:
    if str(dataset.SOPClassUID) == RTSTRUCT_CLASS:
        return read_rtstruct(dataset, geometry, drawn_on)
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
