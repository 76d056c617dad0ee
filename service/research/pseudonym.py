"""Pseudonyms for research export: keyed, consistent, without a way back for who lacks the key.

Persons and UIDs become HMAC-SHA-256 pseudonyms; dates move by one offset a person (1 to 3650
days back), so intervals stay; a person who shares the PatientID has a pseudonym and an offset of
their own; free text (labels, found, wanted, detail, file names) is left out.
The key lies in the node's folder, readable by its user alone, and never enters an export.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mirv.analysis.errors import Reason
from mirv.analysis.model import (
    LesionChange,
    LesionIdentity,
    LesionResult,
    Measure,
    Pair,
    StudyResult,
    Variation,
)
from mirv.config.errors import BadInput
from mirv.dicom_io.model import QualityRow
from mirv.dicom_io.standard.person import Identity
from mirv.service.runtime.node_folder import NodeFolder
from mirv.service.study.result_record import ResultRecord
from mirv.service.study.time_points import persons_of

KEY_BYTES = 32


def load_key(path: Path) -> bytes:
    """Read the node's pseudonym key; make one at the first use.

    Raises
    ------
    BadInput
        The file does not hold a key.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise BadInput(
                f"pseudonym key {path.name}: found {len(key)} bytes, wanted {KEY_BYTES}"
            ) from None
        return key
    key = secrets.token_bytes(KEY_BYTES)
    with os.fdopen(handle, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    return key


class Pseudonymiser:
    """Turns identified records into pseudonymised ones.

    Parameters
    ----------
    key : bytes
        From `load_key`.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def _mac(self, kind: str, text: str) -> bytes:
        return hmac.new(self._key, f"{kind}\0{text}".encode(), hashlib.sha256).digest()

    def patient(self, patient_id: str, person: str = "") -> str:
        """Pseudonym of a person; "" stays "": who has no ID is nobody's namesake.

        Parameters
        ----------
        patient_id : str
        person : str
            Their key, where it is another: several share the PatientID.

        Returns
        -------
        str
        """
        if not patient_id:
            return ""
        # Two kinds, so that no PatientID can be made up that is another person's key.
        shared = person not in ("", patient_id)
        mac = self._mac("person", person) if shared else self._mac("patient", patient_id)
        return "P-" + mac.hex()[:16].upper()

    def uid(self, uid: str) -> str:
        """Pseudonym of a UID: again a valid UID; "" stays ""."""
        if not uid:
            return ""
        return f"2.25.{int.from_bytes(self._mac('uid', uid)[:16], 'big')}"

    def date(self, patient_id: str, date: str) -> str:
        """A DICOM date moved by the patient's offset; what is no date becomes "".

        Parameters
        ----------
        patient_id : str
            Or what stands for it: the offset, 1 to 3650 days, depends on it and the key alone.
        date : str
            YYYYMMDD.

        Returns
        -------
        str
        """
        days = 1 + int.from_bytes(self._mac("shift", patient_id)[:4], "big") % 3650
        try:
            moved = datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC) - timedelta(days=days)
        except (ValueError, OverflowError):
            return ""
        return moved.strftime("%Y%m%d")

    def _digest(self, digest: str) -> str:
        """A digest that still links the records of one export; "" stays ""."""
        return self._mac("input", digest).hex() if digest else ""

    def record(self, record: ResultRecord, person: str = "") -> ResultRecord:
        """The whole record without anything that names the patient.

        Parameters
        ----------
        record : ResultRecord
        person : str
            Key of its person, the PatientID where it is ""; its pseudonym is all the record says of
            who it is.

        Returns
        -------
        ResultRecord
        """
        result = record.result
        who = person or record.patient_id or record.study_uid
        return ResultRecord(
            patient_id=self.patient(record.patient_id, person),
            study_uid=self.uid(record.study_uid),
            study_date=self.date(who, record.study_date),
            series_uid=self.uid(record.series_uid),
            segmentation_uids={
                self.uid(lesion): self.uid(source)
                for lesion, source in record.segmentation_uids.items()
            },
            quality=tuple(self._quality(row) for row in record.quality),
            result=StudyResult(
                lesions=tuple(self._lesion(lesion) for lesion in result.lesions),
                measures=tuple(_measure(measure) for measure in result.measures),
                pairs=tuple(self._pair(pair) for pair in result.pairs),
                variation=tuple(_variation(row) for row in result.variation),
                provenance=replace(
                    result.provenance,
                    input_digest=self._digest(result.provenance.input_digest),
                    prior_input_digest=self._digest(result.provenance.prior_input_digest),
                    prior_study_uid=self.uid(result.provenance.prior_study_uid),
                    prior_study_date=self.date(who, result.provenance.prior_study_date),
                    default_issuer="",
                ),
                changes=tuple(self._changes(result)),
                identities={
                    self.uid(uid): LesionIdentity(one.tracking_received, one.part)
                    for uid, one in result.identities.items()
                },
            ),
            identity=Identity(patient_id=self.patient(record.patient_id, person)),
        )

    def _lesion(self, lesion: LesionResult) -> LesionResult:
        name = f"lesion {lesion.number}"
        return replace(
            lesion,
            label=name,
            tracking_id=name,
            tracking_uid=self.uid(lesion.tracking_uid),
            missing={feature: _coded(reason) for feature, reason in lesion.missing.items()},
            excluded=_coded(lesion.excluded) if lesion.excluded else None,
            warnings=(),
        )

    def _changes(self, result: StudyResult) -> Iterator[LesionChange]:
        names = {lesion.tracking_uid: f"lesion {lesion.number}" for lesion in result.lesions}
        for change in result.changes:
            here = change.current_ml is not None
            yield replace(
                change,
                tracking_uid=self.uid(change.tracking_uid),
                name=names.get(change.tracking_uid, "lesion") if here else "earlier lesion",
                reason=_coded(change.reason) if change.reason else None,
                previous_uid=self.uid(change.previous_uid),
            )

    def _pair(self, pair: Pair) -> Pair:
        return replace(
            pair,
            tracking_uid_a=self.uid(pair.tracking_uid_a),
            tracking_uid_b=self.uid(pair.tracking_uid_b),
            reason=_coded(pair.reason) if pair.reason else None,
        )

    def _quality(self, row: QualityRow) -> QualityRow:
        return QualityRow(
            study_uid=self.uid(row.study_uid),
            series_uid=self.uid(row.series_uid),
            object_uid=self.uid(row.object_uid),
            lesion=self.uid(row.lesion),
            check=row.check,
            outcome=row.outcome,
        )


def _coded(reason: Reason) -> Reason:
    """Keep the code: a detail may quote an outside string."""
    return Reason(reason.code, "see the identified export")


def _measure(measure: Measure) -> Measure:
    return replace(measure, reason=_coded(measure.reason) if measure.reason else None)


def _variation(row: Variation) -> Variation:
    return replace(row, reason=_coded(row.reason) if row.reason else None)


def pseudonymised(found: Iterable[ResultRecord], folder: NodeFolder) -> Iterator[ResultRecord]:
    """Results without anything that names a patient, by the key of the node; a pseudonym a person.

    Parameters
    ----------
    found : iterable of ResultRecord
    folder : NodeFolder

    Raises
    ------
    BadInput
        The file of the key does not hold one.
    """
    hide = Pseudonymiser(load_key(folder.pseudonym_key))
    records = list(found)
    yield from map(hide.record, records, persons_of(records))
