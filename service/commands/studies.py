"""Commands on folders of DICOM, without a node: process and check."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirv.config.errors import opening
from mirv.service.commands.terminal import Commands, ConfigOption, err, out

if TYPE_CHECKING:
    from rich.progress import Progress

app = typer.Typer(cls=Commands)

PathsArgument = Annotated[
    list[Path], typer.Argument(help="Files and folders of DICOM, read to the bottom.", exists=True)
]
ProfileOption = Annotated[
    list[str] | None,
    typer.Option("--profile", help="Profile name or path of a YAML; repeat for more."),
]


@contextmanager
def lesion_progress() -> Iterator["Progress"]:
    """A progress bar over lesions, on standard error, gone when nobody watches."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err(), disable=not sys.stderr.isatty()) as bar:
        yield bar


@app.command()
def process(
    paths: PathsArgument,
    folder: Annotated[Path, typer.Option("--out", help="Folder for tables and DICOM results.")],
    profile: ProfileOption = None,
    config: ConfigOption = None,
) -> None:
    """Analyse folders of DICOM: the node's pipeline without network.

    Exit code 0: all done; 2: some input refused (quality.csv says why); 1: a fault.
    """
    from rich.text import Text

    from mirv.config.settings import load_settings
    from mirv.service.study.folder import process_folder

    settings = load_settings(config)
    with lesion_progress() as bar:
        lesions = bar.add_task("lesions", total=None)
        outcome = process_folder(
            paths,
            folder,
            settings,
            profile or (),
            progress=lambda done, total: bar.update(lesions, completed=done, total=total),
        )
    for path in [*outcome.tables, *outcome.artifacts, *outcome.pictures]:
        out().print(Text(str(path)))
    refused = [row for row in outcome.refused if row.refused]
    for row in refused:
        where = row.file or row.object_uid or row.series_uid
        both = (("found", row.found), ("wanted", row.wanted))
        said = [row.detail, ", ".join(f"{name} {text}" for name, text in both if text)]
        why = ": ".join(text for text in said if text)
        err().print(Text(f"refused: {row.check}: {why} ({where})", "yellow"), soft_wrap=True)
    raise typer.Exit(outcome.exit_code)


@app.command()
def check(
    paths: PathsArgument,
    config: ConfigOption = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write the checks here.")] = None,
    description: Annotated[
        Path | None,
        typer.Option("--description", help="Also write the series' acquisition here (CSV)."),
    ] = None,
    per_slice: Annotated[
        bool, typer.Option("--per-slice", help="Describe every slice, not every series.")
    ] = False,
) -> None:
    """Say of every image and segmentation whether it can be analysed, and why not.

    Exit code 0: nothing refused; 2: something is.
    """
    from dataclasses import asdict

    from rich.table import Table
    from rich.text import Text

    from mirv.config.settings import load_settings
    from mirv.dicom_io.files.folder import headers_of_folder
    from mirv.dicom_io.study.check_folder import check_folder
    from mirv.dicom_io.study.description import describe
    from mirv.service.study import result_tables

    described = describe(headers_of_folder(paths).headers, per_slice=per_slice)
    settings = load_settings(config)
    rows = check_folder(paths, settings.reading, settings.identity.issuer_of_folder())
    with opening():
        if csv is not None:
            csv.write_bytes(
                result_tables.to_csv(result_tables.QUALITY_COLUMNS, [asdict(row) for row in rows])
            )
        if description is not None:
            columns = tuple(described[0]) if described else ()
            description.write_bytes(result_tables.to_csv(columns, described))
    for series in described:
        facts = [f"{name} {value}" for name, value in series.items() if value not in (None, "")]
        out().print(Text(" · ".join(facts)), soft_wrap=True)
    table = Table("object", "check", "outcome", "found", "wanted", "detail")
    for row in rows:
        name = row.file or row.object_uid or row.series_uid or row.study_uid
        cells = (name, row.check, row.outcome, row.found, row.wanted, row.detail)
        table.add_row(*(Text(cell) for cell in cells))
    out().print(table)
    raise typer.Exit(2 if any(row.refused for row in rows) else 0)
