"""Taking objects in, whichever way they come: spool first, then index, or put aside with a reason.

Listener, fetching and repair all pass here, so the same rules hold for each.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from mirv.analysis.errors import Reason, Unsuitable
from mirv.dicom_io.files.header import InstanceHeader, read_header
from mirv.dicom_io.standard.uids import is_received_uid
from mirv.service.catalogue import Catalogue, Conflict, NewCorrection, NewInstance
from mirv.service.objects.same_object import Difference, differences
from mirv.service.objects.spool import Spool, Staged, StoredObject
from mirv.service.runtime.log import get_logger

UNTOLD = (Difference.OTHER,)
"""In what content differs from stored content whose file is gone."""

log = get_logger("intake")


class Verdict(StrEnum):
    """What became of an object that came."""

    STORED = "stored"  # durable and indexed
    KNOWN = "known"  # the same object was there
    UNREADABLE = "unreadable"  # in quarantine: cannot be indexed
    CONFLICT = "conflict"  # in quarantine: other content under a known UID
    REFUSED = "refused"  # in quarantine: by the caller's own check


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of an object.

    Attributes
    ----------
    verdict : Verdict
    reason : Reason or None
        Why it was put aside.
    """

    verdict: Verdict
    reason: Reason | None = None


def no_issuer(_source: str) -> str:
    """It stays unknown."""
    return ""


class Intake:
    """Where objects enter.

    Parameters
    ----------
    spool : Spool
    catalogue : Catalogue
    clock : callable
        Seconds since 1970.
    issuer_of : callable
        Who issued the Patient ID of an object that carries no issuer, told its source; "" for
        unknown.
    """

    def __init__(
        self,
        spool: Spool,
        catalogue: Catalogue,
        clock: Callable[[], float] = time.time,
        issuer_of: Callable[[str], str] = no_issuer,
    ) -> None:
        self._issuer_of = issuer_of
        self._spool = spool
        self._catalogue = catalogue
        self._clock = clock

    def take(
        self,
        content: bytes | memoryview,
        source: str,
        *,
        sha256: str = "",
        claimed_uid: str = "",
        check: Callable[[InstanceHeader], Reason | None] = lambda _header: None,
    ) -> Taken:
        """Keep a complete Part 10 file; durable and indexed, or in quarantine, on return.

        Parameters
        ----------
        content : bytes or memoryview
        source : str
            Who sent it, for people.
        sha256 : str
            Of the content, when it is known.
        claimed_uid : str
            SOP Instance UID as announced, for what cannot be read.
        check : callable
            A further reason to refuse a readable object.

        Raises
        ------
        OSError
            The disk is full or broken; nothing was kept.
        Transient
            The catalogue cannot be written now; the file may be kept, unindexed, for the next
            repair.
        """
        staged = self._spool.stage((content,), sha256=sha256, source=source)
        try:
            header = _read(content, staged.sha256)
            if isinstance(header, Reason):
                return self._put_aside(staged, Verdict.UNREADABLE, claimed_uid, source, header)
            if reason := check(header):
                return self._put_aside(staged, Verdict.REFUSED, claimed_uid, source, reason)
            return self._index(staged, content, self.index_entry(header, staged, source))
        finally:
            staged.discard()

    def _index(self, staged: Staged, content: bytes | memoryview, new: NewInstance) -> Taken:
        staged.keep()
        try:
            added = self._catalogue.arrivals.add(new, self._clock(), synced=self._is_final(new))
        except Conflict as conflict:
            return self._settle(new, bytes(content), conflict.sha256)
        return Taken(Verdict.STORED if added else Verdict.KNOWN)

    def _settle(self, new: NewInstance, content: bytes, stored: str) -> Taken:
        """What becomes of other content under a known UID: the same object, or a correction."""
        first = self._spool.path(stored)
        differs = differences(first.read_bytes(), content) if first.is_file() else UNTOLD
        if not differs:
            self._spool.remove(new.sha256)
            return Taken(Verdict.KNOWN)
        reason = Reason(
            "other_content",
            f"found SHA-256 {new.sha256} under a SOP Instance UID that is stored with {stored}; "
            "the first is kept",
        )
        found = NewCorrection(new, stored, differs, reason.detail)
        self._catalogue.corrections.note(found, self._clock())
        if not set_aside(self._spool, self._catalogue, new.sha256, new.sop_instance_uid):
            return Taken(Verdict.KNOWN)
        log.warning("put aside", code=reason.code, sha256=new.sha256, source=new.source)
        return Taken(Verdict.CONFLICT, reason)

    def _is_final(self, new: NewInstance) -> bool:
        """Whether a repair could not make the row again: it takes our output for one just made."""
        return new.own_output and not self._spool.source(new.sha256)

    def index_entry(
        self, header: InstanceHeader, file: Staged | StoredObject, source: str
    ) -> NewInstance:
        """What the index says of an object.

        Parameters
        ----------
        header : InstanceHeader
        file : Staged or StoredObject
            Its hash and size count.
        source : str
            Who sent it.

        Returns
        -------
        NewInstance
        """
        made_here = not header.is_image and self._catalogue.instances.is_artifact(
            header.sop_instance_uid
        )
        return NewInstance(
            sop_instance_uid=header.sop_instance_uid,
            sop_class_uid=header.sop_class_uid,
            study_uid=header.study_uid,
            series_uid=header.series_uid,
            sha256=file.sha256,
            size=file.size,
            source=source,
            own_output=made_here or header.own,
            header=header.issued_by(self._issuer_of(source)).to_json(),
            referenced_series=tuple(header.referenced_series),
            patient_id=header.patient_id,
        )

    def _put_aside(
        self, staged: Staged, verdict: Verdict, claimed: str, source: str, reason: Reason
    ) -> Taken:
        self._note_aside(staged.keep("quarantine"), claimed, source, reason)
        return Taken(verdict, reason)

    def _note_aside(self, kept: StoredObject, claimed: str, source: str, reason: Reason) -> None:
        self._catalogue.quarantine.add(
            claimed, kept.sha256, kept.size, source, reason, self._clock()
        )
        log.warning("put aside", code=reason.code, sha256=kept.sha256, source=source)


def set_aside(spool: Spool, catalogue: Catalogue, sha256: str, sop_instance_uid: str) -> bool:
    """Put content of an object in quarantine, but for what the catalogue says is stored of it.

    Someone may accept it as a correction at this moment, and others may send or move the same.

    Parameters
    ----------
    spool : Spool
    catalogue : Catalogue
    sha256 : str
    sop_instance_uid : str

    Returns
    -------
    bool
        False when it is stored, and stays or is again among the objects.
    """
    for look in ("before", "after"):
        row = catalogue.instances.find(sop_instance_uid)
        if row is not None and row.sha256 == sha256 and row.removed_at is None:
            spool.bring_back(sha256)
            return False
        if look == "before":
            with contextlib.suppress(FileNotFoundError):
                spool.put_aside(sha256)
    return True


def _read(content: bytes | memoryview, sha256: str) -> InstanceHeader | Reason:
    try:
        header = read_header(content, sha256)
    except Unsuitable as fault:
        return fault.reason
    except Exception as fault:
        # Content from outside met a fault of the reader: it is kept for a look, the peer is told.
        log.exception("reading failed")
        return Reason("reading_failed", f"{type(fault).__name__} while reading the header")
    return _malformed(header) or header


def _malformed(header: InstanceHeader) -> Reason | None:
    for name in ("sop_instance_uid", "sop_class_uid", "study_uid", "series_uid"):
        if not is_received_uid(getattr(header, name)):
            return Reason("uid_malformed", f"{name}: wanted 1 to 64 digits and dots, found others")
    return None
