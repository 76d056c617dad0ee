"""What all commands share: where they print, how they open the node's data, how they fail.

A fault of the input (`MirvError`) becomes one line and an exit code in `Commands`, and nowhere
else; anything else is a bug and keeps its traceback.

Command modules import little at their top, and what a command needs when it runs: `mirv --help`
and `mirv jobs list` would else load the whole of the statistics and the network.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NoReturn

import typer
from typer.core import TyperGroup

from mirv.analysis.errors import Unsuitable
from mirv.config.errors import BadInput, MirvError, SettingsError, opening

if TYPE_CHECKING:
    from rich.console import Console

    from mirv.config.settings import Settings
    from mirv.service.catalogue import Catalogue
    from mirv.service.objects.spool import Spool

_PLAIN_WIDTH = 220  # of tables that go to a file or pipe
MOST_ROWS = 10_000  # in a list that is shown

TableFormat = Literal["csv", "parquet"]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file (YAML); none: defaults.")
]


def out() -> "Console":
    """Standard output."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)


def err() -> "Console":
    """Standard error."""
    from rich.console import Console

    return Console(stderr=True)


class Commands(TyperGroup):
    """A group of commands that says faults of the input in one line: exit code 1."""

    # The context is Any: Typer carries a click of its own, or none, depending on its version.
    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except MirvError as error:
            self.refuse(error)

    def refuse(self, error: MirvError) -> NoReturn:
        """Say what cannot be used and leave.

        Parameters
        ----------
        error : MirvError

        Raises
        ------
        typer.Exit
            With code 1.
        """
        fail(str(error))


class AnalysisCommands(Commands):
    """Commands on tables: input that cannot be used gives exit code 2; wrong settings give 1."""

    refusals: ClassVar = (BadInput, Unsuitable)

    def refuse(self, error: MirvError) -> NoReturn:
        """Say what cannot be used and leave.

        Parameters
        ----------
        error : MirvError

        Raises
        ------
        typer.Exit
            With code 2, or 1 where it is not the input's fault.
        """
        if isinstance(error, SettingsError) or not isinstance(error, self.refusals):
            fail(str(error))
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2)


def fail(text: str) -> NoReturn:
    """Say what is wrong on standard error and leave with 1.

    Parameters
    ----------
    text : str

    Raises
    ------
    typer.Exit
        With code 1.
    """
    from rich.text import Text

    err().print(Text(text, style="red"))
    raise typer.Exit(1)


@contextmanager
def open_catalogue(config: Path | None) -> Iterator[tuple["Settings", "Catalogue"]]:
    """Open a node's catalogue beside the running node.

    Raises
    ------
    SettingsError
        The settings are wrong, or there is no node.
    """
    from mirv.config.settings import load_settings
    from mirv.service.catalogue import Catalogue
    from mirv.service.runtime.node_folder import catalogue_url

    settings = load_settings(config)
    if not settings.folder.is_dir():
        raise SettingsError(f"no node here: found no folder {settings.folder}")
    catalogue = Catalogue(catalogue_url(settings))
    try:
        yield settings, catalogue
    finally:
        catalogue.close()


def open_spool(settings: "Settings") -> "Spool":
    """Open a node's spool beside the running node.

    Raises
    ------
    Unavailable
        It cannot be read or written.
    """
    from mirv.service.objects.spool import Spool
    from mirv.service.runtime.node_folder import NodeFolder

    with opening():
        return Spool(NodeFolder(settings.folder).spool)


def moment(seconds: float) -> str:
    """Seconds since 1970 for people, in UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def now() -> float:
    """Seconds since 1970."""
    import time

    return time.time()
