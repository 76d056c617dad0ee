"""A selection read into memory: one volume, one lesion set, and what is known of their quality."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import Dataset

from mirv.analysis.errors import Unsuitable
from mirv.analysis.model import Geometry
from mirv.config.settings.processing import Reading
from mirv.dicom_io.files.header import creation_time
from mirv.dicom_io.files.values import PARSE_FAULTS, numbers, read_dataset, text
from mirv.dicom_io.images.series import ImageSeries, read_series
from mirv.dicom_io.masks.rtstruct import ANY_IMAGE, CLOSED, DrawnOn, read_rtstruct
from mirv.dicom_io.masks.seg import read_seg
from mirv.dicom_io.masks.segment import Segment
from mirv.dicom_io.model import Evidence, Note, QualityOutcome, StudyInput
from mirv.dicom_io.standard.classes import RTSTRUCT_CLASS
from mirv.dicom_io.study.lesion_checks import artifact_rows
from mirv.dicom_io.study.lesions import NO_LESION, Candidate, Origin, candidates_of, lesion_set
from mirv.dicom_io.study.matching import Selection
from mirv.dicom_io.study.quality_rows import QualityRows, require
from mirv.dicom_io.study.series_checks import series_rows


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
    headers, candidates = _read_segmentations(selection, open_object, reading, series, rows)
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


def _read_segmentations(
    selection: Selection,
    open_object: Callable[[str], Path],
    reading: Reading,
    series: ImageSeries,
    rows: QualityRows,
) -> tuple[list[Dataset], list[Candidate]]:
    """Headers of the segmentations (sorted by UID) and every usable segment."""
    headers, candidates = [], []
    refusals = []
    disputed = {row.object_uid for row in selection.quality if row.check == "frame_of_reference"}
    here = _drawn_on(series)
    for uid in selection.segmentations:
        dataset = read_dataset(open_object(uid))
        try:
            if uid in disputed:
                _require_contours_on_images(dataset, series)
            drawn_on = ANY_IMAGE if uid in disputed else here
            segments = _read_one(dataset, series.volume.geometry, reading, drawn_on)
        except Unsuitable as error:
            refusals.append(error)
            reason = error.reason
            note = Note(reason.code, QualityOutcome.REFUSED, detail=reason.detail)
            rows.add(note, segmentation=uid)
            continue
        if "PixelData" in dataset:
            del dataset.PixelData
        headers.append(dataset)
        owner = text(dataset, "PatientID") or selection.study_uid
        origin = Origin(uid, creation_time(dataset), owner)
        candidates.extend(candidates_of(segments, origin, reading, rows))
    if refusals and not headers:
        raise refusals[0]
    return headers, candidates


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
