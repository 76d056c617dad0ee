"""Fetching a series that a segmentation waits for, as durable work."""

from dbos import DBOS, SetWorkflowID

from mirv.service.catalogue import EventKind
from mirv.service.objects.intake import Intake
from mirv.service.peers.sources.fetch import fetch_series
from mirv.service.runtime.log import get_logger
from mirv.service.work.context import FETCHES, work_context

log = get_logger("fetches")


def enqueue_fetch(study_uid: str, series_uid: str, round_number: int) -> None:
    """Queue asking the sources for a series; harmless when it is queued already.

    Parameters
    ----------
    study_uid, series_uid : str
    round_number : int
        Part of the identity: another round is another fetch.
    """
    with SetWorkflowID(f"fetch:{series_uid}:{round_number}"):
        DBOS.enqueue_workflow(FETCHES, fetch, study_uid, series_uid)


@DBOS.workflow()
def fetch(study_uid: str, series_uid: str) -> str:
    """Ask the sources in their order; the name of the one that had the series, else ""."""
    for source in work_context().settings.sources:
        try:
            if _fetch_from(source.name, study_uid, series_uid):
                return source.name
        except Exception as fault:  # noqa: BLE001 - the top of a fetch: the next source is asked
            work_context()
            log.warning("fetch failed", source=source.name, why=type(fault).__name__)
    return ""


@DBOS.step()
def _fetch_from(name: str, study_uid: str, series_uid: str) -> int:
    return take_series(name, study_uid, series_uid)


def take_series(name: str, study_uid: str, series_uid: str) -> int:
    """Take in a series of the source of this name; how many objects it gave."""
    work = work_context()
    (source,) = [one for one in work.settings.sources if one.name == name]
    issuer_of = work.settings.identity.issuer_of
    intake = Intake(work.spool, work.catalogue, work.clock, issuer_of)
    number = fetch_series(
        source,
        study_uid,
        series_uid,
        work.settings.listener.ae_title,
        lambda content: intake.take(content, f"fetch:{name}"),
        work.settings.listener.max_object_mb * 1024**2,
    )
    work.catalogue.events.add(
        work.clock(),
        EventKind.FETCHED,
        study_uid=study_uid,
        object_uid=series_uid,
        source=name,
        objects=number,
    )
    log.info("fetched", source=name, objects=number)
    return number
