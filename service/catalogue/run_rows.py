"""What the catalogue says of a run and of what it made, row by row."""

import json
from dataclasses import dataclass

import sqlalchemy as sa

from mirv.dicom_io.standard.person import Identity
from mirv.service.catalogue.states import RunState

USUAL_PRIORITY = 100


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run.

    Attributes
    ----------
    run_id : str
        `service.study.plan.run_digest` of inputs and plan.
    study_uid, series_uid : str
        Of the analysed image.
    patient_id, study_date : str
        Of the analysed image, for people and queries.
    input_digest, plan_digest : str
    selection : str
        What is analysed, as JSON.
    created_at : int
        Whole seconds since 1970 when the run was queued: the date of its outputs.
    state : RunState
    round : int
        How often it was started again by hand.
    reason_code, reason_detail : str
        Why it was refused or failed, else "".
    predecessor : str or None
        The finished run of the same image that this one replaces.
    prior : str or None
        The finished run of the patient's latest earlier study: the response is measured since it.
    superseded_by : str or None
        The run that replaced this one; this one is kept. `states.CORRECTED` when its input was
        corrected and no run has taken its place yet.
    result_sha256 : str or None
        The result record in the spool.
    started_at, finished_at : float or None
    priority : int
        Lower goes first.
    lesions_done, lesions_total : int or None
        How far extraction has come, each lesion counted once a profile; None before it begins.
        Noted now and then: after a crash it lags until the next note.
    """

    run_id: str
    study_uid: str
    series_uid: str
    patient_id: str
    study_date: str
    input_digest: str
    plan_digest: str
    selection: str
    created_at: int
    state: RunState
    round: int
    reason_code: str
    reason_detail: str
    predecessor: str | None
    prior: str | None
    superseded_by: str | None
    result_sha256: str | None
    started_at: float | None
    finished_at: float | None
    priority: int = USUAL_PRIORITY
    lesions_done: int | None = None
    lesions_total: int | None = None

    @property
    def workflow_id(self) -> str:
        """Identity of the workflow: the run's own, numbered when started again."""
        return self.run_id if self.round == 0 else f"{self.run_id}:{self.round}"


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to queue; fields as in `RunRow`."""

    run_id: str
    study_uid: str
    series_uid: str
    patient_id: str
    study_date: str
    input_digest: str
    plan_digest: str
    selection: str
    prior: str | None = None
    priority: int = USUAL_PRIORITY


@dataclass(frozen=True, slots=True)
class ArtifactRow:
    """An object made by a run; its content is in the spool under `sha256`."""

    run_id: str
    role: str
    position: int
    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    sha256: str
    size: int


def run_row(found: sa.RowMapping) -> RunRow:
    """A row of the table as a run."""
    return RunRow(**{**found, "state": RunState(found["state"])})


def identity_of(selection: str, patient_id: str) -> Identity:
    """Who the images of a run are of; of one queued before that was read, its Patient ID's.

    Parameters
    ----------
    selection, patient_id : str
        As in `RunRow`.

    Returns
    -------
    Identity
    """
    return Identity(**json.loads(selection).get("identity", {"patient_id": patient_id}))
