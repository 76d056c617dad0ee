"""The ``mirv`` command."""

import typer

app = typer.Typer(no_args_is_help=True, help="DICOM-native lesion radiomics and heterogeneity.")


def main() -> None:
    """Entry point of the console script."""
    app()
