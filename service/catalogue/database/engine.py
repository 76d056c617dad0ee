"""Opening and migrating the catalogue's database."""

import contextlib
import functools
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa

from mirv.analysis.errors import Transient
from mirv.config.errors import Unavailable

_MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_MS = 30_000
_MIGRATING = 0x6D696772  # "migr", of PostgreSQL's locks by number
_CHECKPOINT_PAGES = 4000

# An error names its statement, never its values: they hold patient data, and tracebacks are logged.
_HIDE = True


@dataclass(frozen=True)
class Database:
    """An engine and how to write through it.

    SQLite takes one writer at a time and makes the others poll; a lock of our own queues the
    threads of this process without polling.

    Attributes
    ----------
    engine : sa.Engine
        Every commit is synced.
    mendable : sa.Engine
        For rows a repair makes again from the spool after a power cut, see `write_mendable`. On
        PostgreSQL the same as `engine`: its server can go down while we go on, without a repair.
    """

    engine: sa.Engine
    mendable: sa.Engine
    _lock: Any = field(default_factory=threading.Lock)
    _kept: list[sa.Connection] = field(default_factory=list)

    # Made once: making one costs more than a statement.
    @functools.cached_property
    def _writing(self) -> sa.Engine:
        return self.engine.execution_options(writes=True)

    @functools.cached_property
    def _writing_mendable(self) -> sa.Engine:
        return self.mendable.execution_options(writes=True)

    def write(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """A transaction that is durable when the block ends.

        Returns
        -------
        context manager of sa.Connection

        Raises
        ------
        Transient
            What may pass: see `passing_faults`.
        """
        return self._write(self._writing)

    @contextlib.contextmanager
    def write_mendable(self) -> Iterator[sa.Connection]:
        """A transaction that outlives the death of any process; a power cut may undo it.

        Only for what the start-up repair makes again: rows about files that are durable already.
        Whatever is committed with `write` later makes this durable too.
        """
        if self.mendable is self.engine:
            with self.write() as connection:
                yield connection
            return
        with self._lock, passing_faults():
            # One connection is kept for all: handing it out and back costs more than a statement.
            kept = self._kept.pop() if self._kept else self._writing_mendable.connect()
            try:
                with kept.begin():
                    yield kept
            except BaseException:
                kept.close()
                raise
            self._kept.append(kept)

    @contextlib.contextmanager
    def _write(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        lock = self._lock if engine.dialect.name == "sqlite" else contextlib.nullcontext()
        with lock, passing_faults(), engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection."""
        while self._kept:
            self._kept.pop().close()
        self.engine.dispose()
        self.mendable.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection for queries.

        Raises
        ------
        Transient
            What may pass: see `passing_faults`.
        """
        with passing_faults(), self.engine.connect() as connection:
            yield connection


def put(
    connection: sa.Connection, table: sa.Table, key: Mapping[str, Any], values: Mapping[str, Any]
) -> None:
    """Give the row of this key these values; there is one afterwards.

    Parameters
    ----------
    connection : sa.Connection
        In a transaction.
    table : sa.Table
    key : mapping
        Column to value: the row that is meant.
    values : mapping
        Column to value: what it says afterwards.
    """
    is_it = (table.c[name] == value for name, value in key.items())
    changed = connection.execute(table.update().where(*is_it).values(**values))
    if changed.rowcount == 0:
        connection.execute(table.insert().values(**key, **values))


@contextlib.contextmanager
def passing_faults() -> Iterator[None]:
    """Name what may pass: a lock held too long, a full disk, a server that restarts.

    Raises
    ------
    Transient
        In place of the driver's own error, with its words.
    """
    try:
        yield
    except (
        sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError,
        sqlite3.OperationalError,
    ) as error:  # fmt: skip
        cause = getattr(error, "orig", None) or error
        raise Transient(f"catalogue: {type(cause).__name__}: {cause}") from error


@contextlib.contextmanager
def no_database_told() -> Iterator[None]:
    """Around the first look at a catalogue: what is no database is no bug.

    Raises
    ------
    Unavailable
        In the driver's words.
    """
    try:
        yield
    except sa.exc.DatabaseError as error:
        raise Unavailable(f"catalogue: {error.orig}") from error


class Prepared:
    """A statement compiled once, for the ones that run for every object.

    SQLAlchemy takes longer to hand a row to SQLite than SQLite to store it, so this does.

    Parameters
    ----------
    statement : sa.Insert
    names : sequence of str
        Of the values it takes.
    dialect : sa.Dialect
    """

    def __init__(self, statement: sa.Insert, names: Sequence[str], dialect: sa.Dialect) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(names))
        self._text = str(compiled)
        self._positions = getattr(compiled, "positiontup", None)

    def run(self, connection: sa.Connection, values: Mapping[str, Any]) -> bool:
        """Execute with these values; whether a row came back.

        Parameters
        ----------
        connection : sa.Connection
        values : mapping
            One for each of `names`.

        Returns
        -------
        bool
        """
        if self._positions is None:
            result = connection.exec_driver_sql(self._text, dict(values))
            return result.returns_rows and result.first() is not None
        in_order = tuple(values[name] for name in self._positions)
        with contextlib.closing(_driver(connection).execute(self._text, in_order)) as cursor:
            return cursor.fetchone() is not None


def open_engine(url: str) -> Database:
    """Open a database; SQLite in WAL mode.

    Parameters
    ----------
    url : str
        As of `Catalogue`.

    Returns
    -------
    Database
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        engine = sa.create_engine(
            url, hide_parameters=_HIDE, pool_size=10, max_overflow=40, pool_pre_ping=True
        )
        return Database(engine, engine)
    return Database(_sqlite_engine(url, "FULL"), _sqlite_engine(url, "NORMAL"))


def _sqlite_engine(url: str, synchronous: str) -> sa.Engine:
    engine = sa.create_engine(url, hide_parameters=_HIDE, pool_size=10, max_overflow=90)

    def prepare(connection: Any, _record: Any) -> None:
        # The driver's own transaction handling would begin late and lock in the wrong order.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA synchronous={synchronous}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        cursor.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
        cursor.close()

    sa.event.listen(engine, "connect", prepare)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _begin_sqlite(connection: sa.Connection) -> None:
    # Reads take no lock in WAL mode; a write must hold its lock from the first statement on.
    writes = connection.get_execution_options().get("writes", False)
    _driver(connection).execute("BEGIN IMMEDIATE" if writes else "BEGIN")


def _driver(connection: sa.Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", connection.connection.driver_connection)


def migrate(database: Database, revision: str = "head") -> None:
    """Bring the schema to this version; of several that start at once, one does it.

    Parameters
    ----------
    database : Database
    revision : str
        The last migration to make.

    Raises
    ------
    Unavailable
        The catalogue is of a later version.
    """
    last = max(path.name[:4] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))
    found = _version(database)
    if found == last:
        return
    if found is not None and found > last:
        raise Unavailable(f"catalogue: found version {found} of a later mirv, wanted {last}")
    # Only now: alembic takes as long to load as all else a command needs of the catalogue.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with database.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATING)))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def _version(database: Database) -> str | None:
    """The last migration that was made; None: none was."""
    with database.read() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        found = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return None if found is None else str(found)
