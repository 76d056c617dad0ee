"""Analysis of ``mirv cohort response``: volumes at two time points."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mirv.analysis.choices import MissingLater
from mirv.analysis.errors import Reason, Unsuitable
from mirv.analysis.model import FloatArray, LesionChange, LesionIdentity, Measure
from mirv.analysis.patient.matching import LesionVolume, match_lesions, volume_change
from mirv.analysis.patient.recist import outcome
from mirv.analysis.patient.response import DEFINITIONS, response_measures
from mirv.analysis.patient.target_lesions import Measured
from mirv.analysis.tables import numeric, read_table, require_columns
from mirv.service.research.cohort.joins import Keyed, Report, join, listed
from mirv.service.research.cohort.persons import (
    DATE,
    PERSON,
    POINT,
    STUDY,
    Choice,
    rows_that_count,
    studies_of,
)
from mirv.service.research.cohort.sink import Sink, wide
from mirv.service.research.cohort.source import Cohort, input_of, key_columns, of_cohorts
from mirv.service.study.time_points import day_of

_OF_A_STUDY = (STUDY, DATE, POINT)

_TRACKING = "tracking"
"""Column of the node's own tables: whether a tracking UID was received or derived."""


@dataclass(frozen=True, slots=True)
class ResponseRule:
    """When a response is complete.

    Attributes
    ----------
    threshold : float
        Of TSRC, in percent.
    min_lesions : int
        Patients with fewer have no response.
    """

    threshold: float
    min_lesions: int


@dataclass(frozen=True, slots=True)
class VolumeColumns:
    """A table with both volumes of a lesion in one row.

    Attributes
    ----------
    patient, previous, current : str
        Columns of the patient, the earlier and the later volume.
    site : str
        Column of the site; "": unknown.
    missing : MissingLater
        What an empty later volume means.
    """

    patient: str
    previous: str
    current: str
    site: str
    missing: MissingLater


def write_response_of_volumes(
    path: Path, sink: Sink, columns: VolumeColumns, rule: ResponseRule, choice: Choice
) -> None:
    """Response from a table with both volumes of each lesion in one row.

    Parameters
    ----------
    choice : Choice
        Which study of a person counts, where the table holds several.
    """
    previous, current = columns.previous, columns.current
    table = read_table(path, [columns.patient])
    sink.inputs([input_of(path, len(table))])
    report = Report()
    found = studies_of(table, columns.patient, "", report)
    rows = rows_that_count(table, found, choice, report)
    table, found = table.iloc[rows].reset_index(drop=True), found.rows(rows)
    table, found = of_cohorts(table, found, choice, report)
    sink.report(report)
    keys = key_columns(table, found)
    volumes = numeric(table, [previous, current], missing_allowed=True)
    _positive(volumes[previous].to_numpy(float), previous)
    if columns.site:
        require_columns(table, [columns.site])
    changes: dict[str, list[LesionChange]] = {}
    for row, owner in enumerate(found.people):
        where = str(table[columns.site].iloc[row]) if columns.site else "unknown"
        change = _paired(
            row,
            where,
            float(volumes[previous].iloc[row]),
            float(volumes[current].iloc[row]),
            columns.missing,
        )
        changes.setdefault(owner, []).append(change)
    published = columns.missing == MissingLater.AS_PUBLISHED
    named = {
        person: {str(name): str(keys[name].iloc[row]) for name in keys.columns}
        for row, person in enumerate(found.people)
    }
    _write_response(changes, named, sink, rule, published=published)


def _positive(values: FloatArray, column: str) -> None:
    bad = ~(values > 0)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise Unsuitable(
            "not_a_volume",
            f"column {column!r}, row {row + 1}: found {values[row]:g}, wanted a volume above 0",
        )


def _paired(
    row: int, site: str, before: float, after: float, missing: MissingLater
) -> LesionChange:
    label = f"row {row + 1}"
    if after == 0 or (np.isnan(after) and missing == MissingLater.VANISHED):
        return LesionChange(label, label, site, "vanished", "row", before, None, -100.0)
    if np.isnan(after):
        reason = Reason("follow_up_unknown", "no volume at the second time point")
        return LesionChange(label, label, site, "unknown", "", before, None, None, reason)
    change = volume_change(before, after)
    return LesionChange(label, label, site, "matched", "row", before, after, change)


def write_response_of_cohorts(
    previous: Cohort,
    current: Cohort,
    sink: Sink,
    rule: ResponseRule,
    axes: tuple[str, str],
    lesion_column: str = "",
) -> None:
    """Response from the lesions of two time points, matched by tracking UID, then by name.

    The node's own tables say in their column ``tracking`` where a tracking UID comes from. In other
    tables the identifier is the user's word: lesions of different ones are different lesions,
    unless they have one name that can be trusted.

    Parameters
    ----------
    lesion_column : str
        The column of the identifiers where the user names one.
    axes : (str, str)
        Columns of the long and the short axis in mm, for RECIST 1.1; "": no short axis.
    """
    long_axis, short_axis = axes
    for cohort in (previous, current):
        sink.inputs(cohort.inputs)
        sink.report(cohort.report)
    sides = [_volumes_by_person(cohort) for cohort in (previous, current)]
    named = _pairs_of_studies(previous, current, sink)
    key = _key(previous, current, lesion_column)
    changes = {
        person: list(match_lesions(sides[0][person], sides[1][person], key=key)) for person in named
    }
    _write_response(changes, named, sink, rule)
    if long_axis in previous.table and long_axis in current.table:
        sizes = [_sizes(cohort, long_axis, short_axis) for cohort in (previous, current)]
        rows = [{**named[owner], **_recist(owner, own, *sizes)} for owner, own in changes.items()]
        sink.table("recist", pd.DataFrame(rows))


def _pairs_of_studies(previous: Cohort, current: Cohort, sink: Sink) -> dict[str, dict[str, str]]:
    """Persons with two studies, and how both are called; who has but one is told."""
    sides = [
        {person: cohort.key(rows) for person, rows in cohort.rows().items()}
        for cohort in (previous, current)
    ]
    met = join(*(
        Keyed(name, (PERSON,), [(person,) for person in side])
        for name, side in zip(("previous", "current"), sides, strict=True)
    ))  # fmt: skip
    report = Report()
    report.joined(met)
    named = {}
    not_later = []
    for row, _ in met.pairs:
        (person,) = met.left.keys[row]
        before, after = sides[0][person], sides[1][person]
        if _is_later(before, after, previous.study_column):
            named[person] = _both_studies(before, after)
        else:
            not_later.append(person)
    if not_later:
        report.notes.append(
            f"{len(not_later)} person(s) have no study later than the previous one, left out "
            f"({listed(not_later)})"
        )
    sink.report(report)
    if not named:
        raise Unsuitable("no_patients", "no person has an earlier and a later study in the tables")
    return named


def _is_later(before: Mapping[str, str], after: Mapping[str, str], study: str) -> bool:
    """False for one study on both sides, and where dates say so; without dates nothing does."""
    if study and before[study] == after.get(study):
        return False
    days = [day_of(side.get(DATE, "")) for side in (before, after)]
    return days[0] is None or days[1] is None or days[0] <= days[1]


def _both_studies(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """The person's columns, then those of either study under its own prefix."""
    whose = {name: text for name, text in before.items() if name not in _OF_A_STUDY}
    named = {
        f"{prefix}_{name}": text
        for prefix, side in (("previous", before), ("current", after))
        for name, text in side.items()
        if name in _OF_A_STUDY
    }
    return {**whose, **named}


def _key(previous: Cohort, current: Cohort, lesion_column: str) -> str:
    """What matches by identifier are said to be made by; "" by tracking UIDs of the node."""
    if lesion_column and lesion_column != "tracking_uid":
        return "table"
    if not all("tracking_uid" in cohort.table for cohort in (previous, current)):
        return "table"
    own = all(_TRACKING in cohort.table for cohort in (previous, current))
    return "" if own else "tracking_uid"


def _sizes(cohort: Cohort, long_axis: str, short_axis: str) -> dict[tuple[str, str], Measured]:
    """Diameters of every lesion by patient and tracking UID."""
    columns = [long_axis, *([short_axis] if short_axis else [])]
    values = numeric(cohort.table, columns, missing_allowed=True).to_numpy(float)
    return {
        (cohort.people[row], label): Measured(
            cohort.sites[row],
            0.0,
            *(None if np.isnan(value) else float(value) for value in values[row]),
        )
        for row, label in enumerate(cohort.labels)
    }


def _recist(
    owner: str,
    changes: Sequence[LesionChange],
    before: Mapping[tuple[str, str], Measured],
    after: Mapping[tuple[str, str], Measured],
) -> dict[str, Any]:
    followed = [change for change in changes if change.previous_uid]
    unmatched = sum(change.state == "unmatched" for change in changes)
    found = outcome(
        [before[owner, change.previous_uid] for change in followed],
        [
            after[owner, change.tracking_uid] if change.state == "matched" else None
            for change in followed
        ],
        new_lesions=_has_new(changes),
    )
    if unmatched:  # it may be a target, or a new lesion
        reason = Reason("lesions_not_matched", f"nothing tells which lesion {unmatched} are")
        found = replace(
            found,
            current_mm=None,
            change_percent=None,
            response=found.response if _has_new(changes) else "NE",
            reason=reason,
        )
    return {**asdict(found), "reason": str(found.reason) if found.reason else None}


def _has_new(changes: Sequence[LesionChange]) -> bool:
    return any(change.state == "new" for change in changes)


def _volumes_by_person(cohort: Cohort) -> dict[str, list[LesionVolume]]:
    volumes = cohort.volumes_ml()
    if volumes is None:
        raise Unsuitable("missing_column", "no column volume_ml or original_shape_VoxelVolume")
    _positive(volumes, "volume_ml")
    names = cohort.table["lesion"] if "lesion" in cohort.table else pd.Series(cohort.labels)
    derived = np.zeros(len(cohort.labels), bool)
    if _TRACKING in cohort.table:
        derived = (cohort.table[_TRACKING] == "derived").to_numpy(bool)
    found: dict[str, list[LesionVolume]] = {}
    for row, label in enumerate(cohort.labels):
        identity = LesionIdentity(tracking_received=not derived[row])
        name = "" if pd.isna(names.iloc[row]) else str(names.iloc[row])
        lesion = LesionVolume(label, name, cohort.sites[row], float(volumes[row]), identity)
        found.setdefault(cohort.people[row], []).append(lesion)
    return found


def _write_response(
    changes: dict[str, list[LesionChange]],
    named: Mapping[str, Mapping[str, str]],
    sink: Sink,
    rule: ResponseRule,
    *,
    published: bool = False,
) -> None:
    min_lesions = rule.min_lesions
    rows = [
        {
            **named[owner],
            **asdict(change),
            "reason": str(change.reason) if change.reason else None,
        }
        for owner, own in changes.items()
        for change in own
    ]
    sink.table("lesions", pd.DataFrame(rows))
    patients = []
    for owner, own in changes.items():
        measures = response_measures(own, rule.threshold)
        n = _n_lesions(own)
        if n < min_lesions:
            reason = Reason("too_few_lesions", f"found {n} lesion(s), wanted {min_lesions}")
            measures = tuple(_without(measure, reason) for measure in measures)
        elif published:
            measures = tuple(_as_published(measure) for measure in measures)
        patients.append(({**named[owner], "n_lesions": n}, [*_baseline(own), *measures]))
    table = wide(patients)
    sink.table("patients", table)
    counts = []
    for definition in DEFINITIONS:
        met = table[f"tsrc_{definition}"]
        counts.append(
            {
                "definition": definition,
                "threshold_percent": rule.threshold,
                "n_patients": int((table["n_lesions"] >= min_lesions).sum()),
                "complete": int((met == 1).sum()),
                "not_complete": int((met == 0).sum()),
                "unknown": int((met.isna() & (table["n_lesions"] >= min_lesions)).sum()),
            }
        )
    sink.table("counts", pd.DataFrame(counts))


def _n_lesions(changes: Sequence[LesionChange]) -> int:
    """How many lesions there are at least: an unmatched one may be one of the other time point."""
    unmatched = [change for change in changes if change.state == "unmatched"]
    before = sum(change.previous_ml is not None for change in unmatched)
    return len(changes) - len(unmatched) + max(before, len(unmatched) - before)


def _without(measure: Measure, reason: Reason) -> Measure:
    """The measure as null; counts stay."""
    if measure.unit == "{count}":
        return measure
    return Measure(measure.name, None, measure.unit, "", "", measure.n_lesions, reason)


def _as_published(measure: Measure) -> Measure:
    """A lesion without follow-up makes its patient not complete, as in the published program."""
    unknown = measure.reason is not None and measure.reason.code == "follow_up_unknown"
    if not (unknown and measure.name.startswith("tsrc_")):
        return measure
    return Measure(measure.name, 0.0, measure.unit, "", "", measure.n_lesions)


def _baseline(changes: Sequence[LesionChange]) -> list[Measure]:
    """Total, range and SD of the earlier volumes, in the unit of the table."""
    before = [change.previous_ml for change in changes if change.previous_ml is not None]
    n = len(before)
    few = Reason("too_few_lesions", f"found {n} lesion(s) at baseline, wanted at least 2")
    none = Reason("no_lesions", "found no lesion at baseline, wanted at least 1")
    return [
        Measure("baseline_total", float(np.sum(before)), "1", "", "", n)
        if n
        else Measure("baseline_total", None, "1", "", "", n, none),
        Measure("baseline_range", float(np.ptp(before)), "1", "", "", n)
        if n > 1
        else Measure("baseline_range", None, "1", "", "", n, few),
        Measure("baseline_sd", float(np.std(before, ddof=1)), "1", "", "", n)
        if n > 1
        else Measure("baseline_sd", None, "1", "", "", n, few),
    ]
