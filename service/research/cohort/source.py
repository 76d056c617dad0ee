"""A cohort's lesions, from a CSV or Parquet table or from results of the node."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from mirv.analysis.choices import TimePoint
from mirv.analysis.errors import Reason, Unsuitable
from mirv.analysis.model import BoolArray, FloatArray, LesionResult
from mirv.analysis.spaces.reduction import VOLUME
from mirv.analysis.spaces.space import FeatureSpace
from mirv.analysis.tables import FEATURE_NAME, identifiers, numeric, read_table, require_columns
from mirv.service.research.cohort.cohorts import (
    COHORT,
    LESION_COLUMNS,
    cohorts_of_rows,
    lesions_of_persons,
)
from mirv.service.research.cohort.joins import Report
from mirv.service.research.cohort.persons import (
    ANY,
    DATE,
    PATIENT,
    PERSON,
    POINT,
    Choice,
    Studies,
    rows_that_count,
    studies_of,
)
from mirv.service.study import result_tables
from mirv.service.study.result_record import ResultRecord


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a table are what; an empty name: found by itself where it can be.

    Attributes
    ----------
    patient, study, lesion, site : str
        Of the patient: ``person``, else ``patient_id``.
    profile : str
        Rows of this profile only (column ``profile`` of the node's own tables).
    """

    patient: str = ""
    study: str = ""
    lesion: str = ""
    site: str = ""
    profile: str = ""


@dataclass(frozen=True, slots=True)
class Input:
    """A file that went into a run."""

    name: str
    sha256: str
    n_rows: int


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Lesions of many persons, as a rule of one study each.

    Attributes
    ----------
    table : DataFrame
        All columns, one row a lesion, rows numbered from 0.
    keys : DataFrame
        Person, study, date, time point and cohort of each row as far as they are known, as text,
        under the names the table gave them.
    people : list of str
        Person of each row.
    units : list of str
        One text a row: what counts as one patient at one time; the person where each has one study.
    labels, sites : list of str
    features : list of str
        Columns named like features.
    profile : str
    left_out : list of (row from 1, label, Reason)
        Lesions the table itself says have no features.
    inputs : list of Input
    report : Report
        Whom and what was left out, and by which rule.
    study_column, lesion_column : str
        "": the table has none.
    """

    table: pd.DataFrame
    keys: pd.DataFrame
    people: list[str]
    units: list[str]
    labels: list[str]
    sites: list[str]
    features: list[str]
    profile: str
    left_out: list[tuple[int, str, Reason]]
    inputs: list[Input] = field(default_factory=list)
    report: Report = field(default_factory=Report)
    study_column: str = ""
    lesion_column: str = ""

    def rows(self) -> dict[str, list[int]]:
        """Rows of each unit, in order of appearance."""
        found: dict[str, list[int]] = {}
        for row, unit in enumerate(self.units):
            found.setdefault(unit, []).append(row)
        return found

    def key(self, rows: Sequence[int]) -> dict[str, str]:
        """The key columns of a unit."""
        first = self.keys.iloc[rows[0]]
        return {str(name): str(first[name]) for name in self.keys.columns}

    def values(self, names: Sequence[str]) -> FloatArray:
        """Features of all lesions; a missing one is a fault that names column and row.

        Parameters
        ----------
        names : sequence of str

        Returns
        -------
        array (lesion, feature)

        Raises
        ------
        Unsuitable
            A value is missing or no number.
        """
        return numeric(self.table, names).to_numpy(np.float64)

    def volumes_ml(self) -> FloatArray | None:
        """Lesion volumes in ml: ``volume_ml``, else the voxel volume; None without either.

        Returns
        -------
        array (lesion,) or None

        Raises
        ------
        Unsuitable
            A value is missing or no number.
        """
        if "volume_ml" in self.table:
            return numeric(self.table, ["volume_ml"])["volume_ml"].to_numpy(np.float64)
        if VOLUME in self.table:
            return numeric(self.table, [VOLUME])[VOLUME].to_numpy(np.float64) / 1000.0
        return None

    def complete(self, names: Sequence[str]) -> "Cohort":
        """Without the lesions that lack one of the named features; they join `left_out`.

        Parameters
        ----------
        names : sequence of str

        Returns
        -------
        Cohort

        Raises
        ------
        Unsuitable
            A value is no number.
        """
        values = numeric(self.table, names, missing_allowed=True).to_numpy(np.float64)
        holes = np.isnan(values)
        kept = np.flatnonzero(~holes.any(axis=1))
        gone = [
            (int(row) + 1, self.labels[row], _lacks(names, holes[row]))
            for row in np.flatnonzero(holes.any(axis=1))
        ]
        return replace(
            self,
            table=self.table.iloc[kept].reset_index(drop=True),
            keys=self.keys.iloc[kept].reset_index(drop=True),
            people=[self.people[row] for row in kept],
            units=[self.units[row] for row in kept],
            labels=[self.labels[row] for row in kept],
            sites=[self.sites[row] for row in kept],
            left_out=[*self.left_out, *gone],
        )

    def lesions(self, names: Sequence[str]) -> list[LesionResult]:
        """Every row as a lesion that carries the named features; a missing value stays one.

        Parameters
        ----------
        names : sequence of str

        Returns
        -------
        list of LesionResult

        Raises
        ------
        Unsuitable
            A value is no number.
        """
        values = numeric(self.table, names, missing_allowed=True).to_numpy(np.float64)
        volumes = self.volumes_ml()
        return [
            LesionResult(
                number=row + 1,
                label=label,
                tracking_id=label,
                tracking_uid=label,
                site=self.sites[row],
                volume_ml=float(volumes[row]) if volumes is not None else 0.0,
                profile=self.profile,
                names=tuple(names),
                values=values[row],
            )
            for row, label in enumerate(self.labels)
        ]


def _lacks(names: Sequence[str], holes: BoolArray) -> Reason:
    first = names[int(np.flatnonzero(holes)[0])]
    return Reason("feature_missing", f"lacks {int(holes.sum())} feature(s), first {first}")


def lesions_of_table(path: Path, columns: Columns, choice: Choice = ANY) -> Cohort:
    """Read lesions with their features from a CSV or Parquet table.

    Raises
    ------
    Unsuitable
        A column is missing, an identifier is empty, a lesion stands there twice, several profiles
        and none chosen, no lesion left: names column and row. As `rows_that_count`.
    """
    table = read_table(path, [columns.patient, columns.study, columns.lesion])
    return cohort_of(table, columns, [input_of(path, len(table))], choice)


def lesions_of_results(
    found: Iterable[ResultRecord], columns: Columns, choice: Choice = ANY
) -> Cohort:
    """The lesions of results of the node, under the names of its own tables.

    Raises
    ------
    Unsuitable
        As `lesions_of_table`; or there is no result.
    """
    results = result_tables.in_order(found)
    somebodys = [record for record in results if record.patient_id]
    if not somebodys:
        raise Unsuitable("no_lesions", "the store holds no finished result of a known patient")
    names, rows = result_tables.lesion_rows(somebodys)
    table = pd.DataFrame(rows, columns=list(names))
    table[POINT] = [str(row[POINT] or "") for row in rows]
    cohort = cohort_of(table, columns, [], choice)
    if len(somebodys) < len(results):
        n = len(results) - len(somebodys)
        cohort.report.notes.append(f"{n} result(s) without a PatientID are nobody's: left out")
    return cohort


def cohort_of(
    table: pd.DataFrame, columns: Columns, inputs: list[Input], choice: Choice = ANY
) -> Cohort:
    """A table as a cohort; refuses as `lesions_of_table` says."""
    report = Report()
    table, profile = _one_profile(table, columns.profile)
    name = inputs[0].name if inputs else "table"
    found = studies_of(table, columns.patient, columns.study, report, name)
    rows = rows_that_count(table, found, choice, report, name)
    table, found = table.iloc[rows].reset_index(drop=True), found.rows(rows)
    table, found = of_cohorts(table, found, choice, report)
    keys = key_columns(table, found)
    with_features, left_out = _with_features(table, columns)
    table = table.iloc[with_features].reset_index(drop=True)
    keys = keys.iloc[with_features].reset_index(drop=True)
    found = found.rows(with_features)
    labels = _labels(table, columns.lesion)
    each = choice.time_point != TimePoint.ALL
    units = (
        found.people if each else list(map("|".join, zip(found.people, found.uids, strict=True)))
    )
    names = [str(name) for name in table.columns if FEATURE_NAME.match(str(name))]
    _refuse_repeated(table, units, labels, names, columns.lesion)
    return Cohort(
        table=table,
        keys=keys,
        people=found.people,
        units=units,
        labels=labels,
        sites=_sites(table, columns.site),
        features=[name for name in names if not _empty(table, name)],
        profile=profile or "unknown",
        left_out=left_out,
        inputs=inputs,
        report=report,
        study_column=found.study_column,
        lesion_column=_lesion_column(table, columns.lesion),
    )


def of_cohorts(
    table: pd.DataFrame, found: Studies, choice: Choice, report: Report
) -> tuple[pd.DataFrame, Studies]:
    """The rows of the cohorts wanted, with the column that names them.

    Parameters
    ----------
    table : DataFrame
        One row a lesion, of one study a person.
    found : Studies
        Of its rows.
    choice : Choice
    report : Report

    Raises
    ------
    Unsuitable
        ``no_patients``: nobody is of the cohorts.
    """
    n_lesions = lesions_of_persons(table, found) or Counter(found.people)
    cohorts = cohorts_of_rows(table, found, n_lesions, choice.cohorts, report)
    if cohorts is None:
        return table, found
    table = table.assign(**{COHORT: cohorts})
    if not choice.cohorts:
        return table, found
    kept = [row for row, own in enumerate(cohorts) if own]
    if not kept:
        raise report.nobody(f"no person is of cohort {', '.join(choice.cohorts)}")
    return table.iloc[kept].reset_index(drop=True), found.rows(kept)


def key_columns(table: pd.DataFrame, found: Studies) -> pd.DataFrame:
    """What names a row's person and study, as text.

    Parameters
    ----------
    table : DataFrame
    found : Studies
        Of its rows.

    Returns
    -------
    DataFrame
        The person's columns first; study, date, time point and cohort where they are known.
    """
    keys: dict[str, list[str]] = {}
    if found.column != PERSON:
        keys[found.column] = found.people
    elif PATIENT in table:
        keys[PATIENT] = identifiers(table, PATIENT)
    keys[PERSON] = found.people
    if found.study_column:
        keys[found.study_column] = found.uids
    if DATE in table:
        keys[DATE] = [str(text) for text in table[DATE].fillna("")]
    if any(point is not None for point in found.points):
        keys[POINT] = ["" if point is None else str(point) for point in found.points]
    if COHORT in table:
        keys[COHORT] = [str(label) for label in table[COHORT].astype(object).fillna("")]
    return pd.DataFrame(keys)


def input_of(path: Path, n_rows: int) -> Input:
    """Name, digest and size of a file that is read."""
    return Input(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), n_rows)


def check_profile(cohort: Cohort, space: FeatureSpace) -> None:
    """Refuse a space whose features come from another profile than the table says.

    Raises
    ------
    Unsuitable
        ``other_profile``.
    """
    if cohort.profile not in ("unknown", space.profile):
        raise Unsuitable(
            "other_profile",
            f"space {space.name} is made of features of profile {space.profile}; "
            f"the table holds profile {cohort.profile}",
        )


def _one_profile(table: pd.DataFrame, wanted: str) -> tuple[pd.DataFrame, str]:
    if "profile" not in table:
        return table, wanted
    there = sorted({str(name) for name in table["profile"].dropna()})
    if not wanted and len(there) != 1:
        raise Unsuitable(
            "several_profiles",
            f"column 'profile' holds {', '.join(there)}: choose one with --profile",
        )
    wanted = wanted or there[0]
    kept = table[table["profile"].astype(str) == wanted].reset_index(drop=True)
    if kept.empty:
        raise Unsuitable(
            "no_lesions", f"no row of profile {wanted!r}; column 'profile' holds {', '.join(there)}"
        )
    return kept, wanted


def _with_features(
    table: pd.DataFrame, columns: Columns
) -> tuple[list[int], list[tuple[int, str, Reason]]]:
    """Rows of lesions that have features; the others are marked in the node's own tables."""
    if "status" not in table:
        return list(range(len(table))), []
    excluded = (table["status"].astype(str) == "excluded").to_numpy()
    labels = _labels(table, columns.lesion)
    reasons = table["reason"] if "reason" in table else pd.Series([""] * len(table))
    left_out = [
        (int(row) + 1, labels[row], Reason("excluded", str(reasons.iloc[row])))
        for row in np.flatnonzero(excluded)
    ]
    if excluded.all():
        raise Unsuitable("no_lesions", "every lesion of the table is excluded")
    return [int(row) for row in np.flatnonzero(~excluded)], left_out


def _labels(table: pd.DataFrame, column: str) -> list[str]:
    column = _lesion_column(table, column)
    if not column:
        return [f"row {row + 1}" for row in range(len(table))]
    return identifiers(table, column)


def _lesion_column(table: pd.DataFrame, column: str) -> str:
    return column or next((name for name in LESION_COLUMNS if name in table), "")


def _sites(table: pd.DataFrame, column: str) -> list[str]:
    if column:
        require_columns(table, [column])
    column = column or "site"
    if column not in table:
        return ["unknown"] * len(table)
    return [str(site) if pd.notna(site) else "unknown" for site in table[column]]


def _empty(table: pd.DataFrame, name: str) -> bool:
    """A column of another profile's features holds nothing in these rows."""
    return bool(table[name].isna().all())


def _refuse_repeated(
    table: pd.DataFrame, units: Sequence[str], labels: Sequence[str], names: list[str], column: str
) -> None:
    if _lesion_column(table, column):
        known: dict[tuple[str, str], int] = {}
        for row, key in enumerate(zip(units, labels, strict=True)):
            if key in known:
                raise Unsuitable(
                    "duplicate_lesion",
                    f"rows {known[key] + 1} and {row + 1} are the same lesion {key[1]!r} of "
                    f"patient {key[0]!r}",
                )
            known[key] = row
    if not names:
        return
    doubled = table[names].assign(_unit=list(units)).duplicated(keep="first").to_numpy()
    if doubled.any():
        row = int(np.flatnonzero(doubled)[0])
        raise Unsuitable(
            "duplicate_lesion",
            f"row {row + 1} repeats every feature of an earlier row of patient {units[row]!r}",
        )
