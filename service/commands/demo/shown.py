"""The demo's results, for people."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mirv.analysis.heterogeneity import METRICS
from mirv.analysis.model import LesionResult, Measure
from mirv.service.commands.demo.demo import DemoOutcome
from mirv.service.study.table_files import NOTICE

FEATURES = (
    ("original_firstorder_Mean", "mean, HU"),
    ("original_shape_Sphericity", "sphericity"),
    ("original_shape_Maximum2DDiameterSlice", "diameter, mm"),
)
INDICES = ("cv_mean_percent", *(metric.name for metric in METRICS if metric.published))


def show(outcome: DemoOutcome, console: Console) -> None:
    """Print the lesions, the patient's indices, and where everything is."""
    result = outcome.record.result
    profile = result.lesions[0].profile
    console.print(_lesion_table([row for row in result.lesions if row.profile == profile], profile))
    console.print(_counts(result.measures))
    console.print(_index_table(result.measures))
    console.print(
        f"\n{outcome.seconds:.1f} s from the last object sent to the last result received"
    )
    for name, path in sorted(outcome.received.items()):
        console.print(Text(f"  {name}: {path}"), soft_wrap=True)
    for path in outcome.tables:
        console.print(Text(f"  {path}"), soft_wrap=True)
    console.print(Text(f"  status page: {outcome.page} (mirv demo --stay keeps it up)"))
    console.print(NOTICE)


def _lesion_table(lesions: Sequence[LesionResult], profile: str) -> Table:
    table = Table(title=f"{len(lesions)} lesions ({profile})")
    for name in ("lesion", "site"):
        table.add_column(name)
    for name in ("volume, ml", *(title for _, title in FEATURES)):
        table.add_column(name, justify="right")
    for row in lesions:
        values = dict(zip(row.names, row.values.tolist(), strict=True))
        cells = [f"{values[name]:.3g}" for name, _ in FEATURES] if row.excluded is None else []
        table.add_row(Text(row.tracking_id), row.site, f"{row.volume_ml:.3f}", *cells)
    return table


def _counts(measures: Sequence[Measure]) -> Text:
    """Measures that need no profile, in a line."""
    parts = [
        f"{row.name} {row.value:.6g}{'' if row.unit == '{count}' else ' ' + row.unit}"
        for row in measures
        if not row.profile and row.value is not None
    ]
    return Text(" · ".join(parts))


def _index_table(measures: Sequence[Measure]) -> Table:
    """The published indices: a row each, a column each profile and space."""
    spaces = list(dict.fromkeys((m.profile, m.space) for m in measures if m.space))
    table = Table(title="Patient")
    table.add_column("index")
    for profile, space in spaces:
        table.add_column(f"{profile}\n{space}", justify="right")
    for name in INDICES:
        cells = []
        for profile, space in spaces:
            found = [
                m
                for m in measures
                if m.name == name and m.profile == profile and m.space in ("", space)
            ]
            value = found[0].value if found else None
            cells.append("" if value is None else f"{value:.4g}")
        table.add_row(name, *cells)
    return table
