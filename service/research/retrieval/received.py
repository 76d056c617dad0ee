"""One source as it is asked, and what comes of it: read and checked before anyone keeps it."""

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from mirv.analysis.errors import Reason, Transient, Unsuitable
from mirv.config.settings.network import Source
from mirv.dicom_io.files.frame_groups import all_groups
from mirv.dicom_io.files.header import InstanceHeader, read_header
from mirv.dicom_io.files.values import PARSE_FAULTS, numbers, read_dataset, text
from mirv.dicom_io.standard.uids import is_received_uid
from mirv.service.peers.sources.fetch import Address, fetch_instance, fetch_series
from mirv.service.peers.sources.query import (
    FoundSeries,
    FoundStudy,
    instances_of,
    series_of,
    studies_of,
)
from mirv.service.research.retrieval.rule import SeriesFacts


@dataclass(frozen=True, slots=True)
class Received:
    """An object on disk.

    Attributes
    ----------
    path : Path
    header : InstanceHeader
    kept : bool
        It was there before: nothing is to be done to keep it.
    """

    path: Path
    header: InstanceHeader
    kept: bool = False


def is_usable(uid: str) -> bool:
    """Whether a UID of a source may be asked for: not a step up in an address, no wildcard."""
    return is_received_uid(uid) and bool(uid.strip("."))


@dataclass(frozen=True, slots=True)
class Passage:
    """One source, and the folder its objects come through.

    Every method raises Transient, PeerRefused or Unsuitable when the source cannot be asked,
    breaks off or answers without end, and OSError when the disk is full or broken.

    Attributes
    ----------
    source : Source
    ae_title : str
        Ours.
    max_object_bytes : int
    folder : Path
        Emptied by whoever made it.
    issuer : str
        Of the source's Patient IDs that come without one; "" for unknown.
    """

    source: Source
    ae_title: str
    max_object_bytes: int
    folder: Path
    issuer: str = ""

    def studies(self, patient_id: str) -> list[FoundStudy]:
        """A patient's studies of any date."""
        found = studies_of(self.source, patient_id, "", "", self.ae_title)
        return [replace(study, issuer=study.issuer.strip() or self.issuer) for study in found]

    def read_back(self, path: Path) -> Received | None:
        """An object that was kept earlier; None when it cannot be read any more."""
        try:
            return Received(path, read_header(path).issued_by(self.issuer), kept=True)
        except (Unsuitable, OSError):
            return None

    def series_of(self, study_uid: str) -> list[FoundSeries]:
        """The series of a study."""
        return series_of(self.source, study_uid, self.ae_title)

    def objects(self, address: Address, classes: Collection[str]) -> tuple[str, ...]:
        """Objects of a series that may be of these SOP classes, by UID."""
        found = instances_of(self.source, address.study_uid, address.series_uid, self.ae_title)
        uids = {
            one.sop_instance_uid
            for one in found
            if is_usable(one.sop_instance_uid) and one.sop_class_uid in {"", *classes}
        }
        return tuple(sorted(uids))

    def series(self, address: Address, wanted: Collection[str]) -> dict[str, Received]:
        """Fetch a series: of it, what was asked for and can be read, by SOP Instance UID.

        Parameters
        ----------
        address : Address
        wanted : collection of str
            SOP Instance UIDs: nothing else is kept, so the source fills no disk.

        Returns
        -------
        dict of str to Received
        """
        reception = _Reception(self.folder, address, frozenset(wanted), self.issuer)
        fetch_series(
            self.source,
            address.study_uid,
            address.series_uid,
            self.ae_title,
            reception.take,
            self.max_object_bytes,
        )
        return reception.outcome()

    def instance(self, address: Address) -> Received | Reason:
        """Fetch one object that the source lists; why it cannot be read.

        Parameters
        ----------
        address : Address

        Returns
        -------
        Received or Reason
        """
        wanted = frozenset({address.sop_instance_uid})
        reception = _Reception(self.folder, address, wanted, self.issuer)
        fetch_instance(self.source, address, self.ae_title, reception.take, self.max_object_bytes)
        received = reception.outcome().get(address.sop_instance_uid)
        if received is not None:
            return received
        if reception.unreadable is not None:
            return reception.unreadable
        raise Transient(f"{self.source.name}: does not give an object that it lists")


class _Reception:
    """Takes what comes of one request."""

    def __init__(self, folder: Path, address: Address, wanted: frozenset[str], issuer: str) -> None:
        self._folder = folder
        self._issuer = issuer
        self._address = address
        self._wanted = wanted
        self._received: dict[str, Received] = {}
        self._fault: OSError | None = None
        self.unreadable: Reason | None = None

    def take(self, content: bytes) -> None:
        try:
            header = read_header(content).issued_by(self._issuer)
        except Unsuitable as fault:
            self.unreadable = fault.reason
            return
        uid = header.sop_instance_uid
        where = (header.study_uid, header.series_uid)
        if where != (self._address.study_uid, self._address.series_uid):
            return
        if uid not in self._wanted or uid in self._received:
            return
        path = self._folder / f"{header.sha256}.dcm"
        try:
            _write(path, content)
        except OSError as fault:  # an association makes a mere status of it
            self._fault = fault
            raise
        self._received[uid] = Received(path, header)

    def outcome(self) -> dict[str, Received]:
        if self._fault is not None:
            raise self._fault
        return self._received


def _write(path: Path, content: bytes) -> None:
    # No one else of the machine reads patients' images: they keep this where they are moved to.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def facts_of(received: Received, told: SeriesFacts) -> SeriesFacts:
    """What an object says of its series, and the source where the object says nothing.

    Parameters
    ----------
    received : Received
    told : SeriesFacts
        By the source.

    Returns
    -------
    SeriesFacts

    Raises
    ------
    Unsuitable
        ``malformed``
    OSError
        It cannot be read.
    """
    dataset = read_dataset(received.path, pixels=False)
    try:
        said = {
            "modality": text(dataset, "Modality"),
            "body_part": text(dataset, "BodyPartExamined"),
            "description": text(dataset, "SeriesDescription"),
            "protocol": text(dataset, "ProtocolName"),
            "study_description": text(dataset, "StudyDescription"),
        }
        groups = [
            item
            for group in all_groups(dataset)
            for item in group.get("PixelMeasuresSequence") or ()
        ]
        thickness = [
            value for one in (dataset, *groups) for value in numbers(one, "SliceThickness")[:1]
        ]
    except PARSE_FAULTS as fault:
        detail = f"the header cannot be read: {type(fault).__name__}"
        raise Unsuitable("malformed", detail) from fault
    return replace(
        told,
        **{name: value for name, value in said.items() if value},
        thickness_mm=max((one for one in thickness if one > 0), default=None),
        localizer=received.header.is_localizer,
        from_object=True,
    )
