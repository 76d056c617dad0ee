"""Durable work beside runs and deliveries: fetching, answering commitment, telling others."""

from contextlib import suppress
from functools import partial

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID, error
from pydicom import Dataset, dcmread

from analysis.errors import Reason, Transient, Unsuitable
from config.settings import Destination, Priors, Source
from dicom_io.matching import Selection
from service.fetching import fetch_series
from service.intake import Intake
from service.log import get_logger
from service.priors import Candidate, Patient, choose, window, worth_looking_into
from service.querying import series_of, studies_of
from service.sender import report_commitment
from service.store import RunRow
from service.webhook import notify
from service.workbench import (
    COMMITMENTS,
    FETCHES,
    NOTICES,
    PRIORS,
    Workbench,
    workbench,
    worth_repeating,
)

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
    return _take_series(name, study_uid, series_uid)


def _take_series(name: str, study_uid: str, series_uid: str) -> int:
    bench = workbench()
    (source,) = [one for one in bench.settings.sources if one.name == name]
    intake = Intake(bench.spool, bench.store, bench.clock)
    number = fetch_series(
        source,
        study_uid,
        series_uid,
        bench.settings.listener.ae_title,
        lambda content: intake.take(content, f"fetch:{name}"),
        bench.settings.listener.max_object_mb * 1024**2,
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


# An earlier study


def enqueue_prior(run_id: str, study_uid: str, round_number: int = 0) -> None:
    """Queue looking for a study to compare with; once a study and round, harmless when repeated.

    Parameters
    ----------
    round_number : int
        0: for the first time. A later round is left out while an earlier one is queued.
    """
    again = f":{round_number}" if round_number else ""
    with (
        suppress(error.DBOSQueueDeduplicatedError),
        SetWorkflowID(f"prior:{study_uid}{again}"),
        SetEnqueueOptions(deduplication_id=f"prior:{study_uid}"),
    ):
        DBOS.enqueue_workflow(PRIORS, fetch_prior, run_id)


@DBOS.workflow()
def fetch_prior(run_id: str) -> str:
    """Fetch the segmentations of one earlier study; the study's UID, "" when there is none.

    Their images, and the run of the study, come by the ordinary way; then the scheduler revises
    the later study.
    """
    away = False
    for source in workbench().settings.sources:
        try:
            found = _find_prior(source.name, run_id)
            for series_uid in found[1:]:
                _fetch_prior_series(source.name, found[0], series_uid)
        except Exception as fault:  # noqa: BLE001 - the top of a fetch: the next source is asked
            workbench()
            log.warning("no prior", source=source.name, why=type(fault).__name__)
            away = away or isinstance(fault, error.DBOSMaxStepRetriesExceeded)
            continue
        if found:
            return found[0]
    if away:
        _note_unanswered(run_id)
    return ""


@DBOS.step(retries_allowed=True, max_attempts=5, should_retry=worth_repeating)
def _note_unanswered(run_id: str) -> None:
    """Then the scheduler has it looked for again."""
    bench = workbench()
    run = bench.store.runs.get(run_id)
    if run is not None:
        bench.store.events.add(
            bench.clock(), "prior_unanswered", study_uid=run.study_uid, run_id=run_id
        )


@DBOS.step(retries_allowed=True, interval_seconds=5, max_attempts=6, should_retry=worth_repeating)
def _find_prior(name: str, run_id: str) -> list[str]:
    """Study and series of segmentations to fetch; empty when there are none."""
    bench = workbench()
    run = bench.store.runs.get(run_id)
    wanted = bench.settings.priors
    if run is None or wanted is None:
        return []
    # A study that was fetched to be compared with is not compared further back: no end otherwise.
    if bench.store.events.all(kind="prior_found", study_uid=run.study_uid):
        return []
    (source,) = [one for one in bench.settings.sources if one.name == name]
    found = _prior_at(source, _patient(bench, run), wanted, bench.settings.listener.ae_title)
    note = partial(bench.store.events.add, bench.clock(), source=name)
    if isinstance(found, Reason):
        note("prior_missing", study_uid=run.study_uid, run_id=run_id, why=str(found))
        log.info("no prior", run=run_id, source=name, code=found.code)
        return []
    uid = found.study.study_uid
    note("prior_found", study_uid=uid, run_id=run_id)
    return [uid, *found.segmentations()]


def _prior_at(
    source: Source, patient: Patient, wanted: Priors, ae_title: str
) -> Candidate | Reason:
    dates = window(patient, wanted)
    if isinstance(dates, Reason):
        return dates
    studies = studies_of(source, patient.patient_id, *dates, ae_title)
    return choose(
        patient,
        [
            Candidate(study, tuple(series_of(source, study.study_uid, ae_title)))
            for study in worth_looking_into(patient, studies)
        ],
        wanted,
    )


def _patient(bench: Workbench, run: RunRow) -> Patient:
    selection = Selection.from_json(run.selection)
    row = bench.store.instances.find(selection.images[0])
    if row is None or row.removed_at is not None:
        raise Unsuitable("object_gone", "the study's images are no longer stored")
    tags = ["IssuerOfPatientID", "PatientBirthDate"]
    path = bench.spool.path(row.sha256)
    ds = dcmread(path, stop_before_pixels=True, specific_tags=tags)
    return Patient(
        patient_id=run.patient_id,
        issuer=str(ds.get("IssuerOfPatientID") or ""),
        birth_date=str(ds.get("PatientBirthDate") or ""),
        study_uid=run.study_uid,
        study_date=run.study_date,
        modality=selection.modality,
    )


@DBOS.step(retries_allowed=True, interval_seconds=5, max_attempts=6, should_retry=worth_repeating)
def _fetch_prior_series(name: str, study_uid: str, series_uid: str) -> int:
    return _take_series(name, study_uid, series_uid)


# Storage commitment


def answer_commitment(calling_ae_title: str, event_type: int, information: Dataset) -> None:
    """Queue the answer to a peer that asked the node to commit itself to objects."""
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
        DBOS.enqueue_workflow(NOTICES, tell, kind, run_id, bench.clock(), destination)


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
