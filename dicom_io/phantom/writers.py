"""Writers of small synthetic DICOM objects: CT slices, SEG, RTSTRUCT from arrays.

They serve the demo and the tests; what the node sends is written elsewhere. Every UID derives from
the identity given, every date is fixed: the same arguments give the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from mirv.analysis.model import BoolArray, FloatArray, Geometry, Mask
from mirv.dicom_io.model import Code
from mirv.dicom_io.standard import codes
from mirv.dicom_io.standard.uids import derive_uid

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
SEG_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
RTSTRUCT_STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
DEFLATED = "1.2.840.10008.1.2.1.99"
INTERCEPT = -1024
NATIVE = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DEFLATED}


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose objects these are. UIDs derive from `patient_id`, `time_point` and what they name.

    Attributes
    ----------
    patient_id, patient_name : str
    time_point : int
        0 baseline, 1 first follow-up (90 days later) ...
    """

    patient_id: str = "MIRV-PHANTOM"
    patient_name: str = "Phantom^Mirv"
    time_point: int = 0

    def uid(self, *parts: str) -> str:
        """A UID of this patient and time point."""
        return derive_uid("mirv phantom", self.patient_id, str(self.time_point), *parts)

    @property
    def study_uid(self) -> str:
        """Study Instance UID."""
        return self.uid("study")

    @property
    def frame_of_reference_uid(self) -> str:
        """Frame of Reference UID."""
        return self.uid("frame of reference")

    @property
    def study_date(self) -> str:
        """Study date, DICOM form."""
        return str(np.datetime64("2020-01-15") + 90 * self.time_point).replace("-", "")


@dataclass(frozen=True, slots=True, eq=False)
class DrawnLesion:
    """A lesion to be written into a SEG or RTSTRUCT."""

    label: str
    tracking_id: str
    tracking_uid: str
    anatomy: Code | None
    mask: Mask


def common(identity: Identity, sop_class: str, modality: str, series: str, name: str) -> Dataset:
    """Patient, study, series and SOP common modules of one instance."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = identity.uid(series, name)
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = identity.study_date
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "120000"
    ds.AccessionNumber = ""
    ds.Modality = modality
    ds.Manufacturer = "mirv phantom"
    ds.ManufacturerModelName = "phantom"
    ds.DeviceSerialNumber = "1"
    ds.SoftwareVersions = "1"
    ds.ReferringPhysicianName = ""
    ds.PatientName = identity.patient_name
    ds.PatientID = identity.patient_id
    ds.PatientBirthDate = ""
    ds.PatientSex = "O"
    ds.StudyInstanceUID = identity.study_uid
    ds.SeriesInstanceUID = identity.uid("series", series)
    ds.StudyID = "1"
    ds.FrameOfReferenceUID = identity.frame_of_reference_uid
    ds.PositionReferenceIndicator = ""
    return ds


def save(ds: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write a Part 10 file; image pixels must still be native little endian."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = syntax if syntax in NATIVE else ExplicitVRLittleEndian
    ds.file_meta = meta
    if syntax not in NATIVE:
        ds.compress(syntax, generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian and ds.get("BitsAllocated") == 16:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    ds.save_as(path, enforce_file_format=True)
    return path


def _text(numbers: Sequence[float] | FloatArray) -> list[str]:
    """Numbers as DS values: at most 16 characters."""
    return [f"{float(x):.6f}".rstrip("0").rstrip(".") or "0" for x in numbers]


def plane(geometry: Geometry) -> tuple[list[str], list[str]]:
    """Image Orientation (Patient) and Pixel Spacing of every slice of a grid.

    Parameters
    ----------
    geometry : Geometry

    Returns
    -------
    orientation : list of str
        Six direction cosines, row then column.
    spacing : list of str
        Between rows, between columns, mm.
    """
    directions = geometry.directions
    orientation = _text(np.concatenate([directions[:, 2], directions[:, 1]]))
    return orientation, _text(geometry.spacing[1:])


def position(geometry: Geometry, index: int) -> list[str]:
    """Image Position (Patient) of slice `index`.

    Parameters
    ----------
    geometry : Geometry
    index : int

    Returns
    -------
    list of str
        LPS mm.
    """
    return _text(geometry.to_lps(np.array([[index, 0.0, 0.0]]))[0])


# Switches by name, each with a default: a test names the one thing it makes odd.
def write_ct(
    folder: Path,
    values: NDArray[np.integer[Any]],
    geometry: Geometry,
    identity: Identity,
    *,
    syntax: str = ExplicitVRLittleEndian,
    series: str = "CT",
    **tags: Any,
) -> list[Path]:
    """Write a volume in HU as a CT series.

    Parameters
    ----------
    folder : Path
        Made when missing; files are ``CT_0001.dcm`` ... in slice order.
    values : integer array [slice, row, column]
        HU, from -1024 to 3071.
    geometry : Geometry
    identity : Identity
    syntax : str
        Transfer syntax UID.
    series : str
        Names the series: another name, other UIDs.
    **tags
        Further or other attributes by DICOM keyword; None leaves the attribute out.

    Returns
    -------
    list of Path
        In slice order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    orientation, spacing = plane(geometry)
    paths = []
    for index, values_of_slice in enumerate(values):
        ds = common(identity, CT_STORAGE, "CT", series, f"slice {index}")
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.SeriesNumber = 2
        ds.InstanceNumber = index + 1
        ds.SeriesDescription = "portal venous"
        ds.AcquisitionNumber = 1
        ds.PatientPosition = "HFS"
        ds.KVP = "120"
        ds.ConvolutionKernel = "B30f"
        ds.ContrastBolusAgent = "contrast"
        ds.SliceThickness = _text([geometry.spacing[0]])[0]
        ds.ImagePositionPatient = position(geometry, index)
        ds.ImageOrientationPatient = orientation
        ds.PixelSpacing = spacing
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = str(INTERCEPT), "1", "HU"
        ds.Rows, ds.Columns = values_of_slice.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        for keyword, value in tags.items():
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)
        stored = (values_of_slice.astype(np.int32) - INTERCEPT).astype("<u2")
        ds.PixelData = stored.tobytes()
        ds["PixelData"].VR = "OW"
        paths.append(save(ds, folder / f"CT_{index + 1:04d}.dcm", syntax))
    return paths


def _slice_mask(mask: Mask, index: int) -> BoolArray:
    """The whole plane `index` of a cropped mask."""
    out = np.zeros(mask.grid_shape[1:], bool)
    _, rows, columns = mask.slices
    out[rows, columns] = mask.values[index - mask.start[0]]
    return out


def _segment(number: int, lesion: DrawnLesion, *, tracked: bool) -> Dataset:
    segment = Dataset()
    segment.SegmentNumber = number
    segment.SegmentLabel = lesion.label
    segment.SegmentAlgorithmType = "MANUAL"
    segment.SegmentedPropertyCategoryCodeSequence = codes.code_sequence(codes.ABNORMAL)
    segment.SegmentedPropertyTypeCodeSequence = codes.code_sequence(codes.METASTASIS)
    if lesion.anatomy is not None:
        segment.AnatomicRegionSequence = codes.code_sequence(lesion.anatomy)
    if tracked:
        segment.TrackingID, segment.TrackingUID = lesion.tracking_id, lesion.tracking_uid
    return segment


def _source_image(uid: str) -> Dataset:
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = CT_STORAGE, uid
    return source


# Switches by name, each with a default: a test names the one thing it makes odd.
def write_seg(
    path: Path,
    lesions: Sequence[DrawnLesion],
    geometry: Geometry,
    identity: Identity,
    *,
    order: Sequence[int] | None = None,
    series: str = "CT",
    name: str = "SEG",
    tracked: bool = True,
    omit_empty: bool = True,
    fractional: bool = False,
    referenced: bool = True,
    syntax: str = ExplicitVRLittleEndian,
) -> Path:
    """Write masks as one BINARY (or FRACTIONAL) SEG, one segment a lesion.

    Parameters
    ----------
    order : sequence of int, optional
        Order of the lesions as segments; frames follow it backwards, so nothing is sorted.
    series : str
        The CT series (as named in `write_ct`) the SEG refers to.
    tracked, referenced : bool
        Write tracking identifiers; write references to the images.
    omit_empty : bool
        Leave out frames without a voxel.
    """
    order = range(len(lesions)) if order is None else order
    ds = common(identity, SEG_STORAGE, "SEG", name, "object")
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.SeriesNumber, ds.InstanceNumber = 300, 1
    ds.ContentLabel, ds.ContentDescription, ds.ContentCreatorName = "LESIONS", "", "Phantom^Mirv"
    ds.SegmentationType = "FRACTIONAL" if fractional else "BINARY"
    if fractional:
        ds.SegmentationFractionalType, ds.MaximumFractionalValue = "OCCUPANCY", 255
    ds.SegmentSequence = [
        _segment(n, lesions[i], tracked=tracked) for n, i in enumerate(order, start=1)
    ]
    orientation, spacing = plane(geometry)
    shared, planes, measures = Dataset(), Dataset(), Dataset()
    planes.ImageOrientationPatient = orientation
    measures.PixelSpacing = spacing
    measures.SliceThickness = measures.SpacingBetweenSlices = _text([geometry.spacing[0]])[0]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [planes], [measures]
    ds.SharedFunctionalGroupsSequence = [shared]
    _set_dimensions(ds, identity.uid(name, "dimensions"))
    frames, groups = [], []
    for number, lesion_index in reversed(list(enumerate(order, start=1))):
        mask = lesions[lesion_index].mask
        for index in range(geometry.shape[0]):
            inside = 0 <= index - mask.start[0] < mask.values.shape[0]
            pixels = _slice_mask(mask, index) if inside else np.zeros(geometry.shape[1:], bool)
            if omit_empty and not pixels.any():
                continue
            frames.append(pixels)
            groups.append(
                _frame_group(number, index, geometry, identity, series if referenced else "")
            )
    ds.PerFrameFunctionalGroupsSequence = groups
    if referenced:
        reference = Dataset()
        reference.SeriesInstanceUID = identity.uid("series", series)
        reference.ReferencedInstanceSequence = [
            _source_image(identity.uid(series, f"slice {i}")) for i in range(geometry.shape[0])
        ]
        ds.ReferencedSeriesSequence = [reference]
    _set_frames(ds, np.array(frames), fractional=fractional)
    return save(ds, path, syntax)


def _set_dimensions(ds: Dataset, uid: str) -> None:
    """Frames are indexed by segment and position."""
    organization = Dataset()
    organization.DimensionOrganizationUID = uid
    ds.DimensionOrganizationSequence = [organization]
    ds.DimensionIndexSequence = []
    for pointer, group in ((0x0062000B, 0x0062000A), (0x00200032, 0x00209113)):
        index = Dataset()
        index.DimensionOrganizationUID = uid
        index.DimensionIndexPointer, index.FunctionalGroupPointer = pointer, group
        ds.DimensionIndexSequence.append(index)


def _frame_group(
    number: int, index: int, geometry: Geometry, identity: Identity, series: str
) -> Dataset:
    group, where, segment, content = Dataset(), Dataset(), Dataset(), Dataset()
    where.ImagePositionPatient = position(geometry, index)
    segment.ReferencedSegmentNumber = number
    content.DimensionIndexValues = [number, index + 1]
    group.PlanePositionSequence = [where]
    group.SegmentIdentificationSequence = [segment]
    group.FrameContentSequence = [content]
    if series:
        derivation, source = Dataset(), _source_image(identity.uid(series, f"slice {index}"))
        source.PurposeOfReferenceCodeSequence = codes.code_sequence(codes.SOURCE_IMAGE)
        derivation.SourceImageSequence = [source]
        derivation.DerivationCodeSequence = codes.code_sequence(codes.SEGMENTATION)
        group.DerivationImageSequence = [derivation]
    return group


def _set_frames(ds: Dataset, frames: BoolArray, *, fractional: bool) -> None:
    ds.NumberOfFrames = len(frames)
    ds.Rows, ds.Columns = frames.shape[1:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.PixelRepresentation, ds.LossyImageCompression = 0, "00"
    bits = 8 if fractional else 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    if fractional:
        content = (frames.astype(np.uint8) * 255).tobytes()
    else:
        content = np.packbits(frames.ravel(), bitorder="little").tobytes()
    ds.PixelData = content + b"\0" * (len(content) % 2)
    ds["PixelData"].VR = "OB"


def outlines(plane_mask: BoolArray) -> list[FloatArray]:
    """Closed outlines of a plane along pixel edges, (n, 2) as (row, column) indices.

    Filled even-odd, they give the plane back; a hole is an outline of its own.

    Parameters
    ----------
    plane_mask : bool array (rows, columns)

    Returns
    -------
    list of float64 (n, 2)
        Pixel-centre indices; the last point joins the first.
    """
    padded = np.pad(plane_mask, 1).astype(np.int8)
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # Edges keep the filled side on their right, so chains close and never cross.
    down = np.argwhere(np.diff(padded, axis=1) != 0)
    for r, c in down.tolist():
        ends = [(r, c + 1), (r + 1, c + 1)]
        start, stop = ends if padded[r, c] else ends[::-1]
        following.setdefault(start, []).append(stop)
    across = np.argwhere(np.diff(padded, axis=0) != 0)
    for r, c in across.tolist():
        ends = [(r + 1, c), (r + 1, c + 1)]
        start, stop = ends[::-1] if padded[r, c] else ends
        following.setdefault(start, []).append(stop)
    loops = []
    while following:
        first = min(following)
        loop, corner = [], first
        while True:
            loop.append(corner)
            stops = following[corner]
            corner = stops.pop()
            if not stops:
                del following[loop[-1]]
            if corner == first:
                break
        # Corner (r, c) of the padded plane is the upper left edge of pixel (r, c): minus the pad
        # and half a pixel in voxel-centre indices.
        loops.append(np.array(loop, float) - 1.5)
    return loops


# Switches by name, each with a default: a test names the one thing it makes odd.
def write_rtstruct(
    path: Path,
    lesions: Sequence[DrawnLesion],
    geometry: Geometry,
    identity: Identity,
    *,
    series: str = "CT",
    name: str = "RTSTRUCT",
    syntax: str = ExplicitVRLittleEndian,
) -> Path:
    """Write masks as closed planar contours along the voxel edges, one ROI a lesion.

    Parameters
    ----------
    path : Path
    lesions : sequence of DrawnLesion
    geometry : Geometry
    identity : Identity
    series : str
        The CT series (as named in `write_ct`) the contours refer to.
    name : str
        Of the object's own series.
    syntax : str
        Transfer syntax UID.

    Returns
    -------
    Path
    """
    ds = common(identity, RTSTRUCT_STORAGE, "RTSTRUCT", name, "object")
    ds.SeriesNumber, ds.InstanceNumber = 301, 1
    ds.OperatorsName = ""
    ds.StructureSetLabel = "LESIONS"
    ds.StructureSetDate, ds.StructureSetTime = ds.StudyDate, ds.StudyTime
    ds.ReferencedFrameOfReferenceSequence = [_rt_reference(geometry, identity, series)]
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    ds.RTROIObservationsSequence = []
    for number, lesion in enumerate(lesions, start=1):
        roi, contours, observation = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, lesion.label
        roi.ReferencedFrameOfReferenceUID = identity.frame_of_reference_uid
        roi.ROIGenerationAlgorithm = "MANUAL"
        contours.ReferencedROINumber = observation.ReferencedROINumber = number
        contours.ContourSequence = _contours(lesion.mask, geometry, identity, series)
        observation.ObservationNumber, observation.RTROIInterpretedType = number, "GTV"
        observation.ROIInterpreter = ""
        ds.StructureSetROISequence.append(roi)
        ds.ROIContourSequence.append(contours)
        ds.RTROIObservationsSequence.append(observation)
    return save(ds, path, syntax)


def _rt_reference(geometry: Geometry, identity: Identity, series: str) -> Dataset:
    frame, study, of_series = Dataset(), Dataset(), Dataset()
    of_series.SeriesInstanceUID = identity.uid("series", series)
    of_series.ContourImageSequence = [
        _source_image(identity.uid(series, f"slice {i}")) for i in range(geometry.shape[0])
    ]
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    study.ReferencedSOPInstanceUID = identity.study_uid
    study.RTReferencedSeriesSequence = [of_series]
    frame.FrameOfReferenceUID = identity.frame_of_reference_uid
    frame.RTReferencedStudySequence = [study]
    return frame


def _contours(mask: Mask, geometry: Geometry, identity: Identity, series: str) -> list[Dataset]:
    result = []
    for offset, values in enumerate(mask.values):
        index = mask.start[0] + offset
        for loop in outlines(values):
            corners = loop + np.array(mask.start[1:])
            points = geometry.to_lps(np.column_stack([np.full(len(corners), index), corners]))
            contour = Dataset()
            contour.ContourImageSequence = [_source_image(identity.uid(series, f"slice {index}"))]
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = _text(points.ravel())
            result.append(contour)
    return result
