"""What every output shares: patient, study, series and equipment modules, evidence, UIDs, bytes."""

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pydicom
from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from mirv.dicom_io.model import Artifact, Code, RenderContext, StudyInput
from mirv.dicom_io.sr import concepts
from mirv.dicom_io.sr.concepts import dcm
from mirv.dicom_io.sr.encoding import clean
from mirv.dicom_io.sr.items import is_urn
from mirv.dicom_io.standard.codes import code_sequence
from mirv.dicom_io.standard.identity import IMPLEMENTATION_CLASS_UID, MANUFACTURER, MODEL_NAME
from mirv.dicom_io.standard.uids import derive_uid

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"

_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
_KEYS = frozenset({"PatientID", "PatientName", "IssuerOfPatientID", "StudyInstanceUID"})
_LONGEST = {"SH": 16, "LO": 64, "CS": 16}
_FORMS = {
    "DA": re.compile(r"[0-9]{8}"),
    "TM": re.compile(r"([01][0-9]|2[0-3])([0-5][0-9]([0-5][0-9](\.[0-9]{1,6})?)?)? *"),
    "AS": re.compile(r"[0-9]{3}[DWMY]"),
}
_ALSO = (  # copied when there
    "IssuerOfPatientID",
    "OtherPatientIDs",
    "EthnicGroup",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
    "StudyDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
)


@dataclass(frozen=True, slots=True)
class Role:
    """One kind of output: what it is and how its series is named."""

    name: str
    sop_class_uid: str
    modality: str
    series_number: int
    series_description: str


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance named in evidence."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str


def instance_uid(context: RenderContext, role: str) -> str:
    """SOP Instance UID of a role's object in this run."""
    return derive_uid(context.run_digest, role, "instance")


def series_uid(context: RenderContext, role: str) -> str:
    """Series Instance UID of a role's object in this run."""
    return derive_uid(context.run_digest, role, "series")


def header(study: StudyInput, context: RenderContext, role: Role) -> Dataset:
    """Patient, study, series, equipment and SOP common modules of an output.

    Patient and study are those of the image.
    """
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    _copy_modules(study.evidence.images[0], ds)
    ds.SOPClassUID = role.sop_class_uid
    ds.SOPInstanceUID = instance_uid(context, role.name)
    ds.SeriesInstanceUID = series_uid(context, role.name)
    ds.Modality = role.modality
    ds.SeriesNumber = role.series_number
    ds.SeriesDescription = role.series_description
    ds.InstanceNumber = 1
    date, time = context.created.strftime("%Y%m%d"), context.created.strftime("%H%M%S.%f")
    ds.InstanceCreationDate = ds.SeriesDate = ds.ContentDate = date
    ds.InstanceCreationTime = ds.SeriesTime = ds.ContentTime = time
    ds.Manufacturer = MANUFACTURER
    ds.ManufacturerModelName = MODEL_NAME
    ds.DeviceSerialNumber = clean(context.ae_title, 64)
    ds.SoftwareVersions = clean(context.software_version, 64)
    ds.ContributingEquipmentSequence = _equipment(study, context)
    return ds


def _copy_modules(source: Dataset, target: Dataset) -> None:
    with pydicom.config.disable_value_validation():
        for keyword in (*_PATIENT, *_STUDY, *_ALSO):
            if keyword in source:
                target[keyword] = _fitting(source[keyword])
            elif keyword not in _ALSO:
                setattr(target, keyword, None)


def _fitting(element: DataElement) -> DataElement:
    """An element as received where its value is legal; else cut to what fits, or empty.

    Keys are never touched: the node is no judge of a patient's name or identifier.
    """
    if element.keyword in _KEYS or element.VR not in {*_LONGEST, *_FORMS}:
        return element
    value = str(element.value or "")
    if element.VR in _LONGEST:
        if element.VM > 1 or len(value) <= _LONGEST[element.VR]:
            return element
        return DataElement(element.tag, element.VR, clean(value, _LONGEST[element.VR]))
    legal = not value or _FORMS[element.VR].fullmatch(value) is not None
    return element if legal else DataElement(element.tag, element.VR, None)


def device_uid(context: RenderContext) -> str:
    """The node's own UID, the same as device observer and as equipment: as set, or of its title."""
    return context.device_uid or derive_uid("mirv-node", clean(context.ae_title, 16) or "-")


def _equipment(study: StudyInput, context: RenderContext) -> list[Dataset]:
    """Who made the images, and who made this object (CID 7005)."""
    image = study.evidence.images[0]
    scanner, node = Dataset(), Dataset()
    scanner.PurposeOfReferenceCodeSequence = code_sequence(dcm("109101", "Acquisition Equipment"))
    scanner.Manufacturer = clean(str(image.get("Manufacturer") or ""), 64) or "unknown"
    if model := clean(str(image.get("ManufacturerModelName") or ""), 64):
        scanner.ManufacturerModelName = model
    node.PurposeOfReferenceCodeSequence = code_sequence(dcm("109102", "Processing Equipment"))
    node.Manufacturer = MANUFACTURER
    node.ManufacturerModelName = MODEL_NAME
    node.StationName = clean(context.ae_title, 16)
    node.DeviceSerialNumber = clean(context.ae_title, 64)
    node.DeviceUID = device_uid(context)
    node.SoftwareVersions = clean(context.software_version, 64)
    offset = context.created.strftime("%z") or "+0000"
    node.ContributionDateTime = context.created.strftime("%Y%m%d%H%M%S.%f") + offset[:5]
    node.ContributionDescription = "Lesion radiomics and inter-lesion heterogeneity; research use"
    return [scanner, node]


def sr_header(
    study: StudyInput, context: RenderContext, role: Role, evidence: Iterable[Reference]
) -> Dataset:
    """The header of a Comprehensive 3D SR: complete, unverified, its evidence listed."""
    ds = header(study, context, role)
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.PerformedProcedureCodeSequence = []
    ds.CompletionFlag = "COMPLETE"
    ds.CompletionFlagDescription = concepts.RESEARCH_USE_TEXT
    ds.VerificationFlag = "UNVERIFIED"
    ds.PreliminaryFlag = "PRELIMINARY"
    ds.CodingSchemeIdentificationSequence = _schemes()
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = code_sequence(concepts.IMAGING_MEASUREMENT_REPORT)
    same: list[Reference] = []
    other: list[Reference] = []
    for reference in evidence:
        (same if reference.study_uid == ds.StudyInstanceUID else other).append(reference)
    ds.CurrentRequestedProcedureEvidenceSequence = reference_tree(same)
    if other:
        ds.PertinentOtherEvidenceSequence = reference_tree(other)
    name_replaced_document(ds, context, role)
    return ds


def predecessor_of(context: RenderContext, role: Role, study_uid: str) -> Reference | None:
    """The same role's object of the revision this one replaces."""
    before = context.predecessor.get(role.name)
    if before is None:
        return None
    return Reference(
        before.study_uid or study_uid,
        before.series_uid,
        before.sop_class_uid,
        before.sop_instance_uid,
    )


def name_replaced_document(ds: Dataset, context: RenderContext, role: Role) -> None:
    """Say which document a revision replaces (PS3.3 C.17.2 of reports, C.24.2 of PDF)."""
    if before := predecessor_of(context, role, str(ds.StudyInstanceUID)):
        ds.PredecessorDocumentsSequence = reference_tree([before])


def name_replaced_image(ds: Dataset, context: RenderContext, role: Role) -> None:
    """Say which image a revision replaces: General Reference module (PS3.3 C.12.4).

    Images have no place of their own for that; the purpose of the reference tells it.
    """
    before = predecessor_of(context, role, str(ds.StudyInstanceUID))
    if before is None:
        return
    reference = sop_dataset(before)
    reference.PurposeOfReferenceCodeSequence = code_sequence(concepts.REPLACED)
    ds.ReferencedImageSequence = [reference]
    ds.CodingSchemeIdentificationSequence = _schemes()[:1]
    of_series = Dataset()
    of_series.SeriesInstanceUID = before.series_uid
    of_series.ReferencedInstanceSequence = [sop_dataset(before)]
    if before.study_uid != ds.StudyInstanceUID:
        of_study = Dataset()
        of_study.StudyInstanceUID = before.study_uid
        of_study.ReferencedSeriesSequence = [of_series]
        others = ds.get("StudiesContainingOtherReferencedInstancesSequence") or ()
        ds.StudiesContainingOtherReferencedInstancesSequence = [*others, of_study]
        return
    # Behind the series of the images, which is the one that readers take.
    ds.ReferencedSeriesSequence = [*(ds.get("ReferencedSeriesSequence") or ()), of_series]


def _schemes() -> list[Dataset]:
    mirv, ibsi = Dataset(), Dataset()
    mirv.CodingSchemeDesignator = concepts.SCHEME
    mirv.CodingSchemeName = concepts.SCHEME_NAME
    mirv.CodingSchemeResponsibleOrganization = concepts.SCHEME_ORGANIZATION
    ibsi.CodingSchemeDesignator = "IBSI"
    ibsi.CodingSchemeName = "Image Biomarker Standardisation Initiative"
    return [mirv, ibsi]


def reference_of(instance: Dataset) -> Reference:
    """The reference to an instance that was read."""
    return Reference(
        str(instance.StudyInstanceUID),
        str(instance.SeriesInstanceUID),
        str(instance.SOPClassUID),
        str(instance.SOPInstanceUID),
    )


def made_here(study: StudyInput, context: RenderContext, role: Role) -> Reference:
    """The reference to another output of this run."""
    study_uid = str(study.evidence.images[0].StudyInstanceUID)
    uids = series_uid(context, role.name), instance_uid(context, role.name)
    return Reference(study_uid, uids[0], role.sop_class_uid, uids[1])


def inputs(study: StudyInput) -> list[Reference]:
    """Images and segmentations the result was computed from."""
    evidence = study.evidence
    return [reference_of(instance) for instance in (*evidence.images, *evidence.segmentations)]


def reference_tree(references: Sequence[Reference]) -> list[Dataset]:
    """Study, series and instance references nested (PS3.3 table 10-4, hierarchical)."""
    tree: dict[str, dict[str, list[Reference]]] = {}
    for reference in references:
        tree.setdefault(reference.study_uid, {}).setdefault(reference.series_uid, []).append(
            reference
        )
    studies = []
    for study_uid, series in tree.items():
        of_study = Dataset()
        of_study.StudyInstanceUID = study_uid
        of_study.ReferencedSeriesSequence = [
            _series_reference(uid, instances) for uid, instances in series.items()
        ]
        studies.append(of_study)
    return studies


def _series_reference(uid: str, instances: Sequence[Reference]) -> Dataset:
    of_series = Dataset()
    of_series.SeriesInstanceUID = uid
    of_series.ReferencedSOPSequence = [sop_dataset(instance) for instance in instances]
    return of_series


def sop_dataset(reference: Reference) -> Dataset:
    """SOP class and instance of a reference."""
    ds = Dataset()
    ds.ReferencedSOPClassUID = reference.sop_class_uid
    ds.ReferencedSOPInstanceUID = reference.sop_instance_uid
    return ds


def artifact(ds: Dataset, role: Role, context: RenderContext, tail: bytes) -> Artifact:
    """Encode `ds`, append elements that come after all of its own, make a Part 10 file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = role.sop_class_uid
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = clean(f"MIRV_{context.software_version}", 16)
    ds.file_meta = meta
    buffer = io.BytesIO()
    with pydicom.config.disable_value_validation():
        pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    buffer.write(tail)
    return Artifact(
        role.name,
        role.sop_class_uid,
        str(ds.SOPInstanceUID),
        str(ds.SeriesInstanceUID),
        buffer.getvalue(),
    )


def coded(concept: Code) -> list[Dataset]:
    """A code sequence as received: short, long, or a URN that names its own scheme."""
    ds = Dataset()
    value = clean(concept.value, 1024)
    if not concept.scheme and is_urn(value):
        ds.URNCodeValue = value
    elif len(value) > 16:
        ds.LongCodeValue = value
    else:
        ds.CodeValue = value
    if concept.scheme:
        ds.CodingSchemeDesignator = clean(concept.scheme, 16)
    ds.CodeMeaning = clean(concept.meaning, 64) or value[:64]
    return [ds]
