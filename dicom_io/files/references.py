"""What a SEG or RTSTRUCT refers to: instances, series, frames of reference."""

from dataclasses import dataclass
from typing import Any

from mirv.dicom_io.files.frame_groups import all_groups
from mirv.dicom_io.files.values import Values, encoded_value, text
from mirv.dicom_io.standard.classes import RTSTRUCT_CLASS, SEG_CLASSES


@dataclass(frozen=True, slots=True)
class References:
    """UIDs a segmentation names.

    Attributes
    ----------
    instances : frozenset of str
        Images of the object as a whole.
    of_parts : frozenset of str
        Images of single contours or frames.
    series, frames : frozenset of str
        Series and frames of reference.
    """

    instances: frozenset[str]
    of_parts: frozenset[str]
    series: frozenset[str]
    frames: frozenset[str]


def references(dataset: Values) -> References:
    """What a SEG or RTSTRUCT refers to; nothing for other objects.

    Parameters
    ----------
    dataset : Dataset or mapping

    Returns
    -------
    References
    """
    sop_class = text(dataset, "SOPClassUID")
    if sop_class == RTSTRUCT_CLASS:
        found = _rtstruct_references(dataset)
    elif sop_class in SEG_CLASSES:
        found = _seg_references(dataset)
    else:
        found = (set(), set(), set(), set())
    instances, of_parts, series, frames = (frozenset(uids - {""}) for uids in found)
    return References(instances, of_parts, series, frames)


def _named(sequence: Any) -> set[str]:
    """UIDs of the instances a sequence refers to."""
    return {text(reference, "ReferencedSOPInstanceUID") for reference in sequence or ()}


_Uids = tuple[set[str], set[str], set[str], set[str]]


def _rtstruct_references(dataset: Values) -> _Uids:
    instances, of_contours, series = set(), set(), set()
    frames = {text(dataset, "FrameOfReferenceUID")}
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        frames.add(text(frame, "FrameOfReferenceUID"))
        for study in frame.get("RTReferencedStudySequence") or ():
            for of_series in study.get("RTReferencedSeriesSequence") or ():
                series.add(text(of_series, "SeriesInstanceUID"))
                instances |= _named(of_series.get("ContourImageSequence"))
    for roi in dataset.get("StructureSetROISequence") or ():
        frames.add(text(roi, "ReferencedFrameOfReferenceUID"))
    for roi in dataset.get("ROIContourSequence") or ():
        for contour in roi.get("ContourSequence") or ():
            of_contours |= _named(contour.get("ContourImageSequence"))
    return instances, of_contours, series, frames


def _seg_references(dataset: Values) -> _Uids:
    instances, of_frames, series = set(), set(), set()
    for of_series in dataset.get("ReferencedSeriesSequence") or ():
        series.add(text(of_series, "SeriesInstanceUID"))
        instances |= _named(of_series.get("ReferencedInstanceSequence"))
    met: set[bytes] = set()  # frames of one slice name their image in the same bytes
    for group in all_groups(dataset):
        encoded = encoded_value(group, "DerivationImageSequence")
        if encoded is not None and encoded in met:
            continue
        met.update([encoded] if encoded is not None else [])
        for derivation in group.get("DerivationImageSequence") or ():
            of_frames |= _named(derivation.get("SourceImageSequence"))
    return instances, of_frames, series, {text(dataset, "FrameOfReferenceUID")}
