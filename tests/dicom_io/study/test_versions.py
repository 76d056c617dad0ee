"""Versions, parts and readers: each rule alone, whole histories, and names that edits keep."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirv.analysis.errors import Reason, Unsuitable
from mirv.analysis.model import Mask
from mirv.config.settings.processing import Reading, Several
from mirv.dicom_io.files.folder import headers_of_folder
from mirv.dicom_io.masks.overlap import shared_voxels
from mirv.dicom_io.masks.segment import Segment
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.standard.uids import derive_uid
from mirv.dicom_io.study import naming
from mirv.dicom_io.study.assemble import assemble
from mirv.dicom_io.study.lesion_changes import counted_set, latest_of_each, say_steps
from mirv.dicom_io.study.matching import match
from mirv.dicom_io.study.naming import derive_lesion_uid, say_names, tracking_uids
from mirv.dicom_io.study.quality_rows import QualityRows
from mirv.dicom_io.study.versions import (
    Head,
    LesionObject,
    LesionSet,
    Origin,
    Relation,
    UnreadableError,
    lesion_sets,
    relation,
    same_reader,
)
from tests.bench.reading import reading_of, write_one_version, write_versions

GRID = (4, 8, 80)
Drawn = tuple[str, str, int]
"""Name, tracking UID ("" for none) and place of a lesion, 4 x 2 x 2 voxels."""


def block(place: int, slices: int = 4) -> Mask:
    return Mask.from_box((0, 2, 4 * place), np.ones((slices, 2, 2), bool), GRID)


def made(
    uid: str, *lesions: Drawn, slices: int = 4, automatic: bool = False, **origin: str
) -> LesionObject:
    """An object as it would be read; `uid` orders objects in time too."""
    segments = [
        Segment(
            number,
            label,
            block(place, slices),
            tracking_uid=tracking,
            algorithm_type="AUTOMATIC" if automatic else "MANUAL",
        )
        for number, (label, tracking, place) in enumerate(lesions, start=1)
    ]
    known = {"created": uid, "owner": "P", "series_uid": f"series of {uid}", **origin}
    return LesionObject(
        Origin(uid, image=("study", "series"), **known),  # type: ignore[arg-type]
        [Head(one.number, one.label, one.tracking_uid) for one in segments],
        lambda: segments,
    )


def unread(one: LesionObject) -> LesionObject:
    """The same object, whose voxels must not be asked for."""

    def fails() -> list[Segment]:
        raise AssertionError(f"the voxels of {one.uid} were read")

    return LesionObject(one.origin, one.heads, fails)


A, B = ("a", "1.1", 0), ("b", "1.2", 1)
UNTRACKED = (("a", "", 0), ("b", "", 1))


UNKNOWN = "1 lesion in common, under other names and by an unknown author"
AUTOMATIC = "2 lesions in common, and one of both sets is automatic"
NAMED = "another author, or another reader by its description"


@pytest.mark.parametrize(
    ("earlier", "later", "apart"),
    [
        (made("1", A, B, author="Smith"), made("2", A, author="Jones"), None),
        (made("1", *UNTRACKED, author="Smith"), made("2", *UNTRACKED, author="Jones"), NAMED),
        (
            made("1", *UNTRACKED, author="OHIF", description="Liver Reader 1"),
            made("2", *UNTRACKED, author="OHIF", description="Liver reader_2"),
            NAMED,
        ),
        (made("1", *UNTRACKED), made("2", ("a", "", 2), ("b", "", 3)), None),
        (made("1", *UNTRACKED), made("2", ("x", "", 0), ("y", "", 5)), None),
        (made("1", *UNTRACKED, automatic=True), made("2", *UNTRACKED, slices=3), AUTOMATIC),
        (
            made("1", *UNTRACKED, author="Smith"),
            made("2", ("x", "", 0), slices=3, author="Smith^Anna"),
            None,
        ),
        (
            made("1", *UNTRACKED, series_uid="1.9"),
            made("2", ("x", "", 0), slices=3, series_uid="1.9"),
            None,
        ),
        (made("1", *UNTRACKED), made("2", *UNTRACKED, slices=1), None),
        (made("1", *UNTRACKED), made("2", ("x", "", 0), slices=3), UNKNOWN),
    ],
)
def test_whose_set(earlier: LesionObject, later: LesionObject, apart: str | None) -> None:
    """Each rule alone; None: one set."""
    first, *others = lesion_sets([later, earlier], "auto")
    assert [one.why for one in others] == ([] if apart is None else [apart])
    assert len(first.members) == (2 if apart is None else 1)


@pytest.mark.parametrize(
    ("earlier", "later", "wanted", "why"),
    [
        (made("1", A, B), made("2", A), Relation.VERSION, "1 tracking UID in common"),
        (made("1", *UNTRACKED), made("2", ("c", "", 2)), Relation.PART, "no lesion in common"),
        (
            made("1", ("Segment_1", "", 0)),
            made("2", ("Segment_1", "", 1)),
            Relation.PART,
            "no lesion in common",
        ),
        (
            made("1", *UNTRACKED),
            made("2", ("x", "", 0), ("y", "", 5)),
            Relation.VERSION,
            "1 lesion in common, 1 voxel for voxel the same",
        ),
        (
            made("1", *UNTRACKED),
            made("2", *UNTRACKED, slices=1),  # Dice 0.4, but wholly inside, of one name
            Relation.VERSION,
            "2 lesions in common, 0 voxel for voxel the same",
        ),
        (
            made("1", *UNTRACKED),
            made("2", ("x", "", 0), slices=1),  # Dice 0.4, another name
            Relation.PART,
            "no lesion in common",
        ),
    ],
)
def test_versions_and_parts(
    earlier: LesionObject, later: LesionObject, wanted: Relation, why: str
) -> None:
    assert relation(earlier, later) == (wanted, why)


def test_neighbours_of_one_name_that_touch_are_parts() -> None:
    """Lesions drawn one an object overlap by a column of voxels: half of neither."""
    one, other = made("1", ("Lesion", "", 0)), made("2", ("Lesion", "", 1))
    wide = Mask.from_box((0, 2, 0), np.ones((4, 2, 5), bool), GRID)
    (segment,) = one.segments
    wider = LesionObject(one.origin, one.heads, lambda: [replace(segment, mask=wide)])
    assert shared_voxels(wide, block(1)) == 8
    assert relation(wider, other)[0] is Relation.VERSION  # half of the smaller
    wide = Mask.from_box((0, 2, 0), np.ones((3, 2, 5), bool), GRID)
    wider = LesionObject(one.origin, one.heads, lambda: [replace(segment, mask=wide)])
    assert relation(wider, other)[0] is Relation.PART


@pytest.mark.parametrize("several", ["versions", "parts", "readers"])
def test_a_setting_overrules(several: Several) -> None:
    for later in (made("2", A), made("2", ("x", "", 7))):
        sets = lesion_sets([unread(made("1", A)), unread(later)], several)
        current = [[one.uid for one in own.current] for own in sets]
        assert (
            current
            == {
                "versions": [["2"]],
                "parts": [["1", "2"]],
                "readers": [["1"], ["2"]],
            }[several]
        )


def test_headers_decide_where_they_can() -> None:
    """Two hundred lesions in three versions of two readers: no voxel is read to sort them."""
    lesions = [(f"lesion {n}", f"1.{n}", 0) for n in range(200)]
    others = [(f"lesion {n}", f"2.{n}", 0) for n in range(200)]
    objects = [
        unread(made(f"{version}{author}", *drawn[version:], author=author))
        for version in range(3)
        for author, drawn in (("Smith", lesions), ("Jones", others))
    ]
    first, second = lesion_sets(objects[::-1], "auto")
    assert [one.uid for one in first.current] == ["2Jones"]
    assert [one.uid for one in second.current] == ["2Smith"]
    assert [len(own.steps) for own in (first, second)] == [3, 3]


def sets_of(*objects: LesionObject) -> list[list[str]]:
    return [[one.uid for one in own.current] for own in lesion_sets(objects, "auto")]


def test_one_object_a_lesion_and_its_edits() -> None:
    parts = [made(str(n), (f"lesion {n}", f"1.{n}", n)) for n in range(1, 4)]
    assert sets_of(*parts) == [["1", "2", "3"]]
    assert sets_of(*parts, made("4", ("lesion 2", "1.2", 2), slices=2)) == [["1", "3", "4"]]
    whole = made("5", ("lesion 1", "1.1", 1), ("lesion 3", "1.3", 3))
    assert sets_of(*parts, whole) == [["2", "5"]]


def test_a_part_by_another_author_is_not_added() -> None:
    mine, others = made("1", A, author="Smith"), made("2", ("c", "1.3", 3), author="Jones")
    assert sets_of(mine, others) == [["1"], ["2"]]
    nobodys = made("3", ("d", "1.4", 4))
    assert sets_of(mine, others, nobodys) == [["1", "3"], ["2"]]


def test_who_corrects_a_set_goes_on_with_it() -> None:
    """A version by another author, and that author's further part, belong to the set."""
    first = [made("1", A, author="Smith"), made("2", B, author="Smith")]
    corrected = made("3", A, slices=3, author="Jones")
    further = made("4", ("c", "1.3", 3), author="Jones")
    assert sets_of(*first, corrected, further) == [["2", "3", "4"]]


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        ("Smith^Anna", "smith anna", True),
        ("Smith", "Smith^Anna", True),
        ("Smith^Anna", "Smith^John", False),
        ("Reader1", "Reader2", False),
        ("", "Smith", None),
        ("^^", "Smith", None),
    ],
)
def test_authors(one: str, other: str, wanted: bool | None) -> None:
    assert same_reader(Origin("1", author=one), Origin("2", author=other)) is wanted
    assert same_reader(Origin("1", author=other), Origin("2", author=one)) is wanted


# --- which set counts ---------------------------------------------------------------------------


def counted(objects: Sequence[LesionObject], reader: str = "") -> tuple[LesionSet, QualityRows]:
    rows = QualityRows("study", "series", ())
    own = counted_set(lesion_sets(objects, "auto"), reader, rows)
    return own, rows


@pytest.mark.parametrize(
    ("reader", "wanted"),
    [("", "1"), ("smith", "1"), ("Bob Jones", "2"), ("Reader 3", "3"), ("Nobody", "1")],
)
def test_one_reader_counts_and_the_others_are_said(reader: str, wanted: str) -> None:
    objects = [
        made("1", *UNTRACKED, author="Smith^Anna"),
        made("2", *UNTRACKED, author="Jones^Bob"),
        made("3", *UNTRACKED, author="Lee^Kim", description="Reader 3"),
    ]
    own, rows = counted(objects, reader)
    assert [one.uid for one in own.current] == [wanted]
    said = {row.object_uid: row for row in rows.rows if row.check == "other_reader"}
    assert set(said) == {"1", "2", "3"} - {wanted}
    assert all(row.outcome == "warn" and NAMED in row.found for row in said.values())
    assert [row.check for row in rows.rows].count("no_such_reader") == (reader == "Nobody")


@pytest.mark.parametrize("reader", ["Reader 1", "reader1", "READER_1"])
def test_reader_1_is_not_reader_12(reader: str) -> None:
    objects = [
        made(uid, *UNTRACKED, description=f"Reader{uid}", created=created)
        for uid, created in (("12", "1"), ("1", "2"))
    ]
    own, _ = counted(objects, reader)
    assert [one.uid for one in own.current] == ["1"]


def test_a_reader_is_found_by_whole_words() -> None:
    objects = [
        made("1", *UNTRACKED, author="X", description="Reader 10"),
        made("2", *UNTRACKED, author="X", description="Reader 1"),
    ]
    assert [one.uid for one in counted(objects, "Reader 1")[0].current] == ["2"]


def test_one_tracking_uid_at_two_places_is_warned_of() -> None:
    """A tool that copies one UID into every object makes each replace the last."""
    own, rows = counted([made("1", A), made("2", ("b", A[1], 5))])
    say_steps(own, tracking_uids(own), 1.0, rows)
    (row,) = (row for row in rows.rows if row.check == "superseded")
    assert row.outcome == "warn" and row.found.startswith("Dice 0.0000")


# --- names --------------------------------------------------------------------------------------


def test_thousands_of_namesakes_cost_a_name_each(monkeypatch: pytest.MonkeyPatch) -> None:
    derived = []

    def counting(*parts: str) -> str:
        derived.append(parts)
        return derive_uid(*parts)

    monkeypatch.setattr(naming, "derive_uid", counting)
    one = made("1", *[("Lesion", "", 0)] * 500, *[("b", "1.1", 0)] * 500)
    (names,) = names_of(one).values()
    assert len(set(names)) == 1000
    assert len(derived) <= 1001


def names_of(*objects: LesionObject) -> dict[str, list[str]]:
    (own,) = lesion_sets(objects, "auto")
    return {uid: list(names) for uid, names in tracking_uids(own).items()}


def test_a_derived_uid_follows_from_person_image_and_name_alone() -> None:
    one = names_of(made("1", *UNTRACKED))["1"]
    again = names_of(made("9", *UNTRACKED[::-1], series_uid="x", author="y"))["9"]
    assert one == again[::-1]
    origin = made("1", *UNTRACKED).origin
    for other in (
        replace(origin, owner="Q"),
        replace(origin, image=("study", "other series")),
        replace(origin, image=("other study", "series")),
    ):
        assert derive_lesion_uid(other, "a") != one[0]


def test_an_edit_keeps_its_lesions() -> None:
    before = made("1", *UNTRACKED, ("c", "", 2))
    after = made("2", ("c", "", 2), ("a", "", 0), ("d", "", 3), slices=3)
    names = names_of(before, after)
    a, b, c = names["1"]
    assert names["2"][:2] == [c, a]
    assert names["2"][2] not in {a, b, c}


def test_an_edit_that_loses_the_tracking_uids_keeps_its_lesions() -> None:
    names = names_of(made("1", A, B), made("2", ("b", "", 1), ("a", "", 0), slices=3))
    assert names["2"] == ["1.2", "1.1"]


def test_namesakes_keep_their_uids_when_one_is_deleted() -> None:
    """By order the second would become the first; by overlap it stays the second."""
    before = made("1", *(("Lesion", "", place) for place in (0, 1, 2)))
    after = made("2", ("Lesion", "", 1), ("Lesion", "", 2), slices=3)
    again = made("3", ("Lesion", "", 7), ("Lesion", "", 2), ("Lesion", "", 1), slices=2)
    names = names_of(before, after, again)
    one, two, three = names["1"]
    assert len({one, two, three}) == 3
    assert names["2"] == [two, three]
    new, *kept = names["3"]
    assert kept == [three, two] and new not in {two, three}
    rows = QualityRows("study", "series", ())
    say_names(before, names["1"], rows)
    assert [row.lesion for row in rows.rows if row.check == "name_repeated"] == [two, three]


def test_a_new_namesake_is_not_taken_for_one_that_is_gone() -> None:
    before = made("1", ("Lesion", "", 0), ("Lesion", "", 1))
    names = names_of(before, made("2", ("Lesion", "", 7), ("Lesion", "", 1), slices=3))
    new, kept = names["2"]
    assert kept == names["1"][1]
    assert new not in names["1"]


def test_parts_of_one_name_are_different_lesions() -> None:
    objects = [made(str(n), ("Segment_1", "", n)) for n in range(4)]
    names = names_of(*objects)
    assert len({uid for own in names.values() for uid in own}) == 4
    edited = made("7", ("Segment_1", "", 2), slices=3)
    assert names_of(*objects, edited)["7"] == names["2"]


@st.composite
def histories(draw: st.DrawFn) -> list[LesionObject]:
    """Objects with any lesions under few names, places, tracking UIDs and authors."""
    objects = []
    for n in range(draw(st.integers(1, 5))):
        lesions = draw(
            st.lists(
                st.tuples(
                    st.sampled_from(["a", "b", "Lesion"]),
                    st.sampled_from(["", "", "1.1", "1.2", "no uid"]),
                    st.integers(0, 5),
                ),
                min_size=1,
                max_size=4,
            )
        )
        author = draw(st.sampled_from(["", "Smith", "Jones"]))
        slices = draw(st.integers(1, 4))
        objects.append(made(str(n), *lesions, slices=slices, author=author))
    return objects


@given(histories(), st.sampled_from(["auto", "versions", "parts", "readers"]), st.randoms())
def test_any_history(objects: list[LesionObject], several: Several, chance: object) -> None:
    """Every object is in one set; arrival changes nothing; no UID stands for two lesions."""
    sets = lesion_sets(objects, several)
    assert sorted(step.object.uid for own in sets for step in own.steps) == [
        one.uid for one in objects
    ]
    shuffled = list(objects)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    again = lesion_sets(shuffled, several)
    for own, other in zip(sets, again, strict=True):
        names = tracking_uids(own)
        assert names == tracking_uids(other)
        assert [one.uid for one in own.current] == [one.uid for one in other.current]
        assert own.current
        for one in names.values():
            assert len(set(one)) == len(one)
        rows = QualityRows("study", "series", ())
        latest = latest_of_each(own, names, 0.001, rows)
        counted = [names[uid][place] for uid, places in latest.items() for place in places]
        assert len(set(counted)) == len(counted)
        if several != "parts":
            assert len(counted) == sum(len(one.heads) for one in own.current)


@pytest.mark.parametrize("text", ["N/A", "0", "lesion"])
def test_a_tracking_text_that_is_no_uid_joins_nothing(text: str) -> None:
    """Another reader's segment of one such text would have wiped out the set."""
    mine = made("1", ("a", text, 0), ("b", "1.4", 1), author="Smith")
    assert sets_of(mine, made("2", ("c", text, 5), author="Jones")) == [["1"], ["2"]]
    parts = [mine, made("2", ("c", text, 5), author="Smith")]
    assert sets_of(*parts) == [["1", "2"]]
    names = names_of(*parts)
    assert len({*names["1"], *names["2"]}) == 3


@pytest.mark.parametrize("created", ["", "20200101 120000"])
def test_versions_that_no_time_orders_are_warned_of(created: str) -> None:
    own, rows = counted([made("1", A, created=created), made("2", A, slices=3, created=created)])
    say_steps(own, tracking_uids(own), 1.0, rows)
    (row,) = (row for row in rows.rows if row.check == "version")
    assert row.outcome == "warn" and row.detail.endswith("the larger UID counts")


def test_what_a_version_in_between_lost_is_said() -> None:
    own, rows = counted([made("1", A, B), made("2", A), made("3", A, slices=3)])
    say_steps(own, tracking_uids(own), 1.0, rows)
    said = {row.object_uid: (row.outcome, row.found) for row in rows.rows if row.check == "version"}
    assert said["2"][0] == "warn" and "1 lesions gone, replaced in turn" in said["2"][1]
    assert said["3"][0] == "ok"


# --- what is said -------------------------------------------------------------------------------


def test_the_changes_of_a_version() -> None:
    before = made("1", A, B)
    after = made("2", A, ("c", "1.3", 5), slices=2)
    (own,) = lesion_sets([before, after], "auto")
    rows = QualityRows("study", "series", ())
    say_steps(own, tracking_uids(own), 0.5, rows)
    said = {row.check: (row.object_uid, row.lesion, row.outcome, row.found) for row in rows.rows}
    assert said == {
        # 16 and 8 voxels, 8 of them shared: Dice 16/24.
        "superseded": ("1", "1.1", "ok", "Dice 0.6667, 16 then 8 voxels, change -4 ml (-50.0 %)"),
        "lesion_gone": ("1", "1.2", "warn", "16 voxels, 8 ml"),
        "lesion_new": ("2", "1.3", "ok", "8 voxels, 4 ml"),
        "version": (
            "2",
            "",
            "warn",
            "1 tracking UID in common: 1 lesions redrawn, 1 gone, 1 new",
        ),
    }


def test_an_object_that_cannot_be_read_names_itself() -> None:
    def fails() -> list[Segment]:
        raise Unsuitable("malformed", "no frames")

    broken = LesionObject(Origin("2", created="2"), [Head(1, "a")], fails)
    with pytest.raises(UnreadableError) as caught:
        lesion_sets([made("1", *UNTRACKED), broken], "auto")
    assert (caught.value.uid, caught.value.reason) == ("2", Reason("malformed", "no frames"))


def test_segments_that_are_not_those_of_the_head_are_refused() -> None:
    one = made("1", A, B)
    swapped = LesionObject(one.origin, one.heads, lambda: one.segments[::-1])
    with pytest.raises(UnreadableError):
        _ = swapped.segments


@pytest.mark.parametrize("tracked", [True, False])
def test_two_hundred_lesions_three_versions_two_readers(tmp_path: Path, tracked: bool) -> None:
    """The third version of the first reader, lesion for lesion: what ``make bench`` times."""
    phantom = write_one_version(tmp_path, tracked=tracked)
    wanted = write_versions(tmp_path, phantom, tracked=tracked)
    study = reading_of(tmp_path)()
    assert {one.label: one.mask.n_voxels for one in study.lesions} == wanted
    assert len(wanted) == 198
    checks = [row.check for row in study.quality]
    assert (checks.count("other_reader"), checks.count("version")) == (3, 2)
    assert checks.count("lesion_gone") == 1  # by the last version; the first one's is history


# --- inputs of the trial ------------------------------------------------------------------------


def read(folder: Path) -> StudyInput:
    found = headers_of_folder([folder])
    (selection,) = match(found.headers, Reading()).selections
    return assemble(selection, found.paths.__getitem__, Reading())


@pytest.mark.shared
@pytest.mark.parametrize(
    ("folder", "voxels"),
    [
        ("M01-edited-seg-without-tracking", {"lesion 1": 140, "lesion 2": 183, "lesion 3": 68}),
        ("M02-deleted-lesion", {f"lesion {n}": 84 for n in range(1, 6)}),
    ],
)
def test_found_by_trial(shared: Path, folder: str, voxels: dict[str, int]) -> None:
    """M1: three lesions of the newer SEG; M2: five lesions and a row (findings, ``truth.csv``)."""
    study = read(shared.parent / "findings" / "dicom" / folder)
    assert {one.label: one.mask.n_voxels for one in study.lesions} == voxels
    assert [row.check for row in study.quality].count("version") == 1
