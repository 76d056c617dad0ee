"""The headline report: axes on their slice, where a viewer draws them."""

import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from mirv.analysis.errors import Reason
from mirv.analysis.masks.axes import axial_axes
from mirv.analysis.model import Measure, StudyResult
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.outputs import render
from mirv.dicom_io.outputs.reports.headline_sr import headlines
from mirv.dicom_io.sr.checker import check_report
from tests.dicom_io.outputs.samples import context_of


def _named(parent: Dataset, value: str) -> Iterator[Dataset]:
    for child in parent.get("ContentSequence", []):
        names = child.get("ConceptNameCodeSequence")
        if names and names[0].CodeValue == value:
            yield child


def _world(image: Dataset, line: Dataset) -> np.ndarray:
    """End points in LPS mm, from the image's own tags (PS3.3 C.7.6.2.1.1, C.18.6.1.1)."""
    points = np.array(line.GraphicData).reshape(-1, 2) - 0.5
    cosines = np.array(image.ImageOrientationPatient, float)
    rows, columns = np.array(image.PixelSpacing, float)
    return (
        np.array(image.ImagePositionPatient, float)
        + points[:, :1] * columns * cosines[:3]
        + points[:, 1:] * rows * cosines[3:]
    )


def test_axes_lie_on_their_slice_and_have_their_length(
    study: StudyInput, outputs: dict[str, Dataset]
) -> None:
    images = {str(image.SOPInstanceUID): image for image in study.evidence.images}
    measurements = next(_named(outputs["headline_sr"], "126010"))
    groups = {next(_named(g, "112040")).UID: g for g in _named(measurements, "125007")}
    assert set(groups) == {lesion.tracking_uid for lesion in study.lesions}
    for lesion in study.lesions:
        group = groups[lesion.tracking_uid]
        wanted = axial_axes(lesion.mask, study.volume.geometry)
        source = study.evidence.images[wanted.plane]
        for concept, length in (("103339001", wanted.long_mm), ("103340004", wanted.short_mm)):
            num = next(_named(group, concept))
            line = next(_named(num, "121112"))
            uid = line.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            assert uid == source.SOPInstanceUID
            ends = _world(images[uid], line)
            drawn = np.linalg.norm(ends[1] - ends[0])
            axes = axial_axes(lesion.mask, study.volume.geometry)
            points = axes.long if concept == "103339001" else axes.short
            places = np.column_stack([[axes.plane] * 2, points])
            np.testing.assert_allclose(ends, study.volume.geometry.to_lps(places), atol=1e-4)
            assert drawn == pytest.approx(num.MeasuredValueSequence[0].FloatingPointValue, abs=1e-3)
            if concept == "103339001":
                assert drawn == pytest.approx(length, abs=1e-3)
        stroke = next(_named(group, "111030"))
        assert len(stroke.GraphicData) == 12


def test_report_is_clean_and_optional(study: StudyInput, result: StudyResult) -> None:
    artifacts = {a.role: a for a in render(study, result, context_of("core"))}
    assert check_report(artifacts["headline_sr"].content) == ()
    without = render(study, result, context_of("core", extras=()))
    assert {a.role for a in without} == {"lesion_sr", "patient_sr", "lesion_seg"}


def test_indices_are_said_with_profile_space_or_reason(
    result: StudyResult, outputs: dict[str, Dataset]
) -> None:
    lines = headlines(
        (
            Measure("volume_total_ml", 12.345678, "ml", "", "", 3),
            Measure("mtd", None, "1", "p", "s", 1, Reason("too_few_lesions", "found 1")),
            Measure("ath_matrix", 0.5, "1", "p", "s", 3),
        )
    )
    assert lines == [
        "Total volume of lesions: 12.35 ml",
        "Maximum tumoral dissimilarity: none (too_few_lesions: found 1) [p / s]",
    ]
    evaluations = next(_named(outputs["headline_sr"], "C0034375"))
    said = [child.TextValue for child in _named(evaluations, "summary")]
    assert said == headlines(result.measures)


def test_enhanced_images_are_named_by_frame(study: StudyInput, result: StudyResult) -> None:
    frames = tuple((0, n + 1) for n in range(study.volume.geometry.shape[0]))
    evidence = replace(study.evidence, images=study.evidence.images[:1], frame_of=frames)
    artifacts = {
        a.role: a for a in render(replace(study, evidence=evidence), result, context_of("core"))
    }
    report = pydicom.dcmread(io.BytesIO(artifacts["headline_sr"].content))
    group = next(_named(next(_named(report, "126010")), "125007"))
    image = next(_named(group, "111030")).ContentSequence[0].ReferencedSOPSequence[0]
    wanted = axial_axes(study.lesions[0].mask, study.volume.geometry).plane + 1
    assert image.ReferencedFrameNumber == wanted
