"""The list of a trial's patients: who, and around which date."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations, islice
from pathlib import Path

from mirv.analysis.errors import Unsuitable
from mirv.config.errors import BadInput, read_given
from mirv.dicom_io.standard.person import Identity, Sameness, birth_date, compare
from mirv.service.peers.sources.query import WILDCARDS

_WANTED = ("patient_id", "index_date")
_OPTIONAL = ("issuer", "birth_date")
_DATE = re.compile(r"[0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST = 64
_MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ListedPatient:
    """A line of the list.

    Attributes
    ----------
    identity : Identity
        PatientID and, as far as the list says them, issuer and birth date.
    index_date : date
        Of the treatment.
    """

    identity: Identity
    index_date: date


def read_patients(path: Path) -> tuple[ListedPatient, ...]:
    """Read a list of patients.

    Parameters
    ----------
    path : Path
        CSV in UTF-8, with commas, semicolons or tabs: columns ``patient_id`` and ``index_date``
        (YYYYMMDD or YYYY-MM-DD), and where there are ``issuer`` and ``birth_date``.

    Returns
    -------
    tuple of ListedPatient
        In the order of the file.

    Raises
    ------
    BadInput
        Says every fault at once, by line, and no patient.
    """
    text = read_given(path, str(path))
    header, _, _ = text.partition("\n")
    delimiter = max(",;\t", key=header.count)
    faults: list[str] = []
    try:
        rows = list(csv.reader(text.splitlines(), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise BadInput(f"{path}: found no CSV: {error}") from error
    names = [name.strip().casefold() for name in rows[0]] if rows else []
    _check_columns(path, names)
    patients: dict[int, ListedPatient] = {}
    for number, row in enumerate(rows[1:], start=2):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        try:
            patients[number] = _patient(names, cells)
        except Unsuitable as fault:
            faults.append(f"line {number}: {fault.reason.detail}")
    faults += islice(_repeated(patients), _MOST_SHOWN)
    if not patients and not faults:
        faults.append("found no patient, wanted one at least")
    if faults:
        more = len(faults) - _MOST_SHOWN
        shown = faults[:_MOST_SHOWN] + [f"and {more} more"] * (more > 0)
        raise BadInput("\n".join([f"{path}: {len(faults)} fault(s)", *(f"  {x}" for x in shown)]))
    return tuple(patients.values())


def _check_columns(path: Path, names: Sequence[str]) -> None:
    named = [name for name in names if name]
    missing = [name for name in _WANTED if name not in named]
    # A column of another name may be meant to tell two persons apart: it is not passed over.
    odd = sorted(set(named) - {*_WANTED, *_OPTIONAL})
    if missing or odd or len(set(named)) < len(named):
        raise BadInput(
            f"{path}: found columns {', '.join(name[:40] for name in named[:20]) or 'none'}, "
            f"wanted {', '.join(_WANTED)} and, if need be, {', '.join(_OPTIONAL)}, once each"
        )


def _patient(names: Sequence[str], cells: Sequence[str]) -> ListedPatient:
    if any(cells[len(names) :]) or len(cells) < len(names):
        raise _fault(f"found {len(cells)} cells, wanted {len(names)}")
    values = dict(zip(names, cells, strict=False))
    if values.get(""):
        raise _fault("found a value in a column without a name")
    born = values.get("birth_date", "")
    if born and _day(values, "birth_date") is None:
        raise _fault("birth_date: wanted YYYYMMDD or YYYY-MM-DD")
    index = _day(values, "index_date")
    if index is None:
        raise _fault("index_date: wanted YYYYMMDD or YYYY-MM-DD")
    for name in ("patient_id", "issuer"):
        value = values.get(name, "")
        if WILDCARDS & set(value) or _CONTROL.search(value) or len(value) > _LONGEST:
            raise _fault(
                f"{name}: wanted one value of at most {_LONGEST} characters, without *, ? and \\"
            )
    if not values["patient_id"]:
        raise _fault("patient_id: found none")
    identity = Identity(
        values["patient_id"],
        values.get("issuer", ""),
        birth_date(born.replace("-", "")),
    )
    return ListedPatient(identity, index)


def _fault(detail: str) -> Unsuitable:
    return Unsuitable("line_unusable", detail)


def _day(values: Mapping[str, str], name: str) -> date | None:
    text = values[name]
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        return None


def _repeated(patients: Mapping[int, ListedPatient]) -> Iterator[str]:
    """Lines that may be of one person: a person has one baseline."""
    by_id: dict[str, list[int]] = {}
    for number, patient in patients.items():
        by_id.setdefault(patient.identity.patient_id, []).append(number)
    for numbers in by_id.values():
        for one, other in combinations(numbers, 2):
            pair = compare(patients[one].identity, patients[other].identity)
            if pair.sameness is not Sameness.OTHER:
                yield (
                    f"lines {one} and {other}: found the same patient_id, wanted one line a person "
                    "(two persons have another issuer or birth_date)"
                )
