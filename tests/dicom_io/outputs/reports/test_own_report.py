"""Reports read back give exactly the values written, whatever they are."""

import io
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from mirv.analysis.errors import Reason, Unsuitable
from mirv.analysis.model import LesionResult, Measure, State, StudyResult
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.outputs import render
from mirv.dicom_io.outputs.reports.lesion_sr import is_written
from mirv.dicom_io.outputs.reports.own_report import ReportContent, read
from mirv.dicom_io.sr.checker import check_report
from tests.dicom_io.outputs.samples import PROFILES, compared, context_of, phantom_study, result_of

VALUES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 5e-324, -1.7976931348623157e308, 1 / 3, -1e-300]),
    st.none(),
)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1).map(
    lambda text: text[:60]
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyInput:
    """Three lesions."""
    return phantom_study(tmp_path_factory.mktemp("read"), 3)


def _both(study: StudyInput, result: StudyResult, setting: str) -> tuple[ReportContent, ...]:
    artifacts = {a.role: a.content for a in render(study, result, context_of(setting))}
    return read(artifacts["lesion_sr"]), read(artifacts["patient_sr"])


def _assert_equal(read_back: LesionResult, written: LesionResult, setting: str) -> None:
    selected = context_of().selected[written.profile]
    keep = [i for i, n in enumerate(written.names) if is_written(n, setting, selected)]
    names = tuple(written.names[i] for i in keep)
    for name in ("number", "label", "tracking_id", "tracking_uid", "site", "volume_ml",
                 "profile", "excluded", "warnings"):  # fmt: skip
        assert getattr(read_back, name) == getattr(written, name), name
    if written.excluded is None:
        assert read_back.names == names
        assert read_back.values.tobytes() == written.values[keep].tobytes()
        wanted = {name: why for name, why in written.missing.items() if name in names}
        assert read_back.missing == wanted


@pytest.mark.parametrize("setting", ["core", "original", "all"])
def test_lesions_measures_and_provenance_come_back(study: StudyInput, setting: str) -> None:
    result = result_of(study)
    lesion_report, patient_report = _both(study, result, setting)
    written = {(a.tracking_uid, a.profile): a for a in result.lesions}
    profiles = {"henry2022"} if setting == "core" else {"henry2022", "mirv2025"}
    assert {a.profile for a in lesion_report.lesions} >= profiles
    for lesion in lesion_report.lesions:
        if lesion.profile in profiles:
            _assert_equal(lesion, written.pop((lesion.tracking_uid, lesion.profile)), setting)
    assert not [key for key in written if key[1] in profiles]
    assert patient_report.measures == result.measures
    assert patient_report.provenance == result.provenance
    assert lesion_report.provenance.profile_digests == result.provenance.profile_digests
    image = study.evidence.images[0]
    assert lesion_report.study_uid == image.StudyInstanceUID
    assert lesion_report.source_series_uid == image.SeriesInstanceUID
    assert lesion_report.segmentation_uids == {
        uid: source.segmentation_uid for uid, source in study.sources.items()
    }


def test_a_comparison_comes_back_with_every_change_and_match(study: StudyInput) -> None:
    result = compared(result_of(study))
    lesion_report, patient_report = _both(study, result, "core")
    assert {one.state for one in result.changes} == set(get_args(State))
    assert patient_report.changes == result.changes
    assert len(patient_report.measures) == len(result.measures)
    assert set(patient_report.measures) == set(result.measures)
    assert patient_report.provenance == result.provenance
    # The lesion report names the earlier study too, and holds no change.
    earlier = (result.provenance.prior_study_uid, result.provenance.prior_study_date)
    found = lesion_report.provenance
    assert (found.prior_study_uid, found.prior_study_date) == earlier
    assert lesion_report.changes == ()


@pytest.mark.parametrize("date", ["2020.01.15", "x" * 70, "date=9 input sha256=", "\N{ESCAPE}[0m1"])
def test_an_odd_date_of_the_earlier_study_breaks_no_report(study: StudyInput, date: str) -> None:
    result = compared(result_of(study))
    odd = replace(result, provenance=replace(result.provenance, prior_study_date=date))
    contents = {a.role: a.content for a in render(study, odd, context_of("core"))}
    for role in ("lesion_sr", "patient_sr"):
        assert not check_report(contents[role])
        assert read(contents[role]).provenance.prior_study_uid == odd.provenance.prior_study_uid


def test_a_fate_this_node_does_not_know_is_refused(study: StudyInput) -> None:
    contents = {
        a.role: a.content for a in render(study, compared(result_of(study)), context_of("core"))
    }
    foreign = contents["patient_sr"].replace(b"vanished", b"vaporize")
    with pytest.raises(Unsuitable, match="vaporize"):
        read(foreign)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(VALUES, min_size=107, max_size=107), WORDS, VALUES, WORDS)
def test_any_value_survives(
    study: StudyInput, values: list[float | None], label: str, measure: float | None, why: str
) -> None:
    result = result_of(study, PROFILES[:1], holes=False)
    first = result.lesions[0]
    missing = {
        name: Reason("odd", why)
        for name, value in zip(first.names, values, strict=True)
        if value is None
    }
    numbers = np.array([np.nan if value is None else value for value in values])
    changed = replace(
        first, values=numbers, missing=missing, warnings=(why,), volume_ml=abs(measure or 0.1) / 1e4
    )
    reason = Reason("odd", why) if measure is None else None
    measures = (Measure("mtd", measure, "1", "henry2022", "some space", 3, reason),)
    lesions = (changed, *result.lesions[1:])
    changed_result = replace(result, lesions=lesions, measures=measures)
    labelled = replace(study.lesions[0], label=label)
    drawn = replace(study, lesions=(labelled, *study.lesions[1:]))
    for setting in ("core", "original", "all"):
        lesion_report, patient_report = _both(drawn, changed_result, setting)
        _assert_equal(lesion_report.lesions[0], replace(changed, label=label), setting)
        assert patient_report.measures == measures


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_what_a_pacs_recoded_reads_the_same(study: StudyInput, syntax: str) -> None:
    artifact = render(study, result_of(study), context_of("core"))[0]
    report = pydicom.dcmread(io.BytesIO(artifact.content))
    report.ContentSequence.is_undefined_length = True
    report.ContentSequence[0].is_undefined_length_sequence_item = True
    report.file_meta.TransferSyntaxUID = syntax
    recoded = io.BytesIO()
    pydicom.dcmwrite(recoded, report, enforce_file_format=True)
    plain, other = read(artifact.content), read(recoded.getvalue())
    assert [a.values.tobytes() for a in other.lesions] == [
        a.values.tobytes() for a in plain.lesions
    ]


def test_undefined_lengths_read_the_same(study: StudyInput) -> None:
    artifact = render(study, result_of(study), context_of("core"))[0]
    report = pydicom.dcmread(io.BytesIO(artifact.content))

    def undefine(ds: pydicom.Dataset) -> None:
        for element in ds:
            if element.VR == "SQ":
                element.value.is_undefined_length = True
                element.is_undefined_length = True
                for child in element.value:
                    child.is_undefined_length_sequence_item = True
                    undefine(child)

    # Only below the root's own children, so that its raw bytes are still parsed here.
    for child in report.ContentSequence:
        undefine(child)
    recoded = io.BytesIO()
    pydicom.dcmwrite(recoded, report, enforce_file_format=True)
    assert b"\xfe\xff\x0d\xe0" in recoded.getvalue()
    plain, other = read(artifact.content), read(recoded.getvalue())
    assert [a.values.tobytes() for a in other.lesions] == [
        a.values.tobytes() for a in plain.lesions
    ]


def test_what_is_not_a_report_of_ours_is_refused(study: StudyInput, tmp_path: Path) -> None:
    artifacts = {a.role: a.content for a in render(study, result_of(study), context_of("core"))}
    text = tmp_path / "notes.txt"
    text.write_text("no DICOM")
    with pytest.raises(Unsuitable, match="not_dicom"):
        read(text)
    with pytest.raises(Unsuitable, match="not_a_report"):
        read(artifacts["lesion_seg"])
    with pytest.raises(Unsuitable):
        read(artifacts["lesion_sr"][:-300])
    renamed = artifacts["lesion_sr"].replace(b"volume-ml ", b"volume-xx ")
    with pytest.raises(Unsuitable, match="not_own_report"):
        read(renamed)


@pytest.mark.shared
def test_another_programs_report_is_refused_or_empty(shared: Path) -> None:
    for path in sorted((shared / "seg_highdicom").glob("sr_document*.dcm")):
        try:
            assert read(path).lesions == ()
        except Unsuitable as error:
            assert error.reason.code in {"not_own_report", "damaged_report"}
