"""Matching: three rules in order, each said; wrong pairs refused; what waits says for what."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mirv.config.settings.processing import Reading
from mirv.dicom_io.files.folder import headers_of_folder
from mirv.dicom_io.files.header import InstanceHeader
from mirv.dicom_io.phantom.patient import write_study
from mirv.dicom_io.standard.person import Identity
from mirv.dicom_io.study.matching import MatchOutcome, Selection, match

READING = Reading()


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> list[InstanceHeader]:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, n_lesions=2, shape=(12, 48, 48), spacing=(6.0, 3.0, 3.0), rtstruct=True)
    return list(headers_of_folder([folder]).headers)


def images(headers: Sequence[InstanceHeader]) -> list[InstanceHeader]:
    return [h for h in headers if h.is_image]


def seg(headers: Sequence[InstanceHeader]) -> InstanceHeader:
    return next(h for h in headers if h.modality == "SEG")


def rtstruct(headers: Sequence[InstanceHeader]) -> InstanceHeader:
    return next(h for h in headers if h.modality == "RTSTRUCT")


def only(outcome: MatchOutcome) -> Selection:
    (selection,) = outcome.selections
    return selection


def test_by_instances(headers: list[InstanceHeader]) -> None:
    outcome = match([*images(headers), seg(headers)], READING)
    selection = only(outcome)
    assert selection.matched_by == ((seg(headers).sop_instance_uid, "instances"),)
    assert len(selection.images) == 12
    assert outcome.waiting == ()
    assert [(row.check, row.outcome) for row in selection.quality] == [("matched", "ok")]


def test_images_that_are_named_but_not_here_are_said(headers: list[InstanceHeader]) -> None:
    selection = only(match([*images(headers)[:-1], seg(headers)], READING))
    (row,) = [row for row in selection.quality if row.check == "referenced_images"]
    assert (row.outcome, row.found) == ("warn", "11 of 12 images it names")


def test_by_series_when_no_instance_resolves(headers: list[InstanceHeader]) -> None:
    odd = replace(rtstruct(headers), referenced_instances=("1.2.3",), drawn_on=("1.2.3",))
    assert only(match([*images(headers), odd], READING)).matched_by[0][1] == "series"


def test_by_frame_of_reference_when_no_reference_resolves(headers: list[InstanceHeader]) -> None:
    odd = replace(seg(headers), referenced_instances=("1.2.3",), referenced_series=("1.2.4",))
    assert only(match([*images(headers), odd], READING)).matched_by[0][1] == "frame_of_reference"


def test_frame_of_reference_of_two_series_is_no_answer(headers: list[InstanceHeader]) -> None:
    odd = replace(seg(headers), referenced_instances=(), referenced_series=())
    other = [
        replace(h, sop_instance_uid=h.sop_instance_uid + ".1", series_uid="1.2.9")
        for h in images(headers)
    ]
    outcome = match([*images(headers), *other, odd], READING)
    assert outcome.selections == ()
    assert [row.check for row in outcome.quality] == ["ambiguous_image"]


def test_another_frame_of_reference_is_refused(headers: list[InstanceHeader]) -> None:
    odd = replace(seg(headers), referenced_frames=("1.2.5",), frame_of_reference_uid="1.2.5")
    outcome = match([*images(headers), odd], READING)
    assert outcome.selections == ()
    (row,) = outcome.quality
    assert (row.check, row.outcome) == ("frame_of_reference", "refused")
    assert "1.2.5" in row.found
    assert images(headers)[0].frame_of_reference_uid in row.wanted
    assert [w.waits_for for w in outcome.waiting] == ["a segmentation"]


def test_frame_of_reference_of_another_patient_joins_nothing(
    headers: list[InstanceHeader],
) -> None:
    odd = replace(
        seg(headers), referenced_instances=(), referenced_series=(), patient_id="someone else"
    )
    assert match([*images(headers), odd], READING).selections == ()


def test_segmentation_of_another_study_joins_when_its_references_resolve(
    headers: list[InstanceHeader],
) -> None:
    odd = replace(seg(headers), study_uid="1.2.6")
    assert only(match([*images(headers), odd], READING)).study_uid == images(headers)[0].study_uid


@pytest.mark.parametrize(("of_images", "of_segmentation"), [("", "P"), ("P", ""), ("", "")])
@pytest.mark.parametrize("kept", ["references", "frame of reference"])
def test_another_study_needs_one_patient_id(
    headers: list[InstanceHeader], of_images: str, of_segmentation: str, kept: str
) -> None:
    """Within the study it joins; from another study nothing tells whose it is."""
    mine = [replace(h, patient_id=of_images) for h in images(headers)]
    odd = replace(seg(headers), patient_id=of_segmentation)
    if kept != "references":
        odd = replace(odd, referenced_instances=(), referenced_series=())
    if kept == "references" or of_images == of_segmentation:
        assert only(match([*mine, odd], READING)).segmentations
    assert match([*mine, replace(odd, study_uid="1.2.3")], READING).selections == ()
    named = replace(odd, study_uid="1.2.3", patient_name="Nobody^Else")
    assert match([*mine, named], READING).selections == ()


def test_what_waits(headers: list[InstanceHeader]) -> None:
    alone = match([seg(headers)], READING)
    assert alone.waiting[0].object_uid == seg(headers).sop_instance_uid
    assert f"images of series {images(headers)[0].series_uid}" in alone.waiting[0].waits_for
    pictures = match(images(headers), READING)
    assert [(w.object_uid, w.waits_for) for w in pictures.waiting] == [("", "a segmentation")]


@pytest.mark.parametrize(
    ("prefer", "kinds"),
    [("seg", {"SEG"}), ("rtstruct", {"RTSTRUCT"}), ("both", {"SEG", "RTSTRUCT"})],
)
def test_preference(headers: list[InstanceHeader], prefer: str, kinds: set[str]) -> None:
    outcome = match(headers, Reading(prefer=prefer))  # type: ignore[arg-type]
    chosen = set(only(outcome).segmentations)
    assert {h.modality for h in headers if h.sop_instance_uid in chosen} == kinds
    assert len(outcome.quality) == (0 if prefer == "both" else 1)


def test_order_and_repeats_never_matter(headers: list[InstanceHeader]) -> None:
    wanted = match(headers, READING)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(headers))
        mixed = [headers[i] for i in order] + headers[:3]
        assert match(mixed, READING) == wanted


def test_digest_is_of_content_and_identity(headers: list[InstanceHeader]) -> None:
    digest = only(match([*images(headers), seg(headers)], READING)).input_digest
    other = replace(seg(headers), sha256="0" * 64)
    assert only(match([*images(headers), other], READING)).input_digest != digest
    fewer = only(match([*images(headers)[1:], seg(headers)], READING))
    assert fewer.input_digest != digest


def test_own_outputs_are_no_input(headers: list[InstanceHeader]) -> None:
    outcome = match([*images(headers), replace(seg(headers), own=True)], READING)
    assert outcome.selections == ()


def test_localizers_are_no_part_of_the_series(headers: list[InstanceHeader]) -> None:
    scout = replace(images(headers)[0], sop_instance_uid="1.2.7", image_type=("X", "LOCALIZER"))
    selection = only(match([*images(headers), scout, seg(headers)], READING))
    assert "1.2.7" not in selection.images
    lone = replace(scout, series_uid="1.2.8")
    assert match([lone], READING).waiting == ()


def test_selection_survives_json(headers: list[InstanceHeader]) -> None:
    selection = only(match(headers, READING))
    assert Selection.from_json(selection.to_json()) == selection


@pytest.mark.shared
def test_lung1_and_its_two_structure_sets(shared: Path) -> None:
    """The 2018 set joins by instances; that of 2019 has the UIDs of a re-release (README)."""
    outcome = match(headers_of_folder([shared / "lung1_001"]).headers, READING)
    assert [rule for _, rule in only(outcome).matched_by] == ["instances"]
    (waiting,) = outcome.waiting
    assert "1.3.6.1.4.1.32722.99.99.298991776521342375010861296712563382046" in waiting.waits_for
    assert "the 1 image series of this patient are not it" in waiting.waits_for


@pytest.mark.shared
def test_sarcomas_join_by_series(shared: Path) -> None:
    """None of the SOP Instance UIDs their RTSTRUCTs name exists (README)."""
    outcome = match(headers_of_folder([shared / "sts"]).headers, READING)
    assert len(outcome.selections) == 6
    assert {rule for s in outcome.selections for _, rule in s.matched_by} == {"series"}


ANNA = {"issuer": "HERE", "birth_date": "19500102", "sex": "F", "patient_name": "Anna^A"}


def refused(outcome: MatchOutcome, check: str) -> list[str]:
    return [row.found for row in outcome.quality if row.check == check and row.refused]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("patient_id", "ANOTHER", "another Patient ID"),
        ("issuer", "ELSEWHERE", "another Issuer of Patient ID"),
        ("birth_date", "19500103", "another birth date"),
        ("sex", "M", "another sex"),
    ],
)
def test_a_segmentation_of_another_person_is_refused(
    headers: list[InstanceHeader], field: str, value: str, said: str
) -> None:
    """Finding D7."""
    scans = [replace(one, **ANNA) for one in images(headers)]
    theirs = replace(seg(headers), **{**ANNA, field: value})
    outcome = match([*scans, theirs], READING)
    assert outcome.selections == ()
    assert refused(outcome, "other_patient") == [said]


def test_a_segmentation_that_differs_in_the_name_alone_is_warned_of(
    headers: list[InstanceHeader],
) -> None:
    scans = [replace(one, **ANNA) for one in images(headers)]
    renamed = replace(seg(headers), **{**ANNA, "patient_name": "Schmidt"})
    rows = only(match([*scans, renamed], READING)).quality
    assert [(row.outcome, row.found) for row in rows if row.check == "other_patient"] == [
        ("warn", "another name")
    ]


def test_a_segmentation_of_another_person_is_not_joined_by_the_frame_alone(
    headers: list[InstanceHeader],
) -> None:
    scans = [replace(one, **ANNA) for one in images(headers)]
    nameless = replace(
        seg(headers), **{**ANNA, "sex": "M"}, referenced_instances=(), referenced_series=()
    )
    assert match([*scans, nameless], READING).selections == ()


def test_images_of_two_persons_in_one_series_are_never_stacked(
    headers: list[InstanceHeader],
) -> None:
    """Finding D7."""
    scans = images(headers)
    mixed = [replace(one, patient_id="ANOTHER") if i % 2 else one for i, one in enumerate(scans)]
    outcome = match([*mixed, seg(headers)], READING)
    assert outcome.selections == ()
    assert refused(outcome, "several_patients") == ["images of several patients"]
    assert refused(outcome, "other_patient") == []


def test_a_detail_that_some_images_lack_is_no_other_person(headers: list[InstanceHeader]) -> None:
    scans = [replace(one, **ANNA) if i % 2 else one for i, one in enumerate(images(headers))]
    scans = [replace(one, patient_name="Anna^A", sex="F") for one in scans]
    assert only(match([*scans, replace(seg(headers), **ANNA)], READING)).images


def test_a_series_is_of_whom_its_images_tell_together(headers: list[InstanceHeader]) -> None:
    """The first one need not say it all."""
    first, *rest = images(headers)
    scans = [first, *(replace(one, **{**ANNA, "sex": first.sex}) for one in rest)]
    scans = [replace(one, patient_name="Anna^A") for one in scans]
    plain = replace(seg(headers), patient_name="")
    (selection,) = match([*scans, plain], READING).selections
    assert selection.identity == Identity(
        first.patient_id, ANNA["issuer"], ANNA["birth_date"], first.sex, "Anna^A"
    )


def test_an_issuer_by_default_counts_where_none_is_said_and_against_none(
    headers: list[InstanceHeader],
) -> None:
    first, *rest = images(headers)
    theirs = seg(headers).issued_by("ELSEWHERE")
    said = [replace(first, issuer="HERE"), *(one.issued_by("ELSEWHERE") for one in rest)]
    selection = only(match([*said, theirs], READING))
    assert (selection.identity.issuer, selection.default_issuer) == ("HERE", "")
    silent = [first.issued_by("HERE"), *(one.issued_by("HERE") for one in rest)]
    selection = only(match([*silent, theirs], READING))
    assert (selection.identity.issuer, selection.default_issuer) == ("HERE", "HERE")
    assert Selection.from_json(selection.to_json()) == selection


def test_images_of_two_frames_of_reference_in_one_series_are_never_stacked(
    headers: list[InstanceHeader],
) -> None:
    """Finding D14."""
    first, *rest = images(headers)
    outcome = match([replace(first, frame_of_reference_uid="1.2.5"), *rest, seg(headers)], READING)
    assert outcome.selections == ()
    assert refused(outcome, "several_frames_of_reference") == ["2 frames of reference"]


def acquired(headers: list[InstanceHeader], numbers: str, **tags: str) -> MatchOutcome:
    """The phantom with these acquisition numbers, from the lowest slice up."""
    scans = sorted(images(headers), key=lambda one: one.position[2])
    given = [
        replace(one, acquisition=number, **tags) for one, number in zip(scans, numbers, strict=True)
    ]
    return match([*given, seg(headers)], READING)


@pytest.mark.parametrize("numbers", ["121212121212", "111111211111", "111122211111"])
def test_two_acquisitions_at_alternating_places_are_never_stacked(
    headers: list[InstanceHeader], numbers: str
) -> None:
    """Finding D15."""
    outcome = acquired(headers, numbers)
    assert outcome.selections == ()
    assert refused(outcome, "interleaved_acquisitions") == [
        "acquisitions 1 and 2 at alternating places"
    ]


@pytest.mark.parametrize("numbers", ["111111222222", "112233445566", "123456789abc", "1" * 12])
def test_acquisitions_one_after_the_other_are_one_image(
    headers: list[InstanceHeader], numbers: str
) -> None:
    assert only(acquired(headers, numbers)).images


def test_mr_may_take_odd_and_even_slices_apart(headers: list[InstanceHeader]) -> None:
    assert only(acquired(headers, "121212121212", modality="MR")).images


def test_an_rtstruct_is_joined_to_each_series_its_contours_were_drawn_on(
    headers: list[InstanceHeader],
) -> None:
    """Finding D6: of two phases one was taken for all regions."""
    scans = images(headers)
    phase = [
        replace(one, series_uid="1.2.7", sop_instance_uid=f"1.2.7.{i}")
        for i, one in enumerate(scans)
    ]
    both = replace(
        rtstruct(headers), drawn_on=(scans[3].sop_instance_uid, phase[5].sop_instance_uid)
    )
    outcome = match([*scans, *phase, both], READING)
    assert {one.series_uid for one in outcome.selections} == {scans[0].series_uid, "1.2.7"}
    one = match([*scans, *phase, replace(both, drawn_on=("1.2.7.5",))], READING)
    assert [each.series_uid for each in one.selections] == ["1.2.7"]
