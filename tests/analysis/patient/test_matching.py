"""SPEC R-MIRV-6: which lesion is which at another time point, by what, and what is not known."""

from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirv.analysis.model import LesionChange, LesionIdentity, Point
from mirv.analysis.patient.matching import (
    NEAR_MM,
    LesionVolume,
    changes_in_words,
    match_lesions,
    volume_change,
)
from mirv.analysis.patient.response import response_measures

DERIVED = LesionIdentity(tracking_received=False)


def lesion(uid, volume, name="", site="liver", identity=None) -> LesionVolume:
    return LesionVolume(uid, name, site, volume, identity or LesionIdentity())


def at(x: float, frame: str = "1.2", size: float = 10.0) -> LesionIdentity:
    """A lesion without a received UID whose box begins at x."""
    low: Point = (x, 0.0, 0.0)
    return LesionIdentity(False, False, frame, (low, (x + size, size, size)))


def fates(changes) -> dict[str, tuple[str, str]]:
    """State and reason or match of each lesion; those of the earlier study marked."""
    return {
        ("-" if one.current_ml is None else "") + one.tracking_uid: (
            one.state,
            one.reason.code if one.reason else one.matched_by,
        )
        for one in changes
    }


@pytest.mark.parametrize(("before", "after", "percent"), [(4, 2, -50), (2, 5, 150), (3, 3, 0)])
def test_volume_change(before, after, percent):
    assert volume_change(before, after) == percent


# --- tracking UIDs ------------------------------------------------------------------------------


def test_tracking_uid_counts_before_the_name():
    changes = match_lesions(
        [lesion("1", 2.0, "A"), lesion("2", 4.0, "B")],
        [lesion("2", 2.0, "A"), lesion("3", 1.0, "B")],
    )
    found = {c.tracking_uid: (c.state, c.matched_by, c.change_percent) for c in changes}
    assert found == {
        "2": ("matched", "tracking_uid", -50),
        "3": ("new", "", 100),
        "1": ("vanished", "", -100),
    }


@pytest.mark.parametrize("derived", [(True, False), (False, True), (True, True)])
def test_a_tracking_uid_that_the_node_derived_is_no_evidence(derived) -> None:
    sides = [
        [lesion("1", ml, "Segment_1", identity=DERIVED if own else None)]
        for ml, own in zip((2.0, 5.0), derived, strict=True)
    ]
    changes = match_lesions(*sides)
    assert fates(changes) == {
        "1": ("unmatched", "generic_name"),
        "-1": ("unmatched", "generic_name"),
    }
    assert all(one.change_percent is None for one in changes)


def test_a_shared_kind_of_uid_tells_the_others_apart() -> None:
    """The drawing program keeps its UIDs: one that is not there any more is of a lesion gone."""
    changes = match_lesions(
        [lesion("1", 2.0, "Segment_1"), lesion("2", 4.0, "Segment_2")],
        [lesion("1", 2.0, "Segment_2"), lesion("9", 1.0, "Segment_1")],
    )
    assert fates(changes) == {
        "1": ("matched", "tracking_uid"),
        "9": ("new", ""),
        "-2": ("vanished", ""),
    }


def test_nothing_left_at_the_other_time_point_is_known_without_any_name() -> None:
    before = [lesion("1", 2.0, "A"), lesion("2", 4.0, "Segment_2", identity=DERIVED)]
    assert fates(match_lesions(before, [lesion("1", 2.0, "A")]))["-2"] == ("vanished", "")
    assert fates(match_lesions([lesion("1", 2.0, "A")], before))["2"] == ("new", "")


# --- names --------------------------------------------------------------------------------------


def test_generic_names_in_another_order_match_nothing() -> None:
    """Finding X9: 7 and 0.53 ml, drawn again in the other order, changed by 1305 %."""
    before = [lesion("1", 7.0, "Segment_1"), lesion("2", 0.53, "Segment_2")]
    after = [lesion("3", 0.53, "Segment_1"), lesion("4", 7.0, "Segment_2")]
    changes = match_lesions(before, after)
    assert {one.state for one in changes} == {"unmatched"}
    found = {one.name: one for one in response_measures(changes)}
    assert found["n_matched"].value == 0
    assert found["n_unmatched"].value == 4
    assert found["volume_total_change_percent"].value == 0
    for name in ("n_vanished", "n_new", "volume_change_range_percent", "tsrc_methods"):
        assert found[name].reason.code == "lesions_not_matched"
    assert changes_in_words(changes) == "4 unmatched"


def test_unique_names_match_what_uids_leave_and_ambiguous_ones_do_not():
    changes = match_lesions(
        [lesion("1", 2.0, "Liver-1"), lesion("2", 4.0, "twin"), lesion("3", 4.0, "twin")],
        [lesion("8", 3.0, " LIVER-1 "), lesion("9", 4.0, "twin")],
    )
    assert fates(changes) == {
        "8": ("matched", "name"),
        "9": ("unmatched", "no_partner"),
        "-2": ("unmatched", "name_repeated"),
        "-3": ("unmatched", "name_repeated"),
    }


def test_a_name_that_stands_twice_matches_nothing_though_one_has_a_partner() -> None:
    changes = match_lesions(
        [lesion("1", 2.0, "twin"), lesion("2", 4.0, "twin", identity=DERIVED)],
        [lesion("1", 2.0, "twin"), lesion("9", 4.0, "twin", identity=DERIVED)],
    )
    assert fates(changes) == {
        "1": ("matched", "tracking_uid"),
        "9": ("unmatched", "name_repeated"),
        "-2": ("unmatched", "name_repeated"),
    }


def test_empty_names_match_nothing():
    changes = match_lesions([lesion("1", 2.0)], [lesion("2", 2.0)])
    assert sorted(c.state for c in changes) == ["unmatched", "unmatched"]


def test_a_name_on_another_site_is_another_lesion() -> None:
    before = (lesion("1", 4.0, "Big one"),)
    after = (lesion("2", 4.0, "big one", "lung"),)
    assert {change.state for change in match_lesions(before, after)} == {"vanished", "new"}
    unknown = (lesion("2", 4.0, "big one", "unknown"),)
    assert {change.state for change in match_lesions(before, unknown)} == {"matched"}


def test_a_part_of_a_segment_is_known_by_nothing() -> None:
    """Parts are numbered by size: the largest of one study may be the second of the next."""
    part = LesionIdentity(tracking_received=False, part=True)
    changes = match_lesions(
        [lesion("1", 2.0, "Liver mets/1", identity=part)],
        [lesion("1", 5.0, "Liver mets/1", identity=part)],
    )
    assert set(fates(changes).values()) == {("unmatched", "part_of_segment")}


def test_an_earlier_name_without_partner_is_gone_where_names_are_kept() -> None:
    names = ("LIVER-1", "LIVER-5"), ("LIVER-1", "LIVER-6")
    sides = [[lesion(f"{n}{name}", 1.0, name) for name in side] for n, side in enumerate(names)]
    assert fates(match_lesions(*sides)) == {
        "1LIVER-1": ("matched", "name"),
        "1LIVER-6": ("new", ""),
        "-0LIVER-5": ("vanished", ""),
    }


def test_another_reader_with_other_names_and_uids_matches_nothing() -> None:
    sides = [lesion("1", 2.0, "Hilar left")], [lesion("2", 2.0, "Mediastinum")]
    assert set(fates(match_lesions(*sides)).values()) == {("unmatched", "no_partner")}


# --- places -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gap", "state"), [(NEAR_MM - 1, "matched"), (NEAR_MM + 1, "vanished")])
def test_a_name_elsewhere_in_one_frame_of_reference_is_not_believed(gap: float, state: str) -> None:
    before = [lesion("1", 2.0, "A", identity=at(0.0))]
    after = [lesion("2", 2.0, "A", identity=at(10.0 + gap))]
    changes = match_lesions(before, after)
    assert changes[-1].state == state


def test_names_exchanged_in_one_frame_of_reference_are_not_believed() -> None:
    before = [lesion("1", 2.0, "A", identity=at(0)), lesion("2", 9.0, "B", identity=at(80))]
    after = [lesion("3", 9.0, "A", identity=at(80)), lesion("4", 2.0, "B", identity=at(0))]
    assert set(fates(match_lesions(before, after)).values()) == {("unmatched", "other_place")}


def test_names_exchanged_in_another_frame_of_reference_contradict_each_other() -> None:
    before = [lesion("1", 2.0, "A", identity=at(0)), lesion("2", 9.0, "B", identity=at(80))]
    after = [
        lesion("3", 9.0, "A", identity=at(980, "1.3")),
        lesion("4", 2.0, "B", identity=at(900, "1.3")),
    ]
    assert set(fates(match_lesions(before, after)).values()) == {("unmatched", "other_place")}
    kept = [replace(one, name=name) for one, name in zip(after, "BA", strict=True)]
    assert {one.matched_by for one in match_lesions(before, kept)} == {"name"}


def test_lesions_known_by_their_uids_say_where_the_others_lie() -> None:
    """One name moved against the lesion that was surely found again."""
    known = [replace(at(x, frame), tracking_received=True) for x, frame in ((0, "a"), (500, "b"))]
    before = [
        lesion("1", 2.0, "Segment_1", identity=known[0]),
        lesion("2", 9.0, "B", identity=at(80, "a")),
    ]
    for x, state in ((580, ("matched", "name")), (680, ("unmatched", "other_place"))):
        after = [
            lesion("1", 2.0, "Segment_7", identity=known[1]),
            lesion("4", 9.0, "B", identity=at(x, "b")),
        ]
        assert fates(match_lesions(before, after))["4"] == state


# --- a user's table -----------------------------------------------------------------------------


def test_the_identifier_of_a_users_table_decides() -> None:
    """Whoever writes `lesion 1` into both tables means one lesion; other words, another."""
    before = [lesion("lesion 1", 2.0, "lesion 1"), lesion("lesion 2", 1.0, "lesion 2")]
    after = [lesion("lesion 1", 1.0, "lesion 1")]
    assert fates(match_lesions(before, after, key="table")) == {
        "lesion 1": ("matched", "table"),
        "-lesion 2": ("vanished", ""),
    }
    other = [lesion("lesion 7", 1.0, "lesion 7")]
    assert {one.state for one in match_lesions(before, other, key="table")} == {"vanished", "new"}


@pytest.mark.shared
def test_followed_patient_equals_the_truth_table(shared):
    """ML12: LIVER-05 vanished, LIVER-06 new, the others 0.30 to 1.66 of baseline."""
    truth = pd.read_csv(shared / "multilesion" / "ML12" / "truth.csv")
    points = [
        [
            LesionVolume(row.tracking_uid, row.lesion_id, row.site, row.volume_ml)
            for row in group.itertuples()
        ]
        for _, group in truth.groupby("timepoint", sort=True)
    ]
    changes = match_lesions(*points)
    states = {c.name: c.state for c in changes}
    assert states.pop("LIVER-05") == "vanished"
    assert states.pop("LIVER-06") == "new"
    assert set(states.values()) == {"matched"}
    ratios = [c.current_ml / c.previous_ml for c in changes if c.state == "matched"]
    assert (round(min(ratios), 2), round(max(ratios), 2)) == (0.30, 1.66)
    found = {m.name: m for m in response_measures(match_lesions(*points))}
    assert [found[f"n_{s}"].value for s in ("matched", "vanished", "new")] == [11, 1, 1]
    assert found["tsrc_methods"].value == 0
    assert found["volume_change_range_percent"].value == pytest.approx(200)
    assert found["volume_change_range_matched_percent"].value == pytest.approx(
        100 * (max(ratios) - min(ratios))
    )


# --- any two sets -------------------------------------------------------------------------------

_WORDS = st.sampled_from(["Segment_1", "Segment_2", "GTV", "", "A", "a ", "B", "Liver 1"])
_ANY = st.lists(
    st.builds(
        LesionVolume,
        st.sampled_from("123456"),
        _WORDS,
        st.sampled_from(["liver", "lung", "unknown"]),
        st.floats(0.1, 100),
        st.builds(
            LesionIdentity,
            st.booleans(),
            st.booleans(),
            st.sampled_from(["", "1.2", "1.3"]),
            st.none() | st.floats(0, 500).map(lambda x: ((x, 0, 0), (x + 9, 9, 9))),
        ),
    ),
    max_size=6,
    unique_by=lambda one: one.tracking_uid,
)


def _by_side(changes: tuple[LesionChange, ...]) -> tuple[list[str], list[str]]:
    return (
        [one.previous_uid for one in changes if one.previous_ml is not None],
        [one.tracking_uid for one in changes if one.current_ml is not None],
    )


@given(_ANY, _ANY, st.randoms(use_true_random=False))
def test_every_lesion_is_told_once_with_its_match_or_its_reason(before, after, random) -> None:
    changes = match_lesions(before, after)
    for found, lesions in zip(_by_side(changes), (before, after), strict=True):
        assert sorted(found) == sorted(one.tracking_uid for one in lesions)
    for one in changes:
        assert (one.change_percent is None) == (one.reason is not None)
        assert bool(one.matched_by) == (one.state == "matched")
    total = {one.name: one for one in response_measures(changes)}["volume_total_change_percent"]
    if before:
        now = sum(one.volume_ml for one in after)
        then = sum(one.volume_ml for one in before)
        assert total.value == pytest.approx(volume_change(then, now))
    # The order in which lesions were drawn says nothing.
    for side in (before, after):
        random.shuffle(side)
    shuffled = match_lesions(before, after)
    assert sorted(map(repr, shuffled)) == sorted(map(repr, changes))


@st.composite
def _histories(draw):
    """True lesions, and how a reader drew and named them at two time points.

    UIDs are kept, made anew or absent; a lesion's own name is written at a time point or a generic
    one is, in any order. Each lesion is there at the first, the second or both.
    """
    n = draw(st.integers(1, 6))
    uids = draw(st.sampled_from(["kept", "new", "none"]))
    shift = draw(st.integers(-500, 500))
    places = draw(st.permutations(range(n)))
    where = draw(st.sampled_from(["unknown", "frame", "frames"]))
    sides, truths = [], []
    for time in (0, 1):
        there = [i for i in range(n) if draw(st.integers(0, 3))]
        numbers = draw(st.permutations(range(1, len(there) + 1)))
        lesions, truth = [], {}
        for i, number in zip(there, numbers, strict=True):
            own = draw(st.booleans())
            uid = f"1.{i}" if uids == "kept" else f"{time + 2}.{number}"
            moved = shift * time * (where == "frames")
            box = ((100.0 * places[i] + moved, 0.0, 0.0), (100.0 * places[i] + moved + 9, 9.0, 9.0))
            identity = LesionIdentity(
                uids != "none",
                False,
                "" if where == "unknown" else f"1.{time * (where == 'frames')}",
                None if where == "unknown" else box,
            )
            name = f"Own {chr(97 + i)}" if own else f"Segment_{number}"
            lesions.append(LesionVolume(uid, name, "liver", 1.0 + i, identity))
            truth[uid] = i
        sides.append(lesions)
        truths.append(truth)
    return sides, truths


@settings(max_examples=500)
@given(_histories())
def test_no_match_is_wrong_and_nothing_untrue_is_said_to_be_gone_or_new(history) -> None:
    (before, after), (then, now) = history
    for one in match_lesions(before, after):
        if one.state == "matched":
            assert then[one.previous_uid] == now[one.tracking_uid]
        elif one.state == "vanished":
            assert then[one.previous_uid] not in now.values()
        elif one.state == "new":
            assert now[one.tracking_uid] not in then.values()
