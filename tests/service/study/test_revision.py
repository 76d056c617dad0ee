"""A revision says what it changed."""

from dataclasses import replace

from mirv.analysis.errors import Reason
from mirv.analysis.model import Measure
from mirv.service.study.revision import index_changes
from tests.service.study.test_result_tables import record


def test_a_changed_index_stands_beside_its_old_value() -> None:
    before, after = record(), record()
    measures = tuple(
        replace(one, value=6.0) if one.name == "mirv_distance_max" else one
        for one in after.result.measures
    )
    (row,) = index_changes(before, replace(after, result=replace(after.result, measures=measures)))
    assert (row.check, row.found) == ("revision", "mirv_distance_max 6")
    assert row.detail == "4.5 before this revision (mirv2025, sarc021), change +1.5"


def test_an_index_that_became_null_is_told_without_a_number() -> None:
    before = record()
    gone = Measure("mirv_distance_max", None, "1", "mirv2025", "sarc021", 1, Reason("n", "1"))
    after = replace(before, result=replace(before.result, measures=(gone,)))
    (row,) = index_changes(before, after)
    assert row.found == "mirv_distance_max null"
    assert "change" not in row.detail
