"""The masks that were analysed, as a Segmentation object: one segment a lesion (PS3.3 A.51)."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydicom import Dataset

from mirv.analysis.model import Lesion, StudyResult
from mirv.config.sites import load_site_rules
from mirv.dicom_io.model import Artifact, Code, LesionSource, RenderContext, StudyInput
from mirv.dicom_io.outputs import document
from mirv.dicom_io.outputs.document import Role
from mirv.dicom_io.outputs.segmentation import frames
from mirv.dicom_io.outputs.segmentation.frames import Drawn
from mirv.dicom_io.sr import concepts
from mirv.dicom_io.sr.encoding import clean, decimal_string, element, sequence
from mirv.dicom_io.standard.classes import LABELMAP_CLASS, SEG_CLASS
from mirv.dicom_io.standard.codes import code_sequence
from mirv.dicom_io.standard.identity import MODEL_NAME
from mirv.dicom_io.standard.uids import derive_uid

LESION_SEG = Role(
    "lesion_seg",
    SEG_CLASS,
    "SEG",
    9002,
    "Lesions as analysed (research use)",
)

LABELMAP_SEG = replace(LESION_SEG, sop_class_uid=LABELMAP_CLASS)


def drawn_lesions(study: StudyInput) -> tuple[Lesion, ...]:
    """Lesions with at least one voxel: those that can be shown."""
    return tuple(lesion for lesion in study.lesions if lesion.mask.n_voxels > 0)


def segment_numbers(study: StudyInput) -> dict[str, int]:
    """Segment number of every drawn lesion by tracking UID: 1 to n in the lesions' order."""
    return {lesion.tracking_uid: n for n, lesion in enumerate(drawn_lesions(study), start=1)}


def drawn_segments(study: StudyInput) -> tuple[Drawn, ...]:
    """Every segment of the object, by number.

    Lesions come first and keep their numbers: parts of them (habitats), once there are any, follow
    with the next numbers and tracking UIDs of their own. They lie within a lesion, so `_overlap`
    has to count them, and such an object is BINARY.
    """
    numbers = segment_numbers(study)
    return tuple(
        Drawn(
            numbers[lesion.tracking_uid],
            lesion.mask,
            _segment(numbers[lesion.tracking_uid], lesion, study.sources[lesion.tracking_uid]),
        )
        for lesion in drawn_lesions(study)
    )


def region_of(lesion: Lesion, source: LesionSource) -> Code | None:
    """Anatomic region as received, else the code of the metastatic site."""
    if source.anatomy:
        return source.anatomy
    region = load_site_rules().regions.get(lesion.site)
    return concepts.sct(*region) if region else None


def is_labelmap(study: StudyInput, context: RenderContext) -> bool:
    """Whether the masks go out as a label map: as set, unless a voxel has two lesions."""
    return context.segmentation == "LABELMAP" and not _overlap(study)


def seg_role(study: StudyInput, context: RenderContext) -> Role:
    """The role of the segmentation with the SOP class it has in this run."""
    return LABELMAP_SEG if is_labelmap(study, context) else LESION_SEG


def lesion_seg(
    study: StudyInput, result: StudyResult, context: RenderContext
) -> tuple[Artifact, ...]:
    """Render the segmentation; none when no lesion has a voxel on the image grid."""
    del result  # the masks are the study's; numbers do not enter
    segments = drawn_segments(study)
    if not segments:
        return ()
    role, labelmap = seg_role(study, context), is_labelmap(study, context)
    ds = document.header(study, context, role)
    _describe(ds, study, context, segments)
    ds.ReferencedSeriesSequence = _referenced_series(study)
    document.name_replaced_image(ds, context, role)
    kind = frames.labelmap_frames if labelmap else frames.binary_frames
    n_planes, *shape = study.volume.geometry.shape
    planes = list(kind(n_planes, segments, empty=context.empty_frames))
    ds.NumberOfFrames = len(planes)
    if labelmap:
        dtype = "<u1" if len(segments) < 256 else "<u2"
        _set_bits(ds, 8 * np.dtype(dtype).itemsize)
        pixels = frames.labelled((shape[0], shape[1]), planes, dtype)
    else:
        _set_bits(ds, 1)
        pixels = frames.packed(planes)
    vr = "OB" if ds.BitsAllocated <= 8 else "OW"
    groups = sequence(0x52009230, frames.per_frame(study, planes))
    return (document.artifact(ds, role, context, groups + element(0x7FE00010, vr, pixels)),)


def _set_bits(ds: Dataset, bits: int) -> None:
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit, ds.PixelRepresentation = bits - 1, 0


def _describe(
    ds: Dataset, study: StudyInput, context: RenderContext, segments: Sequence[Drawn]
) -> None:
    image = study.evidence.images[0]
    labelmap = is_labelmap(study, context)
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.ContentQualification = "RESEARCH"
    ds.ContentLabel, ds.ContentCreatorName = "LESIONS", None
    ds.ContentDescription = "Masks of the lesions as analysed"
    ds.FrameOfReferenceUID = image.get("FrameOfReferenceUID")
    ds.PositionReferenceIndicator = image.get("PositionReferenceIndicator")
    _, ds.Rows, ds.Columns = study.volume.geometry.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.LossyImageCompression = "00"
    ds.SegmentationType = "LABELMAP" if labelmap else "BINARY"
    ds.SegmentsOverlap = "YES" if _overlap(study) else "NO"
    descriptions = [one.description for one in segments]
    if labelmap:
        ds.PixelPaddingValue = 0
        ds["PixelPaddingValue"].VR = "US"
        descriptions.insert(0, _background())
    ds.SegmentSequence = descriptions
    _set_dimensions(ds, derive_uid(context.run_digest, LESION_SEG.name, "dimensions"), labelmap)
    ds.SharedFunctionalGroupsSequence = [_shared_groups(study)]


def _background() -> Dataset:
    """What pixel value 0 of a label map means."""
    background = concepts.dcm("125040", "Background")
    segment = Dataset()
    segment.SegmentNumber, segment.SegmentLabel = 0, "Background"
    segment.SegmentAlgorithmType = "AUTOMATIC"
    segment.SegmentAlgorithmName = MODEL_NAME
    segment.SegmentedPropertyCategoryCodeSequence = code_sequence(background)
    segment.SegmentedPropertyTypeCodeSequence = code_sequence(background)
    return segment


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
    segment.SegmentedPropertyCategoryCodeSequence = document.coded(source.category)
    segment.SegmentedPropertyTypeCodeSequence = document.coded(source.finding)
    if region := region_of(lesion, source):
        segment.AnatomicRegionSequence = document.coded(region)
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


def _set_dimensions(ds: Dataset, organization_uid: str, labelmap: bool) -> None:
    """Frames are indexed by segment and position; those of a label map by position."""
    organization = Dataset()
    organization.DimensionOrganizationUID = organization_uid
    ds.DimensionOrganizationSequence = [organization]
    indices = []
    by_segment = (frames.SEGMENT_NUMBER, frames.SEGMENT_IDENTIFICATION, "Segment Number")
    by_position = (frames.IMAGE_POSITION, frames.PLANE_POSITION, "Image Position (Patient)")
    for pointer, group, label in (by_position,) if labelmap else (by_segment, by_position):
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
