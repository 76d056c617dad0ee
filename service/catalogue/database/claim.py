"""One node a catalogue on PostgreSQL: a lock its server holds while the node's connection lives.

Nodes on one folder of one machine are kept apart by a lock of that folder. Nodes on two machines,
or on two folders, that were given one catalogue by mistake would take each other's work.
"""

import contextlib
import time

import sqlalchemy as sa

from mirv.service.catalogue.database.engine import Database, passing_faults

_KEY = 0x6D697276  # "mirv"
# So the server finds out about a node whose machine lost its power.
_ALIVE = "; ".join(
    f"SET tcp_keepalives_{name} = {value}"
    for name, value in (("idle", 10), ("interval", 5), ("count", 3))
)
_AGAIN_S = 0.2


class Claim:
    """The right to be the catalogue's node; on SQLite it is the folder's lock that counts."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine
        self._held: sa.Connection | None = None

    def take(self, patience_s: float = 0.0) -> bool:
        """Take the right or keep it; False when another node has it.

        Parameters
        ----------
        patience_s : float
            The server notices the death of a process a moment later.

        Raises
        ------
        Transient
            The server does not answer; nothing is held until it does.
        """
        if self._engine.dialect.name != "postgresql":
            return True
        deadline = time.monotonic() + patience_s
        while not self._take_now():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_AGAIN_S)
        return True

    def _take_now(self) -> bool:
        try:
            with passing_faults():
                if self._held is None:
                    self._held = self._engine.execution_options(
                        isolation_level="AUTOCOMMIT"
                    ).connect()
                    self._held.exec_driver_sql(_ALIVE)
                    taken = self._held.scalar(sa.select(sa.func.pg_try_advisory_lock(_KEY)))
                else:
                    taken = self._held.scalar(sa.select(sa.literal(True)))
        except Exception:
            self.release()
            raise
        if not taken:
            self.release()
        return bool(taken)

    def release(self) -> None:
        """Give the right back; harmless when it is not held."""
        held, self._held = self._held, None
        if held is not None:
            with contextlib.suppress(sa.exc.DBAPIError):
                held.invalidate()  # closed, not pooled: a pooled connection would keep the lock
            held.close()
