"""What all commands share: where they print, how they load settings, how they fail."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from config.settings import Settings, SettingsError, load_settings

_PLAIN_WIDTH = 220  # of tables that go to a file or pipe

out = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
err = Console(stderr=True)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file (YAML); none: defaults.")
]


def settings_or_exit(path: Path | None) -> Settings:
    """Load settings; say every fault and leave with 1 when they are wrong."""
    try:
        return load_settings(path)
    except SettingsError as error:
        fail(str(error))


def fail(text: str) -> NoReturn:
    """Say what is wrong on standard error and leave with 1."""
    err.print(Text(text, style="red"))
    raise typer.Exit(1)
