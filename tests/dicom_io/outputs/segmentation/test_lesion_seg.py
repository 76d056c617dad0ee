"""SEG: the masks analysed, voxel for voxel, in source geometry, tracked as in the reports."""

import io
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from mirv.analysis.model import Mask, Volume
from mirv.dicom_io.model import Artifact, Predecessor, StudyInput
from mirv.dicom_io.outputs import render
from mirv.dicom_io.outputs.segmentation.lesion_seg import LABELMAP_SEG, lesion_seg, segment_numbers
from mirv.dicom_io.phantom.patient import write_study
from mirv.dicom_io.sr.checker import check_report
from tests.conformance.validators import dciodvfy
from tests.dicom_io.outputs.samples import PROFILES, context_of, result_of, study_of, tilted


def _seg(study: StudyInput) -> Artifact:
    (artifact,) = lesion_seg(study, result_of(study, PROFILES[:1], holes=False), context_of())
    return artifact


def _read_masks(artifact: Artifact, study: StudyInput) -> dict[str, np.ndarray]:
    """Full masks by tracking UID, as highdicom reads them through the source images."""
    seg = highdicom.seg.segread(io.BytesIO(artifact.content))
    uids = [str(image.SOPInstanceUID) for image in study.evidence.images]
    pixels = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    order = [seg.get_segment_description(n).tracking_uid for n in seg.segment_numbers]
    return {uid: pixels[..., n].astype(bool) for n, uid in enumerate(order)}


def test_masks_come_back_voxel_for_voxel(study: StudyInput) -> None:
    masks = _read_masks(_seg(study), study)
    assert len(masks) == len(study.lesions)
    for lesion in study.lesions:
        np.testing.assert_array_equal(masks[lesion.tracking_uid], lesion.mask.full())


@pytest.mark.parametrize("shape", [(40, 101, 99), (34, 127, 121), (40, 98, 103)])
def test_frames_that_end_within_a_byte(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    phantom = write_study(tmp_path, n_lesions=3, shape=shape, spacing=(2.5, 1.7, 1.6))
    study = study_of(phantom)
    artifact = _seg(study)
    for uid, mask in _read_masks(artifact, study).items():
        lesion = next(a for a in study.lesions if a.tracking_uid == uid)
        np.testing.assert_array_equal(mask, lesion.mask.full())
    seg = pydicom.dcmread(io.BytesIO(artifact.content))
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    image = study.evidence.images[0]
    assert list(measures.PixelSpacing) == list(image.PixelSpacing) == [1.7, 1.6]
    index = [
        tuple(group.FrameContentSequence[0].DimensionIndexValues)
        for group in seg.PerFrameFunctionalGroupsSequence
    ]
    assert len(set(index)) == len(index)
    segments, positions = ({values[n] for values in index} for n in (0, 1))
    assert segments == {1, 2, 3}
    assert positions == set(range(1, len(positions) + 1))


def test_overlapping_lesions_stay_apart(study: StudyInput) -> None:
    first = study.lesions[0]
    grown = Mask.from_box(
        first.mask.start, np.ones_like(first.mask.values), study.volume.geometry.shape
    )
    lesions = (first, replace(study.lesions[1], mask=grown))
    overlapping = replace(study, lesions=lesions)
    masks = _read_masks(_seg(overlapping), study)
    for lesion in lesions:
        np.testing.assert_array_equal(masks[lesion.tracking_uid], lesion.mask.full())
    assert pydicom.dcmread(io.BytesIO(_seg(overlapping).content)).SegmentsOverlap == "YES"
    assert pydicom.dcmread(io.BytesIO(_seg(study).content)).SegmentsOverlap == "NO"


def test_oblique_geometry_is_kept(study: StudyInput) -> None:
    geometry = tilted(study)
    volume = Volume(study.volume.values, geometry, "HU")
    # One frame number a slice, as an enhanced image has: positions then come from the grid.
    frames = tuple((0, n + 1) for n in range(geometry.shape[0]))
    evidence = replace(study.evidence, images=study.evidence.images[:1], frame_of=frames)
    artifact = _seg(replace(study, volume=volume, evidence=evidence))
    seg = highdicom.seg.segread(io.BytesIO(artifact.content))
    read = seg.get_volume(combine_segments=False, rescale_fractional=False)
    for lesion in study.lesions[:3]:
        number = next(
            n
            for n in seg.segment_numbers
            if seg.get_segment_description(n).tracking_uid == lesion.tracking_uid
        )
        voxels = np.argwhere(read.array[..., number - 1])
        where = read.map_indices_to_reference(voxels)
        inside = np.argwhere(lesion.mask.values) + np.array(lesion.mask.start)
        wanted = geometry.to_lps(inside.astype(float))
        np.testing.assert_allclose(where[np.lexsort(where.T)], wanted[np.lexsort(wanted.T)],
                                   atol=1e-6)  # fmt: skip
    source = pydicom.dcmread(io.BytesIO(artifact.content)).PerFrameFunctionalGroupsSequence[0]
    image = source.DerivationImageSequence[0].SourceImageSequence[0]
    assert image.ReferencedFrameNumber == 1 + study.lesions[0].mask.start[0]


def test_segments_say_how_they_were_drawn(study: StudyInput) -> None:
    uid = study.lesions[0].tracking_uid
    automatic = replace(
        study.sources[uid], algorithm_type="AUTOMATIC", algorithm_name="net v2", anatomy=None
    )
    changed = replace(study, sources={**study.sources, uid: automatic})
    segments = pydicom.dcmread(io.BytesIO(_seg(changed).content)).SegmentSequence
    by_uid = {segment.TrackingUID: segment for segment in segments}
    assert by_uid[uid].SegmentAlgorithmType == "AUTOMATIC"
    assert by_uid[uid].SegmentAlgorithmName == "net v2"
    assert by_uid[uid].AnatomicRegionSequence[0].CodeValue == "10200004"  # from its site, liver
    manual = by_uid[study.lesions[1].tracking_uid]
    assert manual.SegmentAlgorithmType == "MANUAL"
    assert "SegmentAlgorithmName" not in manual


def test_only_frames_with_voxels_are_written(study: StudyInput) -> None:
    seg = pydicom.dcmread(io.BytesIO(_seg(study).content))
    planes = sum(int(a.mask.values.any(axis=(1, 2)).sum()) for a in study.lesions)
    assert seg.NumberOfFrames == planes == len(seg.PerFrameFunctionalGroupsSequence)
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == (
        study.evidence.images[0].SeriesInstanceUID
    )
    assert seg.FrameOfReferenceUID == study.evidence.images[0].FrameOfReferenceUID


def test_labelmap_holds_the_same_masks(study: StudyInput) -> None:
    context = context_of("core", segmentation="LABELMAP")
    artifacts = {a.role: a for a in render(study, result_of(study), context)}
    artifact = artifacts["lesion_seg"]
    assert artifact.sop_class_uid == "1.2.840.10008.5.1.4.1.1.66.7"
    seg = highdicom.seg.segread(io.BytesIO(artifact.content))
    assert seg.SegmentationType == "LABELMAP"
    uids = [str(image.SOPInstanceUID) for image in study.evidence.images]
    pixels = seg.get_pixels_by_source_instance(
        uids, assert_missing_frames_are_empty=True, combine_segments=True
    )
    for lesion in study.lesions:
        number = segment_numbers(study)[lesion.tracking_uid]
        assert seg.get_segment_description(number).tracking_uid == lesion.tracking_uid
        np.testing.assert_array_equal(pixels == number, lesion.mask.full())
    # The reports refer to the label map as what it is.
    assert check_report(artifacts["lesion_sr"].content, [artifact.content]) == ()


def test_overlapping_lesions_go_out_as_binary_whatever_is_set(study: StudyInput) -> None:
    twice = replace(study.lesions[1], mask=study.lesions[0].mask)
    overlapping = replace(study, lesions=(study.lesions[0], twice))
    context = context_of(segmentation="LABELMAP")
    (artifact,) = lesion_seg(overlapping, result_of(study, PROFILES[:1]), context)
    assert artifact.sop_class_uid == "1.2.840.10008.5.1.4.1.1.66.4"
    assert pydicom.dcmread(io.BytesIO(artifact.content)).SegmentationType == "BINARY"


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_empty_frames_are_written_when_wanted(study: StudyInput, kind: str) -> None:
    context = context_of(segmentation=kind, empty_frames=True)
    (artifact,) = lesion_seg(study, result_of(study, PROFILES[:1]), context)
    seg = pydicom.dcmread(io.BytesIO(artifact.content))
    slices = study.volume.geometry.shape[0]
    assert seg.NumberOfFrames == slices * (len(study.lesions) if kind == "BINARY" else 1)
    if kind == "BINARY":
        for uid, mask in _read_masks(artifact, study).items():
            lesion = next(a for a in study.lesions if a.tracking_uid == uid)
            np.testing.assert_array_equal(mask, lesion.mask.full())


def _revision(study: StudyInput) -> Artifact:
    before = Predecessor(LABELMAP_SEG.sop_class_uid, "1.2.3", "1.2")
    context = context_of(predecessor={"lesion_seg": before})
    (artifact,) = lesion_seg(study, result_of(study, PROFILES[:1]), context)
    return artifact


@pytest.mark.peers
def test_a_revision_is_valid(study: StudyInput, tmp_path: Path) -> None:
    path = tmp_path / "seg.dcm"
    path.write_bytes(_revision(study).content)
    assert dciodvfy(path) == []


def test_a_revision_names_the_segmentation_it_replaces(study: StudyInput) -> None:
    """Whatever kind that one was, and without hiding the images from readers."""
    artifact = _revision(study)
    seg = pydicom.dcmread(io.BytesIO(artifact.content))
    (reference,) = seg.ReferencedImageSequence
    assert reference.ReferencedSOPClassUID == LABELMAP_SEG.sop_class_uid
    assert reference.ReferencedSOPInstanceUID == "1.2.3"
    assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "replaced"
    image_series, replaced_series = seg.ReferencedSeriesSequence
    assert image_series.SeriesInstanceUID == study.evidence.images[0].SeriesInstanceUID
    assert replaced_series.SeriesInstanceUID == "1.2"
    assert seg.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99MIRV"
    masks = _read_masks(artifact, study)
    assert sum(int(mask.sum()) for mask in masks.values()) == sum(
        lesion.mask.n_voxels for lesion in study.lesions
    )
    assert "ReferencedImageSequence" not in pydicom.dcmread(io.BytesIO(_seg(study).content))
