"""Spool against index: what does not fit, and putting it right.

Run at every start (quickly) and by ``mirv doctor`` (thoroughly). Nothing acknowledged is ever
removed: what is damaged goes to quarantine, what is missing is named and taken when it is sent
again.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mirv.analysis.errors import Reason, Unsuitable
from mirv.dicom_io.files.header import read_header
from mirv.service.catalogue import Catalogue, Conflict, NewCorrection
from mirv.service.objects.intake import UNTOLD, Intake, no_issuer, set_aside
from mirv.service.objects.same_object import differences
from mirv.service.objects.spool import Spool, StoredObject, content_digest
from mirv.service.runtime.log import get_logger

# A file younger than this may be between its write and its row.
IN_FLIGHT_S = 60.0

_UNFINISHED = Reason("unfinished", "found a file that was not written to its end, and no row of it")

log = get_logger("repair")


@dataclass(slots=True)
class Findings:
    """What does not fit. Hashes, but for `missing`: SOP Instance UIDs.

    Attributes
    ----------
    unindexed : list
        Files no row refers to: a crash between write and row. Repair indexes what is readable;
        the rest are results of a step that will run again, and are left.
    missing : list
        Indexed objects without their file.
    damaged : list
        Files whose content is not what their name says.
    outputs_missing : list
        Results and artifacts without their file.
    """

    unindexed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    outputs_missing: list[str] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Nothing is lost or damaged; files without a row alone are no fault."""
        return not (self.missing or self.damaged or self.outputs_missing)


def check(
    spool: Spool,
    catalogue: Catalogue,
    *,
    thorough: bool = False,
    in_flight_s: float = IN_FLIGHT_S,
    clock: Callable[[], float] = time.time,
) -> Findings:
    """Compare spool and index.

    Parameters
    ----------
    thorough : bool
        Read every file and compare its content with its name.
    in_flight_s : float
        Overlook unindexed files younger than this; 0 when nothing is running.
    """
    findings = Findings()
    contents = catalogue.instances.contents()
    outputs = catalogue.runs.contents()
    present: set[str] = set()
    oldest = clock() - in_flight_s
    for stored in spool.stored():
        present.add(stored.sha256)
        known = stored.sha256 in contents or stored.sha256 in outputs
        if not known and (in_flight_s == 0 or stored.path.stat().st_mtime < oldest):
            findings.unindexed.append(stored.sha256)
        if thorough and content_digest(stored.path) != stored.sha256:
            findings.damaged.append(stored.sha256)
    findings.missing = sorted(uid for sha256, uid in contents.items() if sha256 not in present)
    findings.outputs_missing = sorted(outputs - present)
    return findings


def put_right(
    spool: Spool,
    catalogue: Catalogue,
    findings: Findings,
    clock: Callable[[], float] = time.time,
    issuer_of: Callable[[str], str] = no_issuer,
) -> None:
    """Put right what can be: index, put aside, mark for being sent again.

    Parameters
    ----------
    spool : Spool
    catalogue : Catalogue
    findings : Findings
        Of `check`.
    clock : callable
        Seconds since 1970.
    issuer_of : callable
        As for `Intake`.
    """
    for sha256 in findings.damaged:
        _put_damaged_aside(spool, catalogue, sha256, clock())
    intake = Intake(spool, catalogue, clock, issuer_of)
    for sha256 in findings.unindexed:
        if sha256 not in findings.damaged:
            _index(spool, catalogue, intake, sha256, clock())
    for sop_instance_uid in findings.missing:
        if not _found_aside(spool, catalogue, sop_instance_uid):
            catalogue.instances.remove(sop_instance_uid, "file_missing", clock())
    if not findings.healthy or findings.unindexed:
        log.warning(
            "spool and index put right",
            unindexed=len(findings.unindexed),
            missing=len(findings.missing),
            damaged=len(findings.damaged),
            outputs_missing=len(findings.outputs_missing),
        )


def _found_aside(spool: Spool, catalogue: Catalogue, sop_instance_uid: str) -> bool:
    """Whether the file of a row was in quarantine, whole, and is among the objects again.

    A catalogue restored from before a correction wants what was replaced since.
    """
    row = catalogue.instances.find(sop_instance_uid)
    if row is None or not (aside := spool.path(row.sha256, "quarantine")).is_file():
        return False
    if content_digest(aside) != row.sha256:
        return False
    spool.bring_back(row.sha256)
    return True


def _index(spool: Spool, catalogue: Catalogue, intake: Intake, sha256: str, now: float) -> None:
    path = spool.path(sha256)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        # The power went between its name and its sync: whoever sent it was never told "stored".
        _note_aside(catalogue, spool.put_aside(sha256), "", _UNFINISHED, now)
        return
    try:
        header = read_header(content, sha256)
    except Unsuitable:
        return  # a result whose step will run again and find it
    source, arrived = spool.source(sha256), min(path.stat().st_mtime, now)
    new = intake.index_entry(header, StoredObject(path, sha256, len(content)), source or "repair")
    if new.own_output and not source:
        return  # made here and sent by no one: its step will run again and find it
    try:
        catalogue.arrivals.add(new, arrived)
    except Conflict as conflict:
        if not catalogue.corrections.was_replaced(sha256):  # else a crash between two moves
            first = spool.path(conflict.sha256)
            differs = differences(first.read_bytes(), content) if first.is_file() else UNTOLD
            detail = f"its UID is stored with SHA-256 {conflict.sha256}"
            found = NewCorrection(new, conflict.sha256, differs, detail)
            catalogue.corrections.note(found, now)
        set_aside(spool, catalogue, sha256, new.sop_instance_uid)


def _put_damaged_aside(spool: Spool, catalogue: Catalogue, sha256: str, now: float) -> None:
    uid = catalogue.instances.contents().get(sha256, "")
    kept = spool.put_aside(sha256)
    reason = Reason("damaged", "found other content than its name says: the disk changed it")
    _note_aside(catalogue, kept, uid, reason, now)
    if uid:
        catalogue.instances.remove(uid, "damaged", now)


def _note_aside(
    catalogue: Catalogue, kept: StoredObject, uid: str, reason: Reason, now: float
) -> None:
    catalogue.quarantine.add(uid, kept.sha256, kept.size, "repair", reason, now)
