"""Objects on their way into the index: many that come at once share a transaction."""

import contextlib
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from mirv.analysis.errors import Transient
from mirv.config.errors import MirvError
from mirv.service.catalogue import events
from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import Database, Prepared
from mirv.service.catalogue.events import EventKind

_LARGEST_BATCH = 200


class Conflict(MirvError):  # noqa: N818 - the name says what was found
    """The SOP Instance UID is taken by other content; nothing was changed.

    Attributes
    ----------
    sha256 : str
        Of the content that was there first.
    """

    def __init__(self, sha256: str) -> None:
        super().__init__(f"another object of this UID is stored, SHA-256 {sha256}")
        self.sha256 = sha256


@dataclass(frozen=True, slots=True)
class NewInstance:
    """What the index keeps of a received object.

    Attributes
    ----------
    sop_instance_uid, sop_class_uid, study_uid, series_uid : str
    sha256 : str
        Content of the file in the spool.
    size : int
    source : str
        Calling AE title and address.
    own_output : bool
        Made by the node itself, so never an input.
    header : str
        ``InstanceHeader`` as JSON.
    referenced_series : tuple of str
        Series a segmentation says it was drawn on.
    patient_id : str
        As in the header.
    """

    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str
    series_uid: str
    sha256: str
    size: int
    source: str
    own_output: bool
    header: str
    referenced_series: tuple[str, ...] = ()
    patient_id: str = ""


_NEW_COLUMNS = (
    "sop_instance_uid", "sop_class_uid", "study_uid", "series_uid", "sha256", "size", "source",
    "own_output", "header", "patient_id",
)  # fmt: skip


@dataclass(slots=True)
class _Arrival:
    """An object on its way into the index, and what became of it."""

    new: NewInstance
    at: float
    synced: bool
    done: bool = False
    added: bool = False
    fault: Exception | None = None


class Arrivals:
    """Indexes received objects."""

    def __init__(self, database: Database) -> None:
        self._database = database
        dialect = database.engine.dialect
        insert = sqlite_insert if dialect.name == "sqlite" else pg_insert
        table = schema.instances
        self._insert = Prepared(
            insert(table).on_conflict_do_nothing().returning(table.c.seq),
            (*_NEW_COLUMNS, "received_at"),
            dialect,
        )
        self._tell = Prepared(schema.events.insert().inline(), events.COLUMNS, dialect)
        self._arrivals: deque[_Arrival] = deque()
        self._committing = threading.Lock()

    def add(self, new: NewInstance, now: float, *, synced: bool = False) -> bool:
        """Index an object whose file is durable; False when it is there already.

        Threads that come while another commits are indexed together by the next of them: many
        associations cost few transactions. A power cut may undo the row, for a repair to make it
        again from the file, unless it is to be `synced`.

        Raises
        ------
        Conflict
            The SOP Instance UID is taken by other content.
        Transient
            The catalogue cannot be written now.
        """
        arrival = _Arrival(new, now, synced)
        self._arrivals.append(arrival)
        with self._committing:
            while not arrival.done:
                self._commit_next()
        if arrival.fault is not None:
            raise arrival.fault
        return arrival.added

    def _commit_next(self) -> None:
        batch: list[_Arrival] = []
        while self._arrivals and len(batch) < _LARGEST_BATCH:
            batch.append(self._arrivals.popleft())
        # One order in all processes: two transactions cannot wait for each other.
        batch.sort(key=lambda arrival: arrival.new.sop_instance_uid)
        self._commit(batch)
        for arrival in batch:
            arrival.done = True

    def _commit(self, batch: list[_Arrival]) -> None:
        try:
            with self._transaction(batch) as connection:
                for arrival in batch:
                    self._add_one(connection, arrival)
        except Exception as fault:  # noqa: BLE001 - each thread raises its own
            if len(batch) == 1:
                batch[0].fault = fault
            elif isinstance(fault, Transient):
                for arrival in batch:
                    arrival.fault = Transient(str(fault))
            else:  # one that no database takes must not keep out the others
                for arrival in batch:
                    self._commit([arrival])

    def _transaction(
        self, batch: Sequence[_Arrival]
    ) -> contextlib.AbstractContextManager[sa.Connection]:
        if any(arrival.synced for arrival in batch):
            return self._database.write()
        return self._database.write_mendable()

    def _add_one(self, connection: sa.Connection, arrival: _Arrival) -> None:
        new = arrival.new
        arrival.fault = None
        values: dict[str, Any] = {name: getattr(new, name) for name in _NEW_COLUMNS}
        values["received_at"] = arrival.at
        arrival.added = self._insert.run(connection, values)
        if not arrival.added and (gone := self._set_removed_apart(connection, new)):
            arrival.added = self._insert.run(connection, values)
            self._forget_removed(connection, new, gone)
        if not arrival.added:
            known = self._known_content(connection, new)
            arrival.fault = Conflict(known) if known != new.sha256 else None
            return
        for series_uid in sorted(set(new.referenced_series)):
            connection.execute(
                schema.series_references.insert().values(
                    sop_instance_uid=new.sop_instance_uid, series_uid=series_uid
                )
            )
        event = events.row(
            arrival.at,
            EventKind.RECEIVED,
            study_uid=new.study_uid,
            object_uid=new.sop_instance_uid,
            sha256=new.sha256,
            source=new.source,
        )
        self._tell.run(connection, event)

    def _known_content(self, connection: sa.Connection, new: NewInstance) -> str:
        table = schema.instances
        query = sa.select(table.c.sha256).where(table.c.sop_instance_uid == new.sop_instance_uid)
        return str(connection.execute(query).scalar_one())

    def _set_removed_apart(self, connection: sa.Connection, new: NewInstance) -> str:
        """Free the UID of an object whose file was removed: it is new, whatever its bytes.

        Its row goes after the new one is there: SQLite would give its number again, and numbers
        tell what came before what. "" when there is no such row, else what it is called now.
        """
        table, called = schema.instances, f"removed {new.sop_instance_uid}"
        gone = connection.execute(
            table.update()
            .where(
                table.c.sop_instance_uid == new.sop_instance_uid, table.c.removed_at.is_not(None)
            )
            .values(sop_instance_uid=called)
        )
        return called if gone.rowcount else ""

    def _forget_removed(self, connection: sa.Connection, new: NewInstance, gone: str) -> None:
        """Its study counts as not matched, so that what is complete again is matched again."""
        table, references = schema.instances, schema.series_references
        connection.execute(table.delete().where(table.c.sop_instance_uid == gone))
        connection.execute(
            references.delete().where(references.c.sop_instance_uid == new.sop_instance_uid)
        )
        connection.execute(
            schema.matchings.delete().where(schema.matchings.c.study_uid == new.study_uid)
        )
