"""Headers: all that matching and the catalogue need of an object, without its pixels."""

import contextlib
import hashlib
import json
import re
import warnings
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from mirv.analysis.errors import Unsuitable
from mirv.dicom_io.files.plain_header import plain_values
from mirv.dicom_io.files.references import references
from mirv.dicom_io.files.structure import ONE_INFLATED, Layout, check_structure
from mirv.dicom_io.files.values import PARSE_FAULTS, Values, numbers, parse, said, text
from mirv.dicom_io.standard.classes import (
    DEFLATED,
    IMAGE_CLASSES,
    NATIVE,
    RTSTRUCT_CLASS,
    SEG_CLASSES,
    SEGMENTATION_CLASSES,
)
from mirv.dicom_io.standard.identity import made_here
from mirv.dicom_io.standard.person import Identity, birth_date, issuer
from mirv.dicom_io.standard.uids import is_received_uid

DESCRIBED = (
    "Manufacturer",
    "SeriesDate",
    "StudyDate",
    "SliceThickness",
    "PixelSpacing",
    "ConvolutionKernel",
    "KVP",
    "Exposure",
    "XRayTubeCurrent",
    "MagneticFieldStrength",
    "EchoTime",
    "ContrastBolusAgent",
)
"""Tags of the description table (SPEC R-DESC-1)."""

_DATE = re.compile(r"[0-9]{8}")
_JSON = json.JSONEncoder(sort_keys=True, ensure_ascii=True)


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """One DICOM object, without pixels.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid, study_uid, series_uid : str
    modality, patient_id, study_date, series_description : str
        "" when missing.
    frame_of_reference_uid : str
        "" when missing.
    transfer_syntax : str
    image_type : tuple of str
    rows, columns, frames : int
        0, 0, 1 when missing.
    position, orientation, pixel_spacing : tuple of float
        Image Position and Orientation (Patient), Pixel Spacing; empty when missing.
    created : str
        Content (or structure set) date and time, sortable: which of two versions is later.
    referenced_instances, referenced_series, referenced_frames : tuple of str
        UIDs a segmentation refers to, at any level; sorted.
    tracking_uids : tuple of str
        Of the segments, in file order.
    description : tuple of (keyword, value)
        The tags of `DESCRIBED` that are there.
    own : bool
        Made by this node: never input again.
    sha256 : str
        Of the whole file.
    size : int
        Bytes of the whole file.
    issuer, birth_date, sex, patient_name : str
        As in `Identity`; "" in headers that were written before they were read.
    acquisition : str
        Acquisition Number.
    author : str
        Who made a segmentation: Content Creator's Name, else Operators' Name; "" for an image.
    labels : tuple of str
        Of the segments or ROIs, in file order.
    drawn_on : tuple of str
        Images that the contours of an RTSTRUCT name, one by one; sorted.
    issuer_by_default : bool
        The object carries no issuer: `issuer` is by the settings.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    modality: str
    patient_id: str
    study_date: str
    series_description: str
    frame_of_reference_uid: str
    transfer_syntax: str
    image_type: tuple[str, ...]
    rows: int
    columns: int
    frames: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    created: str
    referenced_instances: tuple[str, ...]
    referenced_series: tuple[str, ...]
    referenced_frames: tuple[str, ...]
    tracking_uids: tuple[str, ...]
    description: tuple[tuple[str, str], ...]
    own: bool
    sha256: str
    size: int
    issuer: str = ""
    birth_date: str = ""
    sex: str = ""
    patient_name: str = ""
    acquisition: str = ""
    author: str = ""
    labels: tuple[str, ...] = ()
    drawn_on: tuple[str, ...] = ()
    issuer_by_default: bool = False

    def issued_by(self, default: str) -> "InstanceHeader":
        """With this issuer of its Patient ID, where the object carries none.

        Parameters
        ----------
        default : str
            As in `Identity`; "" for unknown.

        Returns
        -------
        InstanceHeader
        """
        if self.issuer or not self.patient_id or not default:
            return self
        return replace(self, issuer=default, issuer_by_default=True)

    @property
    def identity(self) -> Identity:
        """Who the object is of."""
        return Identity(self.patient_id, self.issuer, self.birth_date, self.sex, self.patient_name)

    @property
    def stated(self) -> Identity:
        """Who the object itself says it is of, without an issuer by default."""
        return replace(self.identity, issuer="") if self.issuer_by_default else self.identity

    @property
    def is_image(self) -> bool:
        """A CT, MR or PET image, single or multi-frame."""
        return self.sop_class_uid in IMAGE_CLASSES

    @property
    def is_segmentation(self) -> bool:
        """A SEG, Label Map SEG or RTSTRUCT."""
        return self.sop_class_uid in SEGMENTATION_CLASSES

    @property
    def is_localizer(self) -> bool:
        """A scout image: never part of a volume."""
        return "LOCALIZER" in self.image_type

    def to_json(self) -> str:
        """JSON text, sorted keys."""
        return _JSON.encode({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_json(cls, text: str) -> "InstanceHeader":
        """The inverse of `to_json`.

        Parameters
        ----------
        text : str
            As `to_json` gave it.

        Returns
        -------
        InstanceHeader

        Raises
        ------
        ValueError, KeyError, TypeError
            The text is no JSON, or lacks a field.
        """
        raw: dict[str, Any] = json.loads(text)
        for field in fields(cls):
            if isinstance(raw.get(field.name), list):
                raw[field.name] = tuple(raw[field.name])
        raw["description"] = tuple((key, value) for key, value in raw["description"])
        return cls(**raw)


def read_header(source: Path | bytes | memoryview, sha256: str = "") -> InstanceHeader:
    """Read and check one DICOM file.

    Parameters
    ----------
    source : Path, bytes or memoryview
        A Part 10 file or its content.
    sha256 : str
        Of the whole content, when the caller has it already.

    Returns
    -------
    InstanceHeader

    Raises
    ------
    Unsuitable
        ``not_dicom``, ``truncated``, ``malformed``, ``missing_uid`` ...: what was found, wanted,
        and where.
    """
    content = source.read_bytes() if isinstance(source, Path) else source
    layout = check_structure(content)
    sha256 = sha256 or hashlib.sha256(content).hexdigest()
    plain = plain_values(content, layout.transfer_syntax, layout.elements)
    if plain is not None:
        return _checked_header(plain, layout, sha256, len(content))
    with ONE_INFLATED if layout.transfer_syntax == DEFLATED else contextlib.nullcontext():
        dataset = parse(content, pixels=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _checked_header(dataset, layout, sha256, len(content))


def _checked_header(dataset: Values, layout: Layout, sha256: str, size: int) -> InstanceHeader:
    try:
        header = _header(dataset, layout.transfer_syntax, sha256, size)
        _check_size(header, dataset, layout.pixel_bytes)
    except PARSE_FAULTS as error:
        raise Unsuitable("malformed", f"the header cannot be read: {said(error)}") from error
    return header


def _uid(dataset: Values, keyword: str, *, required: bool = False) -> str:
    value = text(dataset, keyword)
    if not value and not required:
        return ""
    if not is_received_uid(value):
        raise Unsuitable(
            "missing_uid" if not value else "malformed_uid",
            f"{keyword}: found {value[:80]!r}, wanted a UID",
        )
    return value


def _header(dataset: Values, syntax: str, sha256: str, size: int) -> InstanceHeader:
    sop_class = _uid(dataset, "SOPClassUID", required=True)
    named = references(dataset)
    return InstanceHeader(
        sop_class_uid=sop_class,
        sop_instance_uid=_uid(dataset, "SOPInstanceUID", required=True),
        study_uid=_uid(dataset, "StudyInstanceUID", required=True),
        series_uid=_uid(dataset, "SeriesInstanceUID", required=True),
        modality=text(dataset, "Modality"),
        patient_id=text(dataset, "PatientID"),
        study_date=text(dataset, "StudyDate"),
        series_description=text(dataset, "SeriesDescription"),
        frame_of_reference_uid=text(dataset, "FrameOfReferenceUID"),
        transfer_syntax=syntax,
        image_type=_texts(dataset, "ImageType"),
        rows=int(dataset.get("Rows") or 0),
        columns=int(dataset.get("Columns") or 0),
        frames=int(dataset.get("NumberOfFrames") or 1) or 1,  # a plain "0" is text
        position=numbers(dataset, "ImagePositionPatient"),
        orientation=numbers(dataset, "ImageOrientationPatient"),
        pixel_spacing=numbers(dataset, "PixelSpacing"),
        created=creation_time(dataset),
        referenced_instances=tuple(sorted(named.instances | named.of_parts)),
        referenced_series=tuple(sorted(named.series)),
        referenced_frames=tuple(sorted(named.frames)),
        tracking_uids=tuple(
            text(segment, "TrackingUID") for segment in dataset.get("SegmentSequence") or ()
        ),
        description=tuple(
            (keyword, value)
            for keyword in DESCRIBED
            if (value := "\\".join(_texts(dataset, keyword)))
        ),
        own=_own(dataset),
        sha256=sha256,
        size=size,
        issuer=_issuer(dataset),
        birth_date=birth_date(text(dataset, "PatientBirthDate")),
        sex=text(dataset, "PatientSex").upper(),
        patient_name=text(dataset, "PatientName"),
        acquisition=text(dataset, "AcquisitionNumber"),
        author=author(dataset) if sop_class in SEGMENTATION_CLASSES else "",
        labels=_labels(dataset),
        drawn_on=tuple(sorted(named.of_parts)) if sop_class == RTSTRUCT_CLASS else (),
    )


def _issuer(dataset: Values) -> str:
    qualifiers = dataset.get("IssuerOfPatientIDQualifiersSequence") or ()
    universal = next((text(one, "UniversalEntityID") for one in qualifiers), "")
    return issuer(text(dataset, "IssuerOfPatientID"), universal)


def author(dataset: Values) -> str:
    """Who made a segmentation: Content Creator's Name, else Operators' Name; "" for nobody."""
    return text(dataset, "ContentCreatorName") or "\\".join(_texts(dataset, "OperatorsName"))


def _labels(dataset: Values) -> tuple[str, ...]:
    segments = [text(one, "SegmentLabel") for one in dataset.get("SegmentSequence") or ()]
    rois = [text(one, "ROIName") for one in dataset.get("StructureSetROISequence") or ()]
    return (*segments, *rois)


def _texts(dataset: Values, keyword: str) -> tuple[str, ...]:
    value = dataset.get(keyword)
    if value is None or value == "":
        return ()
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return (str(value),)
    return tuple(str(part) for part in value)


def creation_time(dataset: Values) -> str:
    """Date and time an object was made, from the most specific pair that is a date.

    Points (the old form) are left out. Other text would stand after every date, and its object be
    the latest version for ever.
    """
    pairs = ("StructureSet", "Content", "InstanceCreation", "Series", "Study")
    for name in pairs:
        date = text(dataset, f"{name}Date").replace(".", "")
        if _DATE.fullmatch(date):
            return date + " " + text(dataset, f"{name}Time")
    return ""


def _own(dataset: Values) -> bool:
    equipment = (dataset, *(dataset.get("ContributingEquipmentSequence") or ()))
    return made_here(text(one, "Manufacturer") for one in equipment)


def _check_size(header: InstanceHeader, dataset: Values, pixel_bytes: int) -> None:
    """Refuse an object whose pixels cannot be what its header says."""
    if not (header.is_image or header.sop_class_uid in SEG_CLASSES):
        return
    bits = int(dataset.get("BitsAllocated") or 0)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    wanted = (header.rows * header.columns * header.frames * samples * bits + 7) // 8
    if min(header.rows, header.columns, header.frames, bits) < 1:
        raise Unsuitable(
            "malformed",
            f"found {header.rows} rows, {header.columns} columns, {header.frames} frames of "
            f"{bits} bits, wanted an image",
        )
    native = header.transfer_syntax in NATIVE
    if native and pixel_bytes < wanted:
        raise Unsuitable(
            "truncated",
            f"found {pixel_bytes} bytes of pixel data, wanted {wanted} for {header.frames} frames "
            f"of {header.rows} x {header.columns} at {bits} bits",
        )
    # No fragment is shorter than its item header.
    if not native and pixel_bytes < 8 * header.frames and header.frames > 1:
        raise Unsuitable(
            "truncated", f"found {pixel_bytes} bytes of pixel data for {header.frames} frames"
        )
    if header.rows * header.columns > MAX_FRAME_PIXELS:
        raise Unsuitable(
            "too_large",
            f"found frames of {header.rows} x {header.columns}, wanted at most {MAX_FRAME_PIXELS} "
            "pixels each",
        )
    if wanted > MAX_PIXEL_BYTES:
        raise Unsuitable(
            "too_large", f"found {wanted} bytes of pixels, wanted at most {MAX_PIXEL_BYTES}"
        )


MAX_PIXEL_BYTES = 4 << 30
# Some decoders want a dozen bytes a pixel, whatever few bytes a frame comes in.
MAX_FRAME_PIXELS = 4096 * 4096
