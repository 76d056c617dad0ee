"""The lesion report: every value on its lesion, with unit, profile and code; nothing made up."""

import io
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from mirv.analysis.masks.axes import axial_axes
from mirv.analysis.model import Lesion, Mask, StudyResult
from mirv.config.profiles import load_profile
from mirv.dicom_io.model import Code, Predecessor, StudyInput
from mirv.dicom_io.outputs import render
from mirv.dicom_io.outputs.document import COMPREHENSIVE_3D_SR
from mirv.dicom_io.outputs.reports.lesion_sr import is_written
from mirv.dicom_io.sr.feature_codes import feature_form, known_unit
from tests.dicom_io.outputs.samples import context_of, phantom_study, result_of


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> StudyInput:
    """Three lesions: parsing every feature of a dozen with pydicom takes half a minute."""
    return phantom_study(tmp_path_factory.mktemp("few"), 3)


def _named(parent: Dataset, value: str) -> Iterator[Dataset]:
    """Children whose concept name has this code value."""
    for child in parent.get("ContentSequence", []):
        if child.ConceptNameCodeSequence[0].CodeValue == value:
            yield child


def _groups(report: Dataset) -> dict[str, Dataset]:
    """Measurement groups by tracking UID."""
    measurements = next(_named(report, "126010"))
    return {next(_named(g, "112040")).UID: g for g in _named(measurements, "125007")}


def _values(group: Dataset) -> dict[tuple[str, str], float]:
    """Exact values by profile name and PyRadiomics name."""
    found = {}
    for child in group.ContentSequence:
        if child.ValueType != "NUM" or not list(_named(child, "121050")):
            continue
        profile = next(_named(child, "370129005")).ConceptCodeSequence[0].CodeMeaning
        name = next(_named(child, "121050")).TextValue
        measured = child.MeasuredValueSequence[0]
        exact = measured.FloatingPointValue
        assert float(measured.NumericValue) == pytest.approx(exact, rel=1e-8)
        assert (profile, name) not in found
        found[profile, name] = exact
    return found


@pytest.mark.parametrize("setting", ["core", "original", "all"])
def test_every_value_stands_on_its_lesion(few: StudyInput, setting: str) -> None:
    study, result, context = few, result_of(few), context_of(setting)
    artifact = render(study, result, context)[0]
    groups = _groups(pydicom.dcmread(io.BytesIO(artifact.content)))
    assert list(groups) == [lesion.tracking_uid for lesion in study.lesions]
    wanted: dict[str, dict[tuple[str, str], float]] = {uid: {} for uid in groups}
    for lesion in result.lesions:
        selected = context.selected[lesion.profile]
        for name, value in zip(lesion.names, lesion.values.tolist(), strict=True):
            if np.isfinite(value) and is_written(name, setting, selected):
                wanted[lesion.tracking_uid][lesion.profile, name] = value
    assert {uid: _values(group) for uid, group in groups.items()} == wanted
    assert sum(map(len, wanted.values())) > 0


def test_volume_and_diameters_are_of_the_native_mask(
    study: StudyInput, outputs: dict[str, Dataset]
) -> None:
    for lesion in study.lesions:
        group = _groups(outputs["lesion_sr"])[lesion.tracking_uid]
        volume = next(_named(group, "118565006")).MeasuredValueSequence[0]
        assert volume.MeasurementUnitsCodeSequence[0].CodeValue == "mm3"
        voxel = study.volume.geometry.voxel_volume_ml * 1000
        assert float(volume.NumericValue) == pytest.approx(lesion.mask.n_voxels * voxel)
        long_axis = next(_named(group, "103339001")).MeasuredValueSequence[0].FloatingPointValue
        wanted = axial_axes(lesion.mask, study.volume.geometry).long_mm
        assert long_axis == pytest.approx(wanted, rel=1e-12)


def test_what_is_missing_has_a_coded_reason_and_no_number(few: StudyInput) -> None:
    study, result = few, result_of(few)
    artifact = render(study, result, context_of("original"))[0]
    groups = _groups(pydicom.dcmread(io.BytesIO(artifact.content)))
    missing = result.lesions[0].names[3]
    for lesion in study.lesions:
        group = groups[lesion.tracking_uid]
        coded = [child for child in group.ContentSequence if list(_named(child, "reason-detail"))]
        assert all(child.ValueType == "CODE" for child in coded)
        reasons = {child.ConceptCodeSequence[0].CodeMeaning for child in coded}
        if lesion.number == 2:
            assert reasons == {"too_small"}
            assert _values(group) == {}
        else:
            assert reasons == {"constant_intensity"}
            assert ("henry2022", missing) not in _values(group)
    assert b"nan" not in render(study, result, context_of("core"))[0].content.lower()


def test_group_names_segment_series_finding_and_site(
    study: StudyInput, outputs: dict[str, Dataset]
) -> None:
    segments = {s.TrackingUID: s for s in outputs["lesion_seg"].SegmentSequence}
    for uid, group in _groups(outputs["lesion_sr"]).items():
        segment = next(_named(group, "121191")).ReferencedSOPSequence[0]
        assert segment.ReferencedSOPInstanceUID == outputs["lesion_seg"].SOPInstanceUID
        assert segment.ReferencedSegmentNumber == segments[uid].SegmentNumber
        series = next(_named(group, "121232"))
        assert series.ValueType == "UIDREF"
        assert study.evidence.images[0].SeriesInstanceUID == series.UID
        assert next(_named(group, "112039")).TextValue == segments[uid].TrackingID
        region = segments[uid].AnatomicRegionSequence[0].CodeValue
        assert next(_named(group, "363698007")).ConceptCodeSequence[0].CodeValue == region
        assert next(_named(group, "121071")).ConceptCodeSequence[0].CodeValue == "14799000"


def test_report_is_a_tid_1500_of_the_same_patient_and_study(
    study: StudyInput, outputs: dict[str, Dataset]
) -> None:
    image = study.evidence.images[0]
    for role in ("lesion_sr", "patient_sr"):
        report = outputs[role]
        assert report.ConceptNameCodeSequence[0].CodeValue == "126000"
        assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
        assert report.VerificationFlag == "UNVERIFIED"
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate"):
            assert report[keyword].value == image[keyword].value
        assert report.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99MIRV"
        statement = next(_named(next(_named(report, "C0034375")), "research-use")).TextValue
        assert "not a diagnostic" in statement
        referenced = {
            instance.ReferencedSOPInstanceUID
            for of_study in report.CurrentRequestedProcedureEvidenceSequence
            for series in of_study.ReferencedSeriesSequence
            for instance in series.ReferencedSOPSequence
        }
        assert {str(i.SOPInstanceUID) for i in study.evidence.images} <= referenced
        assert outputs["lesion_seg"].SOPInstanceUID in referenced
    series = [output.SeriesInstanceUID for output in outputs.values()]
    assert len(set(series)) == len(series)


def test_same_arguments_same_bytes(study: StudyInput, result: StudyResult) -> None:
    first, second = (render(study, result, context_of("original")) for _ in range(2))
    assert [a.content for a in first] == [a.content for a in second]
    other = render(study, result, context_of("original", run_digest="e" * 64))
    assert not {a.sop_instance_uid for a in first} & {a.sop_instance_uid for a in other}


def test_revision_names_its_predecessor(study: StudyInput, result: StudyResult) -> None:
    context = context_of(
        "core", predecessor={"lesion_sr": Predecessor(COMPREHENSIVE_3D_SR, "1.2.3", "1.2")}
    )
    artifacts = {a.role: a for a in render(study, result, context)}
    report = pydicom.dcmread(io.BytesIO(artifacts["lesion_sr"].content))
    series = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == "1.2"
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3"
    patient = pydicom.dcmread(io.BytesIO(artifacts["patient_sr"].content))
    assert "PredecessorDocumentsSequence" not in patient


def test_lesion_without_voxel_is_named_not_measured(study: StudyInput, result: StudyResult) -> None:
    empty = Mask.from_full(np.zeros(study.volume.geometry.shape, bool))
    lost = replace(study.lesions[4], mask=empty)
    lesions = (*study.lesions[:4], lost, *study.lesions[5:])
    artifacts = render(replace(study, lesions=lesions), result, context_of("core"))
    report = pydicom.dcmread(io.BytesIO(artifacts[0].content))
    assert lost.tracking_uid not in _groups(report)
    said = next(_named(next(_named(report, "C0034375")), "not-measured")).TextValue
    assert lost.tracking_id in said
    nothing = replace(study, lesions=tuple(replace(a, mask=empty) for a in study.lesions))
    assert [a.role for a in render(nothing, result, context_of("core"))] == ["patient_sr"]


def test_hostile_labels_stay_text(study: StudyInput, result: StudyResult) -> None:
    label = "a\\b\r\n\x1b]0;\x00<script>" + "ä" * 200
    hostile = tuple(
        Lesion(n.number, label, label, n.tracking_uid, n.site, n.mask) for n in study.lesions
    )
    for artifact in render(replace(study, lesions=hostile), result, context_of("core")):
        parsed = pydicom.dcmread(io.BytesIO(artifact.content))
        if artifact.role == "lesion_sr":
            group = _groups(parsed)[hostile[0].tracking_uid]
            text = next(_named(group, "112039")).TextValue
            assert text.startswith("a\\b") and text.isprintable()
        if artifact.role == "lesion_seg":
            assert len(parsed.SegmentSequence[0].SegmentLabel) <= 64


def test_what_the_source_got_wrong_is_made_to_fit_but_keys_are_kept(
    study: StudyInput, result: StudyResult
) -> None:
    image = deepcopy(study.evidence.images[0])
    wrong = {
        "PatientID": "P" * 70,
        "StudyID": "much longer than it may be",
        "StudyDate": "2020-01-15",
        "StudyTime": "25:00",
        "PatientAge": "old",
        "AccessionNumber": "A1",
    }
    with pydicom.config.disable_value_validation():
        for keyword, value in wrong.items():
            image.pop(keyword, None)  # what another test has decoded would still validate
            setattr(image, keyword, value)
    evidence = replace(study.evidence, images=(image, *study.evidence.images[1:]))
    artifacts = render(replace(study, evidence=evidence), result, context_of("core"))
    with pydicom.config.disable_value_validation():
        report = pydicom.dcmread(io.BytesIO(artifacts[0].content))
        assert report.PatientID == wrong["PatientID"]
        assert report.StudyID == "much longer than"
        assert not report.StudyDate and not report.StudyTime and not report.PatientAge
        assert report.AccessionNumber == "A1"


def test_codes_that_are_long_or_urns_are_kept(study: StudyInput, result: StudyResult) -> None:
    uid = study.lesions[0].tracking_uid
    urn, long = Code("urn:oid:1.2.3", "", "Tumour"), Code("1234567890123456789", "SCT", "")
    source = replace(study.sources[uid], finding=urn, anatomy=long)
    changed = replace(study, sources={**study.sources, uid: source})
    artifacts = render(changed, result, context_of("core"))
    parsed = {a.role: pydicom.dcmread(io.BytesIO(a.content)) for a in artifacts}
    segment = parsed["lesion_seg"].SegmentSequence[0]
    group = _groups(parsed["lesion_sr"])[uid]
    for found in (
        segment.SegmentedPropertyTypeCodeSequence[0],
        next(_named(group, "121071")).ConceptCodeSequence[0],
    ):
        assert found.URNCodeValue == urn.value
        assert "CodeValue" not in found
    for found in (
        segment.AnatomicRegionSequence[0],
        next(_named(group, "363698007")).ConceptCodeSequence[0],
    ):
        assert (found.LongCodeValue, found.CodeMeaning) == (long.value, long.value)


def test_evidence_of_another_study_is_listed_apart(study: StudyInput, result: StudyResult) -> None:
    foreign = deepcopy(study.evidence.segmentations[0])
    foreign.StudyInstanceUID = "1.2.3.4"
    evidence = replace(study.evidence, segmentations=(foreign,))
    artifact = render(replace(study, evidence=evidence), result, context_of("core"))[0]
    report = pydicom.dcmread(io.BytesIO(artifact.content))
    (own,) = report.CurrentRequestedProcedureEvidenceSequence
    (other,) = report.PertinentOtherEvidenceSequence
    assert (own.StudyInstanceUID, other.StudyInstanceUID) == (report.StudyInstanceUID, "1.2.3.4")
    named = other.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == foreign.SOPInstanceUID


def test_one_lesion(tmp_path_factory: pytest.TempPathFactory) -> None:
    alone = phantom_study(tmp_path_factory.mktemp("one"), 1)
    parsed = {
        a.role: pydicom.dcmread(io.BytesIO(a.content))
        for a in render(alone, result_of(alone, holes=False), context_of("core"))
    }
    assert len(_groups(parsed["lesion_sr"])) == 1
    assert len(parsed["lesion_seg"].SegmentSequence) == 1


METHOD = Code("m", "99MIRV", "m")


@pytest.mark.parametrize(
    ("name", "unit", "code", "ucum"),
    [
        ("original_firstorder_Mean", "HU", ("Q4LE", "IBSI"), "[hnsf'U]"),
        ("original_firstorder_Variance", "HU", ("ECT3", "IBSI"), "[hnsf'U]2"),
        ("original_firstorder_Variance", "BQML", ("ECT3", "IBSI"), "(Bq/ml)2"),
        ("gradient_firstorder_Mean", "HU", ("Q4LE", "IBSI"), "[hnsf'U]/mm"),
        ("square_firstorder_Mean", "HU", ("Q4LE", "IBSI"), "1"),
        ("wavelet-HLL_firstorder_Mean", "HU", ("Q4LE", "IBSI"), "[hnsf'U]"),
        ("original_shape_MeshVolume", "HU", ("RNU0", "IBSI"), "mm3"),
        ("original_shape_SurfaceVolumeRatio", "HU", ("2PR5", "IBSI"), "/mm"),
        ("original_glcm_JointEntropy", "HU", ("TU9B", "IBSI"), "bit"),
        ("original_glcm_MCC", "HU", ("glcm_MCC", "99MIRV"), "1"),
        ("original_firstorder_Kurtosis", "HU", ("firstorde-9d6ee9", "99MIRV"), "1"),
    ],
)
def test_codes_and_units(name: str, unit: str, code: tuple[str, str], ucum: str) -> None:
    form = feature_form(name, METHOD, load_profile("henry2022"), unit)
    if code[1] == "99MIRV":
        assert (form.concept.value[:9], form.concept.scheme) == (code[0][:9], code[1])
    else:
        assert (form.concept.value, form.concept.scheme) == code
    assert form.unit.value == ucum


def test_shifted_energy_is_not_coded_as_ibsi_energy() -> None:
    name = "original_firstorder_Energy"
    plain = feature_form(name, METHOD, load_profile("henry2022"), "HU")
    shifted = feature_form(name, METHOD, load_profile("mirv2025"), "HU")
    assert (plain.concept.value, plain.concept.scheme) == ("N8CA", "IBSI")
    assert shifted.concept.scheme == "99MIRV"


def test_kurtosis_is_coded_as_ibsi_kurtosis_where_it_is_in_excess_of_3() -> None:
    name = "original_firstorder_Kurtosis"
    plain = feature_form(name, METHOD, load_profile("henry2022"), "HU")
    excess = feature_form(name, METHOD, load_profile("ibsi-c"), "HU")
    assert plain.concept.scheme == "99MIRV"
    assert (excess.concept.value, excess.concept.scheme) == ("IPH6", "IBSI")
    assert excess.unit.value == "1"
    assert known_unit(excess.concept, name) == {"1"}


def test_filter_grey_levels_and_aggregation_are_modifiers() -> None:
    form = feature_form("wavelet-LHL_glcm_Idm", METHOD, load_profile("mirv2025"), "HU")
    for value in (b"25BO", b"LHL", b"Q3RU", b"ITBB"):
        assert value in form.modifiers
    assert b"KOBO" in feature_form("original_glszm_ZoneEntropy", METHOD, None, "HU").modifiers
