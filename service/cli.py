"""The ``mirv`` command: thin; each command calls one function and prints what it says."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from service.cohort_cli import app as cohort_app
from service.cohort_cli import space_app
from service.operate_cli import deliveries_app, export, jobs_app
from service.shell import ConfigOption, err, fail, out, settings_or_exit
from service.sr_cli import sr_app

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Lesion radiomics and inter-lesion heterogeneity, inside the DICOM network. "
    "Research use; not a diagnostic or prognostic statement.",
)
config_app = typer.Typer(no_args_is_help=True, help="Settings of the node.")
profile_app = typer.Typer(no_args_is_help=True, help="Extraction profiles.")
app.add_typer(config_app, name="config")
app.add_typer(profile_app, name="profile")
app.add_typer(jobs_app, name="jobs")
app.add_typer(deliveries_app, name="deliveries")
app.add_typer(cohort_app, name="cohort")
app.add_typer(space_app, name="space")
app.add_typer(sr_app, name="sr")
app.command()(export)

PathsArgument = Annotated[
    list[Path], typer.Argument(help="Files and folders of DICOM, read to the bottom.", exists=True)
]
ProfileOption = Annotated[
    list[str] | None,
    typer.Option("--profile", help="Profile name or path of a YAML; repeat for more."),
]


def main() -> None:
    """Entry point of the console script."""
    app()


@contextmanager
def lesion_progress() -> Iterator[Progress]:
    """A progress bar over lesions, on standard error, gone when nobody watches."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, disable=not sys.stderr.isatty()) as bar:
        yield bar


@app.command()
def process(
    paths: PathsArgument,
    folder: Annotated[Path, typer.Option("--out", help="Folder for tables and DICOM results.")],
    profile: ProfileOption = None,
    config: ConfigOption = None,
) -> None:
    """Analyse folders of DICOM: the node's pipeline without network.

    Exit code 0: all done; 2: some input refused (quality.csv says why); 1: a fault.
    """
    from service.folder import process_folder

    settings = settings_or_exit(config)
    with lesion_progress() as bar:
        lesions = bar.add_task("lesions", total=None)
        try:
            outcome = process_folder(
                paths,
                folder,
                settings,
                profile or (),
                progress=lambda done, total: bar.update(lesions, completed=done, total=total),
            )
        except ValueError as error:
            fail(str(error))
    for path in [*outcome.tables, *outcome.artifacts, *outcome.pictures]:
        out.print(Text(str(path)))
    refused = [row for row in outcome.refused if row.outcome == "refused"]
    for row in refused:
        where = row.file or row.object_uid or row.series_uid
        err.print(Text(f"refused: {row.check}: {row.detail} {row.wanted} ({where})", "yellow"))
    raise typer.Exit(outcome.exit_code)


@app.command()
def check(
    paths: PathsArgument,
    config: ConfigOption = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write the checks here.")] = None,
    description: Annotated[
        Path | None,
        typer.Option("--description", help="Also write the series' acquisition here (CSV)."),
    ] = None,
    per_slice: Annotated[
        bool, typer.Option("--per-slice", help="Describe every slice, not every series.")
    ] = False,
) -> None:
    """Say of every image and segmentation whether it can be analysed, and why not.

    Exit code 0: nothing refused; 2: something is.
    """
    from dicom_io.header import headers_of_folder
    from dicom_io.quality import check_folder, describe
    from service import tables

    described = describe(headers_of_folder(paths).headers, per_slice=per_slice)
    rows = check_folder(paths, settings_or_exit(config).reading)
    if csv is not None:
        csv.write_bytes(tables.to_csv(tables.QUALITY_COLUMNS, [asdict(row) for row in rows]))
    if description is not None:
        columns = tuple(described[0]) if described else ()
        description.write_bytes(tables.to_csv(columns, described))
    for series in described:
        facts = [f"{name} {value}" for name, value in series.items() if value not in (None, "")]
        out.print(Text(" · ".join(facts)), soft_wrap=True)
    table = Table("object", "check", "outcome", "found", "wanted", "detail")
    for row in rows:
        name = row.file or row.object_uid or row.series_uid or row.study_uid
        cells = (name, row.check, row.outcome, row.found, row.wanted, row.detail)
        table.add_row(*(Text(cell) for cell in cells))
    out.print(table)
    raise typer.Exit(2 if any(row.outcome == "refused" for row in rows) else 0)


@config_app.command("check")
def config_check(config: ConfigOption = None) -> None:
    """Check a settings file and print what holds, defaults filled in."""
    from service.pipeline import plan_from

    settings = settings_or_exit(config)
    try:
        plan_from(settings)
    except ValueError as error:
        fail(str(error))
    out.print(Text(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)))


@profile_app.command("list")
def profile_list() -> None:
    """List the profiles that ship with the node."""
    from config.profiles import load_profile, profile_names

    table = Table("profile", "features", "digest", "description")
    for name in profile_names():
        profile = load_profile(name)
        table.add_row(
            name, str(profile.n_features), profile.digest()[:12], profile.description.strip()
        )
    out.print(table)


@profile_app.command("import")
def profile_import(
    file: Annotated[Path, typer.Argument(help="PyRadiomics parameter file.", exists=True)],
    name: Annotated[str, typer.Option("--name", help="Name of the new profile.")],
    profile_file: Annotated[Path, typer.Option("--out", help="Profile file to write (.yaml).")],
    pixel_type: Annotated[
        str, typer.Option(help="Pixel type of CT images: parameter files are silent about it.")
    ] = "int16",
) -> None:
    """Take in a PyRadiomics parameter file as a profile of one's own."""
    from config.profiles import dump_profile, import_parameter_file

    try:
        profile = import_parameter_file(file, name, pixel_type=pixel_type)
    except ValueError as error:
        fail(str(error))
    profile_file.write_text(dump_profile(profile), encoding="utf-8")
    out.print(Text(f"{profile_file}: {profile.n_features} features, {profile.digest()[:12]}"))


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Run the node: listener, scheduler, workers, sender and status page."""
    from service.log import configure
    from service.node import Node

    settings = settings_or_exit(config)
    configure(settings.log_level)
    try:
        node = Node(settings)
        node.start()
    except (ValueError, OSError, RuntimeError) as error:
        fail(str(error))
    try:
        node.wait()
    finally:
        node.stop()


@app.command()
def worker(config: ConfigOption = None) -> None:
    """Take runs and deliveries from a node's queues, on this or another machine (PostgreSQL)."""
    from service.log import configure
    from service.worker import Worker

    settings = settings_or_exit(config)
    configure(settings.log_level)
    try:
        made = Worker(settings)
        made.start()
    except (ValueError, OSError) as error:
        fail(str(error))
    made.wait()


@app.command()
def doctor(
    repair: Annotated[bool, typer.Option("--repair", help="Put right what can be.")] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Read every file and check its content.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Compare the spool with the index. Exit code 0: healthy; 2: something is lost or damaged."""
    from service import doctor as doctoring
    from service.operate_cli import catalogue
    from service.same_spool import OtherSpool, check_if_named

    with catalogue(config) as (_, store, spool):
        try:
            check_if_named(spool.folder, store)
        except OtherSpool as error:
            fail(str(error))
        findings = doctoring.check(spool, store, thorough=thorough)
        if repair:
            doctoring.repair(spool, store, findings)
    for name in ("unindexed", "missing", "damaged", "outputs_missing"):
        found = getattr(findings, name)
        out.print(Text(f"{name}: {len(found)}"))
        for one in found:
            out.print(Text(f"  {one}"))
    raise typer.Exit(0 if findings.healthy else 2)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="Folder of the demo.")] = Path("demo-out"),
    stay: Annotated[bool, typer.Option("--stay", help="Keep the node and its page up.")] = False,
) -> None:
    """Send a synthetic patient with 12 lesions through the whole line and show the results."""
    from service.demo import running_demo
    from service.demo_report import show
    from service.log import configure

    configure("ERROR")
    err.print(
        "A synthetic CT with 12 lesions goes to the node by C-STORE; a PACS waits for results"
    )
    try:
        with running_demo(folder) as (outcome, node):
            show(outcome, out)
            if stay:
                out.print("The page is up until Ctrl-C.")
                node.wait()
    except (OSError, RuntimeError) as error:
        fail(str(error))
