"""A reader that keys on the tracking UID finds each value, and each mask, on its lesion."""

import io
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pytest

from mirv.analysis.model import Mask, StudyResult
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.outputs import render
from mirv.dicom_io.outputs.reports.own_report import read
from mirv.dicom_io.sr.checker import check_report
from tests.conformance.odd_orders import N_LESIONS, odd_study
from tests.conformance.validators import tid1500
from tests.dicom_io.outputs.samples import PROFILES, context_of, result_of

FEATURE = PROFILES[0].selected[0]
Made = tuple[StudyInput, dict[str, Mask], dict[str, bytes]]


def _value(uid: str) -> float:
    """A number that only its own lesion has."""
    return float(int(uid.split(".")[-1]) % 999_983)


def _told_apart(study: StudyInput) -> StudyResult:
    result = result_of(study, PROFILES[:1], holes=False)
    lesions = []
    for lesion in result.lesions:
        values = lesion.values.copy()
        values[lesion.names.index(FEATURE)] = _value(lesion.tracking_uid)
        lesions.append(replace(lesion, values=values))
    return replace(result, lesions=tuple(lesions))


@pytest.fixture(
    scope="module",
    params=[{}, {"gaps": True}, {"gaps": True, "overlaps": True}],
    ids=["order", "gaps", "overlaps"],
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The study, its masks by tracking UID, and its outputs."""
    study, truth = odd_study(tmp_path_factory.mktemp("odd"), **request.param)
    artifacts = render(study, _told_apart(study), context_of("core"))
    return study, truth, {one.role: one.content for one in artifacts}


def test_the_study_is_as_odd_as_it_says(made: Made) -> None:
    study, truth, _ = made
    assert [lesion.tracking_id for lesion in study.lesions] != sorted(
        lesion.tracking_id for lesion in study.lesions
    )
    for lesion in study.lesions:
        np.testing.assert_array_equal(lesion.mask.full(), truth[lesion.tracking_uid].full())


def test_own_reading_and_checker(made: Made) -> None:
    _, truth, content = made
    lesions = {one.tracking_uid: one for one in read(content["lesion_sr"]).lesions}
    assert set(lesions) == set(truth)
    for uid, lesion in lesions.items():
        assert lesion.values[lesion.names.index(FEATURE)] == _value(uid)
    assert check_report(content["lesion_sr"], [content["lesion_seg"]]) == ()


def test_highdicom_from_report_to_mask(made: Made) -> None:
    """From the group's tracking UID to its value, and over its segment to its voxels."""
    study, truth, content = made
    report = highdicom.sr.srread(io.BytesIO(content["lesion_sr"]))
    seg = highdicom.seg.segread(io.BytesIO(content["lesion_seg"]))
    images = [str(image.SOPInstanceUID) for image in study.evidence.images]
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == N_LESIONS
    for group in groups:
        uid = group.tracking_uid
        (value,) = [
            m.value
            for m in group.get_measurements()
            if any(getattr(c, "TextValue", "") == FEATURE for c in m[0].ContentSequence)
        ]
        assert value == _value(uid)
        number = group.referenced_segment.referenced_segment_numbers[0]
        assert seg.get_segment_description(number).tracking_uid == uid
        pixels = seg.get_pixels_by_source_instance(
            images, segment_numbers=[number], assert_missing_frames_are_empty=True
        )
        np.testing.assert_array_equal(pixels[..., 0] > 0, truth[uid].full())


@pytest.mark.peers
def test_dcmqi_finds_each_value(made: Made, tmp_path: Path) -> None:
    _, truth, content = made
    path = tmp_path / "lesion_sr.dcm"
    path.write_bytes(content["lesion_sr"])
    groups = {group["TrackingUniqueIdentifier"]: group for group in tid1500(path, tmp_path)}
    assert set(groups) == set(truth)
    for uid, group in groups.items():
        numbers = [float(item["value"]) for item in group["measurementItems"]]
        assert _value(uid) in numbers
        assert not {_value(other) for other in truth if other != uid} & set(numbers)
