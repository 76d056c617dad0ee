"""The report for people, drawn: one or two pages of A4 up to 40 lesions, legible in grey."""

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes as Panel
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patheffects import Normal, Stroke
from matplotlib.textpath import text_to_path

from mirv.analysis.masks.axes import axial_axes
from mirv.analysis.model import Lesion, LesionResult, Measure, StudyResult
from mirv.analysis.patient.study import divergent_pair
from mirv.dicom_io.model import QualityOutcome, RenderContext, StudyInput
from mirv.dicom_io.outputs.pages import since
from mirv.dicom_io.outputs.pages.pictures import around, window_for
from mirv.dicom_io.outputs.reports.measure_codes import measure_title
from mirv.dicom_io.outputs.segmentation.frames import plane_of
from mirv.dicom_io.outputs.segmentation.lesion_seg import drawn_lesions
from mirv.dicom_io.sr import concepts
from mirv.dicom_io.sr.encoding import clean
from mirv.dicom_io.standard.identity import MODEL_NAME

TITLE = "Lesion heterogeneity report"
_A4 = (8.27, 11.69)
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.07, 0.93, 0.893, 0.05
_LINE, _SMALL = 0.0135, 0.0125
"""Distance of lines in tables and in the small print, in heights of the page."""
_ROWS_FIRST, _ROWS_NEXT = 40, 60
_MOST_INDICES, _MOST_VIEWS, _MOST_FLAGS, _MOST_NOTES, _COLUMN = 19, 3, 6, 4, 0.175
_FLAGGED = {QualityOutcome.REFUSED: 0, QualityOutcome.WARN: 1, QualityOutcome.UNKNOWN: 2}
"""Outcomes of quality checks that a reader must see, the worst first; not configured is none."""
_REACH_MM = 80
_MOST_MARKS = 2
_FONT = "DejaVu Sans"
STYLE = {
    "font.family": _FONT,
    "font.size": 8,
    "pdf.fonttype": 42,  # real text: it can be searched and copied
    "axes.linewidth": 0.6,
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
}


def report_pages(
    study: StudyInput, result: StudyResult, context: RenderContext
) -> Iterator[Figure]:
    """Draw the pages: indices and pictures first, then the lesions; made one at a time."""
    with rc_context(STYLE):
        yield _first_page(study, result, context)
    notes = _Footnotes()
    rest = _rows(study, result, notes)
    tail = _small_print(study, result, notes)
    number, place = 2, _TOP
    while rest:
        room = _ROWS_FIRST if number == 2 else _ROWS_NEXT
        last = len(rest) <= room
        with rc_context(STYLE):
            page = _page(study, context, number)
            place = _table(page, rest[:room])
            if last and _fits_below(tail, place):
                _write(page, tail, place - 0.03)
                tail = []
            yield page
        rest, number = rest[room:], number + 1
    if tail:
        with rc_context(STYLE):
            page = _page(study, context, number)
            _write(page, tail, _TOP)
            yield page


def _page(study: StudyInput, context: RenderContext, number: int) -> Figure:
    """An empty page with head and foot."""
    figure = Figure(figsize=_A4)
    FigureCanvasPdf(figure)
    image = study.evidence.images[0]
    figure.text(_LEFT, 0.966, "Lesion radiomics and heterogeneity", size=14, weight="bold")
    name = _person(str(image.get("PatientName") or ""))
    patient = _printed(str(image.get("PatientID") or ""), 64)
    series = _printed(str(image.get("SeriesDescription") or ""), 64) or "-"
    lines = (
        f"Patient {patient or '-'}   |   {name or 'no name'}",
        f"Study of {_date(str(image.get('StudyDate') or ''))}   |   series {series}",
    )
    for place, line in zip((0.95, 0.935), lines, strict=True):
        figure.text(_LEFT, place, _fitted(line, 8, _RIGHT - _LEFT), size=8)
    figure.text(_LEFT, 0.918, concepts.RESEARCH_USE_TEXT, size=9, weight="bold")
    made = context.created.strftime("%Y-%m-%d %H:%M %Z")
    foot = f"{MODEL_NAME} {context.software_version}   |   {made}   |   page {number}"
    figure.text(_LEFT, 0.025, foot, size=7, color="0.25")
    return figure


def _date(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if len(text) == 8 and text.isdigit() else "-"


def _first_page(study: StudyInput, result: StudyResult, context: RenderContext) -> Figure:
    """Indices above; below them the map of distances and the pair furthest apart."""
    figure = _page(study, context, 1)
    top = _indices(figure, result, _TOP) - 0.03
    view = _view(result)
    _dissimilarity(figure, top, study, result, view)
    _pair(figure, top, study, result, view)
    return figure


def _view(result: StudyResult) -> tuple[str, str] | None:
    """The first profile and space in which lesions have distances."""
    for pair in result.pairs:
        if pair.cosine is not None:
            return pair.profile, pair.space
    return None


def _indices(figure: Figure, result: StudyResult, top: float) -> float:
    """The patient's measures: counts and volumes in lines, the others by profile and space.

    Returns
    -------
    float
        Where they end on the page.
    """
    measures = result.measures
    plain = [measure for measure in measures if not measure.profile]
    changes = [measure for measure in plain if measure.name.startswith(_OF_A_CHANGE)]
    place = _said(figure, "Patient", [m for m in plain if m not in changes], top)
    if changes:
        title = f"Since the study of {_date(result.provenance.prior_study_date)}"
        place = _said(figure, title, changes, place - 2.2 * _LINE)
        for line in since.earlier_study(result):
            place -= 1.2 * _LINE
            figure.text(_LEFT, place, _fitted(_printed(line, 400), 6.5, _RIGHT - _LEFT), size=6.5)
    views = list(dict.fromkeys((m.profile, m.space) for m in measures if m.space))[:_MOST_VIEWS]
    views = views or list(dict.fromkeys((m.profile, "") for m in measures if m.profile))
    place -= 2 * _LINE
    for column, (profile, space) in enumerate(views):
        x = _RIGHT - _COLUMN * (len(views) - 1 - column)
        figure.text(
            x, place, _fitted(profile, 7.7, _COLUMN - 0.01), size=7, weight="bold", ha="right"
        )
        figure.text(x, place - 0.8 * _LINE, _fitted(space, 6, _COLUMN - 0.01), size=6, ha="right")
    return _index_rows(figure, measures, views, place - 0.9 * _LINE)


_OF_A_CHANGE = (
    "n_matched", "n_vanished", "n_new", "n_unmatched", "volume_change", "volume_total_change",
    "tsrc",
)  # fmt: skip


def _said(figure: Figure, title: str, measures: Sequence[Measure], place: float) -> float:
    """A heading and measures one after another, as many on a line as fit; where they end."""
    figure.text(_LEFT, place, title, size=10, weight="bold")
    lines: list[str] = []
    for measure in measures:
        said = f"{measure_title(measure.name)}: {_value(measure)}"
        if lines and len(lines[-1]) + len(said) < 110:
            lines[-1] += f"   |   {said}"
        else:
            lines.append(said)
    for line in lines:
        place -= 1.2 * _LINE
        figure.text(_LEFT, place, line, size=7.5)
    return place


def _index_rows(
    figure: Figure, measures: Sequence[Measure], views: Sequence[tuple[str, str]], place: float
) -> float:
    values = {(m.name, m.profile, m.space): m for m in measures}
    names = list(dict.fromkeys(measure.name for measure in measures if measure.profile))
    for name in names[:_MOST_INDICES]:
        place -= _LINE
        label = measure_title(name, narrow=True)
        figure.text(_LEFT, place, _fitted(label, 7.5, 0.36), size=7.5)
        for column, (profile, space) in enumerate(views):
            # A measure of the profile alone stands under each of its spaces.
            found = values.get((name, profile, space)) or values.get((name, profile, ""))
            if found is not None:
                x = _RIGHT - _COLUMN * (len(views) - 1 - column)
                there = found.value is not None
                shade, size = ("0", 7.5) if there else ("0.3", 6.5)
                figure.text(x, place, _value(found), size=size, ha="right", color=shade)
    if len(names) > _MOST_INDICES:
        place -= _LINE
        more = f"and {len(names) - _MOST_INDICES} more in the patient report (SR)"
        figure.text(_LEFT, place, more, size=7, style="italic")
    return place


def _value(measure: Measure) -> str:
    if measure.value is None:
        return measure.reason.code.replace("_", " ") if measure.reason else "none"
    unit = {"1": "", "{count}": "", "ml": " ml", "%": " %"}.get(measure.unit, f" {measure.unit}")
    return f"{measure.value:.4g}{unit}"


@lru_cache(maxsize=4096)
def _width(text: str, size: float) -> float:
    """Width of a text as a share of the page's."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, _font(size), ismath=False)
    return float(width) / (72 * _A4[0])


@lru_cache(maxsize=16)
def _font(size: float) -> FontProperties:
    return FontProperties(family=_FONT, size=size)


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont(_font(8))).get_charmap())


def _printed(value: str, limit: int) -> str:
    """Outside text as it can be drawn: what the font lacks is a question mark.

    matplotlib would warn of each such letter, and a warning names it: no patient's name in logs.
    """
    glyphs = _glyphs()
    return "".join(c if ord(c) in glyphs else "?" for c in clean(_composed(value), limit))


def _has_glyphs(value: str) -> bool:
    """Whether every letter can be drawn."""
    return all(ord(c) in _glyphs() for c in clean(_composed(value), len(value)))


def _composed(value: str) -> str:
    """Letters with their marks in one where there is one, and at most two more marks on each.

    Marks stack without end: a name of sixty would be drawn across the page.
    """
    kept: list[str] = []
    marks = 0
    for c in unicodedata.normalize("NFC", value):
        marks = marks + 1 if unicodedata.category(c) in {"Mn", "Me"} else 0
        if marks <= _MOST_MARKS:
            kept.append(c)
    return "".join(kept)


def _person(value: str) -> str:
    """A name as it is drawn: the first of its groups with all glyphs.

    The alphabetic one comes first (PS3.5 6.2); others stand in scripts of their own.
    """
    groups = [group for group in value.split("=") if group.strip("^ ")] or [""]
    drawn = next(filter(_has_glyphs, groups), groups[0])
    return _printed(drawn, 324).replace("^", " ").strip()


def _name(lesion: Lesion) -> str:
    """A lesion's name; its number where question marks would stand for letters of it."""
    if _has_glyphs(lesion.tracking_id):
        return _printed(lesion.tracking_id, 64)
    return f"{lesion.number}: see SR"


def _fitted(text: str, size: float, room: float) -> str:
    """A text cut to the share of the page's width there is room for."""
    if _width(text, size) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        fits = _width(f"{text[:middle]}…", size) <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    return f"{text[:low]}…"


def _dissimilarity(
    figure: Figure,
    top: float,
    study: StudyInput,
    result: StudyResult,
    view: tuple[str, str] | None,
) -> None:
    """The map of cosine distances between lesions, dark where they differ."""
    if view is None:
        figure.text(_LEFT, top - 0.03, "No distances between lesions.", style="italic")
        return
    bottom = max(_BOTTOM + 0.11, top - 0.4)
    panel = figure.add_axes((0.165, bottom, 0.385, top - 0.03 - bottom))
    order = {lesion.tracking_uid: n for n, lesion in enumerate(study.lesions)}
    matrix = np.full((len(order), len(order)), np.nan)
    np.fill_diagonal(matrix, 0)
    for pair in result.pairs:
        if (pair.profile, pair.space) == view and pair.cosine is not None:
            a, b = order[pair.tracking_uid_a], order[pair.tracking_uid_b]
            matrix[a, b] = matrix[b, a] = pair.cosine
    # Grey, so that paper shows what the screen does; hatched where there is no distance.
    panel.patch.set(hatch="////", edgecolor="0.6", facecolor="white")
    shown = panel.imshow(np.ma.masked_invalid(matrix), cmap="Greys", vmin=0, aspect="auto")
    size = max(3.0, min(7.0, 190 / max(len(study.lesions), 1)))
    names = [_fitted(_name(lesion), size, 0.085) for lesion in study.lesions]
    panel.set_xticks(range(len(names)), names, rotation=90, size=size)
    panel.set_yticks(range(len(names)), names, size=size)
    panel.set_title(_fitted(f"Cosine distance, {' / '.join(view)}", 8, 0.42), size=8, loc="left")
    box = panel.get_position()
    bar = figure.add_axes((box.x1 + 0.012, box.y0, 0.013, box.height))
    figure.colorbar(shown, cax=bar)
    bar.tick_params(labelsize=7)


def _pair(
    figure: Figure,
    top: float,
    study: StudyInput,
    result: StudyResult,
    view: tuple[str, str] | None,
) -> None:
    """The two lesions furthest apart on their slices; without distances the two largest."""
    chosen, title = _two_lesions(study, result, view)
    if not chosen:
        return
    figure.text(_PAIR_LEFT, top - 0.005, title, size=8, weight="bold")
    each = (top - 0.01 - _BOTTOM) / 2
    for position, lesion in enumerate(chosen):
        bottom = top - 0.01 - (position + 1) * each
        height = min(each - 0.065, 0.205)
        box = (_PAIR_LEFT, bottom + each - 0.04 - height, _RIGHT - _PAIR_LEFT, height)
        _lesion_panel(figure.add_axes(box), study, lesion)


_PAIR_LEFT = 0.65


def _two_lesions(
    study: StudyInput, result: StudyResult, view: tuple[str, str] | None
) -> tuple[list[Lesion], str]:
    lesions = {lesion.tracking_uid: lesion for lesion in drawn_lesions(study)}
    pair = divergent_pair(result, *view) if view else None
    if pair is not None and {pair.tracking_uid_a, pair.tracking_uid_b} <= set(lesions):
        both = [lesions[pair.tracking_uid_a], lesions[pair.tracking_uid_b]]
        return both, f"Most divergent pair: distance {pair.cosine:.3f}"
    largest = sorted(lesions.values(), key=lambda a: (-a.mask.n_voxels, a.number))[:2]
    return largest, "Largest lesions" if len(largest) > 1 else "Lesion"


def _lesion_panel(panel: Panel, study: StudyInput, lesion: Lesion) -> None:
    """A lesion on the slice of its long axis: edge, both axes, and a scale."""
    geometry = study.volume.geometry
    spacing = np.array(geometry.spacing[1:])
    axes = axial_axes(lesion.mask, geometry)
    rows, columns = around(lesion, geometry.shape, spacing, _REACH_MM)
    window = window_for(study.volume, lesion.site)
    grey = window.grey(study.volume.values[axes.plane][rows, columns])
    extent = (columns.start - 0.5, columns.stop - 0.5, rows.stop - 0.5, rows.start - 0.5)
    panel.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=extent, aspect=spacing[0] / spacing[1])
    mask = plane_of(lesion, axes.plane)[rows, columns].astype(float)
    across, down = np.arange(columns.start, columns.stop), np.arange(rows.start, rows.stop)
    edge = panel.contour(across, down, mask, levels=[0.5], colors=["#ff2a2a"], linewidths=1.1)
    # White around red: on a grey print the line is told from the tissue by its border.
    edge.set_path_effects([Stroke(linewidth=2.2, foreground="white"), Normal()])
    for line in (axes.long, axes.short):
        (drawn,) = panel.plot(line[:, 1], line[:, 0], color="white", linewidth=0.9, linestyle="--")
        # Black beside white: seen in air and on bright lesions alike.
        drawn.set_path_effects([Stroke(linewidth=2, foreground="black"), Normal()])
    panel.set(xticks=[], yticks=[])
    volume = lesion.mask.n_voxels * geometry.voxel_volume_ml
    name = _fitted(_name(lesion), 7, 0.2)
    size = f"{volume:.3g} ml, {axes.long_mm:.1f} x {axes.short_mm:.1f} mm"
    panel.set_title(f"{name} ({lesion.site})\n{size}", size=7)
    note = (
        f"slice {axes.plane + 1} of {geometry.shape[0]}, "
        f"window {window.centre:.4g}/{window.width:.4g}"
    )
    panel.set_xlabel(note, size=6.5)


class _Footnotes:
    """Notes that stand below the table, each once, under a letter."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def letter(self, text: str) -> str:
        """The letter of a note; beyond the last one that is printed, a word."""
        if text not in self.texts and len(self.texts) == _MOST_NOTES:
            return "more"
        return self.texts.setdefault(text, "abcdefgh"[len(self.texts)])


def _rows(study: StudyInput, result: StudyResult, notes: _Footnotes) -> list[tuple[str, ...]]:
    """Lesion table: number, name, site, volume, axes, what features there are none of, notes."""
    by_lesion: dict[str, list[LesionResult]] = {}
    for one in result.lesions:
        by_lesion.setdefault(one.tracking_uid, []).append(one)
    table: list[tuple[str, ...]] = []
    changes = since.texts_of_lesions(result)
    for lesion in study.lesions:
        results = by_lesion.get(lesion.tracking_uid, [])
        size = ("0", "-", "-")
        if lesion.mask.n_voxels:
            axes = axial_axes(lesion.mask, study.volume.geometry)
            volume = lesion.mask.n_voxels * study.volume.geometry.voxel_volume_ml
            size = (f"{volume:.3f}", f"{axes.long_mm:.1f}", f"{axes.short_mm:.1f}")
        said = [f"{r.profile}: {r.excluded.code}" for r in results if r.excluded]
        warnings = dict.fromkeys(warning for r in results for warning in r.warnings)
        letters = dict.fromkeys(notes.letter(_printed(text, 400)) for text in warnings)
        said += [" ".join(letters)] if letters else []
        row = (str(lesion.number), _name(lesion), lesion.site, *size)
        note = _printed("; ".join(said), 200)
        if result.changes:
            table.append((*row, changes.get(lesion.tracking_uid, "-"), note))
        else:
            table.append((*row, note))
    for name, site, then, change in since.only_earlier(result):
        table.append(("-", _printed(name, 64), site, then, "-", "-", change, ""))
    return table


# Head, place, side and room of each column; by how many there are: a comparison has one more.
_COLUMNS = {
    7: (
        ("No.", 0.07, "left", 0.04), ("Lesion", 0.11, "left", 0.22), ("Site", 0.34, "left", 0.1),
        ("Volume ml", 0.5, "right", 0.1), ("Long mm", 0.58, "right", 0.1),
        ("Short mm", 0.66, "right", 0.1), ("Notes", 0.68, "left", 0.25),
    ),
    8: (
        ("No.", 0.07, "left", 0.04), ("Lesion", 0.11, "left", 0.16), ("Site", 0.28, "left", 0.1),
        ("Volume ml", 0.425, "right", 0.1), ("Long mm", 0.505, "right", 0.1),
        ("Short mm", 0.585, "right", 0.1), ("Since the earlier study", 0.6, "left", 0.2),
        ("Notes", 0.81, "left", 0.12),
    ),
}  # fmt: skip


def _table(figure: Figure, rows: Sequence[tuple[str, ...]]) -> float:
    """The lesion table from the top of a page; where it ends."""
    figure.text(_LEFT, _TOP, "Lesions", size=10, weight="bold")
    place = _TOP - 0.02
    columns = _COLUMNS[len(rows[0])]
    for head, x, side, _ in columns:
        figure.text(x, place, head, ha=side, size=7.5, weight="bold")
    for row in rows:
        place -= _LINE
        for value, (_, x, side, room) in zip(row, columns, strict=True):
            figure.text(x, place, _fitted(value, 7, room), ha=side, size=7)
    return place


Section = tuple[str, list[str]]


def _small_print(study: StudyInput, result: StudyResult, notes: _Footnotes) -> list[Section]:
    """What stands below the table: notes, quality checks that did not pass, versions."""
    sections = []
    if notes.texts:
        lines = [f"{letter}   {text}" for text, letter in notes.texts.items()]
        sections.append(("Notes", lines))
    sections.append(("Quality", _flags(study)))
    provenance = result.provenance
    lines = [f"profile {n} sha256 {d}" for n, d in sorted(provenance.profile_digests.items())]
    lines += [f"space {n} sha256 {d}" for n, d in sorted(provenance.space_digests.items())]
    lines.append(f"input sha256 {provenance.input_digest}")
    if provenance.prior_study_uid:
        lines.append(f"earlier input sha256 {provenance.prior_input_digest}")
    versions = ", ".join(f"{n} {v}" for n, v in sorted(provenance.versions.items()))
    lines += textwrap.wrap(versions, 120, break_on_hyphens=False)
    sections.append(("Computed with", lines))
    return sections


def _flags(study: StudyInput) -> list[str]:
    """Quality checks to look at, the worst first; each once, however many lesions have it."""
    rows = [row for row in study.quality if row.outcome in _FLAGGED]
    rows.sort(key=lambda row: _FLAGGED[row.outcome])
    lines = list(dict.fromkeys(
        f"{row.outcome}: {row.check.replace('_', ' ')}: {row.detail or row.found or row.wanted}"
        for row in rows
    ))  # fmt: skip
    shown = [_printed(line, 400) for line in lines[:_MOST_FLAGS]]
    if len(lines) > _MOST_FLAGS:
        shown.append(f"and {len(lines) - _MOST_FLAGS} more in the patient report (SR)")
    return shown or ["no flag raised"]


def _fits_below(sections: Sequence[Section], place: float) -> bool:
    lines = sum(len(lines) + 2.4 for _, lines in sections)
    return place - 0.03 - lines * _SMALL > _BOTTOM - 0.02


def _write(figure: Figure, sections: Sequence[Section], place: float) -> None:
    for title, lines in sections:
        figure.text(_LEFT, place, title, size=10, weight="bold")
        place -= 0.2 * _SMALL
        for line in lines:
            place -= _SMALL
            figure.text(_LEFT, place, _fitted(line, 6.5, _RIGHT - _LEFT), size=6.5)
        place -= 2.2 * _SMALL
