"""Corrections: other content of a known object, put aside until someone decides."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import Database
from mirv.service.catalogue.events import EventKind, record
from mirv.service.catalogue.received.arrivals import NewInstance
from mirv.service.catalogue.states import CorrectionState

_OTHER_CONTENT = "other_content"
REPLACED = "replaced"
"""The code of content that was stored until a correction took its place."""


@dataclass(frozen=True, slots=True)
class NewCorrection:
    """Other content that came under a known SOP Instance UID.

    Attributes
    ----------
    new : NewInstance
        What the index would say of it.
    against : str
        SHA-256 of the content that is stored.
    differs : tuple of str
        In what the two differ: names, never values.
    detail : str
        The same for people.
    """

    new: NewInstance
    against: str
    differs: tuple[str, ...]
    detail: str


@dataclass(frozen=True, slots=True)
class CorrectionRow:
    """A correction beside the object it is of.

    Attributes
    ----------
    id : int
    sop_instance_uid, sha256 : str
    size : int
        Bytes.
    received_at : float
        When it came first, seconds since 1970.
    source : str
    header, differs, against : str or None
        As of `NewCorrection`, names joined by commas; None where it came to an earlier version.
    study_uid, series_uid : str
        Of the stored object.
    stored_sha256, stored_header : str
    own_output : bool
        The stored object was made here.
    """

    id: int
    sop_instance_uid: str
    sha256: str
    size: int
    received_at: float
    source: str
    header: str | None
    differs: str | None
    against: str | None
    study_uid: str
    series_uid: str
    stored_sha256: str
    stored_header: str
    own_output: bool


class Corrections:
    """What waits for a decision, and what was refused."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, found: NewCorrection, now: float) -> None:
        """Note other content of a known object; the latest of an object is the one that waits.

        What was refused stays refused when it is sent again.

        Parameters
        ----------
        found : NewCorrection
        now : float
            Seconds since 1970.
        """
        table, new = schema.quarantine, found.new
        said = {
            "header": new.header,
            "differs": ",".join(found.differs),
            "against": found.against,
            "state": CorrectionState.PENDING,
        }
        with self._database.write() as connection:
            known = connection.execute(
                sa.select(table.c.id, table.c.state).where(
                    table.c.sha256 == new.sha256, table.c.code == _OTHER_CONTENT
                )
            ).first()
            if known is not None and known.state == CorrectionState.REFUSED:
                return
            _outdo(connection, new.sop_instance_uid)
            if known is not None:
                connection.execute(table.update().where(table.c.id == known.id).values(said))
                return
            connection.execute(
                table.insert().values(
                    sop_instance_uid=new.sop_instance_uid,
                    sha256=new.sha256,
                    size=new.size,
                    received_at=now,
                    source=new.source,
                    code=_OTHER_CONTENT,
                    detail=found.detail,
                    **said,
                )
            )
            record(
                connection,
                now,
                EventKind.QUARANTINED,
                object_uid=new.sop_instance_uid,
                sha256=new.sha256,
                source=new.source,
                code=_OTHER_CONTENT,
            )

    def describe(self, row: CorrectionRow, header: str, differs: Sequence[str]) -> None:
        """Note what a correction says and in what it differs from what is stored now.

        Parameters
        ----------
        row : CorrectionRow
        header : str
            ``InstanceHeader`` as JSON.
        differs : sequence of str
        """
        table = schema.quarantine
        with self._database.write() as connection:
            connection.execute(
                table.update()
                .where(table.c.id == row.id)
                .values(header=header, differs=",".join(differs), against=row.stored_sha256)
            )

    def forget(self, row: CorrectionRow) -> None:
        """Let content that cannot be read any more wait for nothing; its row stays."""
        table = schema.quarantine
        with self._database.write() as connection:
            connection.execute(table.update().where(table.c.id == row.id).values(state=""))

    def studies(
        self, state: CorrectionState = CorrectionState.PENDING, limit: int | None = None
    ) -> list[str]:
        """Studies with corrections in a state, the one with the latest first.

        Parameters
        ----------
        state : CorrectionState
        limit : int, optional
            So many at most.

        Returns
        -------
        list of str
            Study Instance UIDs, as the stored objects say.
        """
        study = schema.instances.c.study_uid
        query = (
            sa.select(study)
            .select_from(_beside_the_stored())
            .where(_waits(state))
            .group_by(study)
            .order_by(sa.func.max(schema.quarantine.c.id).desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def of_studies(
        self, study_uids: Iterable[str], state: CorrectionState = CorrectionState.PENDING
    ) -> list[CorrectionRow]:
        """Corrections of these studies' objects in a state, by SOP Instance UID.

        Parameters
        ----------
        study_uids : iterable of str
        state : CorrectionState

        Returns
        -------
        list of CorrectionRow
        """
        found, stored = schema.quarantine.c, schema.instances.c
        query = (
            sa.select(
                *(found[name] for name in ("id", "sop_instance_uid", "sha256", "size")),
                *(found[name] for name in ("received_at", "source", "header", "differs")),
                found.against,
                stored.study_uid,
                stored.series_uid,
                stored.sha256.label("stored_sha256"),
                stored.header.label("stored_header"),
                stored.own_output,
            )
            .select_from(_beside_the_stored())
            .where(_waits(state), stored.study_uid.in_(sorted(study_uids)))
            .order_by(found.sop_instance_uid, found.id)
        )
        with self._database.read() as connection:
            return [CorrectionRow(**row) for row in connection.execute(query).mappings()]

    def was_replaced(self, sha256: str) -> bool:
        """Whether this content was stored until a correction was accepted."""
        table = schema.quarantine
        query = sa.select(table.c.id).where(table.c.sha256 == sha256, table.c.code == REPLACED)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def contents(self, study_uids: Iterable[str]) -> set[str]:
        """SHA-256 of what is kept of these studies' objects but counts no more.

        Replaced, accepted (its file in quarantine is another name of the stored one), refused and
        outdone content; not what waits.
        """
        found, stored = schema.quarantine.c, schema.instances.c
        other = schema.quarantine.alias("other").c
        waits = sa.exists().where(
            other.sha256 == found.sha256, other.state == CorrectionState.PENDING
        )
        query = (
            sa.select(found.sha256)
            .select_from(_beside_the_stored())
            .where(stored.study_uid.in_(sorted(study_uids)), found.state != "", ~waits)
        )
        with self._database.read() as connection:
            return set(connection.scalars(query))

    def refuse(self, rows: Sequence[CorrectionRow], by: str, now: float) -> int:
        """Let corrections wait no more; how many did.

        Parameters
        ----------
        rows : sequence of CorrectionRow
        by : str
            Who says so.
        now : float
            Seconds since 1970.

        Returns
        -------
        int
        """
        changed = 0
        with self._database.write() as connection:
            for row in rows:
                if turn(connection, row, CorrectionState.PENDING, CorrectionState.REFUSED):
                    tell(connection, EventKind.CORRECTION_REFUSED, row, by, now)
                    changed += 1
        return changed

    def reopen(self, rows: Sequence[CorrectionRow], by: str, now: float) -> int:
        """Let refused corrections wait again, in place of what waits of the same objects.

        Parameters
        ----------
        rows : sequence of CorrectionRow
        by : str
            Who says so.
        now : float
            Seconds since 1970.

        Returns
        -------
        int
            How many wait again.
        """
        changed = 0
        with self._database.write() as connection:
            for row in rows:
                _outdo(connection, row.sop_instance_uid)
                if turn(connection, row, CorrectionState.REFUSED, CorrectionState.PENDING):
                    tell(connection, EventKind.CORRECTION_REOPENED, row, by, now)
                    changed += 1
        return changed


def _beside_the_stored() -> sa.Join:
    found, stored = schema.quarantine, schema.instances
    return found.join(stored, stored.c.sop_instance_uid == found.c.sop_instance_uid)


def _waits(state: CorrectionState) -> sa.ColumnElement[bool]:
    found, stored = schema.quarantine.c, schema.instances.c
    # A sender may have noted what was accepted at that moment: it is stored, and waits for nothing.
    return sa.and_(found.state == state, found.sha256 != stored.sha256)


def _outdo(connection: sa.Connection, sop_instance_uid: str) -> None:
    table = schema.quarantine
    connection.execute(
        table.update()
        .where(
            table.c.sop_instance_uid == sop_instance_uid,
            table.c.state == CorrectionState.PENDING,
        )
        .values(state=CorrectionState.OUTDONE)
    )


def turn(
    connection: sa.Connection, row: CorrectionRow, old: CorrectionState, new: CorrectionState
) -> bool:
    """Bring a correction from one state into another; False when it is not in the first."""
    table = schema.quarantine
    changed = connection.execute(
        table.update().where(table.c.id == row.id, table.c.state == old).values(state=new)
    )
    return bool(changed.rowcount)


def tell(
    connection: sa.Connection, kind: EventKind, row: CorrectionRow, by: str, now: float
) -> None:
    """Note a decision: who made it, of which object, and in what it differs; never values."""
    record(
        connection,
        now,
        kind,
        study_uid=row.study_uid,
        object_uid=row.sop_instance_uid,
        sha256=row.sha256,
        stored=row.stored_sha256,
        fields=(row.differs or "").split(","),
        by=by,
    )
