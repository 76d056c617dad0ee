"""DICOM-side types: headers, selections, the evidence a result refers to, and artifacts."""

from dataclasses import dataclass, field
from datetime import datetime

from pydicom import Dataset

from analysis.model import Index3, Lesion, Volume
from config.profiles import ExtractionProfile


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (PS3.3 section 8): value, coding scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class QualityRow:
    """One line of ``quality.csv``: a check, what it found, what it wanted.

    Attributes
    ----------
    study_uid, series_uid, object_uid : str
        Where; "" when unknown. `object_uid` is the segmentation or instance.
    lesion : str
        Tracking UID, "" when the check is not about one lesion.
    check : str
        ``snake_case`` name of the check; for a refusal the reason code.
    outcome : str
        ``ok``, ``warn``, ``refused``, ``off`` (not configured) or ``unknown`` (cannot be checked).
    found, wanted, detail : str
    file : str
        File name as given by the user for folder input, "" for network input.
    """

    study_uid: str
    series_uid: str
    object_uid: str
    lesion: str
    check: str
    outcome: str
    found: str
    wanted: str
    detail: str
    file: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class LesionSource:
    """Where a lesion was drawn: what the outputs must repeat honestly.

    Attributes
    ----------
    segmentation_uid : str
        SOP Instance UID of the SEG or RTSTRUCT.
    number : int
        Segment Number or ROI Number there.
    algorithm_type : str
        MANUAL, SEMIAUTOMATIC or AUTOMATIC.
    algorithm_name : str
        "" when MANUAL or not given.
    category, finding : Code
        Segmented property category and type.
    anatomy : Code or None
        Anatomic region as received.
    matched_by : str
        Rule that joined segmentation and image: ``instances``, ``series``, ``frame_of_reference``.
    """

    segmentation_uid: str
    number: int
    algorithm_type: str
    algorithm_name: str
    category: Code
    finding: Code
    anatomy: Code | None
    matched_by: str


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Headers (no pixel data) of what was analysed.

    Attributes
    ----------
    images : tuple of Dataset
        In slice order of the volume (one dataset for an enhanced multi-frame image).
    segmentations : tuple of Dataset
        The SEG and RTSTRUCT objects, sorted by SOP Instance UID.
    frame_of : tuple of (index into `images`, frame number or None)
        For every slice of the volume: the instance and the 1-based frame it came from.
    """

    images: tuple[Dataset, ...]
    segmentations: tuple[Dataset, ...]
    frame_of: tuple[tuple[int, int | None], ...]


@dataclass(frozen=True, slots=True, eq=False)
class StudyInput:
    """One image and its lesion set, read and checked: ready for analysis.

    Attributes
    ----------
    volume : Volume
    lesions : tuple of Lesion
    sources : mapping of tracking UID to LesionSource
    evidence : Evidence
    input_digest : str
        SHA-256 over sorted (SOP Instance UID, content SHA-256) of every input object.
    quality : tuple of QualityRow
    """

    volume: Volume
    lesions: tuple[Lesion, ...]
    sources: dict[str, LesionSource]
    evidence: Evidence
    input_digest: str
    quality: tuple[QualityRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A DICOM object made by the node, as bytes ready to store or send.

    Attributes
    ----------
    role : str
        ``lesion_sr``, ``patient_sr``, ``lesion_seg`` ...: one artifact a role.
    sop_class_uid, sop_instance_uid, series_instance_uid : str
    content : bytes
        A complete Part 10 file, explicit VR little endian; identical for identical inputs.
    """

    role: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Predecessor:
    """An output that a revision replaces, in the same study."""

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str


@dataclass(frozen=True, slots=True)
class RenderContext:
    """What an output needs beside the study and the numbers.

    Attributes
    ----------
    run_digest : str
        SHA-256 over (input digest, profile, space and reading digests): the root of output UIDs.
    created : datetime
        When the run was queued (time zone aware); recorded once, so a repeat is identical.
    software_version : str
    ae_title : str
        Of this node: device observer and contributing equipment.
    sr_features : str
        ``core``, ``original`` or ``all``.
    selected : mapping of profile name to its own short list of features
    predecessor : mapping of role to Predecessor
        The same role's object of the revision this one replaces; empty for a first result.
    profiles : tuple of ExtractionProfile
        What was extracted with: discretisation and shifts as the outputs state them.
    extras : tuple of str
        Roles made beside the two reports and the segmentation, and ``derived_measurements``
        (TID 1420 in the lesion report).
    segmentation : str
        ``BINARY`` or ``LABELMAP``.
    empty_frames : bool
        Frames without a voxel are written too.
    device_uid : str or None
        Of this installation; None: derived from the AE title.
    """

    run_digest: str
    created: datetime
    software_version: str
    ae_title: str
    sr_features: str
    selected: dict[str, tuple[str, ...]] = field(default_factory=dict)
    predecessor: dict[str, Predecessor] = field(default_factory=dict)
    profiles: tuple[ExtractionProfile, ...] = ()
    extras: tuple[str, ...] = ("headline_sr", "report_pdf")
    segmentation: str = "BINARY"
    empty_frames: bool = False
    device_uid: str | None = None


__all__ = [
    "Artifact",
    "Code",
    "Evidence",
    "Index3",
    "LesionSource",
    "Predecessor",
    "QualityRow",
    "RenderContext",
    "StudyInput",
]
