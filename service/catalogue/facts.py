"""What the node remembers of itself: one value a name."""

from enum import StrEnum

import sqlalchemy as sa

from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import Database, put


class Fact(StrEnum):
    """What is remembered."""

    SPOOL_NAME = "spool name"  # random, the same in the spool itself
    CLOCK_LOOKED_AT = "clock looked at"  # seconds since 1970


class Facts:
    """Facts by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: Fact) -> str | None:
        """The value of a fact; None when it is not known."""
        query = sa.select(schema.facts.c.value).where(schema.facts.c.name == name)
        with self._database.read() as connection:
            return connection.scalar(query)

    def put(self, name: Fact, value: str) -> None:
        """Remember a fact, in place of what was known."""
        with self._database.write() as connection:
            put_fact(connection, name, value)


def put_fact(connection: sa.Connection, name: Fact, value: str) -> None:
    """Remember a fact inside the transaction of what it belongs to."""
    put(connection, schema.facts, {"name": name}, {"value": value})
