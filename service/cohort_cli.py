"""The ``mirv cohort`` commands: the papers' analyses on tables of a cohort."""

import typer

from service.space_cli import space_app

app = typer.Typer(no_args_is_help=True, help="Analyses of a cohort's feature tables.")

__all__ = ["app", "space_app"]
