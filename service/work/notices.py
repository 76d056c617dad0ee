"""Telling the webhook that a run ended or a delivery was parked."""

from dbos import DBOS, SetWorkflowID

from mirv.analysis.errors import Unsuitable
from mirv.service.peers.destinations.webhook import notify
from mirv.service.runtime.log import get_logger
from mirv.service.work.context import NOTICES, work_context, worth_repeating

log = get_logger("notices")


def enqueue_notice(kind: str, run_id: str, number: int = 0, destination: str = "") -> None:
    """Queue telling the webhook, when there is one; harmless when it is queued already.

    Parameters
    ----------
    kind : str
        What there is to tell: the state a run ended in, or ``parked``.
    run_id : str
    number : int
        Tells notices of one kind about one run apart.
    destination : str
        Name of the destination, for ``parked``.
    """
    work = work_context()
    if work.settings.webhook is None:
        return
    with SetWorkflowID(f"notice:{kind}:{run_id}:{destination}:{number}"):
        DBOS.enqueue_workflow(NOTICES, tell, kind, run_id, work.clock(), destination)


@DBOS.workflow()
def tell(kind: str, run_id: str, at: float, destination: str) -> bool:
    """Tell the webhook; whether it was told."""
    try:
        _notify(kind, run_id, at, destination)
    except Exception as fault:  # noqa: BLE001 - the top of a notice: nothing hangs on it
        work_context()
        log.warning("webhook not told", kind=kind, run=run_id, why=type(fault).__name__)
        return False
    return True


@DBOS.step(retries_allowed=True, interval_seconds=2, max_attempts=8, should_retry=worth_repeating)
def _notify(kind: str, run_id: str, at: float, destination: str) -> None:
    webhook = work_context().settings.webhook
    if webhook is None:
        raise Unsuitable("no_webhook", "the settings no longer name one")
    detail = {"destination": destination} if destination else {}
    notify(webhook, kind, run_id, at, **detail)
