"""A study's result as bytes and back: exact, deterministic, self-describing.

Layout: 8 bytes little-endian length of a JSON text, the JSON, then the features of all lesions as
little-endian float64 in the order of the JSON. Feature names are stored once a profile. A float64
in JSON is written by its shortest exact representation, so nothing is lost either way.
"""

import json
import struct
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mirv.analysis.errors import Reason
from mirv.analysis.model import (
    LesionChange,
    LesionIdentity,
    LesionResult,
    Measure,
    Pair,
    Provenance,
    StudyResult,
    Variation,
)
from mirv.dicom_io.model import QualityRow, StudyInput
from mirv.dicom_io.standard.person import NOBODY, Identity

FORMAT = 1


@dataclass(frozen=True, slots=True)
class ResultRecord:
    """A result with the names it is exported under.

    Attributes
    ----------
    patient_id, study_uid, study_date, series_uid : str
        Of the analysed image; `study_date` as DICOM DA, "" when absent.
    segmentation_uids : mapping of tracking UID to SOP Instance UID
    result : StudyResult
    quality : tuple of QualityRow
    identity : Identity
        Whose it is; of records that were written before it was kept, the PatientID alone.
    person : str
        Key of that person among all that is known; "" where it is told by what stands beside the
        record. It is not kept with it.
    """

    patient_id: str
    study_uid: str
    study_date: str
    series_uid: str
    segmentation_uids: dict[str, str]
    result: StudyResult
    quality: tuple[QualityRow, ...]
    identity: Identity = NOBODY
    person: str = ""


def record_of(study: StudyInput, result: StudyResult, identity: Identity) -> ResultRecord:
    """Name a result after the image it was computed on.

    Parameters
    ----------
    study : StudyInput
    result : StudyResult
    identity : Identity
        Of the selection that was analysed.

    Returns
    -------
    ResultRecord
    """
    image = study.evidence.images[0]
    return ResultRecord(
        patient_id=str(image.get("PatientID", "") or ""),
        study_uid=str(image.StudyInstanceUID),
        study_date=str(image.get("StudyDate", "") or ""),
        series_uid=str(image.SeriesInstanceUID),
        segmentation_uids={uid: src.segmentation_uid for uid, src in study.sources.items()},
        result=result,
        quality=study.quality,
        identity=identity,
    )


def to_bytes(record: ResultRecord) -> bytes:
    """Serialise a record; equal records give equal bytes.

    Parameters
    ----------
    record : ResultRecord

    Returns
    -------
    bytes
        Length of the JSON part (8 bytes, little endian), the JSON, the features as float64.
    """
    result = record.result
    names = {lesion.profile: lesion.names for lesion in result.lesions}
    content = {
        "format": FORMAT,
        "patient_id": record.patient_id,
        "identity": asdict(record.identity),
        "study_uid": record.study_uid,
        "study_date": record.study_date,
        "series_uid": record.series_uid,
        "segmentation_uids": record.segmentation_uids,
        "quality": [asdict(row) for row in record.quality],
        "feature_sets": {profile: list(columns) for profile, columns in names.items()},
        "lesions": [_lesion_to_json(lesion) for lesion in result.lesions],
        "measures": [asdict(measure) for measure in result.measures],
        "pairs": [asdict(pair) for pair in result.pairs],
        "variation": [asdict(row) for row in result.variation],
        "changes": [asdict(change) for change in result.changes],
        "identities": {uid: asdict(one) for uid, one in result.identities.items()},
        "provenance": asdict(result.provenance),
    }
    text = json.dumps(content, sort_keys=True, allow_nan=False).encode()
    blobs = [np.ascontiguousarray(lesion.values, "<f8").tobytes() for lesion in result.lesions]
    return struct.pack("<Q", len(text)) + text + b"".join(blobs)


def from_bytes(data: bytes) -> ResultRecord:
    """Read what `to_bytes` wrote.

    Raises
    ------
    ValueError
        Unknown format, or bytes missing or left over.
    """
    (length,) = struct.unpack_from("<Q", data)
    content = json.loads(data[8 : 8 + length])
    if content["format"] != FORMAT:
        raise ValueError(f"result record: found format {content['format']}, wanted {FORMAT}")
    features = np.frombuffer(data, "<f8", offset=8 + length)
    sets = {profile: tuple(columns) for profile, columns in content["feature_sets"].items()}
    lesions, position = [], 0
    for row in content["lesions"]:
        names = sets[row["profile"]]
        values = features[position : position + len(names)].astype(np.float64)
        position += len(names)
        lesions.append(_lesion_from_json(row, names, values))
    if position != features.size:
        raise ValueError(f"result record: found {features.size} values, wanted {position}")
    return ResultRecord(
        patient_id=content["patient_id"],
        study_uid=content["study_uid"],
        study_date=content["study_date"],
        series_uid=content["series_uid"],
        segmentation_uids=content["segmentation_uids"],
        quality=tuple(QualityRow.from_fields(row) for row in content["quality"]),
        identity=Identity(**content.get("identity", {"patient_id": content["patient_id"]})),
        result=StudyResult(
            lesions=tuple(lesions),
            measures=tuple(Measure(**_with_reason(row)) for row in content["measures"]),
            pairs=tuple(Pair(**_with_reason(row)) for row in content["pairs"]),
            variation=tuple(Variation(**_with_reason(row)) for row in content["variation"]),
            provenance=Provenance(**content["provenance"]),
            # Results of versions before these were kept are read as well.
            changes=tuple(LesionChange(**_with_reason(row)) for row in content.get("changes", ())),
            identities={
                uid: _identity_from_json(row) for uid, row in content.get("identities", {}).items()
            },
        ),
    )


def _lesion_to_json(lesion: LesionResult) -> dict[str, Any]:
    return {
        "number": lesion.number,
        "label": lesion.label,
        "tracking_id": lesion.tracking_id,
        "tracking_uid": lesion.tracking_uid,
        "site": lesion.site,
        "volume_ml": lesion.volume_ml,
        "profile": lesion.profile,
        "missing": {name: asdict(reason) for name, reason in lesion.missing.items()},
        "excluded": asdict(lesion.excluded) if lesion.excluded else None,
        "warnings": list(lesion.warnings),
        "diagnostics": dict(lesion.diagnostics),
    }


def _lesion_from_json(
    row: dict[str, Any], names: tuple[str, ...], values: np.ndarray[Any, Any]
) -> LesionResult:
    excluded = row.pop("excluded")
    missing = {name: Reason(**reason) for name, reason in row.pop("missing").items()}
    warnings = tuple(row.pop("warnings"))
    bare = LesionResult(**row, names=names, values=values)
    return replace(
        bare,
        missing=missing,
        excluded=Reason(**excluded) if excluded else None,
        warnings=warnings,
    )


def _identity_from_json(row: dict[str, Any]) -> LesionIdentity:
    low, high = row.pop("box") or (None, None)
    return LesionIdentity(**row, box=(tuple(low), tuple(high)) if low and high else None)


def _with_reason(row: dict[str, Any]) -> dict[str, Any]:
    reason = row["reason"]
    return {**row, "reason": Reason(**reason) if reason else None}
