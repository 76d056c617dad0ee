"""Result records as tidy rows: the columns scripts rely on.

Rows come in a stable order, floats keep full precision, a value that does not exist is an empty
cell with a reason beside it. The same records always give the same bytes.
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mirv.analysis.errors import Reason
from mirv.analysis.model import LesionIdentity, LesionResult, Measure
from mirv.dicom_io.model import QualityRow
from mirv.service.study.result_record import ResultRecord
from mirv.service.study.time_points import KEY_COLUMNS, LABEL_SEPARATOR, cohorts_of, key_rows

Row = dict[str, Any]

LESION_COLUMNS = (
    *KEY_COLUMNS,
    "cohort",
    "series_uid",
    "segmentation_uid",
    "lesion",
    "tracking_uid",
    "tracking",
    "site",
    "volume_ml",
    "profile",
    "status",
    "reason",
)
PATIENT_COLUMNS = (*KEY_COLUMNS, "cohort", "profile", "space", "n_lesions", "n_sites")
PAIR_COLUMNS = (
    *KEY_COLUMNS,
    "profile",
    "space",
    "tracking_uid_a",
    "tracking_uid_b",
    "cosine",
    "euclidean",
    "reason",
)
VARIATION_COLUMNS = (
    *KEY_COLUMNS,
    "profile",
    "feature",
    "site",
    "n_lesions",
    "cv_percent",
    "quartile_coefficient",
    "sign_change",
    "reason",
)
CHANGE_COLUMNS = (
    *KEY_COLUMNS,
    "previous_study_uid",
    "previous_study_date",
    "lesion",
    "tracking_uid",
    "previous_tracking_uid",
    "site",
    "state",
    "matched_by",
    "previous_ml",
    "current_ml",
    "change_percent",
    "reason",
)
QUALITY_COLUMNS = (
    *KEY_COLUMNS,
    "series_uid",
    "object_uid",
    "lesion",
    "check",
    "outcome",
    "found",
    "wanted",
    "detail",
    "file",
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_NEGATIVE = re.compile(r"-\d+(\.\d+)?")
_COUNTS = ("n_lesions", "n_sites")


def in_order(records: Iterable[ResultRecord]) -> list[ResultRecord]:
    """Records by patient, study date, study and series."""
    return sorted(records, key=lambda r: (r.patient_id, r.study_date, r.study_uid, r.series_uid))


def lesion_rows(records: Sequence[ResultRecord]) -> tuple[tuple[str, ...], list[Row]]:
    """``lesions.csv``: one row a lesion and profile; features by their PyRadiomics names.

    Returns
    -------
    columns : tuple of str
        The fixed columns, then the features of every profile in the order first met.
    rows : list of dict
    """
    features: dict[str, None] = {}
    rows: list[Row] = []
    for record, key in zip(records, _labelled(records), strict=True):
        for lesion in record.result.lesions:
            features.update(dict.fromkeys(lesion.names))
            rows.append({**key, **_lesion_row(record, lesion)})
    return LESION_COLUMNS + tuple(features), rows


def _labelled(records: Sequence[ResultRecord]) -> list[Row]:
    """The key columns of each record, with the published cohorts its study fits."""
    return [
        {**key, "cohort": LABEL_SEPARATOR.join(own)}
        for key, own in zip(key_rows(records), cohorts_of(records), strict=True)
    ]


def _lesion_row(record: ResultRecord, lesion: LesionResult) -> Row:
    status, reason = _status(lesion)
    row: Row = {
        "series_uid": record.series_uid,
        "segmentation_uid": record.segmentation_uids.get(lesion.tracking_uid, ""),
        "lesion": lesion.tracking_id or lesion.label,
        "tracking_uid": lesion.tracking_uid,
        "tracking": _tracking(record.result.identities.get(lesion.tracking_uid)),
        "site": lesion.site,
        "volume_ml": lesion.volume_ml,
        "profile": lesion.profile,
        "status": status,
        "reason": reason,
    }
    if lesion.excluded is None:
        row.update(zip(lesion.names, lesion.values.tolist(), strict=True))
    return row


def _tracking(identity: LesionIdentity | None) -> str:
    """Where the tracking UID comes from; "" where it is not known."""
    if identity is None:
        return ""
    return "received" if identity.tracking_received else "derived"


def _status(lesion: LesionResult) -> tuple[str, str]:
    if lesion.excluded is not None:
        return "excluded", str(lesion.excluded)
    if lesion.missing:
        groups: dict[str, int] = {}
        for reason in lesion.missing.values():
            groups[str(reason)] = groups.get(str(reason), 0) + 1
        return "partial", "; ".join(f"{n} features: {why}" for why, n in sorted(groups.items()))
    return "ok", ""


def patient_rows(records: Sequence[ResultRecord]) -> tuple[tuple[str, ...], list[Row]]:
    """``patients.csv``: one row a patient, study, profile and space; one column a measure.

    Measures without a profile (native volumes, counts) stand on every row of their study, measures
    without a space on every row of their profile. ``n_lesions_used`` says how many lesions entered
    the indices of the row's space.

    Parameters
    ----------
    records : sequence of ResultRecord

    Returns
    -------
    columns : tuple of str
    rows : list of Row
    """
    measures: dict[str, None] = {}
    rows: list[Row] = []
    for record, key in zip(records, _labelled(records), strict=True):
        for (profile, space), own in _by_space(record.result.measures).items():
            used = [measure.n_lesions for measure in own if measure.space]
            row: Row = {
                **key,
                "profile": profile,
                "space": space,
                "n_lesions_used": max(used) if used else None,
            }
            for measure in own:
                row[measure.name] = _count_or_value(measure)
                if measure.name not in _COUNTS:
                    row[f"{measure.name}_reason"] = _text(measure.reason)
                    measures[measure.name] = None
            rows.append(row)
    named = [column for name in measures for column in (name, f"{name}_reason")]
    columns = (*PATIENT_COLUMNS, "n_lesions_used", *named)
    return columns, rows


def _count_or_value(measure: Measure) -> int | float | None:
    if measure.value is not None and measure.unit == "{count}":
        return int(measure.value)
    return measure.value


def _by_space(measures: Sequence[Measure]) -> dict[tuple[str, str], list[Measure]]:
    """Measures of every row: those of its space, of its profile, and those of the study."""
    keys = dict.fromkeys((m.profile, m.space) for m in measures if m.profile and m.space)
    with_space = {profile for profile, _ in keys}
    keys.update(
        dict.fromkeys((m.profile, "") for m in measures if m.profile not in {"", *with_space})
    )
    return {
        (profile, space): [
            m for m in measures if m.profile in {"", profile} and m.space in {"", space}
        ]
        for profile, space in keys or {("", ""): None}
    }


def pair_rows(records: Sequence[ResultRecord]) -> list[Row]:
    """``pairs.csv``: one row a pair of lesions in one space.

    Parameters
    ----------
    records : sequence of ResultRecord

    Returns
    -------
    list of Row
        Under `PAIR_COLUMNS`.
    """
    return [
        {
            **key,
            "profile": pair.profile,
            "space": pair.space,
            "tracking_uid_a": pair.tracking_uid_a,
            "tracking_uid_b": pair.tracking_uid_b,
            "cosine": pair.cosine,
            "euclidean": pair.euclidean,
            "reason": _text(pair.reason),
        }
        for record, key in zip(records, key_rows(records), strict=True)
        for pair in record.result.pairs
    ]


def variation_rows(records: Sequence[ResultRecord]) -> list[Row]:
    """``variation.csv``: one row a feature and group of lesions.

    Parameters
    ----------
    records : sequence of ResultRecord

    Returns
    -------
    list of Row
        Under `VARIATION_COLUMNS`.
    """
    return [
        {
            **key,
            "profile": row.profile,
            "feature": row.feature,
            "site": row.site,
            "n_lesions": row.n_lesions,
            "cv_percent": row.cv_percent,
            "quartile_coefficient": row.quartile_coefficient,
            "sign_change": int(row.sign_change),
            "reason": _text(row.reason),
        }
        for record, key in zip(records, key_rows(records), strict=True)
        for row in record.result.variation
    ]


def quality_rows(records: Sequence[ResultRecord], refused: Sequence[QualityRow]) -> list[Row]:
    """``quality.csv``: one row a check, then one a refusal, which knows its study's UID at most.

    Parameters
    ----------
    records : sequence of ResultRecord
    refused : sequence of QualityRow

    Returns
    -------
    list of Row
        Under `QUALITY_COLUMNS`.
    """
    found = [
        {**(key if row.study_uid == record.study_uid else _whose(key)), **asdict(row)}
        for record, key in zip(records, key_rows(records), strict=True)
        for row in record.quality
    ]
    return found + [asdict(row) for row in refused]


def _whose(key: Row) -> Row:
    """Of a row about another study of the person than the record's: whose it is."""
    return {"patient_id": key["patient_id"], "person": key["person"]}


def change_rows(records: Sequence[ResultRecord]) -> list[Row]:
    """``changes.csv``: one row a lesion of a study or of the earlier one it is compared with.

    Parameters
    ----------
    records : sequence of ResultRecord

    Returns
    -------
    list of Row
        Under `CHANGE_COLUMNS`.
    """
    return [
        {
            **key,
            "previous_study_uid": record.result.provenance.prior_study_uid,
            "previous_study_date": record.result.provenance.prior_study_date,
            "lesion": change.name,
            "tracking_uid": "" if change.current_ml is None else change.tracking_uid,
            "previous_tracking_uid": change.previous_uid,
            "site": change.site,
            "state": change.state,
            "matched_by": change.matched_by,
            "previous_ml": change.previous_ml,
            "current_ml": change.current_ml,
            "change_percent": change.change_percent,
            "reason": _text(change.reason),
        }
        for record, key in zip(records, key_rows(records), strict=True)
        for change in record.result.changes
    ]


def _text(reason: Reason | None) -> str:
    return str(reason) if reason else ""


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as UTF-8 CSV with ``\\n`` line ends; what a row lacks is an empty cell.

    Parameters
    ----------
    columns : sequence of str
    rows : iterable of mapping
        Column to value.

    Returns
    -------
    bytes
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
    return out.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    if isinstance(value, str):
        return _harmless(value)
    return str(value)


def _harmless(text: str) -> str:
    """An outside string that neither breaks a row nor runs as a spreadsheet formula.

    Control characters become spaces; a quote goes before what a spreadsheet would calculate.
    """
    line = _CONTROL.sub(" ", text)
    formula = line[:1] in {"=", "+", "@"} or (line[:1] == "-" and not _NEGATIVE.fullmatch(line))
    return f"'{line}" if formula else line
