"""Heartbeats of the processes that work on runs."""

import math

import sqlalchemy as sa

from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import Database


class Workers:
    """Who is at work, and who has fallen silent."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(self, executor_id: str, now: float) -> None:
        """Note that this executor lives.

        Parameters
        ----------
        executor_id : str
        now : float
            Seconds since 1970.
        """
        table = schema.workers
        with self._database.write() as connection:
            changed = connection.execute(
                table.update().where(table.c.executor_id == executor_id).values(heartbeat_at=now)
            )
            if changed.rowcount == 0:
                connection.execute(
                    table.insert().values(executor_id=executor_id, started_at=now, heartbeat_at=now)
                )

    def heard_at(self, executor_id: str) -> float:
        """When an executor last beat, seconds since 1970; 0 when it is not known."""
        table = schema.workers
        query = sa.select(table.c.heartbeat_at).where(table.c.executor_id == executor_id)
        with self._database.read() as connection:
            return connection.scalar(query) or 0.0

    def silent_since(self, before: float, after: float = math.inf) -> list[str]:
        """Executors whose last heartbeat is older than this time.

        Parameters
        ----------
        after : float
            A heartbeat later than this is from before the clock was set back: it says nothing.
        """
        table = schema.workers
        query = sa.select(table.c.executor_id).where(
            sa.or_(table.c.heartbeat_at < before, table.c.heartbeat_at > after)
        )
        with self._database.read() as connection:
            return list(connection.scalars(query.order_by(table.c.executor_id)))

    def forget(self, executor_id: str) -> None:
        """Remove an executor whose work has been handed on."""
        with self._database.write() as connection:
            connection.execute(
                schema.workers.delete().where(schema.workers.c.executor_id == executor_id)
            )
