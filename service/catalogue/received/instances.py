"""The index of received objects: which there are, and where each came from."""

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import Database
from mirv.service.catalogue.events import EventKind, record

_AT_ONCE = 500  # UIDs of one question: databases bound them


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


_ROW = [schema.instances.c[name] for name in InstanceRow.__dataclass_fields__]


class Instances:
    """Index of received objects."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, sop_instance_uid: str) -> InstanceRow | None:
        """The object of this UID."""
        query = sa.select(*_ROW).where(schema.instances.c.sop_instance_uid == sop_instance_uid)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        return InstanceRow(**row) if row else None

    def all(self, study_uid: str = "", *, limit: int | None = None) -> list[InstanceRow]:
        """Objects in order of arrival, of one study when given.

        Parameters
        ----------
        study_uid : str
            "" for all studies.
        limit : int, optional
            So many at most.

        Returns
        -------
        list of InstanceRow
        """
        query = sa.select(*_ROW).order_by(schema.instances.c.seq).limit(limit)
        if study_uid:
            query = query.where(schema.instances.c.study_uid == study_uid)
        with self._database.read() as connection:
            return [InstanceRow(**row) for row in connection.execute(query).mappings()]

    def last_seq(self) -> int:
        """Number of the last indexed object."""
        with self._database.read() as connection:
            return connection.scalar(sa.select(sa.func.max(schema.instances.c.seq))) or 0

    def last_received_at(self) -> float:
        """When the last indexed object came, seconds since 1970; 0 when there is none."""
        table = schema.instances
        query = sa.select(table.c.received_at).order_by(table.c.seq.desc()).limit(1)
        with self._database.read() as connection:
            return connection.scalar(query) or 0.0

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

    def removed(self, sop_instance_uids: Iterable[str]) -> set[str]:
        """Those of these objects whose files are gone and did not come again.

        Parameters
        ----------
        sop_instance_uids : iterable of str

        Returns
        -------
        set of str
        """
        table, wanted = schema.instances, sorted(sop_instance_uids)
        found = set[str]()
        with self._database.read() as connection:
            for start in range(0, len(wanted), _AT_ONCE):
                query = sa.select(table.c.sop_instance_uid).where(
                    table.c.sop_instance_uid.in_(wanted[start : start + _AT_ONCE]),
                    table.c.removed_at.is_not(None),
                )
                found.update(connection.scalars(query))
        return found

    def remove(self, sop_instance_uid: str, why: str, now: float) -> None:
        """Note that an object's file is gone; sent again, it is taken again.

        Parameters
        ----------
        sop_instance_uid : str
        why : str
        now : float
            Seconds since 1970.
        """
        table = schema.instances
        with self._database.write() as connection:
            connection.execute(
                table.update()
                .where(table.c.sop_instance_uid == sop_instance_uid)
                .values(removed_at=now)
            )
            record(connection, now, EventKind.REMOVED, object_uid=sop_instance_uid, why=why)
