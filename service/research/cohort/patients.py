"""Tables with one row a patient: joined, filtered, with derived columns."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from mirv.analysis.errors import Unsuitable
from mirv.analysis.tables import identifiers, numeric, read_table
from mirv.service.research.cohort.source import Input, input_of

_DERIVED = re.compile(r"^(?P<name>[^=<>]+)=(?P<column>[^<>=]+)(?P<sign>>=|<=|>|<)(?P<limit>.+)$")


def read_patients(
    paths: Sequence[Path],
    patient: str,
    *,
    where: Sequence[tuple[str, str]] = (),
    how: Literal["inner", "outer"] = "inner",
) -> tuple[pd.DataFrame, list[Input]]:
    """Join tables of patients on their identifier.

    Parameters
    ----------
    paths : sequence of Path
    patient : str
        Column of the patient, in every table; "" to take one table row by row.
    where : sequence of (column, value)
        Keep rows that hold this value, in the tables that have the column; ``column!`` keeps
        the others.
    how : {"inner", "outer"}

    Raises
    ------
    Unsuitable
        A patient stands in two rows of one table, or a column in two tables; says which.
    """
    joined: pd.DataFrame | None = None
    inputs = []
    for path in paths:
        table = read_table(path, [patient] if patient else [])
        inputs.append(input_of(path, len(table)))
        table = _where(table, where, path.name)
        if patient:
            table[patient] = identifiers(table, patient)
            _refuse_repeated(table, patient, path.name)
        elif len(paths) > 1:
            raise Unsuitable("missing_column", "several tables need --patient-column to join on")
        if joined is None:
            joined = table
            continue
        twice = [name for name in table if name in joined and name != patient]
        again = [name for name in twice if not _same(joined, table, str(name), patient)]
        if again:
            raise Unsuitable(
                "repeated_column", f"{path.name}: column {again[0]!r} stands in another table too"
            )
        joined = joined.merge(table.drop(columns=twice), on=patient, how=how)
    if joined is None or joined.empty:
        raise Unsuitable("no_patients", "no patient stands in every table")
    return joined.reset_index(drop=True), inputs


def _where(table: pd.DataFrame, where: Sequence[tuple[str, str]], file: str) -> pd.DataFrame:
    for column, value in where:
        name, excluded = column.removesuffix("!"), column.endswith("!")
        if name in table:
            table = table[(table[name].astype(str) == value) != excluded]
    if table.empty:
        raise Unsuitable("no_patients", f"{file}: no row is left by --where")
    return table.reset_index(drop=True)


def _refuse_repeated(table: pd.DataFrame, patient: str, name: str) -> None:
    doubled = table[patient].duplicated(keep=False).to_numpy()
    if doubled.any():
        first = table.loc[doubled, patient].iloc[0]
        rows = [int(row) + 1 for row in np.flatnonzero((table[patient] == first).to_numpy())]
        raise Unsuitable(
            "duplicate_patient",
            f"{name}: column {patient!r}: {first!r} stands in rows {rows[0]} and {rows[1]}, wanted "
            "one row a patient (choose rows with --where)",
        )


def _same(first: pd.DataFrame, second: pd.DataFrame, column: str, patient: str) -> bool:
    both = first[[patient, column]].merge(second[[patient, column]], on=patient)
    left, right = both[f"{column}_x"], both[f"{column}_y"]
    return bool(((left == right) | (left.isna() & right.isna())).all())


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
