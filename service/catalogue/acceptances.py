"""Accepting corrections: rows, runs, deliveries and the audit trail change together.

Files are for who calls; see `service.objects.corrections`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from mirv.config.errors import MirvError
from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import Database
from mirv.service.catalogue.events import EventKind, record
from mirv.service.catalogue.received.arrivals import NewInstance
from mirv.service.catalogue.received.corrections import REPLACED, CorrectionRow, tell, turn
from mirv.service.catalogue.run_rows import RunRow, run_row
from mirv.service.catalogue.states import CORRECTED, CorrectionState, DeliveryState, RunState

_UNSENT = (DeliveryState.WAITING, DeliveryState.PARKED)


class Changed(MirvError):  # noqa: N818 - the name says what was found
    """Something came, or was decided, since a correction was looked at; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A correction that takes the place of what is stored.

    Attributes
    ----------
    row : CorrectionRow
        As it was looked at.
    new : NewInstance
        What the index says from now on.
    """

    row: CorrectionRow
    new: NewInstance


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A run whose input is corrected, and where its images are from now on.

    Attributes
    ----------
    run_id : str
    places : frozenset of (study, series)
    """

    run_id: str
    places: frozenset[tuple[str, str]]


class Acceptances:
    """Corrections that take the place of what is stored."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def runs(self, study_uids: Iterable[str]) -> list[RunRow]:
        """Runs a correction of these studies may concern.

        Current ones of the studies, and those that an earlier correction withdrew into them and
        that no other run has replaced yet.

        Parameters
        ----------
        study_uids : iterable of str

        Returns
        -------
        list of RunRow
            By identity.
        """
        with self._database.read() as connection:
            found = connection.execute(_concerned(sorted(study_uids)))
            return [run_row(row) for row in found.mappings()]

    def accept(
        self,
        accepted: Sequence[Acceptance],
        withdrawn: Sequence[Withdrawal],
        seen: tuple[frozenset[str], frozenset[str]],
        by: str,
        now: float,
    ) -> None:
        """Let corrections take the place of what is stored; all or nothing.

        What is withdrawn is current no more, and what of it was not sent is not sent; the studies
        count as not matched. What was replaced is noted.

        Parameters
        ----------
        accepted : sequence of Acceptance
        withdrawn : sequence of Withdrawal
        seen : (studies, runs)
            Whose runs were looked at, and which there were.
        by : str
            Who says so.
        now : float
            Seconds since 1970.

        Raises
        ------
        Changed
            Another content is stored or waits, or another run is there, than was looked at.
        """
        studies, runs = seen
        with self._database.write() as connection:
            rows = connection.execute(_concerned(sorted(studies))).mappings()
            if {row["run_id"] for row in rows} != runs:
                raise Changed("found other runs than a moment ago, wanted no news: look again")
            for one in accepted:
                _replace(connection, one, by, now)
            of = {one.row.study_uid for one in accepted} | {one.new.study_uid for one in accepted}
            _match_again(connection, of, {one.new.study_uid for one in accepted})
            for run in withdrawn:
                _withdraw(connection, run, by, now)


def _concerned(study_uids: Sequence[str]) -> sa.Select[tuple[str]]:
    table, places = schema.runs, schema.withdrawals
    moved = sa.select(places.c.run_id).where(places.c.study_uid.in_(study_uids))
    return (
        sa.select(table)
        .where(
            sa.or_(
                sa.and_(table.c.study_uid.in_(study_uids), table.c.superseded_by.is_(None)),
                sa.and_(table.c.run_id.in_(moved), table.c.superseded_by == CORRECTED),
            )
        )
        .order_by(table.c.run_id)
    )


def _replace(connection: sa.Connection, one: Acceptance, by: str, now: float) -> None:
    table = schema.instances
    stored = connection.execute(
        sa.select(table).where(table.c.sop_instance_uid == one.row.sop_instance_uid)
    ).mappings()
    old = dict(stored.one())
    waits = turn(connection, one.row, CorrectionState.PENDING, CorrectionState.ACCEPTED)
    if old["sha256"] != one.row.stored_sha256 or not waits:
        raise Changed("found another content stored or waiting than a moment ago: look again")
    _note_replaced(connection, old, one.new.sha256, now)
    new = {name: getattr(one.new, name) for name in old if name in one.new.__slots__}
    _renew(connection, old, {**new, "received_at": now, "removed_at": None})
    references = schema.series_references
    connection.execute(
        references.delete().where(references.c.sop_instance_uid == one.row.sop_instance_uid)
    )
    for series_uid in sorted(set(one.new.referenced_series)):
        connection.execute(
            references.insert().values(
                sop_instance_uid=one.row.sop_instance_uid, series_uid=series_uid
            )
        )
    tell(connection, EventKind.CORRECTED, one.row, by, now)


def _note_replaced(
    connection: sa.Connection, old: dict[str, object], by_sha256: str, now: float
) -> None:
    """The record of what was stored: what it said, and what took its place."""
    table = schema.quarantine
    said = {"detail": f"by SHA-256 {by_sha256}", "against": by_sha256}
    again = connection.execute(
        table.update().where(table.c.sha256 == old["sha256"], table.c.code == REPLACED).values(said)
    )
    if again.rowcount:
        return
    kept = {name: old[name] for name in ("sop_instance_uid", "sha256", "size", "source", "header")}
    connection.execute(
        table.insert().values(
            **kept, **said, received_at=now, code=REPLACED, state=CorrectionState.REPLACED
        )
    )


def _renew(connection: sa.Connection, old: dict[str, object], new: dict[str, object]) -> None:
    """Give a row a number as if it came now, so that its study is looked at again.

    The old row goes after the new one is there: SQLite would give its number again.
    """
    table = schema.instances
    aside = f"removed {old['sop_instance_uid']}"
    this = table.c.seq == old["seq"]
    connection.execute(table.update().where(this).values(sop_instance_uid=aside))
    values = {name: value for name, value in {**old, **new}.items() if name != "seq"}
    connection.execute(table.insert().values(values))
    connection.execute(table.delete().where(this))


def _match_again(connection: sa.Connection, studies: set[str], renewed: set[str]) -> None:
    """Let studies count as not matched; `renewed` have a new row that shows them."""
    table, waiting, quality = schema.instances, schema.waiting, schema.quality
    for study_uid in sorted(studies):
        connection.execute(
            schema.matchings.delete().where(schema.matchings.c.study_uid == study_uid)
        )
        newest = (
            connection.execute(
                sa.select(table)
                .where(table.c.study_uid == study_uid)
                .order_by(table.c.seq.desc())
                .limit(1)
            )
            .mappings()
            .first()
        )
        if newest is None:  # nothing is left of it
            connection.execute(waiting.delete().where(waiting.c.study_uid == study_uid))
            connection.execute(quality.delete().where(quality.c.study_uid == study_uid))
        elif study_uid not in renewed:
            _renew(connection, dict(newest), {})


def _withdraw(connection: sa.Connection, one: Withdrawal, by: str, now: float) -> None:
    table, places, sent = schema.runs, schema.withdrawals, schema.deliveries
    run = connection.execute(sa.select(table).where(table.c.run_id == one.run_id)).one()
    if run.superseded_by is None:
        connection.execute(
            table.update().where(table.c.run_id == one.run_id).values(superseded_by=CORRECTED)
        )
        what = {"study_uid": run.study_uid, "run_id": one.run_id}
        record(connection, now, EventKind.WITHDRAWN, **what, by=by)
    connection.execute(
        sent.update()
        .where(sent.c.run_id == one.run_id, sent.c.state.in_(_UNSENT))
        .values(state=DeliveryState.CANCELLED, detail="its input was corrected")
    )
    connection.execute(places.delete().where(places.c.run_id == one.run_id))
    if run.state != RunState.FINISHED:
        return  # nothing of it was sent: no run replaces it
    for study_uid, series_uid in sorted(one.places):
        connection.execute(
            places.insert().values(run_id=one.run_id, study_uid=study_uid, series_uid=series_uid)
        )
