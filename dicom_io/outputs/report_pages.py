"""The report for people, drawn: one or two pages of A4 up to 40 lesions, legible in grey."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes as Panel
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

from analysis.axes import axial_axes
from analysis.model import Lesion, LesionResult, Measure, StudyResult
from analysis.study import divergent_pair
from dicom_io.model import RenderContext, StudyInput
from dicom_io.outputs import concepts, document
from dicom_io.outputs.encoding import clean
from dicom_io.outputs.frames import plane_of
from dicom_io.outputs.measures import measure_code
from dicom_io.outputs.pictures import around, window_for
from dicom_io.outputs.segmentation import drawn_lesions

TITLE = "Lesion heterogeneity report"
_A4 = (8.27, 11.69)
_LEFT, _RIGHT, _LINE = 0.07, 0.93, 0.0145
_ROWS_FIRST, _ROWS_NEXT = 40, 58
_MOST_INDICES, _MOST_VIEWS, _MOST_FLAGS, _COLUMN = 19, 3, 6, 0.175
STYLE = {
    "font.family": "DejaVu Sans",
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
    rest = _rows(study, result)
    number = 2
    while rest:
        room = _ROWS_FIRST if number == 2 else _ROWS_NEXT
        last = len(rest) <= room
        with rc_context(STYLE):
            yield _table_page(study, result, context, rest[:room], number, last=last)
        rest, number = rest[room:], number + 1


def _page(study: StudyInput, context: RenderContext, number: int) -> Figure:
    """An empty page with head and foot."""
    figure = Figure(figsize=_A4)
    FigureCanvasPdf(figure)
    image = study.evidence.images[0]
    figure.text(_LEFT, 0.962, "Lesion radiomics and heterogeneity", size=14, weight="bold")
    name = clean(str(image.get("PatientName") or ""), 60).replace("^", " ").strip()
    parts = [
        f"Patient {clean(str(image.get('PatientID') or ''), 40) or '-'}",
        name or "no name",
        f"study of {_date(str(image.get('StudyDate') or ''))}",
        f"series {clean(str(image.get('SeriesDescription') or ''), 40) or '-'}",
    ]
    figure.text(_LEFT, 0.944, "   |   ".join(parts), size=8)
    figure.text(_LEFT, 0.926, concepts.RESEARCH_USE_TEXT, size=9, weight="bold")
    made = context.created.strftime("%Y-%m-%d %H:%M %Z")
    foot = f"{document.MODEL_NAME} {context.software_version}   |   {made}   |   page {number}"
    figure.text(_LEFT, 0.025, foot, size=7, color="0.25")
    return figure


def _date(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if len(text) == 8 and text.isdigit() else "-"


def _first_page(study: StudyInput, result: StudyResult, context: RenderContext) -> Figure:
    """Indices above; below them the map of distances and the pair furthest apart."""
    figure = _page(study, context, 1)
    _indices(figure, result.measures, 0.9)
    view = _view(result)
    _dissimilarity(figure.add_axes((0.165, 0.16, 0.385, 0.35)), study, result, view)
    _pair(figure, study, result, view)
    return figure


def _view(result: StudyResult) -> tuple[str, str] | None:
    """The first profile and space in which lesions have distances."""
    for pair in result.pairs:
        if pair.cosine is not None:
            return pair.profile, pair.space
    return None


def _indices(figure: Figure, measures: Sequence[Measure], top: float) -> None:
    """The patient's measures: counts and volumes in a line, the others by profile and space."""
    figure.text(_LEFT, top, "Patient", size=10, weight="bold")
    plain = [measure for measure in measures if not measure.profile]
    said = [f"{measure_code(m.name).meaning}: {_value(m)}" for m in plain]
    place = top
    for start in range(0, len(said), 3):
        place -= 1.2 * _LINE
        figure.text(_LEFT, place, "   |   ".join(said[start : start + 3]), size=7.5)
    views = list(dict.fromkeys((m.profile, m.space) for m in measures if m.space))[:_MOST_VIEWS]
    views = views or list(dict.fromkeys((m.profile, "") for m in measures if m.profile))
    place -= 1.5 * _LINE
    for column, (profile, space) in enumerate(views):
        x = _RIGHT - _COLUMN * (len(views) - 1 - column)
        figure.text(x, place, _shortened(profile, 22), size=7, weight="bold", ha="right")
        figure.text(x, place - 0.8 * _LINE, _shortened(space, 30), size=5.5, ha="right")
    place -= 0.9 * _LINE
    _index_rows(figure, measures, views, place)


def _index_rows(
    figure: Figure, measures: Sequence[Measure], views: Sequence[tuple[str, str]], place: float
) -> None:
    values = {(m.name, m.profile, m.space): m for m in measures}
    names = list(dict.fromkeys(measure.name for measure in measures if measure.profile))
    for name in names[:_MOST_INDICES]:
        place -= _LINE
        figure.text(_LEFT, place, _shortened(measure_code(name).meaning, 44), size=7.5)
        for column, (profile, space) in enumerate(views):
            # A measure of the profile alone stands under each of its spaces.
            found = values.get((name, profile, space)) or values.get((name, profile, ""))
            if found is not None:
                x = _RIGHT - _COLUMN * (len(views) - 1 - column)
                shade = "0" if found.value is not None else "0.35"
                figure.text(x, place, _value(found), size=7.5, ha="right", color=shade)
    if len(names) > _MOST_INDICES:
        more = f"and {len(names) - _MOST_INDICES} more in the patient report (SR)"
        figure.text(_LEFT, place - _LINE, more, size=7, style="italic")


def _value(measure: Measure) -> str:
    if measure.value is None:
        return f"none: {measure.reason.code}" if measure.reason else "none"
    unit = {"1": "", "{count}": "", "ml": " ml", "%": " %"}.get(measure.unit, f" {measure.unit}")
    return f"{measure.value:.4g}{unit}"


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _dissimilarity(
    panel: Panel, study: StudyInput, result: StudyResult, view: tuple[str, str] | None
) -> None:
    """The map of cosine distances between lesions, dark where they differ."""
    if view is None:
        panel.axis("off")
        panel.text(-0.25, 1, "No distances between lesions.", va="top", style="italic")
        return
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
    names = [_shortened(clean(lesion.tracking_id, 64), 16) for lesion in study.lesions]
    size = max(3.0, min(7.0, 190 / max(len(names), 1)))
    panel.set_xticks(range(len(names)), names, rotation=90, size=size)
    panel.set_yticks(range(len(names)), names, size=size)
    panel.set_title(f"Cosine distance, {_shortened(' / '.join(view), 60)}", size=8, loc="left")
    figure = panel.figure
    box = panel.get_position()
    bar = figure.add_axes((box.x1 + 0.012, box.y0, 0.013, box.height))
    figure.colorbar(shown, cax=bar)
    bar.tick_params(labelsize=7)


def _pair(
    figure: Figure, study: StudyInput, result: StudyResult, view: tuple[str, str] | None
) -> None:
    """The two lesions furthest apart on their slices; without distances the two largest."""
    chosen, title = _two_lesions(study, result, view)
    if not chosen:
        return
    figure.text(0.65, 0.535, title, size=8, weight="bold")
    for position, lesion in enumerate(chosen):
        box = (0.65, 0.305 - 0.245 * position, _RIGHT - 0.65, 0.205)
        _lesion_panel(figure.add_axes(box), study, lesion)


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
    rows, columns = around(lesion, geometry.shape, spacing, 110)
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
        panel.plot(line[:, 1], line[:, 0], color="white", linewidth=0.9, linestyle="--")
    panel.set(xticks=[], yticks=[])
    volume = lesion.mask.n_voxels * geometry.voxel_volume_ml
    name = _shortened(clean(lesion.tracking_id, 64), 28)
    size = f"{volume:.3g} ml, {axes.long_mm:.1f} x {axes.short_mm:.1f} mm"
    panel.set_title(f"{name} ({lesion.site})\n{size}", size=7)
    note = (
        f"slice {axes.plane + 1} of {geometry.shape[0]}, window {window.centre:g}/{window.width:g}"
    )
    panel.set_xlabel(note, size=6.5)


def _rows(study: StudyInput, result: StudyResult) -> list[tuple[str, ...]]:
    """Lesion table: number, name, site, volume, axes, features and warnings."""
    by_lesion: dict[str, list[LesionResult]] = {}
    for one in result.lesions:
        by_lesion.setdefault(one.tracking_uid, []).append(one)
    table: list[tuple[str, ...]] = []
    for lesion in study.lesions:
        results = by_lesion.get(lesion.tracking_uid, [])
        size = ("0", "-", "-")
        if lesion.mask.n_voxels:
            axes = axial_axes(lesion.mask, study.volume.geometry)
            volume = lesion.mask.n_voxels * study.volume.geometry.voxel_volume_ml
            size = (f"{volume:.3f}", f"{axes.long_mm:.1f}", f"{axes.short_mm:.1f}")
        notes = [f"{r.profile}: {r.excluded.code}" for r in results if r.excluded]
        notes += sorted({warning for r in results for warning in r.warnings})
        name = _shortened(clean(lesion.tracking_id, 64), 26)
        table.append((str(lesion.number), name, lesion.site, *size,
                      _shortened(clean("; ".join(notes), 200), 46)))  # fmt: skip
    return table


_COLUMNS = (
    ("No.", 0.07, "left"), ("Lesion", 0.11, "left"), ("Site", 0.34, "left"),
    ("Volume ml", 0.5, "right"), ("Long mm", 0.58, "right"), ("Short mm", 0.66, "right"),
    ("Notes", 0.68, "left"),
)  # fmt: skip


def _table_page(
    study: StudyInput,
    result: StudyResult,
    context: RenderContext,
    rows: Sequence[tuple[str, ...]],
    number: int,
    *,
    last: bool,
) -> Figure:
    figure = _page(study, context, number)
    figure.text(_LEFT, 0.9, "Lesions", size=10, weight="bold")
    place = 0.88
    for head, x, side in _COLUMNS:
        figure.text(x, place, head, ha=side, size=7.5, weight="bold")
    for row in rows:
        place -= _LINE
        for value, (_, x, side) in zip(row, _COLUMNS, strict=True):
            figure.text(x, place, value, ha=side, size=7)
    if last:
        _flags_and_versions(figure, study, result, place - 0.03)
    return figure


def _flags_and_versions(figure: Figure, study: StudyInput, result: StudyResult, top: float) -> None:
    """Quality checks that did not pass, then what the numbers were computed with."""
    place = top
    figure.text(_LEFT, place, "Quality", size=10, weight="bold")
    flags = [row for row in study.quality if row.outcome != "ok"]
    lines = [f"{row.outcome}: {row.check}: {row.detail or row.found}" for row in flags]
    shown = [_shortened(clean(line, 400), 125) for line in lines[:_MOST_FLAGS]]
    if len(lines) > _MOST_FLAGS:
        shown.append(f"and {len(lines) - _MOST_FLAGS} more in the patient report (SR)")
    for line in shown or ["no flag raised"]:
        place -= _LINE
        figure.text(_LEFT, place, line, size=7)
    place -= 2 * _LINE
    figure.text(_LEFT, place, "Computed with", size=10, weight="bold")
    provenance = result.provenance
    lines = [f"profile {n} sha256 {d}" for n, d in sorted(provenance.profile_digests.items())]
    lines += [f"space {n} sha256 {d}" for n, d in sorted(provenance.space_digests.items())]
    lines.append(f"input sha256 {provenance.input_digest}")
    versions = ", ".join(f"{n} {v}" for n, v in sorted(provenance.versions.items()))
    lines += [versions[i : i + 120] for i in range(0, len(versions), 120)]
    for line in lines:
        place -= _LINE
        figure.text(_LEFT, place, _shortened(line, 125), size=6.5)
