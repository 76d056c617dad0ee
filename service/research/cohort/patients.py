"""Tables with one row a patient: joined, filtered, with derived columns."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from mirv.analysis.errors import Unsuitable
from mirv.analysis.tables import numeric, read_table
from mirv.service.research.cohort.cohorts import (
    COHORT,
    LESION_COLUMNS,
    cohorts_of_rows,
    lesions_of_persons,
)
from mirv.service.research.cohort.joins import Report, join, keyed, refuse_repeated
from mirv.service.research.cohort.persons import (
    ANY,
    DATE,
    PATIENT,
    PERSON,
    Choice,
    rows_that_count,
    studies_of,
)
from mirv.service.research.cohort.source import Input, input_of

_DERIVED = re.compile(r"^(?P<name>[^=<>]+)=(?P<column>[^<>=]+)(?P<sign>>=|<=|>|<)(?P<limit>.+)$")


@dataclass(frozen=True, slots=True)
class Patients:
    """Tables of patients as one.

    Attributes
    ----------
    table : DataFrame
        One row a person; row by row where no column of the patient was named.
    inputs : list of Input
    report : Report
    """

    table: pd.DataFrame
    inputs: list[Input]
    report: Report


@dataclass(frozen=True, slots=True)
class Reading:
    """How tables of patients are read.

    Attributes
    ----------
    patient : str
        Column of the person, in every table; "": ``person`` where all have it, else ``patient_id``.
    by_row : bool
        Take one table row by row.
    where : sequence of (column, value)
        Keep rows that hold this value, in the tables that have the column; ``column!`` keeps
        the others.
    how : {"inner", "outer"}
        Whether persons count who do not stand in every table.
    choice : Choice
        Which study of a person counts, and which persons.
    """

    patient: str = ""
    by_row: bool = False
    where: Sequence[tuple[str, str]] = ()
    how: Literal["inner", "outer"] = "inner"
    choice: Choice = ANY


def read_patients(paths: Sequence[Path], reading: Reading) -> Patients:
    """Join tables of patients on the person, one study each.

    Parameters
    ----------
    paths : sequence of Path
    reading : Reading

    Returns
    -------
    Patients

    Raises
    ------
    Unsuitable
        A person stands in two rows of one table (after the study was chosen), or a column in two
        tables with other values; a table lacks the column of the person; says which.
    """
    report = Report()
    if reading.by_row and len(paths) > 1:
        raise Unsuitable("missing_column", "several tables need --patient-column to join on")
    tables = [read_table(path, [reading.patient]) for path in paths]
    inputs = [input_of(path, len(table)) for path, table in zip(paths, tables, strict=True)]
    patient = reading.patient or _shared_person(tables)
    by_row = reading.by_row and patient not in tables[0] and not reading.patient
    kept = [
        _where(table, reading.where, path.name) for path, table in zip(paths, tables, strict=True)
    ]
    if not by_row:
        kept = [
            _one_study_each(table, patient, reading, report, path.name)
            for path, table in zip(paths, kept, strict=True)
        ]
    if reading.choice.index_dates and not any(DATE in table for table in tables):
        raise Unsuitable("missing_column", f"--index-date: no table has a column {DATE}")
    joined, *others = kept
    if not reading.by_row:
        refuse_repeated(keyed(joined, [patient], paths[0].name))
    for path, table in zip(paths[1:], others, strict=True):
        joined = _joined(joined, table, patient, reading.how, report, path.name)
    if joined.empty:
        raise Unsuitable("no_patients", "no patient stands in every table")
    if patient in joined:
        joined = _of_cohorts(joined, patient, reading.choice, report)
    elif reading.choice.cohorts:
        raise Unsuitable("missing_column", f"--cohort: the table has no column {patient}")
    return Patients(joined, inputs, report)


def _shared_person(tables: Sequence[pd.DataFrame]) -> str:
    return PERSON if all(PERSON in table for table in tables) else PATIENT


def _one_study_each(
    table: pd.DataFrame, patient: str, reading: Reading, report: Report, name: str
) -> pd.DataFrame:
    """A table's rows of the study that counts of each person."""
    choice = reading.choice
    if DATE not in table:
        choice = replace(choice, index_dates=None)  # one that holds no studies
    if not (reading.by_row and any(column in table for column in LESION_COLUMNS)):
        choice = replace(choice, over_persons=choice.over_persons or "its rows are patients")
    found = studies_of(table, patient, "", report, name)
    rows = rows_that_count(table, found, choice, report, name)
    return table.iloc[rows].reset_index(drop=True)


def _joined(
    left: pd.DataFrame, right: pd.DataFrame, patient: str, how: str, report: Report, name: str
) -> pd.DataFrame:
    """Two tables side by side, by person."""
    met = join(keyed(left, [patient], "the tables before"), keyed(right, [patient], name))
    report.joined(met)
    twice = [str(column) for column in right if column in left and column != patient]
    pairs = list(met.pairs)
    for column in twice:
        said = left[column].iloc[[one for one, _ in pairs]].reset_index(drop=True)
        again = right[column].iloc[[other for _, other in pairs]].reset_index(drop=True)
        if not ((said == again) | (said.isna() & again.isna())).all():
            raise Unsuitable(
                "repeated_column", f"{name}: column {column!r} stands in another table too"
            )
    if how == "outer":
        pairs += [(row, -1) for row in met.left_only] + [(-1, row) for row in met.right_only]
    # No row has the index -1: what a table lacks is empty.
    ours = left.reindex([one for one, _ in pairs]).reset_index(drop=True)
    theirs = right.reindex([other for _, other in pairs]).reset_index(drop=True)
    for column in (patient, *twice):
        ours[column] = ours[column].where(ours[column].notna(), theirs[column])
    return pd.concat([ours, theirs.drop(columns=[patient, *twice])], axis=1)


def _of_cohorts(table: pd.DataFrame, patient: str, choice: Choice, report: Report) -> pd.DataFrame:
    """The rows of the cohorts wanted, with the column that names them where it can be told."""
    found = studies_of(table, patient, "", Report())
    n_lesions = lesions_of_persons(table, found)
    cohorts = cohorts_of_rows(table, found, n_lesions, choice.cohorts, report)
    if cohorts is None:
        return table
    table = table.assign(**{COHORT: cohorts})
    if not choice.cohorts:
        return table
    kept = table[[bool(own) for own in cohorts]].reset_index(drop=True)
    if kept.empty:
        raise report.nobody(f"no person is of cohort {', '.join(choice.cohorts)}")
    return kept


def _where(table: pd.DataFrame, where: Sequence[tuple[str, str]], file: str) -> pd.DataFrame:
    for column, value in where:
        name, excluded = column.removesuffix("!"), column.endswith("!")
        if name in table:
            table = table[(table[name].astype(str) == value) != excluded]
    if table.empty:
        raise Unsuitable("no_patients", f"{file}: no row is left by --where")
    return table.reset_index(drop=True)


def derive(table: pd.DataFrame, rules: Sequence[str]) -> pd.DataFrame:
    """Add 0/1 columns by rules like ``old=AGE>=65`` or ``large=volume_total_ml>=median``."""
    table = table.copy()
    for rule in rules:
        match = _DERIVED.match(rule.replace(" ", ""))
        if match is None:
            raise Unsuitable("bad_rule", f"{rule!r}: wanted name=column>=number (or >=median)")
        values = numeric(table, [match["column"]], missing_allowed=True)[match["column"]]
        try:
            limit = values.median() if match["limit"] == "median" else float(match["limit"])
        except ValueError as error:
            raise Unsuitable("bad_rule", f"{rule!r}: {match['limit']!r} is no number") from error
        made = {
            ">=": values >= limit,
            "<=": values <= limit,
            ">": values > limit,
            "<": values < limit,
        }[match["sign"]]
        table[match["name"]] = made.astype(float).where(values.notna())
    return table
