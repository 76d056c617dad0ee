"""The ``mirv deliveries`` commands: what was sent, what waits, what is parked."""

from dataclasses import asdict
from typing import Annotated

import typer

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

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Results on their way to destinations.")


@app.command("list")
def deliveries_list(
    state: Annotated[str, typer.Option(help="waiting, delivered, parked or cancelled.")] = "",
    config: ConfigOption = None,
) -> None:
    """List deliveries."""
    from rich.table import Table
    from rich.text import Text

    from mirv.service.catalogue import DeliveryState

    with open_catalogue(config) as (_, catalogue):
        table = Table("id", "run", "output", "destination", "state", "tries", "next", "last answer")
        for row in catalogue.deliveries.all(state=state, limit=MOST_ROWS):
            due = moment(row.next_attempt_at) if row.state == DeliveryState.WAITING else ""
            table.add_row(
                str(row.id), row.run_id[:12], row.role, row.destination, row.state,
                str(row.attempts), due, Text(row.detail),
            )  # fmt: skip
    out().print(table)


@app.command("show")
def deliveries_show(delivery: int, config: ConfigOption = None) -> None:
    """Show one delivery."""
    from rich.table import Table
    from rich.text import Text

    with open_catalogue(config) as (_, catalogue):
        row = catalogue.deliveries.get(delivery)
    if row is None:
        fail(f"no delivery {delivery}")
    table = Table("field", "value", show_header=False)
    for name, value in asdict(row).items():
        table.add_row(name, Text("" if value is None else str(value)))
    out().print(table)


@app.command("retry")
def deliveries_retry(
    delivery: Annotated[int | None, typer.Argument(help="Number; none: all parked.")] = None,
    config: ConfigOption = None,
) -> None:
    """Try a parked or cancelled delivery again at once; without a number, all parked ones."""
    from mirv.service.catalogue import DeliveryState

    with open_catalogue(config) as (settings, catalogue):
        parked = catalogue.deliveries.all(state=DeliveryState.PARKED)
        chosen = [row.id for row in parked] if delivery is None else [delivery]
        attempts = settings.delivery.max_attempts
        done = [one for one in chosen if catalogue.deliveries.retry(one, attempts, now())]
    if delivery is not None and not done:
        fail(f"delivery {delivery} is neither parked nor cancelled")
    out().print(f"{len(done)} deliveries will be tried again")


@app.command("cancel")
def deliveries_cancel(delivery: int, config: ConfigOption = None) -> None:
    """Stop trying a delivery."""
    with open_catalogue(config) as (_, catalogue):
        if not catalogue.deliveries.cancel(delivery, now()):
            fail(f"delivery {delivery} is neither waiting nor parked")
    out().print(f"cancelled: {delivery}")
