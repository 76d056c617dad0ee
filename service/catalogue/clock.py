"""What the node knows of its clock: when it last looked, and by how much it jumped since when."""

from dataclasses import dataclass

import sqlalchemy as sa

from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import Database
from mirv.service.catalogue.events import EventKind, record
from mirv.service.catalogue.facts import Fact, Facts, put_fact


@dataclass(frozen=True, slots=True)
class Jump:
    """A jump of the clock.

    Attributes
    ----------
    after_seq : int
        Number of the last object indexed before it: times of before and after cannot be compared.
    seconds : float
        Negative when the clock was set back.
    """

    after_seq: int
    seconds: float


class ClockBook:
    """The last look at the clock, and its jumps."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._facts = Facts(database)

    def looked_at(self) -> float | None:
        """The time last kept, seconds since 1970; None when none was."""
        kept = self._facts.get(Fact.CLOCK_LOOKED_AT)
        return None if kept is None else float(kept)

    def keep(self, moment: float) -> None:
        """Keep the time that was looked at.

        Parameters
        ----------
        moment : float
            Seconds since 1970.
        """
        self._facts.put(Fact.CLOCK_LOOKED_AT, repr(moment))

    def note_jump(self, now: float, seconds: float) -> None:
        """Note a jump, and the time that counts from now on: both or neither.

        Parameters
        ----------
        now : float
            Seconds since 1970, after the jump.
        seconds : float
            How far it jumped; negative: back.
        """
        jumps, seq = schema.clock_jumps, schema.instances.c.seq
        with self._database.write() as connection:
            if connection.dialect.name == "postgresql":
                # Waits for objects on their way in: they came before the jump.
                connection.exec_driver_sql("LOCK TABLE instances IN SHARE MODE")
            last = connection.scalar(sa.select(sa.func.max(seq))) or 0
            connection.execute(jumps.insert().values(at=now, seconds=seconds, after_seq=last))
            put_fact(connection, Fact.CLOCK_LOOKED_AT, repr(now))
            record(connection, now, EventKind.CLOCK_JUMPED, seconds=seconds)

    def jumps(self) -> list[Jump]:
        """Every jump that was noted, oldest first."""
        table = schema.clock_jumps
        query = sa.select(table.c.after_seq, table.c.seconds).order_by(table.c.id)
        with self._database.read() as connection:
            return [Jump(**row) for row in connection.execute(query).mappings()]
