"""Looking for an earlier study to compare with, and fetching it, as durable work."""

from contextlib import suppress
from dataclasses import replace
from functools import partial

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID, error

from mirv.analysis.errors import Reason
from mirv.config.settings import Settings
from mirv.config.settings.network import Source
from mirv.config.settings.processing import Priors
from mirv.dicom_io.study.matching import Selection
from mirv.service.catalogue import PriorSearch, RunRow
from mirv.service.peers.sources.query import series_of, studies_of
from mirv.service.runtime.log import get_logger
from mirv.service.work.context import PRIORS, work_context, worth_repeating
from mirv.service.work.fetches import take_series
from mirv.service.work.schedule.prior_rule import (
    Candidate,
    Patient,
    choose,
    window,
    worth_looking_into,
)

log = get_logger("priors")


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
    for source in work_context().settings.sources:
        try:
            found = _find_prior(source.name, run_id)
            for series_uid in found[1:]:
                _fetch_prior_series(source.name, found[0], series_uid)
        except Exception as fault:  # noqa: BLE001 - the top of a fetch: the next source is asked
            work_context()
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
    work = work_context()
    run = work.catalogue.runs.get(run_id)
    if run is not None:
        work.catalogue.priors.note(run_id, PriorSearch.UNANSWERED, run.study_uid, work.clock())


@DBOS.step(retries_allowed=True, interval_seconds=5, max_attempts=6, should_retry=worth_repeating)
def _find_prior(name: str, run_id: str) -> list[str]:
    """Study and series of segmentations to fetch; empty when there are none."""
    work = work_context()
    run = work.catalogue.runs.get(run_id)
    rule = work.settings.priors
    if run is None or rule is None:
        return []
    # A study that was fetched to be compared with is not compared further back: no end otherwise.
    if work.catalogue.priors.is_prior(run.study_uid):
        return []
    (source,) = [one for one in work.settings.sources if one.name == name]
    found = _prior_at(source, _patient(run), rule, work.settings)
    note, now = partial(work.catalogue.priors.note, run_id, source=name), work.clock()
    if isinstance(found, Reason):
        note(PriorSearch.MISSING, run.study_uid, now, why=str(found))
        log.info("no prior", run=run_id, source=name, code=found.code)
        return []
    uid = found.study.study_uid
    note(PriorSearch.FOUND, uid, now)
    return [uid, *found.segmentations()]


def _prior_at(
    source: Source, patient: Patient, rule: Priors, settings: Settings
) -> Candidate | Reason:
    ae_title = settings.listener.ae_title
    issuer = settings.identity.issuer_of(f"fetch:{source.name}")  # as what it gives is indexed
    dates = window(patient, rule)
    if isinstance(dates, Reason):
        return dates
    found = studies_of(source, patient.patient_id, *dates, ae_title)
    studies = [replace(one, issuer=one.issuer or issuer) for one in found]
    return choose(
        patient,
        [
            Candidate(study, tuple(series_of(source, study.study_uid, ae_title)))
            for study in worth_looking_into(patient, studies)
        ],
        rule,
    )


def _patient(run: RunRow) -> Patient:
    selection = Selection.from_json(run.selection)
    return Patient(
        patient_id=run.patient_id,
        issuer=selection.identity.issuer,
        birth_date=selection.identity.birth_date,
        study_uid=run.study_uid,
        study_date=run.study_date,
        modality=selection.modality,
    )


@DBOS.step(retries_allowed=True, interval_seconds=5, max_attempts=6, should_retry=worth_repeating)
def _fetch_prior_series(name: str, study_uid: str, series_uid: str) -> int:
    return take_series(name, study_uid, series_uid)
