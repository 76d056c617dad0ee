"""Storage commitment, both ways: asking destinations for theirs, answering for the node's own."""

from dbos import DBOS
from pydicom import Dataset

from mirv.analysis.errors import Transient
from mirv.config.settings.network import AnyDestination, Destination, WebDestination
from mirv.dicom_io.standard.uids import derive_uid
from mirv.service.catalogue import ArtifactRow, Commitment, DeliveryRow
from mirv.service.peers.commitment import Reference, Report
from mirv.service.peers.destinations import over_http
from mirv.service.peers.destinations.commit import report_commitment, request_commitment
from mirv.service.peers.destinations.outcome import DeliveryOutcome, next_delay
from mirv.service.runtime.log import get_logger
from mirv.service.work.context import COMMITMENTS, WorkContext, work_context, worth_repeating

log = get_logger("commitments")


# Asking


def ask(
    work: WorkContext,
    destination: AnyDestination,
    stored: list[tuple[DeliveryRow, DeliveryOutcome, ArtifactRow]],
) -> None:
    """Ask for storage commitment of what was just stored, or over HTTP whether it is there.

    The transaction is on record before the request: its answer may be quicker than our own commit.

    Parameters
    ----------
    work : WorkContext
    destination : Destination or WebDestination
    stored : list of (DeliveryRow, DeliveryOutcome, ArtifactRow)
        What the destination has just taken.
    """
    deliveries = work.catalogue.deliveries
    run_id = stored[0][0].run_id
    tries = deliveries.tries(run_id, destination.name)
    transaction_uid = derive_uid("commitment", run_id, destination.name, str(tries))
    required = destination.commitment == "required"
    now = work.clock()
    answer_by = now + work.settings.delivery.commitment_timeout_s if required else None
    for row, outcome, _ in stored:
        deliveries.ask(row.id, transaction_uid, outcome.status or 0, outcome.detail, now, answer_by)
    references = [Reference(one.sop_class_uid, one.sop_instance_uid) for _, _, one in stored]
    if isinstance(destination, Destination):
        refusal = request_commitment(
            destination,
            transaction_uid,
            references,
            work.settings.listener.ae_title,
            lambda report: note_report(work, report),
            lambda: all(
                found is not None and found.commitment != Commitment.ASKED
                for found in (deliveries.get(row.id) for row, _, _ in stored)
            ),
        )
    else:
        refusal = _look_up(work, destination, transaction_uid, references)
    log.info("commitment asked", run=run_id, destination=destination.name, refusal=refusal or None)
    if refusal:
        for row, _, _ in stored:
            deliveries.no_answer(row.id, refusal)


def _look_up(
    work: WorkContext,
    destination: WebDestination,
    transaction_uid: str,
    references: list[Reference],
) -> str:
    try:
        report = over_http.look_up(destination, transaction_uid, references)
    except Transient as fault:
        return str(fault)
    note_report(work, report)
    return ""


def note_report(work: WorkContext, report: Report) -> None:
    """Take a storage commitment report, whichever way it came."""
    known = work.catalogue.deliveries.answered(
        report.transaction_uid,
        report.committed,
        report.failed,
        lambda attempts: next_delay(attempts, work.settings.delivery),
        work.clock(),
    )
    log.info("commitment report", deliveries=known, failed=len(report.failed))


# Answering


def answer_commitment(calling_ae_title: str, event_type: int, information: Dataset) -> None:
    """Queue the answer to a peer that asked the node to commit itself to objects.

    Parameters
    ----------
    calling_ae_title : str
    event_type : int
    information : Dataset
        Both as `commitment.answer` made them.
    """
    DBOS.enqueue_workflow(
        COMMITMENTS, tell_commitment, calling_ae_title, event_type, information.to_json()
    )


@DBOS.workflow()
def tell_commitment(calling_ae_title: str, event_type: int, information: str) -> str:
    """Tell a peer what the node commits itself to; "" when it was told, else why not."""
    peers = [one for one in _dimse_peers() if one.ae_title == calling_ae_title]
    if not peers:
        log.warning("commitment not reported: no destination has this AE title")
        return "unknown AE title"
    try:
        _tell(peers[0].name, event_type, information)
    except Exception as fault:  # noqa: BLE001 - the top of a report: the peer will ask again
        log.warning("commitment not reported", destination=peers[0].name)
        return str(fault)
    return ""


@DBOS.step(retries_allowed=True, interval_seconds=5, max_attempts=6, should_retry=worth_repeating)
def _tell(name: str, event_type: int, information: str) -> None:
    work = work_context()
    (peer,) = [one for one in _dimse_peers() if one.name == name]
    refusal = report_commitment(
        peer, event_type, Dataset.from_json(information), work.settings.listener.ae_title
    )
    if refusal:
        raise Transient(refusal)


def _dimse_peers() -> list[Destination]:
    return [one for one in work_context().settings.destinations if isinstance(one, Destination)]
