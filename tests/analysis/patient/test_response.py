"""SPEC R-MIRV-4/5/6: matching, volume change, and the definitions of TSRC."""

import numpy as np
import pandas as pd
import pytest

from mirv.analysis.model import LesionResult, Provenance, StudyResult
from mirv.analysis.patient.response import (
    LesionVolume,
    match_lesions,
    response_measures,
    tsrc,
    volume_change,
    volumes_of,
    with_response,
)
from mirv.analysis.patient.study import analyse


def lesion(uid, volume, name="", site="liver") -> LesionVolume:
    return LesionVolume(uid, name, site, volume)


@pytest.mark.parametrize(("before", "after", "percent"), [(4, 2, -50), (2, 5, 150), (3, 3, 0)])
def test_volume_change(before, after, percent):
    assert volume_change(before, after) == percent


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


def test_unique_names_match_what_uids_leave_and_ambiguous_ones_do_not():
    changes = match_lesions(
        [lesion("1", 2.0, "Liver-1"), lesion("2", 4.0, "twin"), lesion("3", 4.0, "twin")],
        [lesion("8", 3.0, " LIVER-1 "), lesion("9", 4.0, "twin")],
    )
    assert [(c.tracking_uid, c.state, c.matched_by) for c in changes] == [
        ("8", "matched", "name"),
        ("9", "new", ""),
        ("2", "vanished", ""),
        ("3", "vanished", ""),
    ]


def test_empty_names_match_nothing():
    changes = match_lesions([lesion("1", 2.0)], [lesion("2", 2.0)])
    assert sorted(c.state for c in changes) == ["new", "vanished"]


@pytest.mark.parametrize(
    ("changes", "methods", "reduction", "absolute", "table2"),
    [
        ([-50, -40], True, True, False, False),
        ([-33, -33], True, True, True, False),
        ([33, 0], True, False, True, False),
        ([33.1, 0], False, False, False, False),
        ([40, 50], False, False, False, True),
        ([None, 40], False, False, False, None),
        ([None, -40], None, None, False, False),
        ([], None, None, None, None),
    ],
)
def test_the_four_definitions(changes, methods, reduction, absolute, table2):
    """Equality counts as not exceeding; an unknown lesion makes null only what it decides."""
    assert tsrc(changes, "methods") is methods
    assert tsrc(changes, "reduction") is reduction
    assert tsrc(changes, "absolute") is absolute
    assert tsrc(changes, "table2") is table2


@pytest.mark.shared
@pytest.mark.parametrize(
    ("definition", "vanished", "count"),
    [
        ("methods", False, 43),
        ("methods", True, 45),
        ("reduction", False, 6),
        ("absolute", False, 12),
        ("table2", False, 10),
    ],
)
def test_counts_of_the_published_volumes(shared, definition, vanished, count):
    """SPEC section 5: patients of 85, three lesions without follow-up kept apart or vanished."""
    table = pd.read_csv(shared / "sarc021" / "lung_volumes.csv")
    change = 100 * (table["VOLUME_POST"] - table["VOLUME_PRE"]) / table["VOLUME_PRE"]
    if vanished:
        change = change.fillna(-100)
    met = 0
    for _, group in change.groupby(table["USUBJID"]):
        if len(group) >= 2:
            met += tsrc([None if np.isnan(c) else c for c in group], definition) is True
    assert met == count


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


def test_measures_are_null_with_a_reason():
    single = {
        m.name: m for m in response_measures(match_lesions([lesion("1", 2.0)], [lesion("1", 1.0)]))
    }
    assert single["volume_change_range_percent"].reason.code == "too_few_lesions"
    assert single["volume_total_change_percent"].value == -50
    nothing = {m.name: m for m in response_measures([])}
    assert nothing["tsrc_methods"].reason.code == "no_lesions"
    assert nothing["volume_total_change_percent"].reason.code == "no_lesions"
    fresh = {m.name: m for m in response_measures(match_lesions([], [lesion("1", 1.0)]))}
    assert fresh["volume_total_change_percent"].value is None


def test_volumes_of_a_study_count_each_lesion_once(lesions, provenance):
    made = lesions([[1.0], [2.0], [3.0]], volumes=[1.0, 0.0, 3.0])
    made += lesions([[1.0], [2.0], [3.0]], volumes=[1.0, 0.0, 3.0], profile="henry2022")
    found = volumes_of(analyse(made, [], [], provenance))
    assert [(v.tracking_uid, v.volume_ml) for v in found] == [("2.25.1", 1.0), ("2.25.3", 3.0)]


def test_a_follow_up_carries_its_response_beside_its_own_measures(lesions, provenance):
    before = analyse(lesions([[1.0], [2.0]], volumes=[4.0, 2.0]), [], [], provenance)
    after = analyse(lesions([[1.0], [2.0]], volumes=[2.0, 3.0]), [], [], provenance)
    found = with_response(after, before)
    assert found.measures[: len(after.measures)] == after.measures
    named = {m.name: m.value for m in found.measures}
    assert named["volume_change_range_percent"] == 100
    assert named["volume_total_ml"] == 5


def test_what_could_not_be_read_is_unknown_not_vanished() -> None:
    """A follow-up lesion that was refused must never count as a complete response."""
    before = study_of(a=10.0, b=20.0)
    after = study_of(a=5.0)
    sure = {one.name: one.value for one in with_response(after, before).measures}
    assert sure["n_vanished"] == 1
    assert sure["tsrc_reduction"] == 1
    found = {one.name: one for one in with_response(after, before, complete=False).measures}
    assert found["n_vanished"].value == 0
    for name in ("volume_total_change_percent", "tsrc_reduction"):
        assert found[name].value is None
        assert found[name].reason is not None
    newer = {
        one.name: one.value
        for one in with_response(before, after, previous_complete=False).measures
    }
    assert newer["n_new"] == 0
    assert newer["volume_total_change_percent"] is None


def test_a_name_on_another_site_is_another_lesion() -> None:
    before = (LesionVolume("1", "Lesion 1", "liver", 4.0),)
    after = (LesionVolume("2", "lesion 1", "lung", 4.0),)
    assert {change.state for change in match_lesions(before, after)} == {"vanished", "new"}
    unknown = (LesionVolume("2", "lesion 1", "unknown", 4.0),)
    assert {change.state for change in match_lesions(before, unknown)} == {"matched"}


def study_of(**volumes_ml: float) -> StudyResult:
    """A result with lesions of these volumes and no features."""
    lesions = tuple(
        LesionResult(n, name, name, f"2.25.{name}", "liver", ml, "p", (), np.empty(0))
        for n, (name, ml) in enumerate(volumes_ml.items(), start=1)
    )
    return StudyResult(lesions, (), (), (), Provenance("d", {}, {}, {}))
