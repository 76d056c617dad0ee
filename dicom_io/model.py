"""DICOM-side types: headers, selections, the evidence a result refers to, and artifacts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from mirv.analysis.model import Lesion, Volume
from mirv.config.profiles import ExtractionProfile

if TYPE_CHECKING:  # types alone: rows of quality are read without any DICOM
    from pydicom import Dataset


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (PS3.3 section 8): value, coding scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str


class QualityOutcome(StrEnum):
    """What became of a check; the values are those of ``quality.csv`` and the catalogue."""

    OK = "ok"  # as wanted
    WARN = "warn"  # not as wanted; used all the same
    REFUSED = "refused"  # not as wanted, and not used
    OFF = "off"  # the settings want nothing
    UNKNOWN = "unknown"  # what the check needs is missing


@dataclass(frozen=True, slots=True)
class Note:
    """What one check found, before it is known which study, series or lesion it speaks of.

    Attributes
    ----------
    check : str
        ``snake_case`` name of the check; for a refusal the reason code.
    outcome : QualityOutcome
    found, wanted, detail : str
    """

    check: str
    outcome: QualityOutcome
    found: str = ""
    wanted: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRow:
    """One line of ``quality.csv``: a check, what it found, what it wanted.

    The order of the fields is the order of the columns.

    Attributes
    ----------
    study_uid, series_uid, object_uid : str
        Where; "" when unknown. `object_uid` is the segmentation or instance.
    lesion : str
        Tracking UID, "" when the check is not about one lesion.
    check : str
        ``snake_case`` name of the check; for a refusal the reason code.
    outcome : QualityOutcome
    found, wanted, detail : str
    file : str
        File name as given by the user for folder input, "" for network input.
    """

    study_uid: str = ""
    series_uid: str = ""
    object_uid: str = ""
    lesion: str = ""
    check: str
    outcome: QualityOutcome
    found: str = ""
    wanted: str = ""
    detail: str = ""
    file: str = ""

    @property
    def refused(self) -> bool:
        """True when what the row speaks of is not used."""
        return self.outcome is QualityOutcome.REFUSED

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "QualityRow":
        """A row read back from what ``asdict`` gave.

        Parameters
        ----------
        fields : mapping of field name to value

        Returns
        -------
        QualityRow

        Raises
        ------
        TypeError, KeyError, ValueError
            A field is missing or unknown, or the outcome is none of `QualityOutcome`.
        """
        return cls(**{**fields, "outcome": QualityOutcome(fields["outcome"])})


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
    tracking_received : bool
        The lesion's tracking UID is the one received; False where the node derived it.
    component : int
        Of a segment taken apart: 1-based, by size; 0 for a whole one.
    """

    segmentation_uid: str
    number: int
    algorithm_type: str
    algorithm_name: str
    category: Code
    finding: Code
    anatomy: Code | None
    matched_by: str
    tracking_received: bool = True
    component: int = 0


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

    images: "tuple[Dataset, ...]"
    segmentations: "tuple[Dataset, ...]"
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
    """An output that a revision replaces.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid, series_uid : str
    study_uid : str
        "" for the study of the revision; a correction may have moved the images.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str = ""


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
