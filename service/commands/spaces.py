"""The ``mirv space`` commands: frozen feature spaces are fitted, shown and listed."""

from pathlib import Path
from typing import Annotated

import typer

from mirv.analysis.choices import Fitted, Population, ReductionMode, Scaling, TimePoint
from mirv.config.errors import opening
from mirv.service.commands.terminal import AnalysisCommands, err

app = typer.Typer(cls=AnalysisCommands, no_args_is_help=True, help="Frozen feature spaces.")

FeaturesOption = Annotated[
    Path, typer.Option("--features", help="Feature table, one row a lesion (CSV or Parquet)")
]
PatientOption = Annotated[
    str,
    typer.Option("--patient-column", help="Column of the patient; none: person, else patient_id"),
]
TimePointOption = Annotated[
    TimePoint,
    typer.Option("--time-point", help="Which study of a person counts where there are several"),
]


@app.command("list")
def list_spaces() -> None:
    """Name the spaces that ship with the node, with profile, scaling, size and digest."""
    from mirv.analysis.spaces.files import load_space
    from mirv.config.spaces import space_names

    for name in space_names():
        space = load_space(name)
        typer.echo(
            f"{name}\tprofile {space.profile}\t{space.kind}\t{len(space.names)} features"
            f"\tdigest {space.digest[:12]}"
        )


@app.command("show")
def show_space(
    name: Annotated[str, typer.Argument(help="Shipped name, or path of a .json")],
) -> None:
    """Print a space: features, centre, scale, provenance, reference quantiles, digest."""
    from mirv.analysis.spaces.files import load_space, space_to_json

    typer.echo(space_to_json(load_space(name)), nl=False)


@app.command("fit")
def fit(
    features: FeaturesOption,
    name: Annotated[str, typer.Option(help="Name of the new space")],
    out: Annotated[Path, typer.Option(help="Folder for <name>.json")],
    patient_column: PatientOption = "",
    time_point: TimePointOption = TimePoint.BASELINE,
    profile: Annotated[str, typer.Option(help="Profile the features come from")] = "mirv2025",
    mode: Annotated[
        ReductionMode, typer.Option(help="Reduction (SPEC R-MIRV-2)")
    ] = ReductionMode.PAPER,
    short_list_of: Annotated[
        str, typer.Option(help="No reduction: take the short list of this profile")
    ] = "",
    kind: Annotated[Fitted, typer.Option(help="Scaling")] = Scaling.ZSCORE,
    population: Annotated[
        Population, typer.Option(help="all lesions, or of patients with multiple ones")
    ] = Population.ALL,
    source: Annotated[str, typer.Option(help="Where the table comes from, and its licence")] = "",
    description: Annotated[str, typer.Option(help="One sentence for people")] = "",
) -> None:
    """Fit a feature space on a cohort and write it as JSON with its provenance."""
    import hashlib

    from mirv.analysis.spaces.files import write_space
    from mirv.analysis.spaces.fitting import WantedSpace, fit_space
    from mirv.analysis.tables import feature_columns, read_table
    from mirv.config.profiles import load_profile
    from mirv.service.research.cohort.joins import Report
    from mirv.service.research.cohort.persons import Choice, rows_that_count, studies_of

    table = read_table(features, [patient_column])
    report = Report()
    studies = studies_of(table, patient_column, "", report, features.name)
    choice = Choice(time_point, over_persons="the space is fitted on the lesions of all patients")
    rows = rows_that_count(table, studies, choice, report, features.name)
    table, patients = table.iloc[rows].reset_index(drop=True), studies.rows(rows).people
    for note in report.notes:
        err().print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    wanted = WantedSpace(
        name=name,
        profile=profile,
        kind=kind,
        population=population,
        source={
            "source": source,
            "file": features.name,
            "file_sha256": hashlib.sha256(features.read_bytes()).hexdigest(),
        },
        description=description,
    )
    chosen = load_profile(short_list_of).selected if short_list_of else mode
    space = fit_space(table[feature_columns(table)], patients, wanted, chosen)
    with opening():
        out.mkdir(parents=True, exist_ok=True)
        path = write_space(space, out)
    typer.echo(f"{path}: {len(space.names)} features, digest {space.digest}")
