"""Durable work beside runs and deliveries: fetching, answering commitment, telling others."""

from dbos import DBOS, SetWorkflowID
from pydicom import Dataset

from analysis.errors import Transient, Unsuitable
from config.settings import Destination
from service.fetching import fetch_series
from service.intake import Intake
from service.log import get_logger
from service.sender import report_commitment
from service.webhook import notify
from service.workbench import DELIVERIES, FETCHES, workbench, worth_repeating

log = get_logger("errands")


def enqueue_fetch(study_uid: str, series_uid: str, round_number: int) -> None:
    """Queue asking the sources for a series; harmless when it is queued already."""
    with SetWorkflowID(f"fetch:{series_uid}:{round_number}"):
        DBOS.enqueue_workflow(FETCHES, fetch, study_uid, series_uid)


@DBOS.workflow()
def fetch(study_uid: str, series_uid: str) -> str:
    """Ask the sources in their order; the name of the one that had the series, else ""."""
    for source in workbench().settings.sources:
        try:
            if _fetch_from(source.name, study_uid, series_uid):
                return source.name
        except Exception as fault:  # noqa: BLE001 - the top of a fetch: the next source is asked
            workbench()
            log.warning("fetch failed", source=source.name, why=type(fault).__name__)
    return ""


@DBOS.step()
def _fetch_from(name: str, study_uid: str, series_uid: str) -> int:
    bench = workbench()
    (source,) = [one for one in bench.settings.sources if one.name == name]
    intake = Intake(bench.spool, bench.store, bench.clock)
    number = fetch_series(
        source,
        study_uid,
        series_uid,
        bench.settings.listener.ae_title,
        lambda content: intake.take(content, f"fetch:{name}"),
    )
    bench.store.events.add(
        bench.clock(),
        "fetched",
        study_uid=study_uid,
        object_uid=series_uid,
        source=name,
        objects=number,
    )
    log.info("fetched", source=name, objects=number)
    return number


def answer_commitment(calling_ae_title: str, event_type: int, information: Dataset) -> None:
    """Queue the answer to a peer that asked the node to commit itself to objects."""
    DBOS.enqueue_workflow(
        DELIVERIES, tell_commitment, calling_ae_title, event_type, information.to_json()
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
    bench = workbench()
    (peer,) = [one for one in _dimse_peers() if one.name == name]
    refusal = report_commitment(
        peer, event_type, Dataset.from_json(information), bench.settings.listener.ae_title
    )
    if refusal:
        raise Transient(refusal)


def _dimse_peers() -> list[Destination]:
    return [one for one in workbench().settings.destinations if isinstance(one, Destination)]


def enqueue_notice(kind: str, run_id: str, number: int = 0, destination: str = "") -> None:
    """Queue telling the webhook, when there is one; harmless when it is queued already."""
    bench = workbench()
    if bench.settings.webhook is None:
        return
    with SetWorkflowID(f"notice:{kind}:{run_id}:{destination}:{number}"):
        DBOS.enqueue_workflow(DELIVERIES, tell, kind, run_id, bench.clock(), destination)


@DBOS.workflow()
def tell(kind: str, run_id: str, at: float, destination: str) -> bool:
    """Tell the webhook; whether it was told."""
    try:
        _notify(kind, run_id, at, destination)
    except Exception as fault:  # noqa: BLE001 - the top of a notice: nothing hangs on it
        workbench()
        log.warning("webhook not told", kind=kind, run=run_id, why=type(fault).__name__)
        return False
    return True


@DBOS.step(retries_allowed=True, interval_seconds=2, max_attempts=8, should_retry=worth_repeating)
def _notify(kind: str, run_id: str, at: float, destination: str) -> None:
    webhook = workbench().settings.webhook
    if webhook is None:
        raise Unsuitable("no_webhook", "the settings no longer name one")
    detail = {"destination": destination} if destination else {}
    notify(webhook, kind, run_id, at, **detail)
