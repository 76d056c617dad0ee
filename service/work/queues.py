"""What DBOS 3 has no public call for: cheap polling of many queues, and a queued run that hurries.

Each queue has a thread that asks the database five times a second, in a transaction of several
statements; a node has a queue for each destination and six more. That took a twelfth of a core
from a node with nothing to do, and a third of the interpreter's time from one that receives.
Here one small query answers for all of them, and only a queue with work begins its transaction.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from dbos._dbos import _get_dbos_instance

_QUEUED = "ENQUEUED"


class _Look:
    """Which queues have work, looked up at most once in a while for all of them together."""

    def __init__(
        self, look: Callable[[], frozenset[str]], fresh_s: float, clock: Callable[[], float]
    ) -> None:
        self._look = look
        self._fresh_s = fresh_s
        self._clock = clock
        self._looking = threading.Lock()
        self._with_work: frozenset[str] = frozenset()
        self._looked_at = -float("inf")

    def scopes(self, queue: str) -> list[str | None]:
        """What DBOS asks before it takes from a queue: nowhere, or everywhere."""
        with self._looking:
            if self._clock() - self._looked_at >= self._fresh_s:
                self._with_work = self._look()
                self._looked_at = self._clock()
            return [None] if queue in self._with_work else []


def poll_together(fresh_s: float) -> None:
    """Let the queues of the launched DBOS share what they look up.

    Parameters
    ----------
    fresh_s : float
        How long an answer serves all of them, seconds.
    """
    books: Any = _get_dbos_instance()._sys_db
    table = books.tables.workflow_status
    # Both say "queued"; the second lets SQLite see that its index of work in flight will do.
    query = (
        sa.select(table.c.queue_name)
        .where(table.c.status == _QUEUED, books._in_flight_status_prover())
        .distinct()
    )

    def look() -> frozenset[str]:
        with books.engine.connect() as connection:
            return frozenset(name for name in connection.scalars(query) if name)

    books.dequeue_scopes = _Look(look, fresh_s, time.monotonic).scopes


def hasten(workflow_id: str, priority: int) -> None:
    """Let a run that is still queued go earlier.

    Parameters
    ----------
    workflow_id : str
    priority : int
        The lower, the earlier; one that is earlier already stays.
    """
    books = _get_dbos_instance()._sys_db
    table = books.tables.workflow_status
    with books.engine.begin() as connection:
        connection.execute(
            table.update()
            .where(
                table.c.workflow_uuid == workflow_id,
                table.c.status == _QUEUED,
                table.c.priority > priority,
            )
            .values(priority=priority)
        )
