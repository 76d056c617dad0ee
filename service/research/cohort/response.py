"""Analysis of ``mirv cohort response``: volumes at two time points."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mirv.analysis.choices import MissingLater
from mirv.analysis.errors import Reason, Unsuitable
from mirv.analysis.model import FloatArray, Measure
from mirv.analysis.patient.recist import outcome
from mirv.analysis.patient.response import (
    DEFINITIONS,
    LesionChange,
    LesionVolume,
    match_lesions,
    response_measures,
    volume_change,
)
from mirv.analysis.patient.target_lesions import Measured
from mirv.analysis.tables import identifiers, numeric, read_table, require_columns
from mirv.service.research.cohort.sink import Sink, wide
from mirv.service.research.cohort.source import Cohort, input_of


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
    path: Path, sink: Sink, columns: VolumeColumns, rule: ResponseRule
) -> None:
    """Response from a table with both volumes of each lesion in one row."""
    previous, current = columns.previous, columns.current
    table = read_table(path, [columns.patient])
    sink.inputs([input_of(path, len(table))])
    owners = identifiers(table, columns.patient)
    volumes = numeric(table, [previous, current], missing_allowed=True)
    _positive(volumes[previous].to_numpy(float), previous)
    if columns.site:
        require_columns(table, [columns.site])
    changes: dict[str, list[LesionChange]] = {}
    for row, owner in enumerate(owners):
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
    _write_response(changes, columns.patient, sink, rule, published=published)


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
    previous: Cohort, current: Cohort, sink: Sink, rule: ResponseRule, axes: tuple[str, str]
) -> None:
    """Response from the lesions of two time points, matched by tracking UID, then by name.

    Parameters
    ----------
    axes : (str, str)
        Columns of the long and the short axis in mm, for RECIST 1.1; "": no short axis.
    """
    long_axis, short_axis = axes
    sink.inputs([*previous.inputs, *current.inputs])
    patient = str(previous.keys.columns[0])
    sides = [_volumes_by_patient(cohort) for cohort in (previous, current)]
    changes: dict[str, list[LesionChange]] = {}
    for owner in sides[0]:
        if owner in sides[1]:
            changes[owner] = list(match_lesions(sides[0][owner], sides[1][owner]))
    single = sorted(sides[0].keys() ^ sides[1].keys())
    if single:
        sink.note(f"{len(single)} patient(s) have one time point only: no response")
    if not changes:
        raise Unsuitable("no_patients", "no patient stands in both tables")
    _write_response(changes, patient, sink, rule)
    if long_axis in previous.table and long_axis in current.table:
        sizes = [_sizes(cohort, long_axis, short_axis) for cohort in (previous, current)]
        rows = [{patient: owner, **_recist(owner, own, *sizes)} for owner, own in changes.items()]
        sink.table("recist", pd.DataFrame(rows))


def _sizes(cohort: Cohort, long_axis: str, short_axis: str) -> dict[tuple[str, str], Measured]:
    """Diameters of every lesion by patient and tracking UID."""
    columns = [long_axis, *([short_axis] if short_axis else [])]
    values = numeric(cohort.table, columns, missing_allowed=True).to_numpy(float)
    owners = cohort.keys.iloc[:, 0]
    return {
        (str(owners.iloc[row]), label): Measured(
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
    followed = [change for change in changes if change.state != "new"]
    found = outcome(
        [before[owner, change.previous_uid] for change in followed],
        [
            after[owner, change.tracking_uid] if change.state == "matched" else None
            for change in followed
        ],
        new_lesions=any(change.state == "new" for change in changes),
    )
    return {**asdict(found), "reason": str(found.reason) if found.reason else None}


def _volumes_by_patient(cohort: Cohort) -> dict[str, list[LesionVolume]]:
    volumes = cohort.volumes_ml()
    if volumes is None:
        raise Unsuitable("missing_column", "no column volume_ml or original_shape_VoxelVolume")
    _positive(volumes, "volume_ml")
    names = cohort.table["lesion"] if "lesion" in cohort.table else pd.Series(cohort.labels)
    owners = cohort.keys.iloc[:, 0]
    found: dict[str, list[LesionVolume]] = {}
    for row, label in enumerate(cohort.labels):
        lesion = LesionVolume(label, str(names.iloc[row]), cohort.sites[row], float(volumes[row]))
        found.setdefault(str(owners.iloc[row]), []).append(lesion)
    return found


def _write_response(
    changes: dict[str, list[LesionChange]],
    patient: str,
    sink: Sink,
    rule: ResponseRule,
    *,
    published: bool = False,
) -> None:
    min_lesions = rule.min_lesions
    rows = [
        {
            patient: owner,
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
        if len(own) < min_lesions:
            reason = Reason("too_few_lesions", f"found {len(own)} lesion(s), wanted {min_lesions}")
            measures = tuple(_without(measure, reason) for measure in measures)
        elif published:
            measures = tuple(_as_published(measure) for measure in measures)
        patients.append(({patient: owner, "n_lesions": len(own)}, [*_baseline(own), *measures]))
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
