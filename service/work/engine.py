"""The engine of durable work: DBOS launched with all workflows there are, and their queues.

DBOS checkpoints each step, so after ``kill -9`` only the step in flight runs again, and every
step may run twice without harm: contents are stored under their hashes, UIDs derive from the run,
rows are written once. It finds workflows and steps by their names alone: a function that is
renamed loses the work in flight.
"""

from datetime import UTC, datetime

from dbos import DBOS, DBOSConfig

from mirv.service.work.commitments import tell_commitment
from mirv.service.work.context import (
    COMMITMENTS,
    DELIVERIES,
    ENDED_STATES,
    FETCHES,
    NOTICES,
    PRIORS,
    RUNS,
    WorkContext,
    set_work_context,
)
from mirv.service.work.deliveries import deliver, queue_to
from mirv.service.work.fetches import fetch
from mirv.service.work.notices import tell
from mirv.service.work.priors import fetch_prior
from mirv.service.work.queues import poll_together
from mirv.service.work.recorded import know_former_names
from mirv.service.work.runs import process_run

# Imported here so that DBOS knows each before it takes up what was in flight.
WORKFLOWS = (process_run, deliver, fetch, fetch_prior, tell, tell_commitment)
# Bound to the steps' meaning, not to the release: work in flight survives an upgrade.
WORKFLOW_VERSION = "mirv-1"
_QUEUE_POLL_S = 0.2
_FORGET_AT_ONCE = 1000


def launch(work: WorkContext, database_url: str, executor_id: str) -> None:
    """Start working: recover what this executor had begun, then take from the queues."""
    set_work_context(work)
    know_former_names()
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
    limits = work.settings.limits
    concurrency = {RUNS: 1, DELIVERIES: limits.deliveries, FETCHES: limits.fetches, PRIORS: 1}
    # Who does not answer takes places for minutes: the others have places of their own.
    concurrency |= {queue_to(one.name): limits.deliveries for one in work.settings.destinations}
    concurrency |= {NOTICES: limits.deliveries, COMMITMENTS: limits.deliveries}
    poll_together(_QUEUE_POLL_S / 2)
    for name, at_a_time in concurrency.items():
        DBOS.register_queue(name, worker_concurrency=at_a_time, polling_interval_sec=_QUEUE_POLL_S)


def recover(executor_ids: list[str]) -> int:
    """Queue anew what executors that fell silent had begun; how many workflows.

    Parameters
    ----------
    executor_ids : list of str

    Returns
    -------
    int
    """
    return len(DBOS._recover_pending_workflows(executor_ids))


def forget_ended(before: float) -> int:
    """Remove the records of work that ended before a time; how many workflows.

    What became of it is in the catalogue, which also knows what is not to be done twice.

    Parameters
    ----------
    before : float
        Seconds since 1970.

    Returns
    -------
    int
    """
    ended = DBOS.list_workflows(
        status=list(ENDED_STATES),
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
    set_work_context(None)  # first: what breaks from here on is no fault of a run
    DBOS.destroy(workflow_completion_timeout_sec=0)
