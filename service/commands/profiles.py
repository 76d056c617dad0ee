"""The ``mirv profile`` commands: extraction profiles are listed and taken in."""

from pathlib import Path
from typing import Annotated

import typer

from mirv.config.errors import opening
from mirv.service.commands.terminal import Commands, out

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Extraction profiles.")


@app.command("list")
def profile_list() -> None:
    """List the profiles that ship with the node."""
    from rich.table import Table

    from mirv.config.profiles import load_profile, profile_names

    table = Table("profile", "features", "digest", "description")
    for name in profile_names():
        profile = load_profile(name)
        table.add_row(
            name, str(profile.n_features), profile.digest()[:12], profile.description.strip()
        )
    out().print(table)


@app.command("import")
def profile_import(
    file: Annotated[Path, typer.Argument(help="PyRadiomics parameter file.", exists=True)],
    name: Annotated[str, typer.Option("--name", help="Name of the new profile.")],
    profile_file: Annotated[Path, typer.Option("--out", help="Profile file to write (.yaml).")],
    pixel_type: Annotated[
        str, typer.Option(help="Pixel type of CT images: parameter files are silent about it.")
    ] = "int16",
) -> None:
    """Take in a PyRadiomics parameter file as a profile of one's own."""
    from rich.text import Text

    from mirv.config.profiles import dump_profile, import_parameter_file

    profile = import_parameter_file(file, name, pixel_type=pixel_type)
    with opening():
        profile_file.write_text(dump_profile(profile), encoding="utf-8")
    out().print(Text(f"{profile_file}: {profile.n_features} features, {profile.digest()[:12]}"))
