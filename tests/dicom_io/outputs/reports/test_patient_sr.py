"""The patient report: every measure with unit, profile and space, or why there is none."""

import io
from collections.abc import Iterator

import pydicom
from pydicom import Dataset

from mirv.analysis.model import StudyResult
from mirv.analysis.patient.study import divergent_pair
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.outputs.reports.patient_sr import patient_sr, patient_tracking_uid
from tests.dicom_io.outputs.samples import SPACE, context_of


def _named(parent: Dataset, value: str) -> Iterator[Dataset]:
    for child in parent.get("ContentSequence", []):
        if child.ConceptNameCodeSequence[0].CodeValue == value:
            yield child


def _measures(report: Dataset) -> dict[tuple[str, str], Dataset]:
    """Items of the measures by (group's tracking UID, measure name)."""
    found = {}
    for group in _named(next(_named(report, "126010")), "125007"):
        uid = next(_named(group, "112040")).UID
        for child in group.ContentSequence:
            if names := list(_named(child, "121050")):
                found[uid, names[0].TextValue] = child
    return found


def test_every_measure_is_there_once(
    study: StudyInput, result: StudyResult, outputs: dict[str, Dataset]
) -> None:
    items = _measures(outputs["patient_sr"])
    assert len(items) == len(result.measures)
    for measure in result.measures:
        uid = patient_tracking_uid(study, measure.profile, measure.space)
        child = items[uid, measure.name]
        if measure.value is None:
            assert child.ValueType == "CODE"
            assert "MeasuredValueSequence" not in child
            assert child.ConceptCodeSequence[0].CodeMeaning == measure.reason.code
            assert next(_named(child, "reason-detail")).TextValue == measure.reason.detail
            continue
        measured = child.MeasuredValueSequence[0]
        assert measured.FloatingPointValue == measure.value
        assert measured.MeasurementUnitsCodeSequence[0].CodeValue == measure.unit
        entered = next(_named(child, "n-lesions")).MeasuredValueSequence[0]
        assert entered.FloatingPointValue == measure.n_lesions
        if measure.space:
            space = next(_named(child, "feature-space")).ConceptCodeSequence[0]
            assert (space.CodeMeaning, space.CodeValue) == (measure.space, "c" * 16)


def test_most_divergent_pair_stands_below_its_measure(
    study: StudyInput, result: StudyResult, outputs: dict[str, Dataset]
) -> None:
    items = _measures(outputs["patient_sr"])
    uid = patient_tracking_uid(study, "mirv2025", SPACE)
    for name, distance in (("mtd", "cosine"), ("mirv_distance_max", "euclidean")):
        pair = divergent_pair(result, "mirv2025", SPACE, distance)
        first, second = (
            [c for c in _named(items[uid, name], f"pair-lesion-{end}") if c.ValueType == "UIDREF"]
            for end in "ab"
        )
        assert (pair.tracking_uid_a, pair.tracking_uid_b) == (first[0].UID, second[0].UID)


def test_profile_and_digests_are_stated(outputs: dict[str, Dataset], result: StudyResult) -> None:
    groups = list(_named(next(_named(outputs["patient_sr"], "126010")), "125007"))
    parameters = [child.TextValue for child in _named(groups[-1], "111002")]
    digests = result.provenance.profile_digests
    assert any(t.startswith(f"profile=mirv2025 sha256={digests['mirv2025']}") for t in parameters)
    assert not any("henry2022" in text for text in parameters)
    assert f"space={SPACE} sha256={'c' * 64}" in parameters
    assert next(_named(groups[-1], "111003")).TextValue == "0.1.0"


def test_quality_rows_are_in_the_report(study: StudyInput, outputs: dict[str, Dataset]) -> None:
    evaluations = next(_named(outputs["patient_sr"], "C0034375"))
    flags = [child.TextValue for child in _named(evaluations, "quality-flag")]
    assert len(flags) == len(study.quality)
    assert all(row.check in flag for row, flag in zip(study.quality, flags, strict=True))


def test_a_revision_keeps_its_tracking_uid(study: StudyInput, result: StudyResult) -> None:
    groups = []
    for digest in ("1" * 64, "2" * 64):
        (artifact,) = patient_sr(study, result, context_of(run_digest=digest))
        groups.append({uid for uid, _ in _measures(pydicom.dcmread(io.BytesIO(artifact.content)))})
    assert groups[0] == groups[1]
