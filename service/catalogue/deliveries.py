"""Deliveries: one artifact to one destination, from waiting to delivered or parked."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import Database
from mirv.service.catalogue.events import EventKind, record
from mirv.service.catalogue.states import Commitment, DeliveryState


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One artifact on its way to one destination.

    Attributes
    ----------
    id : int
    run_id, role, destination : str
    state : DeliveryState
    attempts : int
        Tries so far, over all rounds.
    attempts_left : int
        Tries before it is parked.
    next_attempt_at : float
    last_status : int or None
        DIMSE status of the last answer; None when there was no answer.
    detail : str
        What the last try met, for people.
    delivered_at : float or None
    commitment : Commitment
    transaction_uid : str or None
        Of the storage commitment request.
    """

    id: int
    run_id: str
    role: str
    destination: str
    state: DeliveryState
    attempts: int
    attempts_left: int
    next_attempt_at: float
    last_status: int | None
    detail: str
    delivered_at: float | None
    commitment: Commitment
    transaction_uid: str | None


class Deliveries:
    """Everything about deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, now: float, furthest_s: float = math.inf) -> list[tuple[str, str, int]]:
        """(run, destination, tries so far) of what should be tried now, oldest first.

        The tries of all artifacts together, so that the number grows with every try.

        Parameters
        ----------
        furthest_s : float
            Nothing waits for longer: a time further ahead is from before the clock was set back.
        """
        table = schema.deliveries
        every = table.alias("every")
        query = (
            sa.select(every.c.run_id, every.c.destination, sa.func.sum(every.c.attempts))
            .where(
                sa.exists().where(
                    table.c.run_id == every.c.run_id,
                    table.c.destination == every.c.destination,
                    table.c.state == DeliveryState.WAITING,
                    sa.or_(
                        table.c.next_attempt_at <= now,
                        table.c.next_attempt_at > now + furthest_s,
                    ),
                )
            )
            .group_by(every.c.run_id, every.c.destination)
            .order_by(sa.func.min(every.c.id))
        )
        with self._database.read() as connection:
            return [(row[0], row[1], int(row[2])) for row in connection.execute(query)]

    def tries(self, run_id: str, destination: str) -> int:
        """Tries so far of what a run has for a destination."""
        table = schema.deliveries
        query = sa.select(sa.func.sum(table.c.attempts)).where(
            table.c.run_id == run_id, table.c.destination == destination
        )
        with self._database.read() as connection:
            return int(connection.scalar(query) or 0)

    def get(self, delivery_id: int) -> DeliveryRow | None:
        """The delivery of this number."""
        query = sa.select(schema.deliveries).where(schema.deliveries.c.id == delivery_id)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        return _row(row) if row else None

    def all(
        self,
        *,
        state: str = "",
        run_id: str = "",
        destination: str = "",
        limit: int | None = None,
    ) -> list[DeliveryRow]:
        """Deliveries in order of their making, filtered by what is not empty."""
        table = schema.deliveries
        query = sa.select(table).order_by(table.c.id).limit(limit)
        for column, wanted in (("state", state), ("run_id", run_id), ("destination", destination)):
            if wanted:
                query = query.where(table.c[column] == wanted)
        with self._database.read() as connection:
            return [_row(row) for row in connection.execute(query).mappings()]

    def counts(self) -> dict[DeliveryState, int]:
        """How many deliveries are in each state."""
        table = schema.deliveries
        query = sa.select(table.c.state, sa.func.count()).group_by(table.c.state)
        with self._database.read() as connection:
            return {DeliveryState(state): count for state, count in connection.execute(query)}

    def undelivered(self, *, limit: int = 1000) -> list[DeliveryRow]:
        """What has not reached its destination, newest first.

        Parameters
        ----------
        limit : int
            So many at most.

        Returns
        -------
        list of DeliveryRow
        """
        table = schema.deliveries
        query = (
            sa.select(table)
            .where(table.c.state != DeliveryState.DELIVERED)
            .order_by(table.c.id.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_row(row) for row in connection.execute(query).mappings()]

    def delivered(self, delivery_id: int, status: int, detail: str, now: float) -> None:
        """The destination has it.

        Parameters
        ----------
        delivery_id : int
        status : int
            Of the C-STORE response, or of HTTP.
        detail : str
        now : float
            Seconds since 1970.
        """
        self._note(
            delivery_id,
            DeliveryState.DELIVERED,
            now,
            last_status=status,
            detail=detail,
            delivered_at=now,
        )

    def retry_at(self, delivery_id: int, at: float, status: int | None, detail: str) -> None:
        """Try again at a later time.

        Parameters
        ----------
        delivery_id : int
        at : float
            When, in seconds since 1970.
        status : int or None
            Of the C-STORE response, or of HTTP; None without an answer.
        detail : str
        """
        table = schema.deliveries
        with self._database.write() as connection:
            connection.execute(
                table.update()
                .where(table.c.id == delivery_id, table.c.state == DeliveryState.WAITING)
                .values(
                    attempts=table.c.attempts + 1,
                    attempts_left=table.c.attempts_left - 1,
                    next_attempt_at=at,
                    last_status=status,
                    detail=detail,
                )
            )

    def ask(
        self,
        delivery_id: int,
        transaction_uid: str,
        status: int,
        detail: str,
        now: float,
        answer_by: float | None,
    ) -> None:
        """Stored, and the destination is asked to commit itself.

        Parameters
        ----------
        answer_by : float or None
            None: delivered already. Else it waits until the answer, and is sent again when there
            is none by then.
        """
        if answer_by is None:
            self.delivered(delivery_id, status, detail, now)
        else:
            self.retry_at(delivery_id, answer_by, status, detail)
        table = schema.deliveries
        # A try is used up either way: who takes and forgets is not sent to for ever.
        used = 1 if answer_by is None else 0
        with self._database.write() as connection:
            connection.execute(
                table.update()
                .where(table.c.id == delivery_id)
                .values(
                    commitment=Commitment.ASKED,
                    transaction_uid=transaction_uid,
                    attempts_left=table.c.attempts_left - used,
                )
            )

    def no_answer(self, delivery_id: int, detail: str) -> None:
        """The destination would not even take the question."""
        table = schema.deliveries
        with self._database.write() as connection:
            connection.execute(
                table.update()
                .where(table.c.id == delivery_id, table.c.commitment == Commitment.ASKED)
                .values(commitment=Commitment.UNAVAILABLE, detail=detail)
            )

    def answered(
        self,
        transaction_uid: str,
        committed: Collection[str],
        failed: Mapping[str, int],
        delay: Callable[[int], float],
        now: float,
    ) -> int:
        """Note a commitment report; how many deliveries it was about.

        What is committed is delivered. What is not is sent again, or parked when its tries are
        used up.

        Parameters
        ----------
        delay : callable
            Seconds until the next try, after this many.
        """
        noted = 0
        with self._database.write() as connection:
            for row in connection.execute(_asked_in(transaction_uid)).all():
                if row.sop_instance_uid in committed:
                    values = _when_committed(row, now)
                elif row.sop_instance_uid in failed:
                    values = _when_refused(row, failed[row.sop_instance_uid], delay, now)
                else:
                    continue
                _note_answer(connection, row, values, now)
                noted += 1
        return noted

    def park(self, delivery_id: int, status: int | None, detail: str, now: float) -> None:
        """Give up until someone asks for another try.

        Parameters
        ----------
        delivery_id : int
        status : int or None
            Of the C-STORE response, or of HTTP; None without an answer.
        detail : str
        now : float
            Seconds since 1970.
        """
        self._note(delivery_id, DeliveryState.PARKED, now, last_status=status, detail=detail)

    def cancel(self, delivery_id: int, now: float) -> bool:
        """Stop trying; False when it was delivered already.

        Parameters
        ----------
        delivery_id : int
        now : float
            Seconds since 1970.

        Returns
        -------
        bool
        """
        return self._note(
            delivery_id,
            DeliveryState.CANCELLED,
            now,
            states=(DeliveryState.WAITING, DeliveryState.PARKED),
            detail="by the operator",
        )

    def retry(self, delivery_id: int, attempts: int, now: float) -> bool:
        """Try a parked or cancelled delivery again, at once; False when it is neither.

        A try that was at work while it was cancelled could not be counted, and counts now: the
        next one is known from it by the number.

        Parameters
        ----------
        delivery_id : int
        attempts : int
            How many more tries it gets.
        now : float
            Seconds since 1970.

        Returns
        -------
        bool
        """
        table = schema.deliveries
        uncounted = sa.case((table.c.state == DeliveryState.CANCELLED, 1), else_=0)
        with self._database.write() as connection:
            changed = connection.execute(
                table.update()
                .where(
                    table.c.id == delivery_id,
                    table.c.state.in_((DeliveryState.PARKED, DeliveryState.CANCELLED)),
                )
                .values(
                    state=DeliveryState.WAITING,
                    attempts=table.c.attempts + uncounted,
                    attempts_left=attempts,
                    next_attempt_at=now,
                    commitment=Commitment.NONE,
                    transaction_uid=None,
                )
            )
            if changed.rowcount:
                record(connection, now, EventKind.DELIVERY_RETRIED, delivery=delivery_id)
        return bool(changed.rowcount)

    def _note(
        self,
        delivery_id: int,
        state: DeliveryState,
        now: float,
        *,
        states: tuple[DeliveryState, ...] = (DeliveryState.WAITING,),
        **values: int | float | str | None,
    ) -> bool:
        table = schema.deliveries
        with self._database.write() as connection:
            row = connection.execute(sa.select(table).where(table.c.id == delivery_id)).first()
            if row is None or row.state not in states:
                return False
            connection.execute(
                table.update()
                .where(table.c.id == delivery_id)
                .values(
                    state=state,
                    attempts=table.c.attempts + (0 if state == DeliveryState.CANCELLED else 1),
                    **values,
                )
            )
            record(
                connection,
                now,
                EventKind(state),
                run_id=row.run_id,
                destination=row.destination,
                role=row.role,
                status=values.get("last_status"),
            )
        return True


def _row(found: sa.RowMapping) -> DeliveryRow:
    state, commitment = DeliveryState(found["state"]), Commitment(found["commitment"])
    return DeliveryRow(**{**found, "state": state, "commitment": commitment})


def _asked_in(transaction_uid: str) -> sa.Select[Any]:
    """Deliveries that a commitment request was about and that still wait for its answer."""
    table, artifacts = schema.deliveries, schema.artifacts
    same = sa.and_(artifacts.c.run_id == table.c.run_id, artifacts.c.role == table.c.role)
    asked = table.c.commitment == Commitment.ASKED
    return (
        sa.select(table, artifacts.c.sop_instance_uid)
        .join(artifacts, same)
        .where(table.c.transaction_uid == transaction_uid, asked)
    )


def _when_committed(row: sa.Row[Any], now: float) -> dict[str, str | float]:
    values: dict[str, str | float] = {
        "commitment": Commitment.COMMITTED,
        "state": DeliveryState.DELIVERED,
    }
    if row.state != DeliveryState.DELIVERED:
        values["delivered_at"] = now
    return values


def _when_refused(
    row: sa.Row[Any], reason: int, delay: Callable[[int], float], now: float
) -> dict[str, str | float]:
    return {
        "commitment": Commitment.REFUSED,
        "state": DeliveryState.WAITING if row.attempts_left > 0 else DeliveryState.PARKED,
        "next_attempt_at": now + delay(row.attempts - 1),
        "detail": f"commitment refused, reason 0x{reason:04X}",
    }


def _note_answer(
    connection: sa.Connection, row: sa.Row[Any], values: Mapping[str, str | float], now: float
) -> None:
    table = schema.deliveries
    connection.execute(table.update().where(table.c.id == row.id).values(values))
    record(
        connection,
        now,
        EventKind(f"commitment_{values['commitment']}"),
        run_id=row.run_id,
        object_uid=row.sop_instance_uid,
        destination=row.destination,
    )
    if row.state != values["state"] == DeliveryState.DELIVERED:
        record(
            connection,
            now,
            EventKind.DELIVERED,
            run_id=row.run_id,
            destination=row.destination,
            role=row.role,
            status=row.last_status,
        )
