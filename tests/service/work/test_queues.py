"""One look at DBOS's books serves every queue, and is never too old to matter.

The module asks tables and calls that DBOS keeps to itself: what it relies on is tried on the DBOS
that is pinned, so that an upgrade which moves them fails here and not in a node.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from dbos import DBOS, DBOSConfig, SetEnqueueOptions, SetWorkflowID
from dbos._dbos import _get_dbos_instance
from dbos._sys_db import SystemDatabase, WorkflowStatusString

from mirv.service.catalogue import sqlite_url
from mirv.service.work import queues
from mirv.service.work.queues import _Look, hasten, poll_together
from mirv.service.work.runs import process_run

QUEUE, IDLE = "asleep", "empty"
TABLE = "workflow_status"
COLUMNS = {
    "workflow_uuid": sa.String,
    "queue_name": sa.String,
    "status": sa.String,
    "priority": sa.Integer,
}


def test_queues_share_a_look_while_it_is_fresh() -> None:
    now, queued, looks = [0.0], {"runs"}, []

    def look() -> frozenset[str]:
        looks.append(now[0])
        return frozenset(queued)

    found = _Look(look, 0.1, lambda: now[0])
    assert found.scopes("runs") == [None]
    assert found.scopes("deliveries") == []
    assert looks == [0.0]
    queued.add("deliveries")
    now[0] = 0.05
    assert found.scopes("deliveries") == []
    now[0] = 0.1
    assert found.scopes("deliveries") == [None]
    queued.clear()
    now[0] = 0.3
    assert found.scopes("runs") == []
    assert looks == [0.0, 0.1, 0.3]


def test_a_failed_look_is_no_answer() -> None:
    faults = [OSError("gone")]

    def look() -> frozenset[str]:
        if faults:
            raise faults.pop()
        return frozenset({"runs"})

    found = _Look(look, 10, lambda: 0.0)
    with pytest.raises(OSError, match="gone"):
        found.scopes("runs")
    assert found.scopes("runs") == [None]


@pytest.fixture
def books(tmp_path: Path) -> Iterator[SystemDatabase]:
    """DBOS as it is installed, with two queues that it does not take from."""
    config: DBOSConfig = {
        "name": "mirv",
        "system_database_url": sqlite_url(tmp_path / "workflows.sqlite"),
        "application_version": "test",
        "executor_id": "test",
        "log_level": "CRITICAL",
    }
    DBOS(config=config)
    DBOS.listen_queues([])
    DBOS.launch()
    for name in (QUEUE, IDLE):
        DBOS.register_queue(name)
    yield _get_dbos_instance()._sys_db
    DBOS.destroy(workflow_completion_timeout_sec=0)


def queue_one(workflow_id: str, priority: int) -> None:
    with SetWorkflowID(workflow_id), SetEnqueueOptions(priority=priority):
        DBOS.enqueue_workflow(QUEUE, process_run, "no run")


def priority_of(workflow_id: str) -> int | None:
    (status,) = DBOS.list_workflows(workflow_ids=[workflow_id])
    return status.priority


def test_dbos_has_the_tables_and_calls_that_are_relied_on(books: SystemDatabase) -> None:
    columns = {one["name"]: one["type"] for one in sa.inspect(books.engine).get_columns(TABLE)}
    for name, kind in COLUMNS.items():
        assert isinstance(columns[name], kind)
        assert name in books.tables.workflow_status.c
    assert WorkflowStatusString.ENQUEUED.value == queues._QUEUED
    # What takes the place of DBOS's own call is asked and answers as that.
    theirs, ours = (inspect.signature(one) for one in (SystemDatabase.dequeue_scopes, _Look.scopes))
    assert len(theirs.parameters) == len(ours.parameters)
    assert books.dequeue_scopes(QUEUE) == [None]


def test_only_a_queue_with_work_is_taken_from(books: SystemDatabase) -> None:
    poll_together(0.0)
    assert books.dequeue_scopes(QUEUE) == []
    queue_one("one", 3)
    assert (books.dequeue_scopes(QUEUE), books.dequeue_scopes(IDLE)) == ([None], [])
    DBOS.cancel_workflow("one")
    assert books.dequeue_scopes(QUEUE) == []


def test_what_is_queued_can_be_hastened_but_never_held_back(books: SystemDatabase) -> None:
    queue_one("one", 5)
    queue_one("other", 5)
    hasten("one", 2)
    assert (priority_of("one"), priority_of("other")) == (2, 5)
    hasten("one", 4)
    assert priority_of("one") == 2
    DBOS.cancel_workflow("other")
    hasten("other", 1)
    assert priority_of("other") == 5
