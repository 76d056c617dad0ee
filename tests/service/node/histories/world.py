"""Two persons under one Patient ID, their studies, and every object that may come of them.

Objects are bytes, made once and kept: the same arguments give the same bytes.
"""

import io
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset

from mirv.analysis.model import BoolArray, Geometry, Mask
from mirv.dicom_io.phantom.writers import (
    DrawnLesion,
    Identity,
    write_ct,
    write_rtstruct,
    write_seg,
)
from mirv.dicom_io.standard import codes
from mirv.dicom_io.standard.uids import derive_uid

SLICES = 4
SHAPE = (SLICES, 12, 12)
SPACING = (5.0, 4.0, 4.0)
CORNERS = ((0, 1, 1), (0, 1, 7), (2, 7, 1), (2, 7, 7))
SITES = (codes.LIVER, codes.LUNG, codes.BONE, codes.LYMPH_NODE)
VARIANTS = 3
"""A lesion is drawn in so many ways; 0: it is not drawn."""

Drawn = tuple[int, ...]
"""How each lesion of a study is drawn."""


@dataclass(frozen=True, slots=True)
class Person:
    """A person as objects tell of one; another spelling is a correction."""

    name: str
    corrected: str
    birth_date: str
    sex: str
    issuer: str = ""


PATIENT_ID = "SHARED-1"
PERSONS = {
    "A": Person("Alpha^Anna", "Alpha^Hannah", "19500101", "F", issuer="CLINIC"),
    "B": Person("Bravo^Bruno", "Bravo^Boris", "19620304", "M"),
}


@dataclass(frozen=True, slots=True)
class Study:
    """A study of one person on one day.

    Attributes
    ----------
    name : str
        The person's letter and a number.
    day : int
        In steps of 90 days: the persons take turns, so a wrong prior would be nearer.
    first : Drawn
        Its lesions when they are drawn first.
    series_of : str
        The study whose Series Instance UID it carries: a modality may give one twice.
    """

    name: str
    day: int
    first: Drawn
    series_of: str = ""

    @property
    def owner(self) -> str:
        """The person's letter."""
        return self.name[0]

    @property
    def identity(self) -> Identity:
        """What UIDs and dates derive from, of each person apart."""
        return Identity(f"{prefix()}{self.owner}", PERSONS[self.owner].name, self.day)

    @property
    def series_uid(self) -> str:
        """Series Instance UID of the images."""
        return STUDIES[self.series_of or self.name].identity.uid("series", "CT")


STUDIES = {
    one.name: one
    for one in (
        Study("A0", 0, (1, 1, 1, 0)),
        Study("B0", 1, (1, 1, 0, 1)),
        Study("A1", 2, (2, 1, 0, 1)),
        Study("B1", 3, (1, 2, 1, 0), series_of="A0"),
    )
}

_prefix = ""


def prefix() -> str:
    """Goes into every UID."""
    return _prefix


def set_prefix(text: str) -> None:
    """Give the persons other UIDs: where many histories share one node."""
    global _prefix
    _prefix = text
    for one in (images, segmentation, _drawn):
        one.cache_clear()


def patient_id() -> str:
    """The one Patient ID of both persons."""
    return f"{_prefix}{PATIENT_ID}"


GEOMETRY = Geometry(
    SHAPE, np.array([[0, 0, SPACING[2], -20], [0, SPACING[1], 0, -20], [SPACING[0], 0, 0, -50],
                     [0, 0, 0, 1]], float),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drawing:
    """What a segmentation draws, and how.

    Attributes
    ----------
    kind : str
        ``seg``, ``rt`` (RTSTRUCT), ``untracked`` (a SEG without tracking UIDs), ``reader`` (a SEG
        of another reader, who has tracking UIDs of their own).
    lesions : Drawn
    version : int
        Which change of the study's lesions it shows: later ones are made later.
    """

    kind: str
    lesions: Drawn
    version: int


def _box(variant: int) -> BoolArray:
    box = np.zeros((2, 3, 3), bool)
    box[:, :2, :2] = True
    box[0, 2, : variant - 1] = True
    return box


def voxels(variant: int) -> int:
    """How many voxels a lesion has that is drawn in this way."""
    return 7 + variant


def _lesions(study: Study, kind: str, drawn: Drawn) -> list[DrawnLesion]:
    return [
        DrawnLesion(
            f"Lesion {number + 1}",
            f"LESION-{number + 1}",
            derive_uid(
                "history", _prefix, study.owner, str(number), *((kind,) * (kind == "reader"))
            ),
            SITES[number],
            Mask.from_box(CORNERS[number], _box(variant), SHAPE),
        )
        for number, variant in enumerate(drawn)
        if variant
    ]


def _values(study: Study) -> Any:
    rng = np.random.default_rng([study.day, ord(study.owner)])
    values = rng.integers(20, 60, SHAPE).astype(np.int16)
    for number, (z, y, x) in enumerate(CORNERS):
        values[z : z + 2, y : y + 3, x : x + 3] += 60 + 20 * number + 5 * study.day
    return values


@cache
def images(name: str) -> tuple[bytes, ...]:
    """The CT slices of a study."""
    study = STUDIES[name]
    with tempfile.TemporaryDirectory() as folder:
        written = write_ct(Path(folder), _values(study), GEOMETRY, study.identity)
        return tuple(_as_of(path, study, SeriesInstanceUID=study.series_uid) for path in written)


@cache
def segmentation(name: str, drawing: Drawing) -> bytes:
    """A segmentation of a study's images."""
    study = STUDIES[name]
    made = _drawn(name, drawing.kind, drawing.lesions)
    return _edited(
        made,
        SOPInstanceUID=study.identity.uid(drawing.kind, str(drawing.version), repr(drawing)),
        ContentTime=f"{120000 + drawing.version:06d}",
    )


@cache
def _drawn(name: str, kind: str, drawn: Drawn) -> bytes:
    """Its first version."""
    study = STUDIES[name]
    lesions = _lesions(study, kind, drawn)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "object.dcm"
        if kind == "rt":
            write_rtstruct(path, lesions, GEOMETRY, study.identity)
        else:
            write_seg(path, lesions, GEOMETRY, study.identity, tracked=kind != "untracked")
        ds = pydicom.dcmread(path)
    ds.SeriesInstanceUID = study.identity.uid("series of", kind)
    if kind == "rt":  # one date and time, as in a SEG
        del ds.StructureSetDate, ds.StructureSetTime
    if kind == "reader":
        ds.ContentCreatorName = "Other^Reader"
        ds.SeriesDescription = "second reading"
    for series in _series_references(ds):
        series.SeriesInstanceUID = study.series_uid
    return _as_of(ds, study)


def _series_references(ds: Dataset) -> list[Dataset]:
    frames = ds.get("ReferencedFrameOfReferenceSequence") or ()
    return [
        *(ds.get("ReferencedSeriesSequence") or ()),
        *(
            series
            for frame in frames
            for of_study in frame.RTReferencedStudySequence
            for series in of_study.RTReferencedSeriesSequence
        ),
    ]


def _as_of(source: Path | Dataset, study: Study, **tags: str) -> bytes:
    """The object as one of the study's person."""
    ds = pydicom.dcmread(source) if isinstance(source, Path) else source
    person = PERSONS[study.owner]
    ds.PatientID, ds.PatientName = patient_id(), person.name
    ds.PatientBirthDate, ds.PatientSex = person.birth_date, person.sex
    ds.IssuerOfPatientID = person.issuer
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    return as_bytes(ds)


def as_bytes(ds: Dataset) -> bytes:
    """The object as a file."""
    out = io.BytesIO()
    if not hasattr(ds, "file_meta"):
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _edited(content: bytes, **tags: str) -> bytes:
    ds = pydicom.dcmread(io.BytesIO(content))
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    return as_bytes(ds)


@cache
def corrected(content: bytes) -> bytes:
    """The object under the same UIDs, its patient's name corrected."""
    ds = pydicom.dcmread(io.BytesIO(content))
    names = {person.name: person.corrected for person in PERSONS.values()}
    ds.PatientName = names.get(str(ds.PatientName), str(ds.PatientName))
    return as_bytes(ds)


@cache
def as_of_another(content: bytes, name: str) -> bytes:
    """The object as a new one of another study's person, but for that all it was."""
    other = PERSONS[STUDIES[name].owner]
    return _edited(
        content,
        SOPInstanceUID=derive_uid("history", _prefix, "mixed", name, uid_of(content)),
        PatientName=other.name,
        PatientBirthDate=other.birth_date,
        PatientSex=other.sex,
        IssuerOfPatientID=other.issuer,
    )


@cache
def of_another_issuer(content: bytes) -> bytes:
    """The object as a new one of a patient of another issuer, but for that all it was."""
    return _edited(
        content,
        SOPInstanceUID=derive_uid("history", _prefix, "issuer", uid_of(content)),
        IssuerOfPatientID="OTHER",
    )


@cache
def strayed(content: bytes, name: str) -> bytes:
    """The object as a new one in another study, of the same person."""
    return _edited(
        content,
        SOPInstanceUID=derive_uid("history", _prefix, "strayed", name, uid_of(content)),
        StudyInstanceUID=STUDIES[name].identity.study_uid,
        SeriesInstanceUID=derive_uid("history", _prefix, "strayed series", name),
    )


@cache
def uid_of(content: bytes) -> str:
    """SOP Instance UID of an object."""
    wanted = ["SOPInstanceUID"]
    return str(pydicom.dcmread(io.BytesIO(content), specific_tags=wanted).SOPInstanceUID)


@cache
def telling(content: bytes) -> frozenset[bytes]:
    """What in an object names its person: UIDs, birth date and words of the name."""
    ds = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
    said = {str(ds.PatientBirthDate), *str(ds.PatientName).split("^")}
    uids = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
    said |= {str(ds[keyword].value) for keyword in uids if keyword in ds}
    said |= {str(one.TrackingUID) for one in ds.get("SegmentSequence", ()) if "TrackingUID" in one}
    return frozenset(text.encode() for text in said)


@cache
def owner_of(content: bytes) -> str:
    """The letter of the person an object says it is of."""
    born = str(
        pydicom.dcmread(io.BytesIO(content), specific_tags=["PatientBirthDate"]).PatientBirthDate
    )
    (letter,) = (letter for letter, one in PERSONS.items() if one.birth_date == born)
    return letter
