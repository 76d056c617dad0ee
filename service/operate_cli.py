"""Commands on a node's catalogue: jobs, deliveries, export."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from config.settings import Settings
from service import records
from service.export import write_tables
from service.pseudonym import Pseudonymiser, load_key
from service.shell import ConfigOption, fail, out, settings_or_exit
from service.spool import Spool
from service.store import RunRow, Store
from service.store.runs import USUAL_PRIORITY

jobs_app = typer.Typer(no_args_is_help=True, help="Runs and what waits for another object.")
deliveries_app = typer.Typer(no_args_is_help=True, help="Results on their way to destinations.")


class TableFormat(StrEnum):
    """Formats of an export."""

    csv = "csv"
    parquet = "parquet"


@contextmanager
def catalogue(config: Path | None) -> Iterator[tuple[Settings, Store, Spool]]:
    """Open a node's catalogue and spool beside the running node."""
    settings = settings_or_exit(config)
    if not settings.folder.is_dir():
        fail(f"no node here: found no folder {settings.folder}")
    from service.node import catalogue_url

    store = Store(catalogue_url(settings))
    try:
        yield settings, store, Spool(settings.folder / "spool")
    finally:
        store.close()


@jobs_app.command("list")
def jobs_list(
    state: Annotated[
        list[str] | None, typer.Option(help="Only these states; repeat for more.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """List runs, newest first, then what waits and for what, then what was refused and why."""
    with catalogue(config) as (_, store, _spool):
        runs = Table("run", "study", "state", "queued", "why")
        for run in store.runs.all(states=state or ()):
            why = f"{run.reason_code}: {run.reason_detail}" if run.reason_code else ""
            runs.add_row(
                run.run_id[:12], Text(run.study_uid), _state(run), moment(run.created_at), Text(why)
            )
        waiting = Table("object", "study", "waits for", "since")
        for row in store.instances.waiting():
            waiting.add_row(
                Text(row.object_uid), Text(row.study_uid), Text(row.waits_for), moment(row.since)
            )
        refused = Table("refused object", "study", "check", "found", "wanted", "detail")
        for said in store.instances.quality():
            if said.outcome == "refused":
                where = said.object_uid or said.series_uid
                cells = (where, said.study_uid, said.check, said.found, said.wanted, said.detail)
                refused.add_row(*(Text(cell) for cell in cells))
    for table in (runs, waiting, refused):
        if table.row_count:
            out.print(table)
    if not (runs.row_count or waiting.row_count or refused.row_count):
        out.print("nothing yet")


@jobs_app.command("show")
def jobs_show(run: str, config: ConfigOption = None) -> None:
    """Show one run by the start of its id: facts, outputs, deliveries, events."""
    with catalogue(config) as (_, store, _spool):
        found = _one_run(store, run)
        facts = Table("field", "value", show_header=False)
        for name, value in asdict(found).items():
            if name != "selection" and value not in (None, ""):
                facts.add_row(name, Text(str(value)))
        outputs = Table("output", "SOP Instance UID", "destination", "state", "tries", "last")
        for artifact in store.runs.artifacts(found.run_id):
            sent = [d for d in store.deliveries.all(run_id=found.run_id) if d.role == artifact.role]
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
    out.print(facts)
    out.print(outputs)


@jobs_app.command("retry")
def jobs_retry(run: str, config: ConfigOption = None) -> None:
    """Queue a refused, failed or cancelled run again."""
    with catalogue(config) as (_, store, _spool):
        found = _one_run(store, run)
        if not store.runs.again(found.run_id, _now()):
            fail(f"run {found.run_id[:12]} is {found.state}: wanted refused, failed or cancelled")
    out.print(f"queued again: {found.run_id[:12]}")


@jobs_app.command("cancel")
def jobs_cancel(run: str, config: ConfigOption = None) -> None:
    """End a run that has not ended."""
    with catalogue(config) as (_, store, _spool):
        found = _one_run(store, run)
        if not store.runs.cancel(found.run_id, _now()):
            fail(f"run {found.run_id[:12]} has ended: {found.state}")
    out.print(f"cancelled: {found.run_id[:12]}")


@deliveries_app.command("list")
def deliveries_list(
    state: Annotated[str, typer.Option(help="waiting, delivered, parked or cancelled.")] = "",
    config: ConfigOption = None,
) -> None:
    """List deliveries."""
    with catalogue(config) as (_, store, _spool):
        table = Table("id", "run", "output", "destination", "state", "tries", "next", "last answer")
        for row in store.deliveries.all(state=state):
            due = moment(row.next_attempt_at) if row.state == "waiting" else ""
            table.add_row(
                str(row.id), row.run_id[:12], row.role, row.destination, row.state,
                str(row.attempts), due, Text(row.detail),
            )  # fmt: skip
    out.print(table)


@deliveries_app.command("show")
def deliveries_show(delivery: int, config: ConfigOption = None) -> None:
    """Show one delivery."""
    with catalogue(config) as (_, store, _spool):
        row = store.deliveries.get(delivery)
    if row is None:
        fail(f"no delivery {delivery}")
    table = Table("field", "value", show_header=False)
    for name, value in asdict(row).items():
        table.add_row(name, Text("" if value is None else str(value)))
    out.print(table)


@deliveries_app.command("retry")
def deliveries_retry(
    delivery: Annotated[int | None, typer.Argument(help="Number; none: all parked.")] = None,
    config: ConfigOption = None,
) -> None:
    """Try a parked or cancelled delivery again at once; without a number, all parked ones."""
    with catalogue(config) as (settings, store, _spool):
        parked = store.deliveries.all(state="parked")
        wanted = [row.id for row in parked] if delivery is None else [delivery]
        attempts = settings.delivery.max_attempts
        done = [one for one in wanted if store.deliveries.retry(one, attempts, _now())]
    if delivery is not None and not done:
        fail(f"delivery {delivery} is neither parked nor cancelled")
    out.print(f"{len(done)} deliveries will be tried again")


@deliveries_app.command("cancel")
def deliveries_cancel(delivery: int, config: ConfigOption = None) -> None:
    """Stop trying a delivery."""
    with catalogue(config) as (_, store, _spool):
        if not store.deliveries.cancel(delivery, _now()):
            fail(f"delivery {delivery} is neither waiting nor parked")
    out.print(f"cancelled: {delivery}")


def export(
    folder: Annotated[Path, typer.Option("--out", help="Folder for the tables.")],
    table_format: Annotated[TableFormat, typer.Option("--format")] = TableFormat.csv,
    patient: Annotated[list[str] | None, typer.Option(help="PatientID; repeat for more.")] = None,
    start: Annotated[str, typer.Option("--from", help="First study date, YYYYMMDD.")] = "",
    end: Annotated[str, typer.Option("--to", help="Last study date, YYYYMMDD.")] = "",
    site: Annotated[list[str] | None, typer.Option(help="Only lesions of these sites.")] = None,
    profile: Annotated[list[str] | None, typer.Option(help="Only these profiles.")] = None,
    min_lesions: Annotated[int, typer.Option(help="Only studies with at least this many.")] = 0,
    cohort: Annotated[
        Path | None, typer.Option(help="Text file of PatientIDs, one a line: only these.")
    ] = None,
    identified: Annotated[
        bool, typer.Option("--identified", help="Leave identifiers as they are.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Write current results as tables; pseudonymised unless told otherwise."""
    from service.selecting import Wanted, select

    for name, value in (("--from", start), ("--to", end)):
        if value and not (len(value) == 8 and value.isdigit()):
            fail(f"{name}: found {value!r}, wanted YYYYMMDD")
    patients = set(patient or ())
    if cohort is not None:
        lines = cohort.read_text(encoding="utf-8").splitlines()
        patients |= {line.strip() for line in lines if line.strip()}
    wanted = Wanted(
        patients=frozenset(patients) if patient or cohort else None,
        start=start,
        end=end,
        sites=frozenset(site or ()),
        profiles=frozenset(profile or ()),
        min_lesions=min_lesions,
    )
    with catalogue(config) as (settings, store, spool):
        found = [
            records.from_bytes(spool.path(run.result_sha256).read_bytes())
            for run in store.runs.all(states=("finished",), current=True, limit=None)
            if run.result_sha256
        ]
        kept = select(found, wanted)
        if not identified:
            hide = Pseudonymiser(load_key(settings.folder / "pseudonym.key"))
            kept = [hide.record(record) for record in kept]
        written = write_tables(folder, kept, table_format=table_format.value)
        store.events.add(
            _now(), "exported", studies=len(kept), identified=identified, format=table_format.value
        )
    for path in written:
        out.print(Text(str(path)))


def _state(run: RunRow) -> str:
    """State of a run for people: what became of it, how far it is, whether it goes first."""
    if run.superseded_by:
        return f"{run.state}, superseded"
    if run.state == "running" and run.lesions_total:
        return f"running, {run.lesions_done} of {run.lesions_total}"
    if run.state == "queued" and run.priority != USUAL_PRIORITY:
        return f"queued, priority {run.priority}"
    return run.state


def _one_run(store: Store, start: str) -> RunRow:
    found = [run for run in store.runs.all(limit=None) if run.run_id.startswith(start)]
    if len(found) != 1:
        fail(f"{len(found)} runs begin with {start!r}, wanted one")
    return found[0]


def moment(seconds: float) -> str:
    """Seconds since 1970 for people, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _now() -> float:
    return datetime.now(UTC).timestamp()
