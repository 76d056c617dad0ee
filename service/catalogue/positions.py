"""How far the changes of each followed Orthanc have been dealt with, and which were put off."""

from dataclasses import dataclass

import sqlalchemy as sa

from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import Database, put
from mirv.service.catalogue.events import EventKind, record


@dataclass(frozen=True, slots=True)
class Position:
    """Everything up to here is durable.

    Attributes
    ----------
    number : int
        Of the last change dealt with; 0 before the first.
    mark : str
        What that change was, so that another log of the same numbers is noticed.
    """

    number: int
    mark: str


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of a followed server's log, and what it tells of.

    Attributes
    ----------
    source : str
        Name of the followed server.
    change_type, resource : str
        As the server calls them.
    number : int
        Its place in the log.
    """

    source: str
    change_type: str
    resource: str
    number: int


class Positions:
    """Positions and what was put off, by name of the followed server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, source: str) -> Position | None:
        """Where we are with a server; None before the first contact."""
        table = schema.positions
        query = sa.select(table.c.number, table.c.mark).where(table.c.source == source)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return Position(row.number, row.mark) if row else None

    def put(self, source: str, position: Position, now: float) -> None:
        """Note where we are.

        Parameters
        ----------
        source : str
            Name of the followed server.
        position : Position
        now : float
            Seconds since 1970.
        """
        values = {"number": position.number, "mark": position.mark, "updated_at": now}
        with self._database.write() as connection:
            put(connection, schema.positions, {"source": source}, values)

    def postpone(self, one: Change, why: str, now: float) -> None:
        """Note a change that is asked for again later.

        Parameters
        ----------
        one : Change
        why : str
        now : float
            Seconds since 1970.
        """
        with self._database.write() as connection:
            put(connection, schema.postponed, _key(one), {"number": one.number})
            _tell(connection, EventKind.FOLLOW_POSTPONED, one, now, why=why)

    def catch_up(self, one: Change, now: float) -> None:
        """Note that what was put off has come, or is no more.

        Parameters
        ----------
        one : Change
        now : float
            Seconds since 1970.
        """
        table = schema.postponed
        with self._database.write() as connection:
            connection.execute(
                table.delete().where(*(table.c[name] == value for name, value in _key(one).items()))
            )
            _tell(connection, EventKind.FOLLOW_CAUGHT_UP, one, now)

    def postponed(self, source: str) -> list[Change]:
        """What is put off, in order of the server's log."""
        table = schema.postponed
        query = sa.select(table).where(table.c.source == source).order_by(table.c.number)
        with self._database.read() as connection:
            return [Change(**row) for row in connection.execute(query).mappings()]


def _key(one: Change) -> dict[str, str]:
    return {"source": one.source, "change_type": one.change_type, "resource": one.resource}


def _tell(connection: sa.Connection, kind: EventKind, one: Change, now: float, **more: str) -> None:
    about = f"{one.source} {one.change_type} {one.resource}"
    record(connection, now, kind, object_uid=about, **_key(one), change=one.number, **more)
