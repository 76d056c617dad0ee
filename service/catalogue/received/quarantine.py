"""Content kept apart, and why."""

from dataclasses import dataclass

import sqlalchemy as sa

from mirv.analysis.errors import Reason
from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import Database
from mirv.service.catalogue.events import EventKind, record
from mirv.service.catalogue.states import CorrectionState

_DECIDED = tuple(one for one in CorrectionState if one is not CorrectionState.PENDING)


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


_ROW = [schema.quarantine.c[name] for name in QuarantineRow.__dataclass_fields__]


class Quarantine:
    """What was put aside."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        sop_instance_uid: str,
        sha256: str,
        size: int,
        source: str,
        reason: Reason,
        now: float,
    ) -> None:
        """Note content that is kept but not taken in; once for the same content and reason.

        Parameters
        ----------
        sop_instance_uid : str
            What the sender claimed; "" when it is not known.
        sha256 : str
        size : int
            Bytes.
        source : str
            Who sent it.
        reason : Reason
        now : float
            Seconds since 1970.
        """
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
                EventKind.QUARANTINED,
                object_uid=sop_instance_uid,
                sha256=sha256,
                source=source,
                code=reason.code,
            )

    def count(self) -> int:
        """How much was put aside, but for what was decided on."""
        query = (
            sa.select(sa.func.count())
            .select_from(schema.quarantine)
            .where(schema.quarantine.c.state.not_in(_DECIDED))
        )
        with self._database.read() as connection:
            return connection.scalar(query) or 0

    def all(self, *, limit: int | None = None) -> list[QuarantineRow]:
        """What was put aside, newest first, but for what was decided on."""
        query = (
            sa.select(*_ROW)
            .where(schema.quarantine.c.state.not_in(_DECIDED))
            .order_by(schema.quarantine.c.id.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return [QuarantineRow(**row) for row in connection.execute(query).mappings()]
