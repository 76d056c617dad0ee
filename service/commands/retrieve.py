"""The ``mirv retrieve`` command: the baseline study of every patient of a trial's list."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirv.config.errors import BadInput, opening
from mirv.service.commands.terminal import (
    Commands,
    ConfigOption,
    err,
    open_catalogue,
    open_spool,
    out,
)

if TYPE_CHECKING:
    from mirv.service.research.retrieval.listing import Row
    from mirv.service.research.retrieval.retrieve import Outcome
    from mirv.service.research.retrieval.shelf import Shelf

app = typer.Typer(cls=Commands)


@app.command()
def retrieve(
    patients: Annotated[
        Path,
        typer.Option(
            help="CSV: patient_id, index_date and, to tell persons apart, issuer, birth_date."
        ),
    ],
    folder: Annotated[
        Path | None, typer.Option("--to", help="Keep the objects as files in this folder.")
    ] = None,
    node: Annotated[
        bool, typer.Option("--to-node", help="Keep them in the node, which processes them.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Keep nothing: list what would be taken.")
    ] = False,
    listing: Annotated[
        Path | None,
        typer.Option("--list", help="Write every study and series seen, and why, here (CSV)."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Fetch one baseline study for every patient of a list, by the rule of the settings.

    Exit code 0: every patient has one; 2: some have none (the list says why); 1: a fault.
    """
    from rich.text import Text

    from mirv.config.settings import load_settings
    from mirv.service.research.retrieval.patient_list import read_patients
    from mirv.service.research.retrieval.retrieve import retrieve as retrieve_all

    if (folder is not None) + node + dry_run != 1:
        raise BadInput("wanted one of --to FOLDER, --to-node and --dry-run")
    listed = read_patients(patients)
    settings = load_settings(config)
    rows: list[Row] = []
    without = 0
    _write(listing, rows)  # a file that cannot be written is told before anything is fetched
    try:
        with _shelf(folder, config, dry_run=dry_run) as (shelf, passage):
            for outcome in retrieve_all(listed, settings, shelf, passage):
                rows += outcome.rows
                without += not outcome.has_baseline
                out().print(Text(_in_a_line(outcome)), soft_wrap=True)
    finally:
        _write(listing, rows)  # what was broken off has taken something, too
    found = len(listed) - without
    out().print(Text(f"{found} of {len(listed)} patients have a baseline"))
    if dry_run:
        err().print(Text("dry run: nothing was kept"))
    raise typer.Exit(2 if without else 0)


def _write(listing: Path | None, rows: "list[Row]") -> None:
    from mirv.service.research.retrieval.listing import listing_csv

    if listing is not None:
        with opening():
            listing.write_bytes(listing_csv(rows))


@contextmanager
def _shelf(
    folder: Path | None, config: Path | None, *, dry_run: bool
) -> "Iterator[tuple[Shelf, Path]]":
    """Where objects are kept, and where they come through."""
    from tempfile import TemporaryDirectory

    from mirv.service.objects.spool_name import check_if_named
    from mirv.service.research.retrieval.shelf import FolderShelf, NodeShelf, NoShelf, passage_in
    from mirv.service.runtime.node_folder import NodeFolder

    if dry_run:
        with TemporaryDirectory() as passage:
            yield NoShelf(), Path(passage)
    elif folder is not None:
        with passage_in(folder) as passage:
            yield FolderShelf(folder), passage
    else:
        with open_catalogue(config) as (settings, catalogue):
            spool = open_spool(settings)
            check_if_named(spool.folder, catalogue)
            with passage_in(NodeFolder(settings.folder).retrieving) as passage:
                yield NodeShelf(spool, catalogue, settings.identity.issuer_of), passage


def _in_a_line(outcome: "Outcome") -> str:
    patient = outcome.patient
    head = f"{patient.identity.patient_id} {patient.index_date:%Y%m%d}:"
    taken = [row for row in outcome.rows if row.taken == "yes"]
    if outcome.has_baseline:
        images = next(row for row in taken if row.reason.startswith("baseline:"))
        return f"{head} {images.study_date}, {len(taken) - 1} segmentation series, {images.reason}"
    codes = sorted({row.reason.partition(":")[0] for row in outcome.rows})
    return f"{head} none: {', '.join(codes)}"
