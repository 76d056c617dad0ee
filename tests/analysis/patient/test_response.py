"""SPEC R-MIRV-4/5: the definitions of TSRC and the measures of a response."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mirv.analysis.model import LesionIdentity, LesionResult, Provenance, StudyResult
from mirv.analysis.patient.matching import LesionVolume, match_lesions, volumes_of
from mirv.analysis.patient.response import response_measures, tsrc, with_response
from mirv.analysis.patient.study import analyse


def lesion(uid, volume, name="", site="liver") -> LesionVolume:
    return LesionVolume(uid, name, site, volume)


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


def test_only_totals_compare_where_nothing_is_found_again() -> None:
    """Not one lesion matched: none of them is said to have vanished, though their sites differ."""
    before, after = study_of(Liver=10.0), study_of(Lung=5.0)
    moved = replace(after, lesions=(replace(after.lesions[0], site="lung"),))
    found = with_response(moved, before)
    assert [one.state for one in found.changes] == ["unmatched", "unmatched"]
    assert {one.reason.code for one in found.changes if one.reason} == {"no_lesion_matched"}
    named = {one.name: one for one in found.measures}
    assert named["volume_total_change_percent"].value == -50
    assert named["n_vanished"].value is None
    assert named["n_new"].value is None
    assert named["tsrc_reduction"].value is None


def test_no_total_compares_where_something_was_not_read() -> None:
    before, after = study_of(Liver=10.0), study_of(Lung=5.0)
    for sure in ({"complete": False}, {"previous_complete": False}):
        found = with_response(after, before, **sure)
        named = {one.name: one for one in found.measures}
        assert named["volume_total_change_percent"].reason.code == "follow_up_unknown"
        assert {one.state for one in found.changes} == {"unmatched", "unknown"}


def test_what_tells_lesions_comes_with_the_result() -> None:
    """UIDs that the node derived are equal here, and say nothing."""
    before = study_of(GTV=10.0)
    derived = {"2.25.GTV": LesionIdentity(tracking_received=False)}
    assert [one.state for one in with_response(before, before).changes] == ["matched"]
    found = with_response(before, replace(before, identities=derived))
    assert {one.state for one in found.changes} == {"unmatched"}


def study_of(**volumes_ml: float) -> StudyResult:
    """A result with lesions of these volumes and no features."""
    lesions = tuple(
        LesionResult(n, name, name, f"2.25.{name}", "liver", ml, "p", (), np.empty(0))
        for n, (name, ml) in enumerate(volumes_ml.items(), start=1)
    )
    return StudyResult(lesions, (), (), (), Provenance("d", {}, {}, {}))
