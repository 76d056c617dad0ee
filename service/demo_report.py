"""The demo's results, for people."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.model import LesionResult, Measure
from service.demo import DemoOutcome
from service.export import NOTICE

SHOWN = (
    ("original_firstorder_Mean", "mean, HU"),
    ("original_shape_Sphericity", "sphericity"),
    ("original_shape_Maximum2DDiameterSlice", "axial diameter, mm"),
)


def show(outcome: DemoOutcome, console: Console) -> None:
    """Print the lesions, the patient's indices, and where everything is."""
    result = outcome.record.result
    profile = result.lesions[0].profile
    lesions = [row for row in result.lesions if row.profile == profile]
    console.print(_lesion_table(lesions, profile))
    console.print(_measure_table(result.measures))
    console.print(f"{outcome.seconds:.1f} s from the last object sent to the last result received")
    places = Table("what", "where", show_header=False, box=None)
    for name, path in sorted(outcome.received.items()):
        places.add_row(name, Text(str(path)))
    for path in outcome.tables:
        places.add_row(path.suffix.lstrip(".").upper(), Text(str(path)))
    places.add_row("page", f"{outcome.page}  (mirv demo --stay keeps it up)")
    console.print(places)
    console.print(NOTICE)


def _lesion_table(lesions: list[LesionResult], profile: str) -> Table:
    table = Table(title=f"{len(lesions)} lesions ({profile})")
    for name in ("lesion", "site"):
        table.add_column(name)
    for name in ("volume, ml", *(title for _, title in SHOWN)):
        table.add_column(name, justify="right")
    for row in lesions:
        values = dict(zip(row.names, row.values.tolist(), strict=True))
        cells = [f"{values[name]:.3g}" for name, _ in SHOWN] if row.excluded is None else []
        table.add_row(Text(row.tracking_id), row.site, f"{row.volume_ml:.3f}", *cells)
    return table


def _measure_table(measures: tuple[Measure, ...]) -> Table:
    table = Table("measure", "value", "unit", "profile", "space", title="Patient")
    for row in measures:
        value = Text(row.reason.detail, "italic") if row.reason else Text(f"{row.value:.4g}")
        table.add_row(row.name, value, row.unit, row.profile, row.space)
    return table
