"""The ``mirv export`` command: the node's current results as tables."""

from pathlib import Path
from typing import Annotated

import typer

from mirv.config.errors import BadInput
from mirv.service.commands.terminal import (
    Commands,
    ConfigOption,
    TableFormat,
    err,
    now,
    open_catalogue,
    open_spool,
    out,
)

app = typer.Typer(cls=Commands)


@app.command()
def export(
    folder: Annotated[Path, typer.Option("--out", help="Folder for the tables.")],
    table_format: Annotated[TableFormat, typer.Option("--format")] = "csv",
    patient: Annotated[
        list[str] | None, typer.Option(help="PatientID or person; repeat for more.")
    ] = None,
    start: Annotated[str, typer.Option("--from", help="First study date, YYYYMMDD.")] = "",
    end: Annotated[str, typer.Option("--to", help="Last study date, YYYYMMDD.")] = "",
    site: Annotated[list[str] | None, typer.Option(help="Only lesions of these sites.")] = None,
    profile: Annotated[list[str] | None, typer.Option(help="Only these profiles.")] = None,
    min_lesions: Annotated[int, typer.Option(help="Only studies with at least this many.")] = 0,
    cohort: Annotated[
        list[str] | None,
        typer.Option(
            help="Only persons of these: L, M-oligo, M-multi (Henry 2022, by the first study), or "
            "a text file of PatientIDs (or keys of persons), one a line; repeat."
        ),
    ] = None,
    identified: Annotated[
        bool, typer.Option("--identified", help="Leave identifiers as they are.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Write current results as tables; pseudonymised unless told otherwise."""
    from rich.text import Text

    from mirv.analysis.cohort.labels import PUBLISHED
    from mirv.service.catalogue import EventKind
    from mirv.service.objects.results import current_results
    from mirv.service.research.cohort.cohorts import listed_persons
    from mirv.service.research.pseudonym import pseudonymised
    from mirv.service.research.selection import Filter, of_cohorts, select, shared
    from mirv.service.runtime.node_folder import NodeFolder
    from mirv.service.study.table_files import write_tables

    for name, value in (("--from", start), ("--to", end)):
        if value and not (len(value) == 8 and value.isdigit()):
            raise BadInput(f"{name}: found {value!r}, wanted YYYYMMDD")
    labels = [name for name in cohort or () if name in PUBLISHED]
    lists = [Path(name) for name in cohort or () if name not in PUBLISHED]
    listed = {name for path in lists for name in listed_persons(path)}
    rule = Filter(
        patients=frozenset(patient) if patient else None,
        start=start,
        end=end,
        sites=frozenset(site or ()),
        profiles=frozenset(profile or ()),
        min_lesions=min_lesions,
    )
    with open_catalogue(config) as (settings, catalogue):
        kept = select(current_results(catalogue, open_spool(settings)), rule)
        several = shared(kept, rule)
        if cohort:
            kept, absent = of_cohorts(kept, labels, listed)
            if absent:
                err().print(f"note: {absent} name(s) of --cohort have no result", highlight=False)
        if not identified:
            kept = list(pseudonymised(kept, NodeFolder(settings.folder)))
        written = write_tables(folder, kept, table_format=table_format)
        catalogue.events.add(
            now(), EventKind.EXPORTED, studies=len(kept), identified=identified, format=table_format
        )
    for found, keys in several.items():
        out().print(Text(f"PatientID {found}: {len(keys)} persons share it: {', '.join(keys)}"))
    for path in written:
        out().print(Text(str(path)))
