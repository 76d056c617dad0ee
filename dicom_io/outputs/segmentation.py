"""The masks that were analysed, as a Segmentation object: one segment a lesion (PS3.3 A.51)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from analysis.model import BoolArray, Lesion, StudyResult
from dicom_io.codes import SEGMENTATION, SOURCE_IMAGE, code_sequence
from dicom_io.model import Artifact, Code, LesionSource, RenderContext, StudyInput
from dicom_io.outputs import concepts, document
from dicom_io.outputs.document import Role
from dicom_io.outputs.encoding import (
    clean,
    decimal_string,
    decimals,
    element,
    integers,
    item,
    sequence,
    text,
    uid,
)
from dicom_io.outputs.items import code
from dicom_io.uids import derive_uid

LESION_SEG = Role(
    "lesion_seg",
    "1.2.840.10008.5.1.4.1.1.66.4",
    "SEG",
    9002,
    "Lesions as analysed (research use)",
)

_SITE_REGIONS = {
    "lung": concepts.sct("39607008", "Lung"),
    "liver": concepts.sct("10200004", "Liver"),
    "bone": concepts.sct("272673000", "Bone"),
    "lymph node": concepts.sct("59441001", "Lymph node"),
    "pleura": concepts.sct("3120008", "Pleura"),
    "peritoneum": concepts.sct("15425007", "Peritoneum"),
    "soft tissue": concepts.sct("87784001", "Soft tissue"),
    "adrenal": concepts.sct("23451007", "Adrenal gland"),
}
_SEGMENT_NUMBER, _SEGMENT_IDENTIFICATION = 0x0062000B, 0x0062000A
_IMAGE_POSITION, _PLANE_POSITION = 0x00200032, 0x00209113


@dataclass(frozen=True, slots=True)
class _Frame:
    """One plane of one segment."""

    segment: int
    plane: int
    lesion: Lesion


def drawn_lesions(study: StudyInput) -> tuple[Lesion, ...]:
    """Lesions with at least one voxel: those that can be shown."""
    return tuple(lesion for lesion in study.lesions if lesion.mask.n_voxels > 0)


def segment_numbers(study: StudyInput) -> dict[str, int]:
    """Segment number of every drawn lesion by tracking UID: 1 to n in the lesions' order."""
    return {lesion.tracking_uid: n for n, lesion in enumerate(drawn_lesions(study), start=1)}


def region_of(lesion: Lesion, source: LesionSource) -> Code | None:
    """Anatomic region as received, else the code of the metastatic site."""
    return source.anatomy or _SITE_REGIONS.get(lesion.site)


def lesion_seg(
    study: StudyInput, result: StudyResult, context: RenderContext
) -> tuple[Artifact, ...]:
    """Render the segmentation; none when no lesion has a voxel on the image grid."""
    del result  # the masks are the study's; numbers do not enter
    frames = list(_frames(study))
    if not frames:
        return ()
    ds = document.header(study, context, LESION_SEG)
    _describe(ds, study, context, len(frames))
    ds.ReferencedSeriesSequence = _referenced_series(study)
    per_frame = sequence(0x52009230, _per_frame(study, frames))
    pixels = element(0x7FE00010, "OB", _packed(frames))
    return (document.artifact(ds, LESION_SEG, context, per_frame + pixels),)


def _frames(study: StudyInput) -> Iterator[_Frame]:
    """Planes that hold voxels, segment by segment, upwards."""
    numbers = segment_numbers(study)
    for lesion in drawn_lesions(study):
        for offset in np.flatnonzero(lesion.mask.values.any(axis=(1, 2))).tolist():
            plane = lesion.mask.start[0] + offset
            yield _Frame(numbers[lesion.tracking_uid], plane, lesion)


def _describe(ds: Dataset, study: StudyInput, context: RenderContext, n_frames: int) -> None:
    image = study.evidence.images[0]
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.ContentQualification = "RESEARCH"
    ds.ContentLabel, ds.ContentCreatorName = "LESIONS", None
    ds.ContentDescription = "Masks of the lesions as analysed"
    ds.FrameOfReferenceUID = image.get("FrameOfReferenceUID")
    ds.PositionReferenceIndicator = image.get("PositionReferenceIndicator")
    _, ds.Rows, ds.Columns = study.volume.geometry.shape
    ds.NumberOfFrames = n_frames
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = ds.PixelRepresentation = 0
    ds.LossyImageCompression = "00"
    ds.SegmentationType = "BINARY"
    ds.SegmentsOverlap = "YES" if _overlap(study) else "NO"
    numbers = segment_numbers(study)
    ds.SegmentSequence = [
        _segment(numbers[lesion.tracking_uid], lesion, study.sources[lesion.tracking_uid])
        for lesion in drawn_lesions(study)
    ]
    _set_dimensions(ds, derive_uid(context.run_digest, LESION_SEG.name, "dimensions"))
    ds.SharedFunctionalGroupsSequence = [_shared_groups(study)]


def _overlap(study: StudyInput) -> bool:
    """Whether any voxel belongs to two lesions."""
    seen: list[Lesion] = []
    for lesion in drawn_lesions(study):
        if any(_share_voxel(lesion, other) for other in seen):
            return True
        seen.append(lesion)
    return False


def _share_voxel(first: Lesion, second: Lesion) -> bool:
    a, b = first.mask, second.mask
    low = np.maximum(a.start, b.start)
    high = np.minimum(np.add(a.start, a.values.shape), np.add(b.start, b.values.shape))
    if (high <= low).any():
        return False
    common = [
        mask.values[
            tuple(slice(x - s, y - s) for x, y, s in zip(low, high, mask.start, strict=True))
        ]
        for mask in (a, b)
    ]
    return bool((common[0] & common[1]).any())


def _segment(number: int, lesion: Lesion, source: LesionSource) -> Dataset:
    """Segment description: what it is, how it was drawn, how it is tracked."""
    segment = Dataset()
    segment.SegmentNumber = number
    segment.SegmentLabel = clean(lesion.label, 64) or clean(lesion.tracking_id, 64) or "lesion"
    segment.SegmentAlgorithmType = source.algorithm_type
    if source.algorithm_type != "MANUAL":
        segment.SegmentAlgorithmName = clean(source.algorithm_name, 64) or "not stated"
    segment.SegmentedPropertyCategoryCodeSequence = code_sequence(source.category)
    segment.SegmentedPropertyTypeCodeSequence = code_sequence(source.finding)
    if region := region_of(lesion, source):
        segment.AnatomicRegionSequence = code_sequence(region)
    segment.TrackingID = clean(lesion.tracking_id, 1024) or "lesion"
    segment.TrackingUID = lesion.tracking_uid
    segment.RecommendedDisplayCIELabValue = _colour(number)
    return segment


def _colour(number: int) -> list[int]:
    """A colour a segment: the golden angle keeps neighbours in number apart in hue."""
    angle = math.radians(137.508 * number)
    lightness, a, b = 68.0, 62 * math.cos(angle), 62 * math.sin(angle)
    scaled = (lightness / 100, (a + 128) / 255, (b + 128) / 255)
    return [round(65535 * part) for part in scaled]


def _set_dimensions(ds: Dataset, organization_uid: str) -> None:
    """Frames are indexed by segment and position."""
    organization = Dataset()
    organization.DimensionOrganizationUID = organization_uid
    ds.DimensionOrganizationSequence = [organization]
    indices = []
    for pointer, group, label in (
        (_SEGMENT_NUMBER, _SEGMENT_IDENTIFICATION, "Segment Number"),
        (_IMAGE_POSITION, _PLANE_POSITION, "Image Position (Patient)"),
    ):
        index = Dataset()
        index.DimensionOrganizationUID = organization_uid
        index.DimensionIndexPointer, index.FunctionalGroupPointer = pointer, group
        index.DimensionDescriptionLabel = label
        indices.append(index)
    ds.DimensionIndexSequence = indices


def _shared_groups(study: StudyInput) -> Dataset:
    """Orientation and voxel size, the same for every frame."""
    geometry = study.volume.geometry
    between, vertical, horizontal = geometry.spacing
    directions = geometry.directions
    cosines = [*directions[:, 2], *directions[:, 1]]  # along a row, then down a column
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [_tidy(value) for value in cosines]
    measures.PixelSpacing = [_tidy(vertical), _tidy(horizontal)]
    measures.SliceThickness = measures.SpacingBetweenSlices = _tidy(between)
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [measures]
    return shared


def _tidy(value: float) -> str:
    """A length or cosine without the last bits that matrix arithmetic leaves behind."""
    return decimal_string(round(float(value), 12) + 0.0)


def _referenced_series(study: StudyInput) -> list[Dataset]:
    """The image series and all its instances (Common Instance Reference module)."""
    images = study.evidence.images
    reference = Dataset()
    reference.SeriesInstanceUID = str(images[0].SeriesInstanceUID)
    reference.ReferencedInstanceSequence = [
        document.sop_dataset(document.reference_of(image)) for image in images
    ]
    return [reference]


def _per_frame(study: StudyInput, frames: list[_Frame]) -> Iterator[bytes]:
    """Functional groups of every frame: source, index, position, segment."""
    planes = sorted({frame.plane for frame in frames})
    rank = {plane: n for n, plane in enumerate(planes, start=1)}
    derived = {plane: _derivation(study, plane) for plane in planes}
    placed = {plane: _plane_position(study, plane) for plane in planes}
    for frame in frames:
        index = integers(0x00209157, "UL", (frame.segment, rank[frame.plane]))
        yield item(
            derived[frame.plane]
            + sequence(0x00209111, [item(index)])
            + placed[frame.plane]
            + _segment_reference(frame.segment)
        )


@lru_cache(maxsize=4096)
def _segment_reference(number: int) -> bytes:
    return sequence(_SEGMENT_IDENTIFICATION, [item(integers(_SEGMENT_NUMBER, "US", (number,)))])


def _derivation(study: StudyInput, plane: int) -> bytes:
    """Derivation Image Sequence: the instance, or the frame of it, the plane was drawn on."""
    index, frame_number = study.evidence.frame_of[plane]
    image = study.evidence.images[index]
    source = uid(0x00081150, str(image.SOPClassUID)) + uid(0x00081155, str(image.SOPInstanceUID))
    if frame_number is not None:
        source += text(0x00081160, "IS", str(frame_number))
    source += text(0x0028135A, "CS", "YES") + code(0x0040A170, SOURCE_IMAGE)
    content = sequence(0x00082112, [item(source)]) + code(0x00089215, SEGMENTATION)
    return sequence(0x00089124, [item(content)])


def _plane_position(study: StudyInput, plane: int) -> bytes:
    """Where the frame lies: as its own slice says, else by the grid."""
    index, frame_number = study.evidence.frame_of[plane]
    stated = study.evidence.images[index].get("ImagePositionPatient")
    if frame_number is None and stated is not None and len(stated) == 3:
        position = [float(value) for value in stated]
    else:
        corner = study.volume.geometry.to_lps(np.array([[plane, 0, 0]], float))[0]
        position = [round(float(value), 9) + 0.0 for value in corner]
    return sequence(_PLANE_POSITION, [item(decimals(_IMAGE_POSITION, position))])


def _packed(frames: list[_Frame]) -> bytes:
    """Frames as bits, first pixel in the lowest bit, one after another without gaps.

    One plane is unpacked at a time: the memory is that of the bits.
    """
    packed = bytearray()
    left_over: NDArray[np.bool_] = np.zeros(0, bool)
    for frame in frames:
        bits = np.concatenate([left_over, plane_of(frame.lesion, frame.plane).ravel()])
        whole = bits.size // 8 * 8
        packed += np.packbits(bits[:whole], bitorder="little").tobytes()
        left_over = bits[whole:]
    packed += np.packbits(left_over, bitorder="little").tobytes()
    return bytes(packed)


def plane_of(lesion: Lesion, plane: int) -> BoolArray:
    """One whole plane (rows, columns) of a lesion's mask."""
    full = np.zeros(lesion.mask.grid_shape[1:], bool)
    _, rows, columns = lesion.mask.slices
    full[rows, columns] = lesion.mask.values[plane - lesion.mask.start[0]]
    return full


__all__ = ["LESION_SEG", "drawn_lesions", "lesion_seg", "plane_of", "region_of", "segment_numbers"]
