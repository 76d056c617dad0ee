"""Commands on SR documents: check one against its templates, read one back as tables."""

from pathlib import Path
from typing import Annotated

import typer

from mirv.config.errors import opening
from mirv.service.commands.terminal import Commands, err, out

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Structured reports.")

FileArgument = Annotated[Path, typer.Argument(help="An SR document.", exists=True, dir_okay=False)]


@app.command("check")
def sr_check(
    file: FileArgument,
    segmentation: Annotated[
        list[Path] | None, typer.Option("--seg", help="SEG it refers to; repeat for more.")
    ] = None,
) -> None:
    """Check a report against TID 1500, 1410, 1411, 1419, 1501 and 1420, offline.

    Exit code 0: clean; 2: faults, each with row, expected and found.
    """
    from rich.text import Text

    from mirv.dicom_io.sr.checker import check_report

    faults = check_report(file, segmentation or ())
    for fault in faults:
        err().print(Text(str(fault)))
    out().print(f"{len(faults)} fault(s)")
    raise typer.Exit(2 if faults else 0)


@app.command("read")
def sr_read_command(
    file: FileArgument,
    folder: Annotated[Path, typer.Option("--out", help="Folder for the tables.")],
) -> None:
    """Write the values of one of the node's reports as tables: exactly those that were measured."""
    from rich.text import Text

    from mirv.analysis.model import StudyResult
    from mirv.dicom_io.files.header import read_header
    from mirv.dicom_io.outputs.reports import own_report
    from mirv.service.study import result_tables
    from mirv.service.study.result_record import ResultRecord

    report = own_report.read(file)
    record = ResultRecord(
        patient_id=report.patient_id,
        study_uid=report.study_uid,
        study_date=report.study_date,
        series_uid=report.source_series_uid,
        segmentation_uids=report.segmentation_uids,
        result=StudyResult(
            report.lesions, report.measures, (), (), report.provenance, report.changes
        ),
        quality=(),
        identity=read_header(file).identity,
    )
    with opening():
        folder.mkdir(parents=True, exist_ok=True)
    for name, (columns, rows) in (
        ("lesions", result_tables.lesion_rows([record])),
        ("patients", result_tables.patient_rows([record])),
        ("changes", (result_tables.CHANGE_COLUMNS, result_tables.change_rows([record]))),
    ):
        if rows:
            path = folder / f"{name}.csv"
            path.write_bytes(result_tables.to_csv(columns, rows))
            out().print(Text(str(path)))
