"""Durable work: a run from objects to outputs, a delivery from waiting to delivered.

DBOS checkpoints each step, so after ``kill -9`` only the step in flight runs again, and every
step may run twice without harm: contents are stored under their hashes, UIDs derive from the run,
rows are written once. What a workflow is told is a run's identity; everything else is in the
catalogue.
"""

import contextlib
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from dbos import DBOS, DBOSConfig, SetEnqueueOptions, SetWorkflowID, error

from analysis.errors import MirvError, Reason, Transient, Unsuitable
from config.settings import AnyDestination, Destination, WebDestination
from dicom_io.assemble import assemble
from dicom_io.matching import Selection
from dicom_io.model import Artifact, Predecessor, StudyInput
from dicom_io.uids import derive_uid
from service import pipeline, records, web_sender
from service.commitment import Reference, Report
from service.dbos_queues import poll_together
from service.errands import enqueue_notice
from service.log import get_logger
from service.revision import index_changes
from service.sender import (
    Outcome,
    Outgoing,
    next_delay,
    request_commitment,
    send,
)
from service.store import ArtifactRow, DeliveryRow, RunRow
from service.workbench import (
    COMMITMENTS,
    DELIVERIES,
    FETCHES,
    NOTICES,
    PRIORS,
    RUNS,
    Workbench,
    set_workbench,
    workbench,
    worth_repeating,
)

# Bound to the steps' meaning, not to the release: work in flight survives an upgrade.
WORKFLOW_VERSION = "mirv-1"
_QUEUE_POLL_S = 0.2
_PROGRESS_S = 1.0
_FORGET_AT_ONCE = 1000
_ENDED_STATES = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "SUCCESS")

log = get_logger("workflows")


def launch(bench: Workbench, database_url: str, executor_id: str) -> None:
    """Start working: recover what this executor had begun, then take from the queues."""
    set_workbench(bench)
    config: DBOSConfig = {
        "name": "mirv",
        "system_database_url": database_url,
        "application_version": WORKFLOW_VERSION,
        "executor_id": executor_id,
        "log_level": "CRITICAL",
        "notification_listener_polling_interval_sec": 1.0,
    }
    DBOS(config=config)
    DBOS.launch()
    limits = bench.settings.limits
    concurrency = {RUNS: 1, DELIVERIES: limits.deliveries, FETCHES: limits.fetches, PRIORS: 1}
    # Who does not answer takes places for minutes: the others have places of their own.
    concurrency |= {_queue_to(one.name): limits.deliveries for one in bench.settings.destinations}
    concurrency |= {NOTICES: limits.deliveries, COMMITMENTS: limits.deliveries}
    poll_together(_QUEUE_POLL_S / 2)
    for name, at_a_time in concurrency.items():
        DBOS.register_queue(name, worker_concurrency=at_a_time, polling_interval_sec=_QUEUE_POLL_S)


def _queue_to(destination: str) -> str:
    return f"{DELIVERIES}:{destination}"


def recover(executor_ids: list[str]) -> int:
    """Queue anew what executors that fell silent had begun; how many workflows."""
    return len(DBOS._recover_pending_workflows(executor_ids))


def forget_ended(before: float) -> int:
    """Remove the records of work that ended before a time; how many workflows.

    What became of it is in the catalogue, which also knows what is not to be done twice.
    """
    ended = DBOS.list_workflows(
        status=list(_ENDED_STATES),
        completed_before=datetime.fromtimestamp(before, UTC).isoformat(),
        limit=_FORGET_AT_ONCE,
        load_input=False,
        load_output=False,
    )
    if ended:
        DBOS.delete_workflows([one.workflow_id for one in ended])
    return len(ended)


def shutdown() -> None:
    """Stop working; what is in flight is taken up at the next launch."""
    set_workbench(None)  # first: what breaks from here on is no fault of a run
    DBOS.destroy(workflow_completion_timeout_sec=0)


def enqueue_run(run: RunRow) -> None:
    """Queue the workflow of a run; harmless when it is queued already."""
    with SetWorkflowID(run.workflow_id), SetEnqueueOptions(priority=run.priority):
        DBOS.enqueue_workflow(RUNS, process_run, run.run_id)


def enqueue_delivery(run_id: str, destination: str, attempt: int) -> bool:
    """Queue one try of what a run has for a destination; harmless when it is queued already.

    One at a time: False while another try is queued or at work, whose own count of tries would
    otherwise look like a new one halfway.
    """
    workflow_id = f"deliver:{run_id}:{destination}:{attempt}"
    if not _enqueue_try(workflow_id, run_id, destination):
        return False
    found = DBOS.get_workflow_status(workflow_id)
    if found is None or found.status not in _ENDED_STATES:
        return True
    # What ended and counted no try could not note what it did: the disk was full, say.
    if workbench().store.deliveries.tries(run_id, destination) != attempt:
        return True
    log.warning("delivery ended without a word", run=run_id, destination=destination)
    return _enqueue_try(f"{workflow_id}:{uuid4().hex}", run_id, destination)


def _enqueue_try(workflow_id: str, run_id: str, destination: str) -> bool:
    known = any(one.name == destination for one in workbench().settings.destinations)
    try:
        with (
            SetWorkflowID(workflow_id),
            SetEnqueueOptions(deduplication_id=f"{run_id}:{destination}"),
        ):
            DBOS.enqueue_workflow(
                _queue_to(destination) if known else DELIVERIES, deliver, run_id, destination
            )
    except error.DBOSQueueDeduplicatedError:
        return False
    return True


# A run


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
        return _ended(run_id, "refused")
    except Exception as fault:  # noqa: BLE001 - the top of a run: a bug fails it, not the node
        workbench()  # while stopping, what broke is no fault of the run
        _fail(run_id, _fault_code(fault), _fault_text(fault))
        return _ended(run_id, "failed")
    for destination in destinations:
        _enqueue_try(f"deliver:{run_id}:{destination}:0", run_id, destination)
    return _ended(run_id, "finished")


def _ended(run_id: str, state: str) -> str:
    enqueue_notice(state, run_id)
    return state


@DBOS.step(retries_allowed=True, max_attempts=5, should_retry=worth_repeating)
def _begin(run_id: str) -> bool:
    bench = workbench()
    return bench.store.runs.start(run_id, bench.clock())


@DBOS.step(retries_allowed=True, max_attempts=5, should_retry=worth_repeating)
def _analyse(run_id: str) -> None:
    bench = workbench()
    run = _run(bench, run_id)
    if run.plan_digest != bench.plan.digest:
        raise Unsuitable(
            "plan_changed",
            f"found plan {bench.plan.digest[:12]} in the settings, wanted {run.plan_digest[:12]}, "
            "under which the run was queued",
        )
    study, record = analysed(bench, run, _opener(bench))
    stored = bench.spool.put((records.to_bytes(record),))
    bench.store.runs.note_result(run_id, stored.sha256)
    bench.studies = {run_id: study}  # one: runs take turns


def _noting_progress(bench: Workbench, run_id: str) -> Callable[[int, int], None]:
    """Notes how many lesions are done, now and then; a crash loses nothing that matters."""
    next_note = 0.0

    def note(done: int, total: int) -> None:
        nonlocal next_note
        if done < total and time.monotonic() < next_note:
            return
        next_note = time.monotonic() + _PROGRESS_S
        with contextlib.suppress(Transient):
            bench.store.runs.note_progress(run_id, done, total)

    return note


@DBOS.step(retries_allowed=True, max_attempts=5, should_retry=worth_repeating)
def _render(run_id: str) -> list[str]:
    """Make, store and register the outputs; names of the destinations they go to."""
    bench = workbench()
    run = _run(bench, run_id)
    if run.result_sha256 is None:
        raise RuntimeError(f"run {run_id}: no result to render")
    study = _remembered(bench, run)
    record = records.from_bytes(bench.spool.path(run.result_sha256).read_bytes())
    artifacts = rendered(bench, run, study, record)
    rows = [_keep(bench, run_id, artifact, n) for n, artifact in enumerate(_in_order(artifacts))]
    routes = [
        (row.role, destination.name)
        for row in rows
        for destination in bench.settings.destinations
        if not destination.outputs or row.role in destination.outputs
    ]
    attempts = bench.settings.delivery.max_attempts
    current = bench.store.runs.finish(run_id, rows, routes, attempts, bench.clock())
    log.info("run finished", run=run_id, current=current, outputs=[row.role for row in rows])
    return sorted({name for _, name in routes}) if current else []


def analysed(
    bench: Workbench, run: RunRow, open_object: Callable[[str], Path]
) -> tuple[StudyInput, records.ResultRecord]:
    """What a run reads and computes; the same bytes whenever it is asked for.

    Parameters
    ----------
    open_object : callable
        SOP Instance UID to the path of its file.
    """
    study, result = pipeline.analyse_selection(
        Selection.from_json(run.selection),
        open_object,
        bench.plan,
        extractor=bench.extractor,
        progress=_noting_progress(bench, run.run_id),
        prior=_prior_record(bench, run),
    )
    return study, _with_changes(bench, run, records.record_of(study, result))


def rendered(
    bench: Workbench, run: RunRow, study: StudyInput, record: records.ResultRecord
) -> tuple[Artifact, ...]:
    """A run's outputs; the same bytes whenever they are made, dated when the run was queued."""
    before = bench.store.runs.artifacts(run.predecessor) if run.predecessor else []
    context = pipeline.render_context(
        run.run_id,
        bench.plan,
        bench.settings,
        datetime.fromtimestamp(run.created_at, UTC),
        {
            one.role: Predecessor(one.sop_class_uid, one.sop_instance_uid, one.series_uid)
            for one in before
        },
    )
    return pipeline.render_outputs(study, record.result, context)


@DBOS.step(retries_allowed=True, max_attempts=5, should_retry=worth_repeating)
def _refuse(run_id: str, code: str, detail: str) -> None:
    bench = workbench()
    bench.store.runs.refuse(run_id, Reason(code, detail), bench.clock())
    log.warning("run refused", run=run_id, code=code)


@DBOS.step(retries_allowed=True, max_attempts=5, should_retry=worth_repeating)
def _fail(run_id: str, code: str, detail: str) -> None:
    bench = workbench()
    bench.store.runs.fail(run_id, Reason(code, detail), bench.clock())
    log.error("run failed", run=run_id, code=code)


def _run(bench: Workbench, run_id: str) -> RunRow:
    run = bench.store.runs.get(run_id)
    if run is None:
        raise LookupError(f"run {run_id} is not in the catalogue")
    return run


def _with_changes(
    bench: Workbench, run: RunRow, record: records.ResultRecord
) -> records.ResultRecord:
    """A revision says what it changed."""
    before = _run(bench, run.predecessor).result_sha256 if run.predecessor else None
    if before is None:
        return record
    changes = index_changes(records.from_bytes(bench.spool.path(before).read_bytes()), record)
    return replace(record, quality=(*record.quality, *changes))


def _prior_record(bench: Workbench, run: RunRow) -> records.ResultRecord | None:
    """What the response is measured since; fixed when the run was queued, so repeats agree."""
    if run.prior is None:
        return None
    stored = _run(bench, run.prior).result_sha256
    if stored is None:
        raise RuntimeError(f"run {run.prior}: finished without a result")
    return records.from_bytes(bench.spool.path(stored).read_bytes())


def _opener(bench: Workbench) -> Callable[[str], Path]:
    def open_object(sop_instance_uid: str) -> Path:
        row = bench.store.instances.find(sop_instance_uid)
        if row is None or row.removed_at is not None:
            raise Unsuitable("object_gone", f"object {sop_instance_uid} is no longer stored")
        return bench.spool.path(row.sha256)

    return open_object


def _remembered(bench: Workbench, run: RunRow) -> StudyInput:
    kept = bench.studies.pop(run.run_id, None)
    if kept is not None:
        return kept
    return assemble(Selection.from_json(run.selection), _opener(bench), bench.plan.reading)


def _in_order(artifacts: tuple[Artifact, ...]) -> list[Artifact]:
    """Segmentations first: reports refer to them."""
    return sorted(artifacts, key=lambda artifact: "seg" not in artifact.role)


def _keep(bench: Workbench, run_id: str, artifact: Artifact, position: int) -> ArtifactRow:
    stored = bench.spool.put((artifact.content,))
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


def _fault_code(fault: Exception) -> str:
    return "retries_exhausted" if isinstance(fault, MirvError) else "internal_fault"


def _fault_text(fault: Exception) -> str:
    return "".join(traceback.format_exception(fault))[-8000:]


# A delivery


@DBOS.workflow()
def deliver(run_id: str, destination: str) -> None:
    """Try once; what is to be tried again is taken up by the scheduler when it is due."""
    try:
        _attempt(run_id, destination)
    except Exception as fault:  # noqa: BLE001 - the top of a delivery: a bug parks it
        workbench()
        _park_all(run_id, destination, _fault_text(fault))
    if parked := _parked(run_id, destination):
        enqueue_notice("parked", run_id, parked, destination)


@DBOS.step()
def _parked(run_id: str, destination: str) -> int:
    """Tries behind what is parked now, so that each parking is told once; 0: nothing is."""
    deliveries = workbench().store.deliveries
    parked = deliveries.all(state="parked", run_id=run_id, destination=destination)
    return deliveries.tries(run_id, destination) if parked else 0


@DBOS.step(retries_allowed=True, max_attempts=5, should_retry=worth_repeating)
def _attempt(run_id: str, name: str) -> None:
    bench = workbench()
    waiting = bench.store.deliveries.all(state="waiting", run_id=run_id, destination=name)
    known = {one.name: one for one in bench.settings.destinations}
    if name not in known:
        for row in waiting:
            bench.store.deliveries.park(
                row.id, None, f"no destination {name!r} in the settings", bench.clock()
            )
        return
    artifacts = {one.role: one for one in bench.store.runs.artifacts(run_id)}
    ready = []
    for row in sorted(waiting, key=lambda row: artifacts[row.role].position):
        if row.attempts_left > 0:
            ready.append(row)
        else:
            bench.store.deliveries.park(row.id, row.last_status, "no commitment", bench.clock())
    outgoing = [
        Outgoing(
            row.id, artifacts[row.role].sop_class_uid, bench.spool.path(artifacts[row.role].sha256)
        )
        for row in ready
    ]
    if not outgoing:
        return
    outcomes = _send(bench, known[name], outgoing)
    stored = []
    for row, outcome in zip(ready, outcomes, strict=True):
        if outcome.verdict == "delivered" and known[name].commitment != "off":
            stored.append((row, outcome, artifacts[row.role]))
        else:
            _note(bench, row, outcome)
    if stored:
        _ask(bench, known[name], stored)


def _send(bench: Workbench, destination: AnyDestination, outgoing: list[Outgoing]) -> list[Outcome]:
    if isinstance(destination, WebDestination):
        return web_sender.send(destination, outgoing)
    return send(destination, outgoing, bench.settings.listener.ae_title)


def _note(bench: Workbench, row: DeliveryRow, outcome: Outcome) -> None:
    deliveries, now = bench.store.deliveries, bench.clock()
    told = {"run": row.run_id, "role": row.role, "destination": row.destination}
    if outcome.verdict == "delivered" and outcome.status is not None:
        deliveries.delivered(row.id, outcome.status, outcome.detail, now)
        log.info("delivered", **told)
    elif outcome.verdict == "retry" and row.attempts_left > 1:
        delay = next_delay(row.attempts, bench.settings.delivery)
        deliveries.retry_at(row.id, now + delay, outcome.status, outcome.detail)
        log.warning("delivery to be repeated", seconds=round(delay, 1), **told)
    else:
        deliveries.park(row.id, outcome.status, outcome.detail, now)
        log.error("delivery parked", **told)


def _ask(
    bench: Workbench,
    destination: AnyDestination,
    stored: list[tuple[DeliveryRow, Outcome, ArtifactRow]],
) -> None:
    """Ask for storage commitment of what was just stored, or over HTTP whether it is there.

    The transaction is on record before the request: its answer may be quicker than our own commit.
    """
    deliveries = bench.store.deliveries
    run_id = stored[0][0].run_id
    tries = deliveries.tries(run_id, destination.name)
    transaction_uid = derive_uid("commitment", run_id, destination.name, str(tries))
    required = destination.commitment == "required"
    now = bench.clock()
    answer_by = now + bench.settings.delivery.commitment_timeout_s if required else None
    for row, outcome, _ in stored:
        deliveries.ask(row.id, transaction_uid, outcome.status or 0, outcome.detail, now, answer_by)
    references = [Reference(one.sop_class_uid, one.sop_instance_uid) for _, _, one in stored]
    if isinstance(destination, Destination):
        refusal = request_commitment(
            destination,
            transaction_uid,
            references,
            bench.settings.listener.ae_title,
            lambda report: note_report(bench, report),
            lambda: all(
                found is not None and found.commitment != "asked"
                for found in (deliveries.get(row.id) for row, _, _ in stored)
            ),
        )
    else:
        refusal = _look_up(bench, destination, transaction_uid, references)
    log.info("commitment asked", run=run_id, destination=destination.name, refusal=refusal or None)
    if refusal:
        for row, _, _ in stored:
            deliveries.no_answer(row.id, refusal)


def _look_up(
    bench: Workbench,
    destination: WebDestination,
    transaction_uid: str,
    references: list[Reference],
) -> str:
    try:
        report = web_sender.look_up(destination, transaction_uid, references)
    except Transient as fault:
        return str(fault)
    note_report(bench, report)
    return ""


def note_report(bench: Workbench, report: Report) -> None:
    """Take a storage commitment report, whichever way it came."""
    known = bench.store.deliveries.answered(
        report.transaction_uid,
        report.committed,
        report.failed,
        lambda attempts: next_delay(attempts, bench.settings.delivery),
        bench.clock(),
    )
    log.info("commitment report", deliveries=known, failed=len(report.failed))


@DBOS.step(retries_allowed=True, max_attempts=5, should_retry=worth_repeating)
def _park_all(run_id: str, destination: str, detail: str) -> None:
    bench = workbench()
    for row in bench.store.deliveries.all(state="waiting", run_id=run_id, destination=destination):
        bench.store.deliveries.park(row.id, None, detail, bench.clock())
    log.error("delivery failed", run=run_id, destination=destination)


def reconcile() -> None:
    """Line up catalogue and workflows after a start: nothing begun is left without a worker.

    A run whose workflow was never written is queued; one whose workflow ended without saying so
    (too many recoveries: something kills the process each time) has failed.
    """
    bench = workbench()
    for run in bench.store.runs.all(states=("queued", "running")):
        enqueue_run(run)
        status = DBOS.get_workflow_status(run.workflow_id)
        if status is not None and status.status in _ENDED_STATES:
            reason = Reason("worker_lost", f"its workflow ended as {status.status}")
            bench.store.runs.fail(run.run_id, reason, bench.clock())
