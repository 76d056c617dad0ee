"""A study read into memory: lesions by tracking UID, versions, sites, and a row for all else."""

import csv
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest

from mirv.analysis.errors import Unsuitable
from mirv.analysis.model import Mask
from mirv.config.settings.processing import Quality, Reading
from mirv.dicom_io.files.folder import headers_of_folder
from mirv.dicom_io.masks.overlap import dice
from mirv.dicom_io.model import QualityRow, StudyInput
from mirv.dicom_io.outputs import render
from mirv.dicom_io.phantom.patient import Phantom, write_study
from mirv.dicom_io.phantom.writers import DrawnLesion, write_rtstruct, write_seg
from mirv.dicom_io.sr.checker import check_report
from mirv.dicom_io.standard.uids import derive_uid, is_uid
from mirv.dicom_io.study.assemble import assemble
from mirv.dicom_io.study.candidates import components, wanted_roi
from mirv.dicom_io.study.matching import match
from tests.dicom_io.outputs.samples import PROFILES, context_of, result_of

READING = Reading()
SMALL = {"n_lesions": 3, "shape": (16, 64, 64), "spacing": (5.0, 2.4, 2.4)}


def read(*folders: Path, reading: Reading = READING) -> StudyInput:
    """The only study in folders."""
    found = headers_of_folder(folders)
    (selection,) = match(found.headers, reading).selections
    return assemble(selection, found.paths.__getitem__, reading)


def rows_of(study: StudyInput, check: str) -> list[QualityRow]:
    return [row for row in study.quality if row.check == check]


def make(folder: Path, **options: object) -> Phantom:
    return write_study(folder, **{**SMALL, **options})  # type: ignore[arg-type]


def test_lesions_are_keyed_on_tracking_uids_not_on_order(tmp_path: Path) -> None:
    make(tmp_path / "a", n_lesions=6)
    phantom = make(tmp_path / "b", n_lesions=6, shuffled=True)
    ordered, shuffled = read(tmp_path / "a"), read(tmp_path / "b")
    truth = {lesion.tracking_uid: lesion for lesion in phantom.lesions}
    for study in (ordered, shuffled):
        assert {lesion.tracking_uid for lesion in study.lesions} == set(truth)
        for lesion in study.lesions:
            wanted = truth[lesion.tracking_uid]
            assert lesion.mask.n_voxels == wanted.n_voxels
            assert (lesion.site, lesion.tracking_id) == (wanted.site, wanted.tracking_id)
            assert study.sources[lesion.tracking_uid].matched_by == "instances"
    assert [x.label for x in ordered.lesions] != [x.label for x in shuffled.lesions]
    assert np.array_equal(ordered.volume.values, phantom.values)


def test_follow_up_has_the_same_tracking_uids(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b", time_point=1)
    first, later = read(tmp_path / "a"), read(tmp_path / "b")
    shared = {x.tracking_uid for x in first.lesions} & {x.tracking_uid for x in later.lesions}
    assert len(shared) == 2


def test_seg_and_rtstruct_of_the_same_masks_agree(tmp_path: Path) -> None:
    make(tmp_path, rtstruct=True)
    by_seg = read(tmp_path)
    by_contours = read(tmp_path, reading=Reading(prefer="rtstruct"))
    for one, other in zip(by_seg.lesions, by_contours.lesions, strict=True):
        assert one.label == other.label
        assert np.array_equal(one.mask.values, other.mask.values)
        assert one.mask.start == other.mask.start


def test_tracking_uids_are_made_and_stay(tmp_path: Path) -> None:
    make(tmp_path, tracked=False)
    study, again = read(tmp_path), read(tmp_path)
    image = study.evidence.images[0]
    assert [x.tracking_uid for x in study.lesions] == [
        derive_uid(
            "lesion", image.PatientID, image.StudyInstanceUID, image.SeriesInstanceUID, x.label
        )
        for x in study.lesions
    ]
    assert [x.tracking_uid for x in study.lesions] == [x.tracking_uid for x in again.lesions]
    assert [x.tracking_id for x in study.lesions] == [x.label for x in study.lesions]


@pytest.mark.filterwarnings("ignore:.*for VR UI")
@pytest.mark.filterwarnings("ignore:.*value length.*:UserWarning")
@pytest.mark.parametrize(
    "received",
    ["lesion 1", "1.2.x", "9" * 65, "1.2\\t", "1.2.", ".", "1..2", "1.02.3", "2.25.0111", "7",
     "1." + "2" * 63],
)  # fmt: skip
def test_a_malformed_tracking_uid_costs_nothing(tmp_path: Path, received: str) -> None:
    """It is replaced by one that follows from it, the same at every time point."""
    found = []
    for time_point in (0, 1):
        folder = tmp_path / str(time_point)
        phantom = make(folder, time_point=time_point)
        assert phantom.seg is not None
        seg = pydicom.dcmread(phantom.seg)
        with pydicom.config.disable_value_validation():
            seg.SegmentSequence[0].TrackingUID = received
            seg.save_as(phantom.seg)
        study = read(folder)
        assert len(study.lesions) == len(phantom.drawn)
        (row,) = rows_of(study, "invalid_uid")
        assert row.outcome == "warn" and "tracking UID" in row.found
        (lesion,) = [x for x in study.lesions if x.tracking_uid == row.lesion]
        assert np.array_equal(lesion.mask.full(), phantom.drawn[0].mask.full())
        found.append(lesion.tracking_uid)
        artifacts = {
            one.role: one.content
            for one in render(study, result_of(study, PROFILES[:1]), context_of("core"))
        }
        assert check_report(artifacts["lesion_sr"], [artifacts["lesion_seg"]]) == ()
    assert found[0] == found[1]


@pytest.mark.filterwarnings("ignore:.*for VR UI")
def test_irregular_uids_of_objects_are_repeated_in_reports_that_hold(tmp_path: Path) -> None:
    """They are the only names the study and its objects have."""
    phantom = make(tmp_path)
    kept = {"SOPClassUID", "ReferencedSOPClassUID", "TrackingUID"}

    def rename(_: pydicom.Dataset, element: pydicom.DataElement) -> None:
        if element.VR == "UI" and element.keyword not in kept:
            element.value = f"1..0{element.value}."

    for path in tmp_path.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        with pydicom.config.disable_value_validation():
            dataset.walk(rename)
            dataset.save_as(path)
    study = read(tmp_path)
    study_uid = str(study.evidence.images[0].StudyInstanceUID)
    assert not is_uid(study_uid)
    assert {one.tracking_uid for one in study.lesions} == {
        one.tracking_uid for one in phantom.lesions
    }
    artifacts = {
        one.role: one.content
        for one in render(study, result_of(study, PROFILES[:1]), context_of("core"))
    }
    assert check_report(artifacts["lesion_sr"], [artifacts["lesion_seg"]]) == ()
    assert check_report(artifacts["headline_sr"], [artifacts["lesion_seg"]]) == ()
    written = pydicom.dcmread(BytesIO(artifacts["lesion_sr"]))
    assert written.StudyInstanceUID == study_uid


def two_versions(folder: Path, *, later: bool = True) -> tuple[Phantom, Mask]:
    """A study whose first lesion was redrawn in a second SEG of another day."""
    phantom = make(folder)
    first = phantom.drawn[0]
    redrawn = Mask.from_box(first.mask.start, first.mask.values[:-1], first.mask.grid_shape)
    path = write_seg(
        folder / "SEG2.dcm",
        [DrawnLesion(first.label, first.tracking_id, first.tracking_uid, first.anatomy, redrawn)],
        phantom.geometry,
        phantom.identity,
        name="SEG2",
    )
    ds = pydicom.dcmread(path)
    ds.ContentDate = "20200116" if later else "20200101"
    ds.save_as(path)
    return phantom, redrawn


@pytest.mark.parametrize("later", [True, False])
def test_a_version_replaces_the_whole_set(tmp_path: Path, later: bool) -> None:
    """What the later object holds is the lesion set; what it lacks is gone and said."""
    phantom, redrawn = two_versions(tmp_path, later=later)
    study = read(tmp_path)
    masks = {x.tracking_uid: x.mask.n_voxels for x in study.lesions}
    first, *others = phantom.drawn
    if later:
        assert masks == {first.tracking_uid: redrawn.n_voxels}
    else:
        assert masks == {x.tracking_uid: x.mask.n_voxels for x in phantom.drawn}
    gone = {row.lesion for row in rows_of(study, "lesion_gone")}
    assert gone == ({x.tracking_uid for x in others} if later else set())
    new = {row.lesion for row in rows_of(study, "lesion_new")}
    assert new == (set() if later else {x.tracking_uid for x in others})
    (row,) = rows_of(study, "superseded")
    assert f"Dice {dice(first.mask, redrawn):.4f}" in row.found
    assert row.lesion == first.tracking_uid
    (version,) = rows_of(study, "version")
    assert version.outcome == ("warn" if later else "ok")
    assert version.found.startswith("1 tracking UID in common: 1 lesions redrawn")


def test_a_version_that_cannot_be_read_is_refused_and_the_one_before_counts(
    tmp_path: Path,
) -> None:
    phantom, _ = two_versions(tmp_path)
    ds = pydicom.dcmread(tmp_path / "SEG2.dcm")
    ds.PerFrameFunctionalGroupsSequence.pop()
    ds.save_as(tmp_path / "SEG2.dcm")
    study = read(tmp_path)
    assert {x.tracking_uid: x.mask.n_voxels for x in study.lesions} == {
        x.tracking_uid: x.mask.n_voxels for x in phantom.drawn
    }
    (row,) = [row for row in study.quality if row.refused]
    assert (row.check, row.object_uid) == ("malformed", ds.SOPInstanceUID)
    assert ds.SOPInstanceUID not in {one.SOPInstanceUID for one in study.evidence.segmentations}


@pytest.mark.parametrize("later", [True, False])
def test_the_settings_may_take_versions_for_parts(tmp_path: Path, later: bool) -> None:
    """Then the latest of each lesion counts, and nothing is gone."""
    phantom, redrawn = two_versions(tmp_path, later=later)
    study = read(tmp_path, reading=Reading(several="parts"))
    assert len(study.lesions) == 3
    (lesion,) = [x for x in study.lesions if x.tracking_uid == phantom.drawn[0].tracking_uid]
    wanted = redrawn if later else phantom.drawn[0].mask
    assert lesion.mask.n_voxels == wanted.n_voxels
    (row,) = rows_of(study, "superseded")
    assert f"Dice {dice(phantom.drawn[0].mask, redrawn):.4f}" in row.found
    assert row.lesion == lesion.tracking_uid


def test_two_segments_with_one_tracking_uid_are_two_lesions(tmp_path: Path) -> None:
    phantom = make(tmp_path)
    assert phantom.seg is not None
    ds = pydicom.dcmread(phantom.seg)
    ds.SegmentSequence[1].TrackingUID = ds.SegmentSequence[0].TrackingUID
    ds.save_as(phantom.seg)
    study = read(tmp_path)
    assert len({lesion.tracking_uid for lesion in study.lesions}) == 3
    assert len(rows_of(study, "tracking_uid_repeated")) == 1


def two_parts(folder: Path) -> Phantom:
    """A study with one more SEG: all lesions in one segment."""
    phantom = make(folder, seg=False)
    merged = Mask.from_full(np.any([d.mask.full() for d in phantom.drawn], axis=0))
    drawn = DrawnLesion("all lesions", "all", "2.25.77", None, merged)
    write_seg(folder / "SEG.dcm", [drawn], phantom.geometry, phantom.identity)
    return phantom


def test_merged_lesions_are_said_or_split(tmp_path: Path) -> None:
    phantom = two_parts(tmp_path)
    whole = read(tmp_path)
    assert len(whole.lesions) == 1
    assert rows_of(whole, "components")[0].found == "3 parts"
    split = read(tmp_path, reading=Reading(split_components=True))
    assert sorted(x.mask.n_voxels for x in split.lesions) == sorted(
        x.n_voxels for x in phantom.lesions
    )
    sizes = [x.mask.n_voxels for x in split.lesions]
    assert sizes == sorted(sizes, reverse=True)
    assert [x.tracking_id for x in split.lesions] == ["all/1", "all/2", "all/3"]
    assert split.lesions[0].tracking_uid == derive_uid("component", "2.25.77", "1")


def test_a_new_version_replaces_all_parts_of_the_old_one(tmp_path: Path) -> None:
    phantom = two_parts(tmp_path)
    old = Mask.from_full(np.any([d.mask.full() for d in phantom.drawn], axis=0))
    first = phantom.drawn[0].mask
    path = write_seg(
        tmp_path / "SEG2.dcm",
        [DrawnLesion("all lesions", "all", "2.25.77", None, first)],
        phantom.geometry,
        phantom.identity,
        name="SEG2",
    )
    ds = pydicom.dcmread(path)
    ds.ContentDate = "20200116"
    ds.save_as(path)
    split = read(tmp_path, reading=Reading(split_components=True))
    assert [x.mask.n_voxels for x in split.lesions] == [first.n_voxels]
    assert split.sources[split.lesions[0].tracking_uid].segmentation_uid == ds.SOPInstanceUID
    (row,) = rows_of(split, "superseded")
    assert row.lesion == "2.25.77"
    assert row.found.startswith(
        f"Dice {dice(old, first):.4f}, {old.n_voxels} then {first.n_voxels} voxels, change -"
    )


def test_touching_corners_are_one_part() -> None:
    full = np.zeros((3, 3, 3), bool)
    full[0, 0, 0] = full[1, 1, 1] = True
    assert len(components(Mask.from_full(full))) == 1
    full[1, 1, 1], full[2, 2, 2] = False, True
    assert len(components(Mask.from_full(full))) == 2


@pytest.mark.parametrize(
    ("rules", "chosen"),
    [
        (("all",), ["GTV-1", "gtv-2", "GTV", "Lung"]),
        (("!GTV",), ["GTV"]),
        (("gtv",), ["GTV-1", "gtv-2", "GTV"]),
        (("*-2",), ["gtv-2"]),
        (("!Lung", "GTV-?"), ["GTV-1", "gtv-2", "Lung"]),
        (("!gtv",), []),
    ],
)
def test_roi_rules(rules: Sequence[str], chosen: list[str]) -> None:
    names = ["GTV-1", "gtv-2", "GTV", "Lung"]
    assert [name for name in names if wanted_roi(name, rules)] == chosen


def test_rois_left_out_are_said(tmp_path: Path) -> None:
    make(tmp_path)
    study = read(tmp_path, reading=Reading(rois=("liver",)))
    assert [x.site for x in study.lesions] == ["liver"]
    assert rows_of(study, "roi_selection")[0].found == "1 of 3 segments"


def test_nothing_left_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(Unsuitable, match="no_lesions"):
        read(tmp_path, reading=Reading(rois=("!nothing",)))


def test_unknown_sites_are_said(tmp_path: Path) -> None:
    phantom = make(tmp_path, seg=False)
    drawn = [
        DrawnLesion(f"ROI {i}", f"ROI {i}", x.tracking_uid, None, x.mask)
        for i, x in enumerate(phantom.drawn)
    ]
    write_seg(tmp_path / "SEG.dcm", drawn, phantom.geometry, phantom.identity)
    study = read(tmp_path)
    assert {x.site for x in study.lesions} == {"unknown"}
    assert len(rows_of(study, "site")) == 3


@pytest.mark.parametrize("shift", [0, 1])
def test_contours_of_another_frame_must_lie_on_their_images(tmp_path: Path, shift: int) -> None:
    phantom = make(tmp_path, seg=False)
    path = write_rtstruct(tmp_path / "rt.dcm", phantom.drawn, phantom.geometry, phantom.identity)
    ds = pydicom.dcmread(path)
    for frame in (*ds.ReferencedFrameOfReferenceSequence,):
        frame.FrameOfReferenceUID = "1.2.3"
    ds.FrameOfReferenceUID = "1.2.3"
    for roi in ds.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = "1.2.3"
    for roi in ds.ROIContourSequence:
        for contour in roi.ContourSequence:
            points = np.array(contour.ContourData, float)
            points[2::3] += shift * 5.0
            contour.ContourData = [f"{x:.4f}" for x in points]
    ds.save_as(path)
    if shift:
        with pytest.raises(Unsuitable, match="frame_of_reference: found a contour at slice"):
            read(tmp_path)
        return
    study = read(tmp_path)
    assert len(study.lesions) == 3
    assert rows_of(study, "frame_of_reference")[0].outcome == "warn"


def test_a_region_of_another_frame_of_reference_is_refused_by_name(tmp_path: Path) -> None:
    """Finding D6: it was read where the coordinates happened to lie in the image."""
    phantom = make(tmp_path, seg=False)
    path = write_rtstruct(tmp_path / "rt.dcm", phantom.drawn, phantom.geometry, phantom.identity)
    ds = pydicom.dcmread(path)
    ds.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "1.2.3"
    ds.save_as(path)
    study = read(tmp_path)
    drawn = [one.label for one in phantom.drawn]
    assert [one.label for one in study.lesions] == [drawn[0], drawn[2]]
    (row,) = rows_of(study, "other_frame_of_reference")
    assert row.refused
    assert drawn[1] in row.found
    assert "1.2.3" in row.detail


def test_a_region_drawn_on_another_series_is_refused_by_name(tmp_path: Path) -> None:
    """Finding D6: a region of another phase of the same place was read on this one."""
    phantom = make(tmp_path, seg=False)
    path = write_rtstruct(tmp_path / "rt.dcm", phantom.drawn, phantom.geometry, phantom.identity)
    ds = pydicom.dcmread(path)
    for contour in ds.ROIContourSequence[1].ContourSequence:
        contour.ContourImageSequence[0].ReferencedSOPInstanceUID += ".1"
    ds.save_as(path)
    study = read(tmp_path)
    drawn = [one.label for one in phantom.drawn]
    assert [one.label for one in study.lesions] == [drawn[0], drawn[2]]
    (row,) = rows_of(study, "other_images")
    assert row.refused
    assert drawn[1] in row.found


def test_regions_whose_images_all_have_other_uids_are_read(tmp_path: Path) -> None:
    """Images that were given new UIDs and their structure set was not: names say nothing then."""
    phantom = make(tmp_path, seg=False)
    path = write_rtstruct(tmp_path / "rt.dcm", phantom.drawn, phantom.geometry, phantom.identity)
    ds = pydicom.dcmread(path)
    for roi in ds.ROIContourSequence:
        for contour in roi.ContourSequence:
            contour.ContourImageSequence[0].ReferencedSOPInstanceUID += ".1"
    ds.save_as(path)
    assert len(read(tmp_path).lesions) == 3


def test_a_check_the_settings_name_refuses_the_study(tmp_path: Path) -> None:
    make(tmp_path)
    strict = Quality(max_slice_distance_mm=3.0, refuse=("slice_distance",))
    with pytest.raises(Unsuitable, match="quality_slice_distance: found 5 mm, wanted at most 3"):
        read(tmp_path, reading=Reading(quality=strict))
    lenient = read(tmp_path, reading=Reading(quality=Quality(max_slice_distance_mm=3.0)))
    assert rows_of(lenient, "slice_distance")[0].outcome == "warn"


def test_a_set_exported_twice_under_other_uids_counts_once(tmp_path: Path) -> None:
    make(tmp_path, rtstruct=True)
    assert rows_of(read(tmp_path), "lesions_coincide") == []
    study = read(tmp_path, reading=Reading(prefer="both"))
    assert len(study.lesions) == 3
    (row,) = rows_of(study, "version")
    assert row.found.startswith("3 lesions in common, 3 voxel for voxel the same")
    twice = read(tmp_path, reading=Reading(prefer="both", several="parts"))
    assert len(twice.lesions) == 6
    found = rows_of(twice, "lesions_coincide")
    assert len(found) == 3
    assert all(row.found.startswith("Dice 1.000") for row in found)


def test_any_warning_can_be_made_a_refusal(tmp_path: Path) -> None:
    phantom = make(tmp_path)
    phantom.ct[-1].unlink()
    assert rows_of(read(tmp_path), "referenced_images")[0].found == "15 of 16 images it names"
    with pytest.raises(Unsuitable, match="quality_referenced_images: found 15 of 16"):
        read(tmp_path, reading=Reading(quality=Quality(refuse=("referenced_images",))))


def test_dice_of_shifted_cubes() -> None:
    """Two 10 mm cubes shifted 5 mm: DSC 0.5 (SPEC section 3)."""
    full = np.zeros((20, 20, 20), bool)
    full[:10, :10, :10] = True
    one = Mask.from_full(full)
    other = Mask.from_full(np.roll(full, 5, axis=0))
    assert dice(one, other) == 0.5
    assert dice(one, one) == 1.0
    assert dice(one, Mask.from_full(np.roll(full, 10, axis=1))) == 0.0


@pytest.mark.shared
@pytest.mark.parametrize("patient", ["ML12", "ML40"])
@pytest.mark.parametrize("prefer", ["seg", "rtstruct"])
def test_volumes_of_the_multilesion_patients(shared: Path, patient: str, prefer: str) -> None:
    """Every lesion of ``truth.csv``: voxels exactly, volume to 1e-4 ml, mean HU to 0.01."""
    folder = shared / "multilesion" / patient
    truths = list(csv.DictReader((folder / "truth.csv").open(encoding="utf-8")))
    study = read(folder / "baseline", reading=Reading(prefer=prefer))  # type: ignore[arg-type]
    found = {lesion.label: lesion for lesion in study.lesions}
    rows = [row for row in truths if row.get("timepoint", "baseline") == "baseline"]
    assert rows
    assert len(found) == len(rows)
    for row in rows:
        lesion = found[row["lesion_id"]]
        mask = lesion.mask
        assert mask.n_voxels == int(row["voxels"])
        volume = mask.n_voxels * study.volume.geometry.voxel_volume_ml
        assert volume == pytest.approx(float(row["volume_ml"]), abs=1e-4)
        mean = study.volume.values[mask.slices][mask.values].mean()
        assert mean == pytest.approx(float(row["mean_hu"]), abs=0.01)
        if prefer == "seg":
            assert lesion.tracking_uid == row["tracking_uid"]
            assert lesion.site == row["site"].replace("_", " ").split(" left")[0].split(" right")[0]


def test_a_segmentation_whose_label_cannot_be_read_holds_up_no_other(tmp_path: Path) -> None:
    make(tmp_path)
    whole = read(tmp_path)
    (path,) = (path for path in tmp_path.rglob("*") if b"\x70\x00\x80\x00CS" in head_of(path))
    bad = pydicom.dcmread(path)
    bad.SOPInstanceUID = bad.file_meta.MediaStorageSOPInstanceUID = derive_uid("bad")
    bad.ContentLabel = "TEN LETTER"
    saved = BytesIO()
    bad.save_as(saved)
    # Doubles of eight bytes each, ten bytes long.
    content = saved.getvalue().replace(b"\x70\x00\x80\x00CS", b"\x70\x00\x80\x00FD")
    (tmp_path / "bad.dcm").write_bytes(content)
    study = read(tmp_path)
    assert [one.tracking_uid for one in study.lesions] == [
        one.tracking_uid for one in whole.lesions
    ]
    (row,) = rows_of(study, "malformed")
    assert row.refused and row.object_uid == bad.SOPInstanceUID


def head_of(path: Path) -> bytes:
    return path.read_bytes()[:8192] if path.is_file() else b""
