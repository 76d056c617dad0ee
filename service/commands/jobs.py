"""The ``mirv jobs`` commands: runs, what waits, what was refused."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mirv.service.catalogue import CORRECTED, Catalogue, RunRow, RunState
from mirv.service.catalogue.run_rows import USUAL_PRIORITY
from mirv.service.commands.terminal import (
    MOST_ROWS,
    Commands,
    ConfigOption,
    fail,
    moment,
    now,
    open_catalogue,
    out,
)

if TYPE_CHECKING:
    from mirv.service.catalogue import Catalogue, RunRow

app = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Runs and what waits for another object."
)


@app.command("list")
def jobs_list(
    state: Annotated[
        list[str] | None, typer.Option(help="Only these states; repeat for more.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """List runs, newest first, then what waits and for what, then what was refused and why."""
    from rich.table import Table
    from rich.text import Text

    with open_catalogue(config) as (_, catalogue):
        runs = Table("run", "study", "state", "queued", "why")
        for run in catalogue.runs.all(states=state or (), limit=MOST_ROWS):
            why = f"{run.reason_code}: {run.reason_detail}" if run.reason_code else ""
            runs.add_row(
                run.run_id[:12], Text(run.study_uid), _state(run), moment(run.created_at), Text(why)
            )
        waiting = Table("object", "study", "waits for", "since")
        for row in catalogue.studies.waiting():
            waiting.add_row(
                Text(row.object_uid), Text(row.study_uid), Text(row.waits_for), moment(row.since)
            )
        refused = Table("refused object", "study", "check", "found", "wanted", "detail")
        for said in catalogue.studies.quality():
            if said.refused:
                where = said.object_uid or said.series_uid
                cells = (where, said.study_uid, said.check, said.found, said.wanted, said.detail)
                refused.add_row(*(Text(cell) for cell in cells))
    for table in (runs, waiting, refused):
        if table.row_count:
            out().print(table)
    if not (runs.row_count or waiting.row_count or refused.row_count):
        out().print("nothing yet")


@app.command("show")
def jobs_show(run: str, config: ConfigOption = None) -> None:
    """Show one run by the start of its id: facts, outputs, deliveries, events."""
    from rich.table import Table
    from rich.text import Text

    with open_catalogue(config) as (_, catalogue):
        found = _one_run(catalogue, run)
        facts = Table("field", "value", show_header=False)
        for name, value in asdict(found).items():
            if name != "selection" and value not in (None, ""):
                facts.add_row(name, Text(str(value)))
        outputs = Table("output", "SOP Instance UID", "destination", "state", "tries", "last")
        for artifact in catalogue.runs.artifacts(found.run_id):
            sent = [
                d for d in catalogue.deliveries.all(run_id=found.run_id) if d.role == artifact.role
            ]
            if not sent:
                outputs.add_row(artifact.role, artifact.sop_instance_uid)
            for row in sent:
                outputs.add_row(
                    artifact.role,
                    artifact.sop_instance_uid,
                    row.destination,
                    row.state,
                    str(row.attempts),
                    Text(row.detail),
                )
    out().print(facts)
    out().print(outputs)


@app.command("retry")
def jobs_retry(run: str, config: ConfigOption = None) -> None:
    """Queue a refused, failed or cancelled run again."""
    with open_catalogue(config) as (_, catalogue):
        found = _one_run(catalogue, run)
        if not catalogue.runs.again(found.run_id, now()):
            fail(f"run {found.run_id[:12]} is {found.state}: wanted refused, failed or cancelled")
    out().print(f"queued again: {found.run_id[:12]}")


@app.command("cancel")
def jobs_cancel(run: str, config: ConfigOption = None) -> None:
    """End a run that has not ended."""
    with open_catalogue(config) as (_, catalogue):
        found = _one_run(catalogue, run)
        if not catalogue.runs.cancel(found.run_id, now()):
            fail(f"run {found.run_id[:12]} has ended: {found.state}")
    out().print(f"cancelled: {found.run_id[:12]}")


def _state(run: "RunRow") -> str:
    """State of a run for people: what became of it, how far it is, whether it goes first."""

    if run.superseded_by == CORRECTED:
        return f"{run.state}, input corrected"
    if run.superseded_by:
        return f"{run.state}, superseded"
    if run.state == RunState.RUNNING and run.lesions_total:
        return f"running, {run.lesions_done} of {run.lesions_total}"
    if run.state == RunState.QUEUED and run.priority != USUAL_PRIORITY:
        return f"queued, priority {run.priority}"
    return run.state


def _one_run(catalogue: "Catalogue", start: str) -> "RunRow":
    found = [run for run in catalogue.runs.all() if run.run_id.startswith(start)]
    if len(found) != 1:
        fail(f"{len(found)} runs begin with {start!r}, wanted one")
    return found[0]
