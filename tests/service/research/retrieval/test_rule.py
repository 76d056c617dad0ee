"""The written rule: what a series must be, and which of several is taken."""

from datetime import date
from itertools import pairwise, permutations

import pytest

from mirv.config.settings.processing import Retrieval
from mirv.service.research.retrieval.rule import (
    Rank,
    SeriesFacts,
    outside_window,
    refusal,
    why_not,
)

INDEX = date(2021, 3, 1)
USUAL = {
    "modality": "CT",
    "body_part": "",
    "description": "portal venous",
    "protocol": "",
    "study_description": "CT Thorax Abdomen Pelvis",
}


def code(from_object: bool = True, thickness: float | None = 3.0, **facts: str) -> str:
    said = SeriesFacts(**{**USUAL, **facts}, thickness_mm=thickness, from_object=from_object)
    reason = refusal(said, Retrieval())
    return reason.code if reason else ""


@pytest.mark.parametrize(
    ("description", "study", "wanted"),
    [
        ("portal venous", "", ""),
        ("PORTALVENÖS 3.0 B30f", "", ""),
        ("abd/pelv PV 3mm", "", ""),
        ("Portovenous", "", ""),
        ("ThoraxVenous", "", ""),
        ("arterial", "portal venous", "other_phase"),
        ("late arterial", "", "other_phase"),
        ("native", "portal venous", "other_phase"),
        ("non-contrast", "portal venous", "other_phase"),
        ("arterial/portal venous", "", "phase_unclear"),
        ("3.0 B30f", "portal venous", ""),
        ("3.0 B30f", "arterial and portal venous", "phase_unclear"),
        ("3.0 B30f", "with intravenous contrast", "phase_not_told"),
        ("3.0 B30f", "portable", "phase_not_told"),
        ("start", "", "phase_not_told"),
        ("", "", "phase_not_told"),
        ("portal " + "x" * 100_000 + " arterial", "", ""),
    ],
)
def test_the_phase_is_told_by_the_series_and_else_by_the_study(
    description: str, study: str, wanted: str
) -> None:
    said = {"description": description, "study_description": f"{study} chest abd pelvis"}
    assert code(**said) == wanted


@pytest.mark.parametrize(
    ("body", "study", "wanted"),
    [
        ("CHESTABDPELVIS", "", ""),
        ("", "CT CAP", ""),
        ("", "CT Thorax/Abdomen/Becken", ""),
        ("", "CT ThoraxAbdomenBecken", ""),
        ("CHEST", "CT TAP", ""),
        ("HEAD", "CT TAP", "other_body_part"),
        ("NECK", "", "other_body_part"),
        ("", "CT neck, chest, abdomen and pelvis", ""),
        ("", "CT tape", "body_part_not_told"),
        ("CHEST", "CT thorax abdomen", "body_part_not_told"),
        ("", "", "body_part_not_told"),
    ],
)
def test_the_body_part_is_told_by_the_series_and_else_by_the_study(
    body: str, study: str, wanted: str
) -> None:
    assert code(body_part=body, study_description=study) == wanted


@pytest.mark.parametrize(
    ("thickness", "wanted"),
    [(5.0, ""), (5.01, "slices_too_thick"), (None, "thickness_not_told")],
)
def test_slices_are_thin_enough(thickness: float | None, wanted: str) -> None:
    assert code(thickness=thickness) == wanted


def test_what_the_source_does_not_tell_is_asked_of_an_object() -> None:
    silent = {"description": "", "study_description": "", "from_object": False}
    assert code(**silent, thickness=None) == ""  # type: ignore[arg-type]
    assert code(description="arterial", from_object=False) == "other_phase"
    assert code(modality="MR", from_object=False) == "other_modality"


def test_empty_lists_ask_nothing() -> None:
    rule = Retrieval(phases=(), body_parts=(), max_slice_mm=None)
    said = SeriesFacts("CT", "HEAD", "arterial", "", "", from_object=True)
    assert refusal(said, rule) is None


@pytest.mark.parametrize(
    ("day", "wanted"),
    [
        ("20201129", ""),  # -92
        ("20201128", "outside_window"),
        ("20210308", ""),  # +7
        ("20210309", "outside_window"),
        ("", "study_without_date"),
        ("20219999", "study_without_date"),
        ("yesterday", "study_without_date"),
    ],
)
def test_the_window_holds_its_borders(day: str, wanted: str) -> None:
    reason = outside_window(day, INDEX, Retrieval())
    assert (reason.code if reason else "") == wanted


def test_ties_are_broken_step_by_step() -> None:
    """From first to last; each is beaten by the one before for the reason beside it."""
    order = [
        (Rank(-3, False, 5, "1.9", "1.9.9"), ""),
        (Rank(3, True, 1, "1.1", "1.1.1"), "other_study_before"),
        (Rank(-4, True, 3, "1.2", "1.2.2"), "other_study_nearer"),
        (Rank(-4, False, 1, "1.2", "1.2.1"), "other_series_segmented"),
        (Rank(-4, False, 2, "1.2", "1.2.3"), "other_series_thinner"),
        (Rank(-4, False, 2, "1.3", "1.3.1"), "other_uid_first"),
        (Rank(-4, False, 2, "1.3", "1.3.2"), "other_uid_first"),
        (Rank(-4, False, None, "1.1", "1.1.1"), "other_series_thinner"),
    ]
    ranks = [rank for rank, _ in order]
    for some in permutations(ranks[:5]):
        assert sorted(some, key=lambda rank: rank.key) == ranks[:5]
    assert sorted(reversed(ranks), key=lambda rank: rank.key) == ranks
    for (taken, _), (other, wanted) in pairwise(order):
        assert why_not(other, taken).code == wanted
