"""What the ``mirv cohort`` commands share: options, opening tables, ending a run.

The parameters of a command function are its options (Typer reads them off its signature), so there
are as many as the command has options; what is below the commands takes them together.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from mirv.analysis.choices import TimePoint
from mirv.analysis.errors import Unsuitable
from mirv.config.errors import BadInput, read_given
from mirv.service.commands.terminal import TableFormat, err, open_catalogue, open_spool, out

# The statistics packages take seconds to import: commands import what they need.
if TYPE_CHECKING:
    from pandas import DataFrame

    from mirv.service.research.cohort.patients import Reading
    from mirv.service.research.cohort.persons import Choice
    from mirv.service.research.cohort.sink import Sink
    from mirv.service.research.cohort.source import Cohort
    from mirv.service.study.result_record import ResultRecord

FeaturesOption = Annotated[
    str,
    typer.Option(
        "--features",
        help="Feature table, one row a lesion (CSV or Parquet); 'store': the node's results.",
    ),
]
PatientOption = Annotated[
    str,
    typer.Option("--patient-column", help="Column of the patient; none: person, else patient_id."),
]
TimePointOption = Annotated[
    TimePoint | None,
    typer.Option(
        "--time-point",
        help="Which study of a person counts where there are several; none: the baseline.",
    ),
]
IndexDateOption = Annotated[
    Path | None,
    typer.Option(
        "--index-date",
        help="Table of person (or patient_id) and index_date: studies 92 days before to 7 after.",
    ),
]
CohortOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cohort",
        help="Only these: L, M-oligo, M-multi (Henry 2022), a label of column cohort, or a text "
        "file of persons, one a line; repeat.",
    ),
]
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
FormatOption = Annotated[TableFormat, typer.Option("--format", help="Tables.")]
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
STORE = "store"
T = TypeVar("T")


@contextmanager
def running(
    command: str, folder: Path, table_format: TableFormat, **options: Any
) -> Iterator["Sink"]:
    """One run: its notes are told whatever comes of it, at its end all paths are printed."""
    from mirv.service.research.cohort.sink import Sink

    sink = Sink(folder, table_format, command, options, watched)
    try:
        yield sink
        written = sink.close()
    finally:
        for note in sink.notes:
            err().print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    for path in written:
        out().print(str(path), highlight=False, markup=False, soft_wrap=True)


def watched(sequence: Sequence[T], what: str, /) -> Iterator[T]:
    """Iterate with a progress bar on a terminal."""
    from rich.progress import track

    console = err()
    hidden = not console.is_terminal
    yield from track(sequence, what, console=console, transient=True, disable=hidden)


@dataclass(frozen=True, slots=True)
class Source:
    """Where lesions with features come from.

    Attributes
    ----------
    features : str
        Path of a table, or ``store``: the node's current results.
    columns : tuple of str
        Names of the columns of patient, study, lesion and site, and the profile; as
        `service.research.cohort.source.Columns`.
    choice : Choice
        Which study of a person counts, and which persons.
    config : Path or None
        Settings of the node, for ``store``.
    identified : bool
        Patients of the store by their own identifiers.
    """

    features: str
    columns: tuple[str, str, str, str, str]
    choice: "Choice"
    config: Path | None = None
    identified: bool = False


def open_lesions(sink: "Sink", source: Source) -> "Cohort":
    """Lesions with features.

    Raises
    ------
    Unsuitable
        The table, or the store, has none that can be used.
    """
    from mirv.service.research.cohort.source import Columns, lesions_of_results, lesions_of_table

    columns = Columns(*source.columns)
    if source.features == STORE:
        found = _stored(source.config, source.identified)
        cohort = lesions_of_results(found, columns, source.choice)
    else:
        cohort = lesions_of_table(Path(source.features), columns, source.choice)
    sink.inputs(cohort.inputs)
    sink.report(cohort.report)
    if not cohort.features:
        raise Unsuitable(
            "missing_column", "no column is named like a feature (original_shape_Sphericity)"
        )
    return cohort


def chosen(
    sink: "Sink",
    time_point: TimePoint | None,
    index_date: Path | None,
    cohort: list[str] | None,
    over_persons: str = "",
) -> "Choice":
    """Which study of a person counts, and which persons; into the provenance too.

    Raises
    ------
    Unsuitable
        All studies of a person, in a statistic over persons; ``unreadable_table``.
    """
    from mirv.analysis.tables import read_table
    from mirv.service.research.cohort.persons import Choice
    from mirv.service.research.cohort.source import input_of

    if index_date is not None:
        sink.inputs([input_of(index_date, len(read_table(index_date)))])
    names = [Path(name).name for name in cohort or ()]
    sink.fact("persons", {"time_point": time_point, "cohort": names})
    choice = Choice(time_point, index_date, over_persons, tuple(cohort or ()))
    choice.check()
    return choice


def read(sink: "Sink", tables: list[Path], reading: "Reading") -> "DataFrame":
    """Tables of patients as one, told of in the provenance."""
    from mirv.service.research.cohort.patients import read_patients

    found = read_patients(tables, reading)
    sink.inputs(found.inputs)
    sink.report(found.report)
    return found.table


def _stored(config: Path | None, identified: bool) -> "list[ResultRecord]":
    from mirv.service.objects.results import current_results
    from mirv.service.research.pseudonym import pseudonymised
    from mirv.service.runtime.node_folder import NodeFolder

    with open_catalogue(config) as (settings, catalogue):
        found = current_results(catalogue, open_spool(settings))
        return list(found if identified else pseudonymised(found, NodeFolder(settings.folder)))


def short_list(name: str) -> tuple[str, ...]:
    """The short list of a profile, checked to be there."""
    from mirv.config.profiles import load_profile

    found = load_profile(name).selected
    if not found:
        raise BadInput(f"profile {name} has no short list of features")
    return found


def pairs(texts: list[str] | None, sign: str, option: str) -> list[tuple[str, str]]:
    """Options of two names each."""
    found = []
    for text in texts or ():
        first, there, second = text.partition(sign)
        if not (first and there and second):
            raise BadInput(f"{option} {text!r}: wanted two names with {sign!r} between them")
        found.append((first, second))
    return found


def names_in(path: Path | None) -> list[str] | None:
    """The lines of a text file of names."""
    if path is None:
        return None
    return [line.strip() for line in read_given(path, str(path)).splitlines() if line.strip()]


def listed(text: str) -> list[str]:
    """Names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
