"""Labels of cohorts: the published ones by the number of lesions, and one's own by a list."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mirv.analysis.cohort.labels import PUBLISHED, labels, taken_into_l
from mirv.analysis.errors import Unsuitable
from mirv.analysis.tables import identifier, identifiers, numeric
from mirv.config.errors import read_given
from mirv.service.research.cohort.joins import Keyed, Report, join
from mirv.service.research.cohort.persons import PATIENT, Studies, one_person_each
from mirv.service.study.time_points import LABEL_SEPARATOR

COHORT = "cohort"
N_LESIONS, LESION_COLUMNS = "n_lesions", ("tracking_uid", "lesion")


def cohorts_of_rows(
    table: pd.DataFrame,
    found: Studies,
    n_lesions: Mapping[str, int],
    wanted: Sequence[str],
    report: Report,
) -> list[str] | None:
    """The cohort of each row's person.

    Parameters
    ----------
    table : DataFrame
    found : Studies
        Of its rows.
    n_lesions : mapping of person to int
        At the time point that counts; empty: not known.
    wanted : sequence of str
        Labels, each a published one, one of the column ``cohort``, or a text file of persons (or
        PatientIDs), one a line, whose name is the label.
    report : Report
        Told who of a file is not in the table.

    Returns
    -------
    list of str or None
        Labels with `LABEL_SEPARATOR` between; of the wanted ones where there are any, and then ""
        for a row to leave out. None where nothing is known of cohorts.

    Raises
    ------
    Unsuitable
        ``missing_column``: a published label without the number of lesions.
    """
    said = None
    if COHORT in table:
        said = [_split(str(cell)) for cell in table[COHORT].astype(object).fillna("")]
    in_l = taken_into_l(n_lesions)
    published = {person: labels(n, in_l=person in in_l) for person, n in n_lesions.items()}
    if not wanted:
        if said is not None or not published:
            return [LABEL_SEPARATOR.join(own) for own in said] if said is not None else None
        return [LABEL_SEPARATOR.join(published.get(person, ())) for person in found.people]
    columns: list[list[str]] = [[] for _ in found.people]
    for label in wanted:
        name, members = _members(label, table, found, said, published, report)
        for own, row_is in zip(columns, members, strict=True):
            if row_is:
                own.append(name)
    return [LABEL_SEPARATOR.join(own) for own in columns]


def lesions_of_persons(table: pd.DataFrame, found: Studies) -> dict[str, int]:
    """How many lesions each person of a table has; nobody where it does not tell.

    Parameters
    ----------
    table : DataFrame
        One row a patient with a column ``n_lesions``, or one row a lesion (and profile).
    found : Studies
        Of its rows, one study a person.

    Raises
    ------
    Unsuitable
        A number of lesions is no number.
    """
    if N_LESIONS in table:
        counts = numeric(table, [N_LESIONS], missing_allowed=True)[N_LESIONS]
        most: dict[str, int] = {}
        for person, n in zip(found.people, counts.fillna(-1), strict=True):
            if n >= 0:
                most[person] = max(int(n), most.get(person, 0))
        return most
    column = next((name for name in LESION_COLUMNS if name in table), "")
    if not column:
        return {}
    drawn = set(zip(found.people, identifiers(table, column), strict=True))
    return dict(Counter(person for person, _ in drawn))


def _members(
    label: str,
    table: pd.DataFrame,
    found: Studies,
    said: list[tuple[str, ...]] | None,
    published: Mapping[str, tuple[str, ...]],
    report: Report,
) -> tuple[str, list[bool]]:
    """The name of a label, and whether each row's person has it."""
    if label in PUBLISHED:
        if not published:
            raise Unsuitable(
                "missing_column", f"--cohort {label}: no table has a column n_lesions to tell it by"
            )
        return label, [label in published.get(person, ()) for person in found.people]
    if said is not None and any(label in own for own in said):
        return label, [label in own for own in said]
    path = Path(label)
    members = persons_in(path, table, found, report)
    return path.stem, [person in members for person in found.people]


def listed_persons(path: Path) -> list[str]:
    """The persons of a text file given as a cohort, one a line.

    Raises
    ------
    BadInput
        There is no such file: then it was meant for a label, perhaps.
    """
    what = f"--cohort {path}: found no label (known: {', '.join(PUBLISHED)}) and no list of persons"
    return [name for line in read_given(path, what).splitlines() if (name := identifier(line))]


def persons_in(path: Path, table: pd.DataFrame, found: Studies, report: Report) -> frozenset[str]:
    """The persons of a table that a text file names, one a line, by key or PatientID.

    Raises
    ------
    BadInput
        There is no such file.
    Unsuitable
        ``several_persons``: one PatientID is of two; ``repeated_key``: a person is named twice.
    """
    lines = listed_persons(path)
    people = dict.fromkeys(found.people)
    of_id: dict[str, str] = {}
    if PATIENT in table and found.column != PATIENT:
        ids = identifiers(table, PATIENT)
        if any(line not in people for line in lines):
            one_person_each(ids, found.people, PATIENT, "table")
        of_id = dict(zip(ids, found.people, strict=True))
    named = [line if line in people else of_id.get(line, line) for line in lines]
    column = (found.column,)
    met = join(
        Keyed("table", column, [(person,) for person in people]),
        Keyed(path.name, column, [(person,) for person in named]),
    )
    report.joined(met)
    return frozenset(named[right] for _, right in met.pairs)


def _split(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split(LABEL_SEPARATOR) if part.strip())
