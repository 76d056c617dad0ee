"""IHE AI Results (AIR): what its content definitions ask of results, as tests of our objects.

After the supplement to IHE RAD TF, Rev. 1.3, volume 3: each test names the requirement. PixelMed's
checker, which the profile's own tests use, is asked in `test_validators` and `test_real_studies`.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.outputs import OUTPUTS, render
from tests.dicom_io.outputs.samples import context_of, phantom_study, result_of

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
REPORTS = ("lesion_sr", "patient_sr", "headline_sr")
ROLES = tuple(output.role.name for output in OUTPUTS)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyInput:
    """Three lesions."""
    return phantom_study(tmp_path_factory.mktemp("air"), 3)


@pytest.fixture(scope="module")
def objects(study: StudyInput) -> dict[str, Dataset]:
    """Every kind of output, by role."""
    context = context_of("core", extras=("headline_sr", "report_pdf", "report_sc"))
    artifacts = render(study, result_of(study), context)
    return {one.role: pydicom.dcmread(io.BytesIO(one.content)) for one in artifacts}


def _named(parent: Dataset, value: str) -> Iterator[Dataset]:
    for child in parent.get("ContentSequence", []):
        names = child.get("ConceptNameCodeSequence")
        if names and names[0].get("CodeValue") == value:
            yield child


def _everything(parent: Dataset) -> Iterator[Dataset]:
    for child in parent.get("ContentSequence", []):
        yield child
        yield from _everything(child)


def _groups(report: Dataset) -> list[Dataset]:
    return list(_named(next(_named(report, "126010")), "125007"))


def _node(ds: Dataset) -> Dataset:
    """Contributing equipment with the purpose (109102, DCM, "Processing Equipment")."""
    (node,) = [
        item
        for item in ds.ContributingEquipmentSequence
        if item.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    ]
    return node


@pytest.mark.parametrize("role", ROLES)
def test_6_5_3_1_the_algorithm_is_described_as_contributing_equipment(
    objects: dict[str, Dataset], role: str
) -> None:
    """Purpose Processing Equipment, manufacturer, model, software versions, device UID."""
    node = _node(objects[role])
    assert node.PurposeOfReferenceCodeSequence[0].CodingSchemeDesignator == "DCM"
    for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceUID"):
        assert node.get(keyword), keyword


@pytest.mark.parametrize("role", REPORTS)
def test_table_6_5_3_1_1_content_items_agree_with_the_equipment(
    objects: dict[str, Dataset], role: str
) -> None:
    report = objects[role]
    node = _node(report)
    said = {
        "121012": [item.UID for item in _named(report, "121012")],
        "121014": [item.TextValue for item in _named(report, "121014")],
        "121015": [item.TextValue for item in _named(report, "121015")],
    }
    for value in ("111001", "111003"):
        said[value] = [
            item.TextValue
            for item in _everything(report)
            if item.get("ConceptNameCodeSequence", [Dataset()])[0].get("CodeValue") == value
        ]
    wanted = {
        "121012": node.DeviceUID,
        "121014": node.Manufacturer,
        "121015": node.ManufacturerModelName,
        "111001": node.ManufacturerModelName,
        "111003": node.SoftwareVersions,
    }
    for value, found in said.items():
        assert set(found) == {wanted[value]}, value


@pytest.mark.parametrize("role", ROLES)
def test_results_are_instances_of_the_study_they_were_derived_from(
    objects: dict[str, Dataset], study: StudyInput, role: str
) -> None:
    image = study.evidence.images[0]
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "StudyID"):
        assert objects[role].get(keyword) == image.get(keyword), keyword
    assert objects[role].SeriesInstanceUID != image.SeriesInstanceUID


@pytest.mark.parametrize("role", REPORTS)
def test_measurements_are_comprehensive_3d_sr_with_tid_1500_at_the_root(
    objects: dict[str, Dataset], role: str
) -> None:
    report = objects[role]
    assert report.SOPClassUID == COMPREHENSIVE_3D_SR
    template = report.ContentTemplateSequence[0]
    assert (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "1500")
    title = report.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("126000", "DCM")


@pytest.mark.parametrize(
    ("role", "template"), [("lesion_sr", "1411"), ("patient_sr", "1501"), ("headline_sr", "1410")]
)
def test_groups_follow_the_templates_of_the_profile(
    objects: dict[str, Dataset], role: str, template: str
) -> None:
    for group in _groups(objects[role]):
        assert group.ContentTemplateSequence[0].TemplateIdentifier == template


@pytest.mark.parametrize("role", REPORTS)
def test_every_measurement_group_has_tracking_identifiers(
    objects: dict[str, Dataset], role: str
) -> None:
    uids = []
    for group in _groups(objects[role]):
        (identifier,) = _named(group, "112039")
        (uid,) = _named(group, "112040")
        assert identifier.TextValue and pydicom.uid.UID(uid.UID).is_valid
        uids.append(uid.UID)
    assert len(set(uids)) == len(uids)


@pytest.mark.parametrize("role", REPORTS)
def test_every_measurement_is_a_number_with_ucum_unit_and_a_coded_name(
    objects: dict[str, Dataset], role: str
) -> None:
    numbers = [item for item in _everything(objects[role]) if item.get("ValueType") == "NUM"]
    assert numbers
    for item in numbers:
        measured = item.MeasuredValueSequence[0]
        assert measured.MeasurementUnitsCodeSequence[0].CodingSchemeDesignator == "UCUM"
        assert item.ConceptNameCodeSequence[0].CodeMeaning


def test_regions_are_segments_that_carry_the_same_tracking_identifiers(
    objects: dict[str, Dataset],
) -> None:
    seg = objects["lesion_seg"]
    assert seg.SOPClassUID == SEGMENTATION
    segments = {segment.SegmentNumber: segment for segment in seg.SegmentSequence}
    for group in _groups(objects["lesion_sr"]):
        (region,) = _named(group, "121191")
        reference = region.ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        segment = segments[reference.ReferencedSegmentNumber]
        assert segment.TrackingUID == next(_named(group, "112040")).UID
        assert segment.TrackingID == next(_named(group, "112039")).TextValue


def test_segments_say_category_type_and_how_they_were_made(objects: dict[str, Dataset]) -> None:
    for segment in objects["lesion_seg"].SegmentSequence:
        assert segment.SegmentLabel
        assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue
        assert segment.SegmentAlgorithmType in {"MANUAL", "SEMIAUTOMATIC", "AUTOMATIC"}
        assert segment.SegmentAlgorithmType == "MANUAL" or segment.SegmentAlgorithmName


def test_locations_are_coordinates_on_source_images(
    objects: dict[str, Dataset], study: StudyInput
) -> None:
    images = {str(image.SOPInstanceUID) for image in study.evidence.images}
    for group in _groups(objects["headline_sr"]):
        (region,) = _named(group, "111030")
        assert region.ValueType == "SCOORD"
        image = region.ContentSequence[0].ReferencedSOPSequence[0]
        assert image.ReferencedSOPInstanceUID in images


@pytest.mark.parametrize("role", REPORTS)
def test_findings_and_sites_are_coded(objects: dict[str, Dataset], role: str) -> None:
    for group in _groups(objects[role]):
        for item in (*_named(group, "121071"), *_named(group, "363698007")):
            assert item.ValueType == "CODE" and item.ConceptCodeSequence[0].CodeMeaning
        if role != "patient_sr":
            assert list(_named(group, "121071")), "no finding"


@pytest.mark.parametrize("role", REPORTS)
def test_all_that_is_referred_to_is_evidence_and_the_images_are_all_there(
    objects: dict[str, Dataset], study: StudyInput, role: str
) -> None:
    report = objects[role]
    listed = {
        instance.ReferencedSOPInstanceUID
        for one in report.CurrentRequestedProcedureEvidenceSequence
        for series in one.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    referred = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in _everything(report)
        if "ReferencedSOPSequence" in item
    }
    assert referred <= listed
    assert {str(image.SOPInstanceUID) for image in study.evidence.images} <= listed


@pytest.mark.parametrize("role", REPORTS)
def test_the_observer_is_a_device_and_nobody_has_verified(
    objects: dict[str, Dataset], role: str
) -> None:
    report = objects[role]
    (observer,) = _named(report, "121005")
    assert observer.ConceptCodeSequence[0].CodeValue == "121007"
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.PreliminaryFlag == "PRELIMINARY"


@pytest.mark.parametrize("role", REPORTS)
def test_private_codes_are_declared(objects: dict[str, Dataset], role: str) -> None:
    report = objects[role]
    declared = {item.CodingSchemeDesignator for item in report.CodingSchemeIdentificationSequence}
    used = {
        item.ConceptNameCodeSequence[0].CodingSchemeDesignator
        for item in _everything(report)
        if "ConceptNameCodeSequence" in item
    }
    assert {scheme for scheme in used if scheme.startswith("99")} <= declared


def test_pages_for_people_say_that_they_show_the_patient(
    objects: dict[str, Dataset], tmp_path: Path
) -> None:
    """Burned in annotation, so that de-identification knows."""
    assert objects["report_pdf"].BurnedInAnnotation == "YES"
    assert objects["report_sc"].BurnedInAnnotation == "YES"
