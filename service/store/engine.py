"""Opening and migrating the catalogue's database."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from analysis.errors import Transient

_MIGRATIONS = Path(__file__).parents[1] / "migrations"
_BUSY_MS = 30_000

# An error names its statement, never its values: they hold patient data, and tracebacks are logged.
_HIDE = True


@dataclass(frozen=True)
class Database:
    """An engine and how to write through it.

    SQLite takes one writer at a time and makes the others poll; a lock of our own queues the
    threads of this process without polling.
    """

    engine: sa.Engine
    _lock: Any = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that is durable when the block ends."""
        lock = self._lock if self.engine.dialect.name == "sqlite" else contextlib.nullcontext()
        writing = self.engine.execution_options(writes=True)
        with lock, _passing_faults(), writing.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection for queries."""
        with _passing_faults(), self.engine.connect() as connection:
            yield connection


@contextlib.contextmanager
def _passing_faults() -> Iterator[None]:
    """Name what may pass: a lock held too long, a full disk, a server that restarts."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        cause = getattr(error, "orig", None) or error
        raise Transient(f"catalogue: {type(cause).__name__}: {cause}") from error


def open_engine(url: str) -> Database:
    """Open a database; SQLite in WAL mode with every commit synced."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return Database(
            sa.create_engine(
                url, hide_parameters=_HIDE, pool_size=10, max_overflow=40, pool_pre_ping=True
            )
        )
    engine = sa.create_engine(url, hide_parameters=_HIDE, pool_size=10, max_overflow=90)
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return Database(engine)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own transaction handling would begin late and lock in the wrong order.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # Reads take no lock in WAL mode; a write must hold its lock from the first statement on.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def migrate(database: Database) -> None:
    """Bring the schema to this version."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
