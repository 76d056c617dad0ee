"""Objects received: the index of the spool, what waits, what was put aside."""

import contextlib
import json
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from analysis.errors import Reason, Transient
from dicom_io.model import QualityRow
from service.store import events, schema
from service.store.engine import Database, Prepared
from service.store.events import record

# Rows commit out of order when several processes write: look back this far for late ones.
_LATE_COMMITS = 1000
_LARGEST_BATCH = 200


class Conflict(Exception):  # noqa: N818 - the name says what was found
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


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """A received object as indexed."""

    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str
    series_uid: str
    sha256: str
    size: int
    received_at: float
    source: str
    own_output: bool
    removed_at: float | None


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study as it stands, derived from its objects."""

    study_uid: str
    n_instances: int
    size: int
    first_received_at: float
    last_received_at: float
    last_seq: int


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """What cannot be processed yet, and what it waits for.

    `object_uid` is a segmentation's SOP Instance UID, or an image series' own UID.
    """

    study_uid: str
    object_uid: str
    waits_for: str
    since: float


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """Content kept apart, and why. `sop_instance_uid` is what the sender claimed."""

    id: int
    sop_instance_uid: str
    sha256: str
    size: int
    received_at: float
    source: str
    code: str
    detail: str


_ROW = [schema.instances.c[name] for name in InstanceRow.__dataclass_fields__]


_NEW_COLUMNS = (
    "sop_instance_uid", "sop_class_uid", "study_uid", "series_uid", "sha256", "size", "source",
    "own_output", "header",
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


class Instances:
    """Index of received objects."""

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
        if not arrival.added and self._forget_removed(connection, new):
            arrival.added = self._insert.run(connection, values)
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
            "received",
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

    def _forget_removed(self, connection: sa.Connection, new: NewInstance) -> bool:
        """An object whose file was removed and that comes again is new, whatever its bytes.

        Its study counts as not matched, so that what is complete again is matched again.
        """
        table, references = schema.instances, schema.series_references
        gone = connection.execute(
            table.delete().where(
                table.c.sop_instance_uid == new.sop_instance_uid, table.c.removed_at.is_not(None)
            )
        )
        if not gone.rowcount:
            return False
        connection.execute(
            references.delete().where(references.c.sop_instance_uid == new.sop_instance_uid)
        )
        connection.execute(
            schema.matchings.delete().where(schema.matchings.c.study_uid == new.study_uid)
        )
        return True

    def find(self, sop_instance_uid: str) -> InstanceRow | None:
        """The object of this UID."""
        query = sa.select(*_ROW).where(schema.instances.c.sop_instance_uid == sop_instance_uid)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        return InstanceRow(**row) if row else None

    def all(self, study_uid: str = "", *, limit: int = 100_000) -> list[InstanceRow]:
        """Objects in order of arrival, of one study when given."""
        query = sa.select(*_ROW).order_by(schema.instances.c.seq).limit(limit)
        if study_uid:
            query = query.where(schema.instances.c.study_uid == study_uid)
        with self._database.read() as connection:
            return [InstanceRow(**row) for row in connection.execute(query).mappings()]

    def content_known(self, sha256: str) -> bool:
        """Whether any row refers to this content: an object, an artifact or a result."""
        columns = (
            schema.instances.c.sha256,
            schema.artifacts.c.sha256,
            schema.runs.c.result_sha256,
        )
        with self._database.read() as connection:
            return any(
                connection.execute(sa.select(column).where(column == sha256).limit(1)).first()
                for column in columns
            )

    def is_artifact(self, sop_instance_uid: str) -> bool:
        """Whether the node itself made an object of this UID."""
        column = schema.artifacts.c.sop_instance_uid
        with self._database.read() as connection:
            query = sa.select(column).where(column == sop_instance_uid)
            return connection.execute(query).first() is not None

    def contents(self) -> dict[str, str]:
        """SHA-256 of every object that should be on disk, with its SOP Instance UID."""
        table = schema.instances
        query = sa.select(table.c.sha256, table.c.sop_instance_uid).where(
            table.c.removed_at.is_(None)
        )
        with self._database.read() as connection:
            return {row.sha256: row.sop_instance_uid for row in connection.execute(query)}

    def remove(self, sop_instance_uid: str, why: str, now: float) -> None:
        """Note that an object's file is gone; sent again, it is taken again."""
        table = schema.instances
        with self._database.write() as connection:
            connection.execute(
                table.update()
                .where(table.c.sop_instance_uid == sop_instance_uid)
                .values(removed_at=now)
            )
            record(connection, now, "removed", object_uid=sop_instance_uid, why=why)

    # Quarantine

    def put_aside(
        self,
        sop_instance_uid: str,
        sha256: str,
        size: int,
        source: str,
        reason: Reason,
        now: float,
    ) -> None:
        """Note content that is kept but not taken in; once for the same content and reason."""
        table = schema.quarantine
        with self._database.write() as connection:
            known = connection.execute(
                sa.select(table.c.id).where(table.c.sha256 == sha256, table.c.code == reason.code)
            ).first()
            if known is not None:
                return
            connection.execute(
                table.insert().values(
                    sop_instance_uid=sop_instance_uid,
                    sha256=sha256,
                    size=size,
                    received_at=now,
                    source=source,
                    code=reason.code,
                    detail=reason.detail,
                )
            )
            record(
                connection,
                now,
                "quarantined",
                object_uid=sop_instance_uid,
                sha256=sha256,
                source=source,
                code=reason.code,
            )

    def quarantined(self, *, limit: int = 1000) -> list[QuarantineRow]:
        """What was put aside, newest first."""
        query = sa.select(schema.quarantine).order_by(schema.quarantine.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [QuarantineRow(**row) for row in connection.execute(query).mappings()]

    # Studies

    def studies(self, *, limit: int = 1000) -> list[StudyRow]:
        """Every study, last received first."""
        with self._database.read() as connection:
            query = _study_query().order_by(sa.desc("last_received_at")).limit(limit)
            return [StudyRow(**row) for row in connection.execute(query).mappings()]

    def last_seq(self) -> int:
        """Number of the last indexed object."""
        with self._database.read() as connection:
            return connection.scalar(sa.select(sa.func.max(schema.instances.c.seq))) or 0

    def unmatched(self, after_seq: int = 0) -> list[StudyRow]:
        """Studies with objects that were not there at their last matching.

        Parameters
        ----------
        after_seq : int
            Look only at studies with objects later than this (and a little before it).
        """
        table, marks = schema.instances, schema.matchings
        recent = sa.select(table.c.study_uid).where(table.c.seq > after_seq - _LATE_COMMITS)
        studies = _study_query().where(table.c.study_uid.in_(recent)).subquery()
        query = (
            sa.select(studies)
            .outerjoin(marks, marks.c.study_uid == studies.c.study_uid)
            .where(sa.func.coalesce(marks.c.n_instances, 0) != studies.c.n_instances)
        )
        with self._database.read() as connection:
            return [StudyRow(**row) for row in connection.execute(query).mappings()]

    def group_of(self, study_uid: str) -> set[str]:
        """The study and every other that segmentations link it with, either way."""
        table, references = schema.instances, schema.series_references
        image, drawn = table.alias("image"), table.alias("drawn")
        linked = references.join(
            drawn, drawn.c.sop_instance_uid == references.c.sop_instance_uid
        ).join(image, image.c.series_uid == references.c.series_uid)
        group, new = {study_uid}, {study_uid}
        with self._database.read() as connection:
            while new:  # links lead on: two studies may draw on the images of a third
                query = (
                    sa.select(drawn.c.study_uid, image.c.study_uid)
                    .select_from(linked)
                    .where(sa.or_(drawn.c.study_uid.in_(new), image.c.study_uid.in_(new)))
                    .distinct()
                )
                reached = {uid for row in connection.execute(query) for uid in row}
                new = reached - group
                group |= new
        return group

    def headers(self, study_uids: Iterable[str]) -> list[str]:
        """Headers (JSON) of the usable objects of these studies, in order of arrival."""
        table = schema.instances
        query = (
            sa.select(table.c.header)
            .where(
                table.c.study_uid.in_(sorted(study_uids)),
                table.c.own_output.is_(False),
                table.c.removed_at.is_(None),
            )
            .order_by(table.c.seq)
        )
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def count(self, study_uids: Iterable[str]) -> dict[str, int]:
        """How many objects each study has."""
        query = _study_query().where(schema.instances.c.study_uid.in_(sorted(study_uids)))
        with self._database.read() as connection:
            return {
                row["study_uid"]: row["n_instances"] for row in connection.execute(query).mappings()
            }

    def note_matched(
        self,
        counts: dict[str, int],
        waiting: Sequence[tuple[str, str, str]],
        quality: Sequence[QualityRow],
        now: float,
    ) -> None:
        """Record a matching: what it saw, what waits (study, object, for what), what it refused.

        Parameters
        ----------
        counts : mapping of study UID to number of objects, read before the headers
        """
        studies = sorted(counts)
        with self._database.write() as connection:
            for table in (schema.matchings, schema.quality):
                connection.execute(table.delete().where(table.c.study_uid.in_(studies)))
            self._replace_waiting(connection, studies, waiting, now)
            for study_uid, number in counts.items():
                connection.execute(
                    schema.matchings.insert().values(
                        study_uid=study_uid, n_instances=number, matched_at=now
                    )
                )
            for row in quality:
                connection.execute(
                    schema.quality.insert().values(
                        study_uid=row.study_uid, row=json.dumps(asdict(row))
                    )
                )

    @staticmethod
    def _replace_waiting(
        connection: sa.Connection,
        studies: Sequence[str],
        waiting: Sequence[tuple[str, str, str]],
        now: float,
    ) -> None:
        table = schema.waiting
        concerned = table.c.study_uid.in_(studies)
        known = connection.execute(sa.select(table).where(concerned)).mappings()
        since = {(row["study_uid"], row["object_uid"]): row["since"] for row in known}
        connection.execute(table.delete().where(concerned))
        latest = {(study, uid): reason for study, uid, reason in waiting}
        for (study_uid, object_uid), waits_for in latest.items():
            connection.execute(
                table.insert().values(
                    study_uid=study_uid,
                    object_uid=object_uid,
                    waits_for=waits_for,
                    since=since.get((study_uid, object_uid), now),
                )
            )

    def waiting(self, study_uid: str = "") -> list[WaitingRow]:
        """What waits and for what, longest first."""
        query = sa.select(schema.waiting).order_by(schema.waiting.c.since)
        if study_uid:
            query = query.where(schema.waiting.c.study_uid == study_uid)
        with self._database.read() as connection:
            return [WaitingRow(**row) for row in connection.execute(query).mappings()]

    def missing_series(self) -> list[tuple[str, str]]:
        """(series, study of the segmentation) that segmentations wait for and no image is of."""
        table, references, waiting = schema.instances, schema.series_references, schema.waiting
        drawn, image = table.alias("drawn"), table.alias("image")
        there = sa.exists().where(
            image.c.series_uid == references.c.series_uid, image.c.removed_at.is_(None)
        )
        query = (
            sa.select(references.c.series_uid, drawn.c.study_uid)
            .join(drawn, drawn.c.sop_instance_uid == references.c.sop_instance_uid)
            .join(waiting, waiting.c.object_uid == references.c.sop_instance_uid)
            .where(~there)
            .distinct()
        )
        with self._database.read() as connection:
            return [(row[0], row[1]) for row in connection.execute(query)]

    def quality(self, study_uid: str = "") -> list[QualityRow]:
        """What the last matching refused."""
        query = sa.select(schema.quality.c.row).order_by(schema.quality.c.id)
        if study_uid:
            query = query.where(schema.quality.c.study_uid == study_uid)
        with self._database.read() as connection:
            return [QualityRow(**json.loads(text)) for text in connection.scalars(query)]


def _study_query() -> sa.Select[tuple[str, int, int, float, float, int]]:
    table = schema.instances
    return sa.select(
        table.c.study_uid,
        sa.func.count().label("n_instances"),
        sa.func.sum(table.c.size).label("size"),
        sa.func.min(table.c.received_at).label("first_received_at"),
        sa.func.max(table.c.received_at).label("last_received_at"),
        sa.func.max(table.c.seq).label("last_seq"),
    ).group_by(table.c.study_uid)
