"""Whose each row of a table is, and which study of each person counts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pandas as pd

from mirv.analysis.choices import TimePoint
from mirv.analysis.errors import Unsuitable
from mirv.analysis.tables import identifiers, read_table, require_columns
from mirv.service.research.cohort.joins import Keyed, Report, join, keyed, listed
from mirv.service.study.time_points import day_of, ordinals

PERSON, PATIENT, STUDY = "person", "patient_id", "study_uid"
DATE, POINT = "study_date", "time_point"
INDEX_DATE_COLUMNS = ("index_date", "date")
BEFORE, AFTER = -92, 7
"""Days around the index date in which a study may lie (R-RET-1: three months to one week)."""
_ORDINAL = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which study of a person counts, and which persons do.

    Attributes
    ----------
    time_point : TimePoint or None
        None: the baseline where a person has several.
    index_dates : Path or None
        Table of a date a person; studies outside of the window around it do not count.
    over_persons : str
        What of the analysis is over persons, so that all studies of one cannot count; "": nothing.
    cohorts : tuple of str
        Labels to keep, as `service.research.cohort.cohorts`; empty: all persons.
    """

    time_point: TimePoint | None = None
    index_dates: Path | None = None
    over_persons: str = ""
    cohorts: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse what would count a study as a person.

        Raises
        ------
        Unsuitable
            ``study_is_no_person``.
        """
        if self.time_point == TimePoint.ALL and self.over_persons:
            raise Unsuitable(
                "study_is_no_person",
                f"--time-point all: {self.over_persons}, and the studies of one person are no "
                "independent ones: choose baseline or latest",
            )


ANY = Choice()


@dataclass(frozen=True, slots=True)
class Studies:
    """Person and study of each row.

    Attributes
    ----------
    column : str
        The column that names the person.
    people : list of str
    study_column : str
        The column that tells a person's studies apart; "": there is none, each has one study.
    uids : list of str
        "" without such a column.
    days : list of (date or None)
    points : list of (int or None)
        Time point of each row's study, as the table says or by its date.
    """

    column: str
    people: list[str]
    study_column: str
    uids: list[str]
    days: list[date | None]
    points: list[int | None]

    def rows(self, kept: Sequence[int]) -> "Studies":
        """Of these rows only, in this order."""
        return replace(
            self,
            people=[self.people[row] for row in kept],
            uids=[self.uids[row] for row in kept],
            days=[self.days[row] for row in kept],
            points=[self.points[row] for row in kept],
        )


def studies_of(
    table: pd.DataFrame, patient: str, study: str, report: Report, name: str = "table"
) -> Studies:
    """Whose rows a table's are, and of which study.

    Parameters
    ----------
    table : DataFrame
    patient, study : str
        Their columns; "": ``person``, else ``patient_id``; ``study_uid``, else ``study_date``.
    report : Report
        Told where PatientIDs have to stand for the persons of several studies.
    name : str
        What messages call the table.

    Raises
    ------
    Unsuitable
        ``missing_column``, ``missing_value``; ``several_persons``: one identifier, two persons.
    """
    column = patient or (PERSON if PERSON in table else PATIENT)
    require_columns(table, [column, *([study] if study else [])], name)
    people = identifiers(table, column)
    if column == PATIENT and PERSON in table:
        one_person_each(people, identifiers(table, PERSON), column, name)
    study = study or next((one for one in (STUDY, DATE) if one in table), "")
    if study and not patient and column == PATIENT:
        report.notes.append(f"{name} has no column person: {column} is taken for the person")
    uids = identifiers(table, study) if study else [""] * len(table)
    dates = table[DATE].fillna("").astype(str) if DATE in table else [""] * len(table)
    days = [day_of(text) for text in dates]
    odd = [row for row, (text, day) in enumerate(zip(dates, days, strict=True)) if text and not day]
    if odd:
        report.notes.append(
            f"{name}: column {DATE!r}: {len(odd)} row(s) hold no date, first row {odd[0] + 1}: "
            f"found {list(dates)[odd[0]]!r}, wanted YYYY-MM-DD or YYYYMMDD"
        )
    points = _points(table, people, uids, days)
    return Studies(column, people, study, uids, days, points)


def _points(
    table: pd.DataFrame, people: Sequence[str], uids: Sequence[str], days: Sequence[date | None]
) -> list[int | None]:
    if POINT in table:
        texts = table[POINT].fillna("").astype(str)
        return [int(text) if _ORDINAL.fullmatch(text) else None for text in texts]
    found = ordinals(zip(people, uids, days, strict=True)) if any(uids) else {}
    return [found.get(study) for study in zip(people, uids, strict=True)]


def one_person_each(people: Sequence[str], keys: Sequence[str], column: str, name: str) -> None:
    """Check that no identifier is of two persons.

    Parameters
    ----------
    people, keys : sequence of str
        The identifier and the person of each row.
    column, name : str
        What messages call identifier and table.

    Raises
    ------
    Unsuitable
        ``several_persons``.
    """
    first: dict[str, str] = {}
    for own, key in zip(people, keys, strict=True):
        if first.setdefault(own, key) != key:
            raise Unsuitable(
                "several_persons",
                f"{name}: {column} {own!r} is of two persons, {first[own]!r} and {key!r}: name "
                "persons by the column person",
            )


def rows_that_count(
    table: pd.DataFrame, found: Studies, choice: Choice, report: Report, name: str = "table"
) -> list[int]:
    """The rows of one study of each person; all of a person's where all count.

    Parameters
    ----------
    table : DataFrame
    found : Studies
        Of its rows.
    choice : Choice
    report : Report
        Told which persons and studies are left out, and by which rule studies were chosen.
    name : str
        What messages call the table.

    Raises
    ------
    Unsuitable
        ``study_is_no_person``; ``several_studies``: nothing tells which of a person's comes first;
        ``missing_column``, ``not_a_date``, ``repeated_key`` of index dates; ``no_patients``.
    """
    choice.check()
    own: dict[str, dict[str, _When]] = {}
    both = zip(found.people, found.uids, found.days, found.points, strict=True)
    for person, uid, day, point in both:
        own.setdefault(person, {}).setdefault(uid, _When()).add(day, point)
    within = own
    centre: dict[str, date] = {}
    if choice.index_dates:
        centre = _index_dates(choice.index_dates, table, found, report)
        within = _in_window(own, centre, report, name)
    kept = _chosen(within, centre, choice, report, name)
    rows = [
        row for row, study in enumerate(zip(found.people, found.uids, strict=True)) if study in kept
    ]
    if not rows:
        raise report.nobody(f"{name}: no person has a study that counts")
    return rows


@dataclass(slots=True)
class _When:
    """When a study was, as far as its rows say."""

    day: date | None = None
    point: int | None = None

    def add(self, day: date | None, point: int | None) -> None:
        """Take what one more row says; the earliest holds."""
        if day and (self.day is None or day < self.day):
            self.day = day
        if point is not None and (self.point is None or point < self.point):
            self.point = point


def _in_window(
    own: Mapping[str, Mapping[str, _When]], centre: Mapping[str, date], report: Report, name: str
) -> dict[str, dict[str, _When]]:
    """The studies in the window around their person's date; persons without one are told."""
    within = {
        person: {
            uid: when
            for uid, when in studies.items()
            if when.day and BEFORE <= (when.day - centre[person]).days <= AFTER
        }
        for person, studies in own.items()
        if person in centre
    }
    outside = [person for person, studies in within.items() if not studies]
    if outside:
        report.notes.append(
            f"{name}: {len(outside)} person(s) have no study {BEFORE} to +{AFTER} days from the "
            f"index date, left out ({listed(outside)})"
        )
    return {person: studies for person, studies in within.items() if studies}


def _chosen(
    own: Mapping[str, Mapping[str, _When]],
    centre: Mapping[str, date],
    choice: Choice,
    report: Report,
    name: str,
) -> set[tuple[str, str]]:
    """Person and study of what counts."""
    if choice.time_point == TimePoint.ALL:
        return {(person, uid) for person, studies in own.items() for uid in studies}
    rule = choice.time_point or TimePoint.BASELINE
    several = [person for person, studies in own.items() if len(studies) > 1]
    undated: list[str] = []
    kept = set()
    for person, studies in own.items():
        ordered, unknown = _in_order(person, studies, name)
        undated += [f"{person} {uid}" for uid in unknown]
        kept.add((person, _one_of(ordered, rule, centre.get(person))))
    if several:
        n_more = sum(len(studies) - 1 for studies in own.values())
        report.notes.append(
            f"{name}: one study a person ({rule}): {len(several)} of {len(own)} person(s) have "
            f"several, {n_more} other study(ies) do not count"
        )
    if undated:
        report.notes.append(
            f"{name}: {len(undated)} study(ies) without a date beside dated ones of their person, "
            f"not taken ({listed(undated)})"
        )
    return kept


def _in_order(
    person: str, studies: Mapping[str, _When], name: str
) -> tuple[list[tuple[date | None, str]], list[str]]:
    """A person's studies from first to last, and those that nothing places among dated ones."""
    if len(studies) == 1:
        return [(when.day, uid) for uid, when in studies.items()], []
    dated = [(when.day, uid) for uid, when in studies.items() if when.day]
    if dated:
        return sorted(dated), [uid for uid, when in studies.items() if not when.day]
    numbered = [(when.point, uid) for uid, when in studies.items() if when.point is not None]
    if len(numbered) < len(studies):
        first, second = sorted(studies)[:2]
        raise Unsuitable(
            "several_studies",
            f"{name}: person {person!r} has the studies {first!r} and {second!r}, and neither "
            f"{DATE} (YYYY-MM-DD or YYYYMMDD) nor {POINT} tells which comes first: wanted one "
            "study a person",
        )
    return [(None, uid) for _, uid in sorted(numbered)], []


def _one_of(
    ordered: Sequence[tuple[date | None, str]], rule: TimePoint, centre: date | None
) -> str:
    """The study that a rule takes; with an index date the baseline is the nearest one.

    Of two as near, the one before it: the rule by which `mirv retrieve` takes a baseline.
    """
    if rule == TimePoint.LATEST:
        return ordered[-1][1]
    around = [((day - centre).days, uid) for day, uid in ordered if centre and day]
    if not around:
        return ordered[0][1]
    return min(around, key=lambda one: (abs(one[0]), one[0] > 0, one[1]))[1]


def _index_dates(
    path: Path, table: pd.DataFrame, found: Studies, report: Report
) -> dict[str, date]:
    """The index date of each person of a table; who has none is told."""
    require_columns(table, [DATE], "with --index-date the table")
    given = read_table(path, [found.column])
    people = people_of(table, found, given, path.name)
    column = next((name for name in INDEX_DATE_COLUMNS if name in given), INDEX_DATE_COLUMNS[0])
    require_columns(given, [column], path.name)
    texts = [str(text) for text in given[column].fillna("")]
    days = [day_of(text) for text in texts]
    if None in days:
        row = days.index(None)
        raise Unsuitable(
            "not_a_date",
            f"{path.name}: column {column!r}, row {row + 1}: found {texts[row]!r}, wanted "
            "YYYY-MM-DD or YYYYMMDD",
        )
    matched = join(people.table, people.other)
    report.joined(matched)
    return {
        people.of_row[left]: day
        for left, right in matched.pairs
        if (day := days[right]) is not None
    }


@dataclass(frozen=True, slots=True)
class Met:
    """The persons of a table and the rows of another one that names persons, by a shared key.

    Attributes
    ----------
    table, other : Keyed
        One row a person of the table; all rows of the other.
    of_row : list of str
        Person of each row of `table`.
    """

    table: Keyed
    other: Keyed
    of_row: list[str]


def people_of(table: pd.DataFrame, found: Studies, other: pd.DataFrame, name: str) -> Met:
    """The key under which another table's rows are of a table's persons.

    Parameters
    ----------
    table : DataFrame
    found : Studies
        Of its rows.
    other : DataFrame
        One row a person.
    name : str
        Of the other one.

    Raises
    ------
    Unsuitable
        ``missing_column``: it names persons by neither the table's own column nor
        ``patient_id``; ``several_persons``: one PatientID is of two persons.
    """
    shared = found.column
    if shared not in other and PATIENT in other and PATIENT in table:
        shared = PATIENT
    theirs = keyed(other, [shared], name)
    ours = found.people if shared == found.column else identifiers(table, PATIENT)
    if shared != found.column:
        one_person_each(ours, found.people, shared, "table")
    of_key = dict(zip(ours, found.people, strict=True))
    mine = Keyed("table", (shared,), [(key,) for key in of_key])
    return Met(mine, theirs, list(of_key.values()))
