"""What the ``mirv cohort`` commands share: options, opening tables, ending a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from analysis.errors import Unsuitable
from service.shell import out
from service.space_cli import refuse

# The statistics packages take seconds to import: commands import what they need.
if TYPE_CHECKING:
    from service.cohort.sink import Sink
    from service.cohort.source import Cohort

Mode = Literal["paper", "code_fixed", "published_compat"]
Scaling = Literal["reference_minmax", "patient_minmax", "reference_zscore", "none"]
Aggregate = Literal["max", "mean", "any", "volume_weighted"]

FeaturesOption = Annotated[
    str,
    typer.Option(
        "--features",
        help="Feature table, one row a lesion (CSV or Parquet); 'store': the node's results.",
    ),
]
PatientOption = Annotated[str, typer.Option("--patient-column", help="Column of the patient.")]
StudyOption = Annotated[
    str, typer.Option("--study-column", help="Column of the study; none: study_uid if there.")
]
LesionOption = Annotated[
    str, typer.Option("--lesion-column", help="Column of the lesion; none: tracking_uid, lesion.")
]
SiteOption = Annotated[str, typer.Option("--site-column", help="Column of the site; none: site.")]
ProfileOption = Annotated[
    str, typer.Option("--profile", help="Rows of this profile (column profile).")
]
OutOption = Annotated[Path, typer.Option("--out", help="Folder for tables and figures.")]
FormatOption = Annotated[Literal["csv", "parquet"], typer.Option("--format", help="Tables.")]
IdentifiedOption = Annotated[
    bool, typer.Option("--identified", help="Store: patients by their own identifiers.")
]
ShortListOption = Annotated[
    str, typer.Option("--short-list-of", help="Profile whose short list of features is used.")
]
IncompleteOption = Annotated[
    Literal["refuse", "leave-out"],
    typer.Option("--incomplete", help="Lesions without a feature needed to fit the space."),
]
TablesOption = Annotated[
    list[Path], typer.Option("--table", help="Table, one row a patient; repeat to join more.")
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option("--where", help="column=value or column!=value: keep such rows; repeat."),
]
DeriveOption = Annotated[
    list[str] | None,
    typer.Option("--derive", help="name=column>=number (or >=median): a 0/1 column; repeat."),
]
OUT = Path("cohort-out")


@contextmanager
def running(
    command: str, folder: Path, table_format: Literal["csv", "parquet"], **options: Any
) -> Iterator["Sink"]:
    """One run: bad input ends with exit code 2 and one line, else all paths are printed."""
    from service.cohort.sink import Sink

    sink = Sink(folder, table_format, command, options)
    try:
        yield sink
        written = sink.close()
    except (Unsuitable, ValueError) as error:
        raise refuse(error) from error
    for path in written:
        out.print(str(path), highlight=False, markup=False, soft_wrap=True)


def open_lesions(
    sink: "Sink",
    features: str,
    columns: tuple[str, str, str, str, str],
    config: Path | None = None,
    identified: bool = False,
) -> "Cohort":
    """Lesions with features; `columns` name patient, study, lesion, site, and the profile."""
    from service.cohort.source import Columns, open_cohort

    cohort = open_cohort(features, Columns(*columns), config, identified=identified)
    sink.inputs(cohort.inputs)
    if not cohort.features:
        raise Unsuitable(
            "missing_column", "no column is named like a feature (original_shape_Sphericity)"
        )
    return cohort


def short_list(name: str) -> tuple[str, ...]:
    """The short list of a profile, checked to be there."""
    from config.profiles import load_profile

    found = load_profile(name).selected
    if not found:
        raise ValueError(f"profile {name} has no short list of features")
    return found


def pairs(texts: list[str] | None, sign: str, option: str) -> list[tuple[str, str]]:
    """Options of two names each."""
    found = []
    for text in texts or ():
        first, there, second = text.partition(sign)
        if not (first and there and second):
            raise ValueError(f"{option} {text!r}: wanted two names with {sign!r} between them")
        found.append((first, second))
    return found


def names_in(path: Path | None) -> list[str] | None:
    """The lines of a text file of names."""
    if path is None:
        return None
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def listed(text: str) -> list[str]:
    """Names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
