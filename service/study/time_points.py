"""Whose a result is, which time point and which cohort: the columns that every table shares."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from mirv.analysis.cohort.labels import labels, taken_into_l
from mirv.dicom_io.standard.person import Identity, persons_of_studies
from mirv.service.study.result_record import ResultRecord

KEY_COLUMNS = ("patient_id", "person", "study_uid", "study_date", "time_point")
LABEL_SEPARATOR = ";"
"""Between the cohorts of one patient in a cell."""
Study = tuple[str, str]
"""Person and study UID."""


def day_of(text: str) -> date | None:
    """A date written YYYYMMDD, YYYY-MM-DD or YYYY.MM.DD; None for anything else."""
    plain = text.strip()
    if len(plain) == 10 and plain[4] == plain[7] and plain[4] in "-.":
        plain = plain.replace(plain[4], "")
    if len(plain) != 8 or not (plain.isascii() and plain.isdigit()):
        return None
    try:
        return date(int(plain[:4]), int(plain[4:6]), int(plain[6:]))
    except ValueError:
        return None


def ordinals(studies: Iterable[tuple[str, str, date | None]]) -> dict[Study, int]:
    """Which time point of its person each dated study is.

    Parameters
    ----------
    studies : iterable of (person, study UID, date or None)
        A study may stand there more than once (its series); its earliest date counts.

    Returns
    -------
    dict of (person, study UID) to int
        1 for the first by date, then UID. Studies without a date or a person have none.
    """
    days: dict[Study, date] = {}
    for person, uid, day in studies:
        if person and day:
            days[person, uid] = min(day, days.get((person, uid), day))
    found: dict[Study, int] = {}
    reached: dict[str, int] = {}
    for person, uid in sorted(days, key=lambda study: (study[0], days[study], study[1])):
        reached[person] = reached.get(person, 0) + 1
        found[person, uid] = reached[person]
    return found


def persons_of(records: Sequence[ResultRecord]) -> list[str]:
    """The key of each record's person, where it is not known among all of them, in their order.

    A record of an earlier version knows its PatientID alone, and joins what knows no more either.
    """
    said = [(record.study_uid, _identity(record)) for record in records]
    keys = persons_of_studies(said)
    return [record.person or keys[one] for record, one in zip(records, said, strict=True)]


def key_rows(records: Sequence[ResultRecord]) -> list[dict[str, Any]]:
    """What every row of a record's tables begins with, in the order of the records.

    Returns
    -------
    list of dict
        Under `KEY_COLUMNS`; the time point is that among all records given.
    """
    keys = persons_of(records)
    both = list(zip(keys, records, strict=True))
    points = ordinals((key, one.study_uid, day_of(one.study_date)) for key, one in both)
    return [
        {
            "patient_id": record.patient_id,
            "person": person,
            "study_uid": record.study_uid,
            "study_date": record.study_date,
            "time_point": points.get((person, record.study_uid)),
        }
        for person, record in both
    ]


def cohorts_of(records: Sequence[ResultRecord]) -> list[tuple[str, ...]]:
    """The published cohorts each record's person fits, in the order of the records.

    Returns
    -------
    list of tuple of str
        By the lesions of the person's first study, also where a record holds those of some sites
        only. None of a person whose first study is not known.
    """
    rows = key_rows(records)
    studies = [(str(row["person"]), str(row["study_uid"])) for row in rows]
    lesions: dict[Study, set[str]] = {}
    counted: dict[Study, int] = {}
    for study, record in zip(studies, records, strict=True):
        lesions.setdefault(study, set()).update(one.tracking_uid for one in record.result.lesions)
        counted[study] = max(counted.get(study, 0), _counted(record), len(lesions[study]))
    first = _first_studies(studies, [row["time_point"] for row in rows])
    n_lesions = {person: counted[person, uid] for person, uid in first.items()}
    in_l = taken_into_l(n_lesions)
    own = {person: labels(n, in_l=person in in_l) for person, n in n_lesions.items()}
    return [own.get(person, ()) for person, _ in studies]


def _first_studies(studies: Sequence[Study], points: Sequence[int | None]) -> dict[str, str]:
    """The first study of each person; of studies without a date only where there is but one."""
    first = {
        person: uid for (person, uid), point in zip(studies, points, strict=True) if point == 1
    }
    every: dict[str, set[str]] = {}
    for person, uid in studies:
        every.setdefault(person, set()).add(uid)
    alone = {person: min(uids) for person, uids in every.items() if person and len(uids) == 1}
    return {**alone, **first}


def _counted(record: ResultRecord) -> int:
    """Lesions of the image as they were counted when it was analysed."""
    found = [one.value for one in record.result.measures if one.name == "n_lesions"]
    return int(max((value for value in found if value is not None), default=0))


def _identity(record: ResultRecord) -> Identity:
    if record.identity.patient_id:
        return record.identity
    return replace(record.identity, patient_id=record.patient_id)
