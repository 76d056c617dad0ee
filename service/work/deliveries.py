"""A delivery as durable work: what a run has for a destination, one try a workflow."""

from uuid import uuid4

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID, error

from mirv.config.settings.network import AnyDestination, WebDestination
from mirv.service.catalogue import DeliveryRow, DeliveryState
from mirv.service.peers.destinations import over_http
from mirv.service.peers.destinations.c_store import send
from mirv.service.peers.destinations.outcome import DeliveryOutcome, Outgoing, next_delay
from mirv.service.peers.destinations.verdict import DeliveryVerdict
from mirv.service.runtime.log import get_logger
from mirv.service.work.commitments import ask
from mirv.service.work.context import (
    DELIVERIES,
    ENDED_STATES,
    WorkContext,
    fault_text,
    work_context,
    worth_repeating,
)
from mirv.service.work.notices import enqueue_notice

log = get_logger("deliveries")


def queue_to(destination: str) -> str:
    """The queue of a destination: who does not answer holds up no other."""
    return f"{DELIVERIES}:{destination}"


def enqueue_delivery(run_id: str, destination: str, attempt: int) -> bool:
    """Queue one try of what a run has for a destination; harmless when it is queued already.

    One at a time: False while another try is queued or at work, whose own count of tries would
    otherwise look like a new one halfway.

    Parameters
    ----------
    run_id : str
    destination : str
        Name of the destination.
    attempt : int
        Tries so far: part of the identity of the next.

    Returns
    -------
    bool
    """
    workflow_id = f"deliver:{run_id}:{destination}:{attempt}"
    if not enqueue_try(workflow_id, run_id, destination):
        return False
    found = DBOS.get_workflow_status(workflow_id)
    if found is None or found.status not in ENDED_STATES:
        return True
    # What ended and counted no try could not note what it did: the disk was full, say.
    if work_context().catalogue.deliveries.tries(run_id, destination) != attempt:
        return True
    log.warning("delivery ended without a word", run=run_id, destination=destination)
    return enqueue_try(f"{workflow_id}:{uuid4().hex}", run_id, destination)


def enqueue_try(workflow_id: str, run_id: str, destination: str) -> bool:
    """Queue a try under this identity; False while another try is queued or at work.

    Parameters
    ----------
    workflow_id : str
    run_id : str
    destination : str
        Name of the destination.

    Returns
    -------
    bool
    """
    known = any(one.name == destination for one in work_context().settings.destinations)
    try:
        with (
            SetWorkflowID(workflow_id),
            SetEnqueueOptions(deduplication_id=f"{run_id}:{destination}"),
        ):
            DBOS.enqueue_workflow(
                queue_to(destination) if known else DELIVERIES, deliver, run_id, destination
            )
    except error.DBOSQueueDeduplicatedError:
        return False
    return True


@DBOS.workflow()
def deliver(run_id: str, destination: str) -> None:
    """Try once; what is to be tried again is taken up by the scheduler when it is due."""
    try:
        _attempt(run_id, destination)
    except Exception as fault:  # noqa: BLE001 - the top of a delivery: a bug parks it
        work_context()
        _park_all(run_id, destination, fault_text(fault))
    if parked := _parked(run_id, destination):
        enqueue_notice(DeliveryState.PARKED.value, run_id, parked, destination)


@DBOS.step()
def _parked(run_id: str, destination: str) -> int:
    """Tries behind what is parked now, so that each parking is told once; 0: nothing is."""
    deliveries = work_context().catalogue.deliveries
    parked = deliveries.all(state=DeliveryState.PARKED, run_id=run_id, destination=destination)
    return deliveries.tries(run_id, destination) if parked else 0


@DBOS.step(retries_allowed=True, max_attempts=5, should_retry=worth_repeating)
def _attempt(run_id: str, name: str) -> None:
    work = work_context()
    waiting = work.catalogue.deliveries.all(
        state=DeliveryState.WAITING, run_id=run_id, destination=name
    )
    known = {one.name: one for one in work.settings.destinations}
    if name not in known:
        for row in waiting:
            work.catalogue.deliveries.park(
                row.id, None, f"no destination {name!r} in the settings", work.clock()
            )
        return
    artifacts = {one.role: one for one in work.catalogue.runs.artifacts(run_id)}
    ready = []
    for row in sorted(waiting, key=lambda row: artifacts[row.role].position):
        if row.attempts_left > 0:
            ready.append(row)
        else:
            work.catalogue.deliveries.park(row.id, row.last_status, "no commitment", work.clock())
    outgoing = [
        Outgoing(
            row.id, artifacts[row.role].sop_class_uid, work.spool.path(artifacts[row.role].sha256)
        )
        for row in ready
    ]
    if not outgoing:
        return
    outcomes = _send(work, known[name], outgoing)
    stored = []
    for row, outcome in zip(ready, outcomes, strict=True):
        if outcome.verdict == DeliveryVerdict.DELIVERED and known[name].commitment != "off":
            stored.append((row, outcome, artifacts[row.role]))
        else:
            _note(work, row, outcome)
    if stored:
        ask(work, known[name], stored)


def _send(
    work: WorkContext, destination: AnyDestination, outgoing: list[Outgoing]
) -> list[DeliveryOutcome]:
    if isinstance(destination, WebDestination):
        return over_http.send(destination, outgoing)
    return send(destination, outgoing, work.settings.listener.ae_title)


def _note(work: WorkContext, row: DeliveryRow, outcome: DeliveryOutcome) -> None:
    deliveries, now = work.catalogue.deliveries, work.clock()
    told = {"run": row.run_id, "role": row.role, "destination": row.destination}
    if outcome.verdict == DeliveryVerdict.DELIVERED and outcome.status is not None:
        deliveries.delivered(row.id, outcome.status, outcome.detail, now)
        log.info("delivered", **told)
    elif outcome.verdict == DeliveryVerdict.RETRY and row.attempts_left > 1:
        delay = next_delay(row.attempts, work.settings.delivery)
        deliveries.retry_at(row.id, now + delay, outcome.status, outcome.detail)
        log.warning("delivery to be repeated", seconds=round(delay, 1), **told)
    else:
        deliveries.park(row.id, outcome.status, outcome.detail, now)
        log.error("delivery parked", **told)


@DBOS.step(retries_allowed=True, max_attempts=5, should_retry=worth_repeating)
def _park_all(run_id: str, destination: str, detail: str) -> None:
    work = work_context()
    for row in work.catalogue.deliveries.all(
        state=DeliveryState.WAITING, run_id=run_id, destination=destination
    ):
        work.catalogue.deliveries.park(row.id, None, detail, work.clock())
    log.error("delivery failed", run=run_id, destination=destination)
