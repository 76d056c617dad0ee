"""A run as durable work, from objects to outputs.

What the workflow is told is a run's identity; everything else is in the catalogue.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID

from mirv.analysis.errors import Reason, Transient, Unsuitable
from mirv.dicom_io.model import Artifact, Predecessor, StudyInput
from mirv.dicom_io.outputs import render
from mirv.dicom_io.study.assemble import assemble
from mirv.dicom_io.study.matching import Selection, digest_of
from mirv.service.catalogue import ArtifactRow, RunRow, RunState
from mirv.service.catalogue.states import UNDER_WAY
from mirv.service.objects.results import read_result
from mirv.service.runtime.log import get_logger
from mirv.service.study import pipeline, result_record
from mirv.service.study.comparison import as_compared
from mirv.service.study.revision import index_changes
from mirv.service.work.context import (
    ENDED_STATES,
    RUNS,
    WorkContext,
    fault_code,
    fault_text,
    work_context,
    worth_repeating,
)
from mirv.service.work.deliveries import enqueue_try
from mirv.service.work.notices import enqueue_notice

_PROGRESS_S = 1.0
# Refused for these, a run says nothing against the result before it.
_NOT_THE_INPUT = frozenset({"object_gone", "plan_changed", "input_corrected"})

log = get_logger("runs")


def enqueue_run(run: RunRow) -> None:
    """Queue the workflow of a run; harmless when it is queued already."""
    with SetWorkflowID(run.workflow_id), SetEnqueueOptions(priority=run.priority):
        DBOS.enqueue_workflow(RUNS, process_run, run.run_id)


@DBOS.workflow()
def process_run(run_id: str) -> str:
    """Analyse, render and hand over to delivery; the state the run ends in."""
    try:
        if not _begin(run_id):
            return "ended before"
        _analyse(run_id)
        destinations = _render(run_id)
    except Unsuitable as fault:
        _refuse(run_id, fault.reason.code, fault.reason.detail)
        return _ended(run_id, RunState.REFUSED)
    except Exception as fault:  # noqa: BLE001 - the top of a run: a bug fails it, not the node
        work_context()  # while stopping, what broke is no fault of the run
        _fail(run_id, fault_code(fault), fault_text(fault))
        return _ended(run_id, RunState.FAILED)
    for destination in destinations:
        enqueue_try(f"deliver:{run_id}:{destination}:0", run_id, destination)
    return _ended(run_id, RunState.FINISHED)


def _ended(run_id: str, state: RunState) -> str:
    # As text: DBOS keeps arguments and results as pickles, which name the module of a type.
    enqueue_notice(state.value, run_id)
    return state.value


@DBOS.step(retries_allowed=True, max_attempts=5, should_retry=worth_repeating)
def _begin(run_id: str) -> bool:
    work = work_context()
    return work.catalogue.runs.start(run_id, work.clock())


@DBOS.step(retries_allowed=True, max_attempts=5, should_retry=worth_repeating)
def _analyse(run_id: str) -> None:
    work = work_context()
    run = _run(work, run_id)
    if run.plan_digest != work.plan.digest:
        raise Unsuitable(
            "plan_changed",
            f"found plan {work.plan.digest[:12]} in the settings, wanted {run.plan_digest[:12]}, "
            "under which the run was queued",
        )
    study, record = analysed(work, run, _opener(work, run))
    stored = work.spool.put((result_record.to_bytes(record),))
    work.catalogue.runs.note_result(run_id, stored.sha256)
    work.studies = {run_id: study}  # one: runs take turns


def _noting_progress(work: WorkContext, run_id: str) -> Callable[[int, int], None]:
    """Notes how many lesions are done, now and then; a crash loses nothing that matters."""
    next_note = 0.0

    def note(done: int, total: int) -> None:
        nonlocal next_note
        if done < total and time.monotonic() < next_note:
            return
        next_note = time.monotonic() + _PROGRESS_S
        with contextlib.suppress(Transient):
            work.catalogue.runs.note_progress(run_id, done, total)

    return note


@DBOS.step(retries_allowed=True, max_attempts=5, should_retry=worth_repeating)
def _render(run_id: str) -> list[str]:
    """Make, store and register the outputs; names of the destinations they go to."""
    work = work_context()
    run = _run(work, run_id)
    if run.result_sha256 is None:
        raise RuntimeError(f"run {run_id}: no result to render")
    study = _remembered(work, run)
    record = read_result(work.spool, run.result_sha256)
    artifacts = rendered(work, run, study, record)
    rows = [_keep(work, run_id, artifact, n) for n, artifact in enumerate(_in_order(artifacts))]
    routes = [
        (row.role, destination.name)
        for row in rows
        for destination in work.settings.destinations
        if not destination.outputs or row.role in destination.outputs
    ]
    attempts = work.settings.delivery.max_attempts
    current = work.catalogue.runs.finish(run_id, rows, routes, attempts, work.clock())
    log.info("run finished", run=run_id, current=current, outputs=[row.role for row in rows])
    return sorted({name for _, name in routes}) if current else []


def analysed(
    work: WorkContext, run: RunRow, open_object: Callable[[str], Path]
) -> tuple[StudyInput, result_record.ResultRecord]:
    """What a run reads and computes; the same bytes whenever it is asked for.

    Parameters
    ----------
    open_object : callable
        SOP Instance UID to the path of its file.
    """
    selection = Selection.from_json(run.selection)
    study, result = pipeline.analyse_selection(
        selection,
        open_object,
        work.plan,
        extractor=work.extractor,
        progress=_noting_progress(work, run.run_id),
        prior=_prior_record(work, run),
    )
    record = result_record.record_of(as_compared(study, result), result, selection.identity)
    return study, _with_changes(work, run, record)


def rendered(
    work: WorkContext, run: RunRow, study: StudyInput, record: result_record.ResultRecord
) -> tuple[Artifact, ...]:
    """A run's outputs; the same bytes whenever they are made, dated when the run was queued.

    Parameters
    ----------
    work : WorkContext
    run : RunRow
    study : StudyInput
    record : ResultRecord

    Returns
    -------
    tuple of Artifact
    """
    before = work.catalogue.runs.artifacts(run.predecessor) if run.predecessor else []
    study_before = _run(work, run.predecessor).study_uid if run.predecessor else run.study_uid
    elsewhere = "" if study_before == run.study_uid else study_before
    context = pipeline.render_context(
        run.run_id,
        work.plan,
        work.settings,
        datetime.fromtimestamp(run.created_at, UTC),
        {
            one.role: Predecessor(
                one.sop_class_uid, one.sop_instance_uid, one.series_uid, elsewhere
            )
            for one in before
        },
    )
    return render(as_compared(study, record.result), record.result, context)


@DBOS.step(retries_allowed=True, max_attempts=5, should_retry=worth_repeating)
def _refuse(run_id: str, code: str, detail: str) -> None:
    work = work_context()
    withdraw = code not in _NOT_THE_INPUT
    work.catalogue.runs.refuse(run_id, Reason(code, detail), work.clock(), withdraw=withdraw)
    log.warning("run refused", run=run_id, code=code)


@DBOS.step(retries_allowed=True, max_attempts=5, should_retry=worth_repeating)
def _fail(run_id: str, code: str, detail: str) -> None:
    work = work_context()
    work.catalogue.runs.fail(run_id, Reason(code, detail), work.clock())
    log.error("run failed", run=run_id, code=code)


def _run(work: WorkContext, run_id: str) -> RunRow:
    run = work.catalogue.runs.get(run_id)
    if run is None:
        raise LookupError(f"run {run_id} is not in the catalogue")
    return run


def _with_changes(
    work: WorkContext, run: RunRow, record: result_record.ResultRecord
) -> result_record.ResultRecord:
    """A revision says what it changed."""
    before = _run(work, run.predecessor).result_sha256 if run.predecessor else None
    if before is None:
        return record
    changes = index_changes(read_result(work.spool, before), record)
    return replace(record, quality=(*record.quality, *changes))


def _prior_record(work: WorkContext, run: RunRow) -> result_record.ResultRecord | None:
    """What the response is measured since; fixed when the run was queued, so repeats agree."""
    if run.prior is None:
        return None
    stored = _run(work, run.prior).result_sha256
    if stored is None:
        raise RuntimeError(f"run {run.prior}: finished without a result")
    return read_result(work.spool, stored)


def _opener(work: WorkContext, run: RunRow) -> Callable[[str], Path]:
    """Finds the files of a run's inputs, in the content of which the run was queued."""
    found: dict[str, str] = {}

    def open_object(sop_instance_uid: str) -> Path:
        if not found:
            found.update(_contents(work, run))
        return work.spool.path(found[sop_instance_uid])

    return open_object


def _contents(work: WorkContext, run: RunRow) -> dict[str, str]:
    """SHA-256 of each input of a run; none of another content than it was queued for."""
    selection = Selection.from_json(run.selection)
    found = {}
    for uid in (*selection.images, *selection.segmentations):
        row = work.catalogue.instances.find(uid)
        if row is None or row.removed_at is not None:
            raise Unsuitable("object_gone", f"object {uid} is no longer stored")
        found[uid] = row.sha256
    if digest_of(found) != run.input_digest:
        raise Unsuitable(
            "input_corrected",
            "found other content stored of an input, wanted that of which the run was queued",
        )
    return found


def _remembered(work: WorkContext, run: RunRow) -> StudyInput:
    kept = work.studies.pop(run.run_id, None)
    if kept is not None:
        return kept
    return assemble(Selection.from_json(run.selection), _opener(work, run), work.plan.reading)


def _in_order(artifacts: tuple[Artifact, ...]) -> list[Artifact]:
    """Segmentations first: reports refer to them."""
    return sorted(artifacts, key=lambda artifact: "seg" not in artifact.role)


def _keep(work: WorkContext, run_id: str, artifact: Artifact, position: int) -> ArtifactRow:
    stored = work.spool.put((artifact.content,))
    return ArtifactRow(
        run_id=run_id,
        role=artifact.role,
        position=position,
        sop_class_uid=artifact.sop_class_uid,
        sop_instance_uid=artifact.sop_instance_uid,
        series_uid=artifact.series_instance_uid,
        sha256=stored.sha256,
        size=stored.size,
    )


def reconcile() -> None:
    """Line up catalogue and workflows after a start: nothing begun is left without a worker.

    A run whose workflow was never written is queued; one whose workflow ended without saying so
    (too many recoveries: something kills the process each time) has failed.
    """
    work = work_context()
    for run in work.catalogue.runs.all(states=UNDER_WAY):
        enqueue_run(run)
        status = DBOS.get_workflow_status(run.workflow_id)
        if status is not None and status.status in ENDED_STATES:
            reason = Reason("worker_lost", f"its workflow ended as {status.status}")
            work.catalogue.runs.fail(run.run_id, reason, work.clock())
