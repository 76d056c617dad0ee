"""How far the changes of each followed Orthanc have been dealt with."""

from dataclasses import dataclass

import sqlalchemy as sa

from service.store import schema
from service.store.engine import Database


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


class Positions:
    """Positions by name of the followed server."""

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
        """Note where we are."""
        table = schema.positions
        values = {"number": position.number, "mark": position.mark, "updated_at": now}
        with self._database.write() as connection:
            changed = connection.execute(
                table.update().where(table.c.source == source).values(values)
            )
            if changed.rowcount == 0:
                connection.execute(table.insert().values(source=source, **values))
