"""Results as files for research: CSV or Parquet tables and their provenance."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from mirv.analysis.model import StudyResult
from mirv.config.errors import opening
from mirv.dicom_io.model import QualityRow
from mirv.service.study import result_tables
from mirv.service.study.result_record import ResultRecord

NOTICE = "Research use; not a diagnostic or prognostic statement."
TableFormat = Literal["csv", "parquet"]


def write_tables(
    folder: Path,
    records: Iterable[ResultRecord],
    refused: Sequence[QualityRow] = (),
    table_format: TableFormat = "csv",
    profiles: dict[str, Any] | None = None,
) -> list[Path]:
    """Write all tables of some results.

    Parameters
    ----------
    folder : Path
        Made when missing.
    records : iterable of ResultRecord
    refused : sequence of QualityRow
        Rows about input that gave no result; they stand in ``quality`` beside the others.
    table_format : "csv" or "parquet"
    profiles : mapping of name to content, optional
        Settings of the profiles, for ``provenance.json``.

    Returns
    -------
    list of Path
        The files written, in a fixed order.
    """
    with opening():
        folder.mkdir(parents=True, exist_ok=True)
    ordered = result_tables.in_order(records)
    lesion_columns, lesion_rows = result_tables.lesion_rows(ordered)
    patient_columns, patient_rows = result_tables.patient_rows(ordered)
    written = [
        _write(folder, "lesions", lesion_columns, lesion_rows, table_format),
        _write(folder, "patients", patient_columns, patient_rows, table_format),
        _write(
            folder,
            "pairs",
            result_tables.PAIR_COLUMNS,
            result_tables.pair_rows(ordered),
            table_format,
        ),
        _write(
            folder,
            "variation",
            result_tables.VARIATION_COLUMNS,
            result_tables.variation_rows(ordered),
            table_format,
        ),
        _write(
            folder,
            "changes",
            result_tables.CHANGE_COLUMNS,
            result_tables.change_rows(ordered),
            table_format,
        ),
        _write(
            folder,
            "quality",
            result_tables.QUALITY_COLUMNS,
            result_tables.quality_rows(ordered, refused),
            table_format,
        ),
    ]
    path = folder / "provenance.json"
    path.write_text(_provenance(ordered, profiles or {}), encoding="utf-8")
    return [*written, path]


def _write(
    folder: Path,
    name: str,
    columns: Sequence[str],
    rows: Sequence[dict[str, Any]],
    table_format: TableFormat,
) -> Path:
    path = folder / f"{name}.{table_format}"
    if table_format == "csv":
        path.write_bytes(result_tables.to_csv(columns, rows))
    else:
        content = {column: [row.get(column) for row in rows] for column in columns}
        pq.write_table(pa.table(content), path)
    return path


def _provenance(records: Sequence[ResultRecord], profiles: dict[str, Any]) -> str:
    content = {
        "notice": NOTICE,
        "profiles": profiles,
        "results": [
            {"study_uid": record.study_uid, **_provenance_of(record.result)} for record in records
        ],
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _provenance_of(result: StudyResult) -> dict[str, Any]:
    """What the numbers were computed from and with; per lesion and profile what PyRadiomics saw."""
    diagnostics: dict[str, dict[str, dict[str, float]]] = {}
    for lesion in result.lesions:
        own = diagnostics.setdefault(lesion.profile, {})
        own[lesion.tracking_uid] = dict(lesion.diagnostics)
    origin = asdict(result.provenance)
    if not result.provenance.default_issuer:
        del origin["default_issuer"]  # nothing was taken by default
    return {**origin, "diagnostics": diagnostics}
