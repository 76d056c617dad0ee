"""The drawn pages: nothing overlaps, nothing leaves the paper, whatever there is to say."""

import copy
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from mirv.analysis.errors import Reason
from mirv.analysis.heterogeneity import METRICS
from mirv.analysis.model import Measure, StudyResult
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.outputs.pages.pages import report_pages
from mirv.dicom_io.outputs.reports.measure_codes import TITLES
from tests.dicom_io.outputs.samples import (
    EARLIER_STUDY,
    compared,
    context_of,
    phantom_study,
    quality_row,
    result_of,
)

VIEWS = [("henry2022", "patient-minmax"), ("mirv2025", "s" * 40), ("mirv2025", "other space")]
LONGEST = Reason("not_defined_in_space", "x")


def _boxes(page: Figure) -> list[tuple[str, Bbox]]:
    """What is drawn, as (words, place): texts of the page, and every panel with its labels."""
    FigureCanvasAgg(page).draw()
    texts = [(text.get_text(), text.get_window_extent()) for text in page.texts]
    panels = [(f"panel {n}", axes.get_tightbbox()) for n, axes in enumerate(page.axes)]
    return [(name, box) for name, box in [*texts, *panels] if box is not None and name.strip()]


def _assert_apart(page: Figure) -> None:
    paper = page.bbox
    boxes = _boxes(page)
    for name, box in boxes:
        assert paper.x0 < box.x0 and box.x1 < paper.x1, f"{name} leaves the paper"
        assert paper.y0 < box.y0 and box.y1 < paper.y1, f"{name} leaves the paper"
    for (first, a), (second, b) in combinations(boxes, 2):
        common = Bbox.intersection(a, b)
        if common is not None:
            # Boxes of lines have air at their edges.
            assert min(common.width, common.height) < 2, f"{first!r} lies on {second!r}"


def _all_measures(result: StudyResult) -> StudyResult:
    """Every measure there is, in three views, with the longest reasons."""
    plain = [name for name in TITLES if name.startswith(("n_", "volume", "tsrc"))]
    plain = [name for name in plain if name not in {"n_clipped", "n_outside_reference"}]
    of_view = [name for name in TITLES if name not in plain]
    of_view += [metric.name for metric in METRICS]
    of_view += ["mtd_percentile", "ath_matrix_percentile"]
    measures = [Measure(name, None, "%", "", "", 3, LONGEST) for name in plain]
    measures += [
        Measure(name, None, "1", profile, space, 3, LONGEST)
        for profile, space in VIEWS
        for name in of_view
    ]
    return replace(result, measures=tuple(measures))


@pytest.mark.parametrize("n_lesions", [1, 2, 40])
def test_nothing_overlaps_or_leaves_the_paper(n_lesions: int, tmp_path: Path) -> None:
    shape, spacing = (90, 256, 256), (2.0, 1.2, 1.2)
    study = phantom_study(tmp_path, n_lesions, shape=shape, spacing=spacing)
    rows = tuple(quality_row(f"check_{n}", "warn", "f" * 99, "w" * 99, "d" * 300) for n in range(9))
    study = replace(study, quality=rows)
    result = _all_measures(result_of(study))
    noted = tuple(
        replace(one, warnings=(f"warning {one.number} " + "w" * 300, "touches the border"))
        for one in result.lesions
    )
    pages = list(report_pages(study, replace(result, lesions=noted), context_of()))
    assert len(pages) == (3 if n_lesions == 40 else 2)
    for page in pages:
        _assert_apart(page)
    said = " ".join(text.get_text() for text in pages[-1].texts)
    assert "touches the border" in said and "Computed with" in said


@pytest.mark.parametrize("n_lesions", [3, 40])
def test_a_comparison_has_room_on_the_pages(n_lesions: int, tmp_path: Path) -> None:
    study = phantom_study(tmp_path, n_lesions, shape=(90, 256, 256), spacing=(2.0, 1.2, 1.2))
    result = compared(_all_measures(result_of(study)))
    said = []
    for page in report_pages(study, result, context_of()):
        _assert_apart(page)
        said += [text.get_text() for text in page.texts]
    assert "Since the study of 2025-12-30" in said
    assert any(EARLIER_STUDY in text for text in said)
    for wanted in ("by tracking UID", "by name", "new", "vanished", "then 0.333",
                   "unmatched: generic name", "then 0.100", "Old one"):  # fmt: skip
        assert any(text.endswith(wanted) for text in said), wanted


def test_forty_lesions_without_much_to_say_take_two_pages(tmp_path: Path) -> None:
    study = phantom_study(tmp_path, 40, shape=(90, 256, 256), spacing=(2.0, 1.2, 1.2))
    assert len(list(report_pages(study, result_of(study), context_of()))) == 2


def test_checks_that_are_not_configured_are_no_flags(study: StudyInput) -> None:
    rows = tuple(
        quality_row(name, outcome, "found", "", "")
        for name, outcome in (
            ("matrix", "off"), ("complete_scan", "ok"), ("kernel_tag", "unknown"),
            ("slice_distance", "warn"), ("slice_distance", "warn"),
        )
    )  # fmt: skip
    *_, last = report_pages(replace(study, quality=rows), result_of(study), context_of())
    said = [text.get_text() for text in last.texts]
    place = said.index("Quality")
    assert said[place + 1 : place + 3] == [
        "warn: slice distance: found", "unknown: kernel tag: found",
    ]  # fmt: skip
    assert said[place + 3] == "Computed with"


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada Tarou"),
        ("山田^太郎=Yamada^Tarou", "Yamada Tarou"),
        ("=山田^太郎", "?? ??"),
        ("Müller^Žofie", "Müller Žofie"),
        ("Иванов^Иван", "Иванов Иван"),
        ("", "no name"),
    ],
)
def test_names_in_any_script_are_drawn_without_a_warning(
    study: StudyInput, name: str, printed: str
) -> None:
    """A warning of matplotlib would carry letters of the name into logs; here it is an error."""
    image = copy.deepcopy(study.evidence.images[0])
    image.SpecificCharacterSet = "ISO_IR 192"
    image.PatientName = name
    image.SeriesDescription = "胸部 CT"
    evidence = replace(study.evidence, images=(image, *study.evidence.images[1:]))
    labelled = replace(study.lesions[0], tracking_id="病変 1")
    changed = replace(study, evidence=evidence, lesions=(labelled, *study.lesions[1:]))
    first, last = report_pages(changed, result_of(study, holes=False), context_of())
    for page in (first, last):
        FigureCanvasAgg(page).draw()
        said = [text.get_text() for text in page.texts]
        assert any(line.endswith(f"|   {printed}") for line in said)
        assert any("series ?? CT" in line for line in said)
    assert "1: see SR" in said
    ticks = [label.get_text() for label in first.axes[0].get_yticklabels()]
    assert ticks[0] == "1: see SR"


def test_stacked_marks_stay_on_their_line(study: StudyInput) -> None:
    """Sixty accents on one letter would be drawn over the lines above."""
    name = "Zo\u0308e" + "\u0301" * 60
    labelled = replace(study.lesions[0], tracking_id=name)
    changed = replace(study, lesions=(labelled, *study.lesions[1:]))
    *_, last = report_pages(changed, result_of(study, holes=False), context_of())
    assert "Z\u00f6\u00e9\u0301\u0301" in [text.get_text() for text in last.texts]
    _assert_apart(last)
