"""Runs: one image with its lesion set under one plan, from queued to finished."""

from collections.abc import Sequence
from dataclasses import asdict

import sqlalchemy as sa

from mirv.analysis.errors import Reason
from mirv.dicom_io.standard.person import SEVERAL_PATIENTS
from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import Database
from mirv.service.catalogue.events import EventKind, record
from mirv.service.catalogue.replacing import replaced_by, results_of_another
from mirv.service.catalogue.run_rows import ArtifactRow, NewRun, RunRow, run_row
from mirv.service.catalogue.states import (
    CORRECTED,
    ENDED,
    REPEATABLE,
    UNDER_WAY,
    Commitment,
    DeliveryState,
    RunState,
)


class Runs:
    """Everything about runs and their artifacts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def queue(self, new: NewRun, now: float) -> bool:
        """Record a run; False when it is known already.

        The finished run of the same image that is current becomes the predecessor; where there is
        none, one that a correction withdrew and whose images are these now. Runs of the
        image that have not finished are superseded at once: their input is no longer the latest.
        Runs of another person's image under the same UIDs stay as they are, and it is said.

        Parameters
        ----------
        new : NewRun
        now : float
            Seconds since 1970; dates the run's outputs.

        Returns
        -------
        bool
        """
        with self._database.write() as connection:
            if self._known(connection, new.run_id):
                return False
            others = results_of_another(connection, new)
            predecessor, unfinished = replaced_by(connection, new, others)
            _insert(connection, new, predecessor, now, state=RunState.QUEUED)
            record(connection, now, EventKind.QUEUED, study_uid=new.study_uid, run_id=new.run_id)
            if others:
                record(
                    connection,
                    now,
                    EventKind.IMAGE_OF_ANOTHER,
                    study_uid=new.study_uid,
                    run_id=new.run_id,
                    runs=sorted(others),
                    differing=sorted({field for found in others.values() for field in found}),
                )
            for run_id in unfinished:
                _supersede(connection, run_id, new.run_id, new.study_uid, now)
        return True

    def withdraw(self, new: NewRun, reason: Reason, now: float) -> bool:
        """Record a run as refused, in place of all that holds of its image; False: nothing does.

        What came since makes an image unfit that had a result. Later studies are told by a finish.
        Runs of another person's image under the same UIDs stay, unless it is now of both.

        Parameters
        ----------
        new : NewRun
        reason : Reason
        now : float
            Seconds since 1970.

        Returns
        -------
        bool
        """
        with self._database.write() as connection:
            if self._known(connection, new.run_id):
                return False
            several = reason.code == SEVERAL_PATIENTS  # whoever had a result there has none now
            others = () if several else results_of_another(connection, new)
            predecessor, unfinished = replaced_by(connection, new, others)
            if predecessor is None and not unfinished:
                return False
            _insert(
                connection,
                new,
                predecessor,
                now,
                state=RunState.REFUSED,
                reason_code=reason.code,
                reason_detail=reason.detail,
                finished_at=now,
            )
            record(
                connection,
                now,
                EventKind.REFUSED,
                study_uid=new.study_uid,
                run_id=new.run_id,
                code=reason.code,
                detail=reason.detail,
            )
            for run_id in {one for one in (predecessor, *unfinished) if one is not None}:
                _supersede(connection, run_id, new.run_id, new.study_uid, now)
            connection.execute(schema.finishes.insert().values(run_id=new.run_id))
        return True

    def start(self, run_id: str, now: float) -> bool:
        """Note that work on a run begins, or begins again; False when there is nothing to do.

        A run that was superseded before it began is cancelled: its input is no longer the latest.

        Parameters
        ----------
        run_id : str
        now : float
            Seconds since 1970.

        Returns
        -------
        bool
        """
        table = schema.runs
        with self._database.write() as connection:
            run = connection.execute(sa.select(table).where(table.c.run_id == run_id)).one()
            if run.state in ENDED:
                return False
            if run.state == RunState.QUEUED and run.superseded_by is not None:
                by = "a" if run.superseded_by == CORRECTED else "run"
                reason = Reason("superseded", f"by {by} {run.superseded_by} before it began")
                _end(connection, run_id, RunState.CANCELLED, reason, now)
                record(connection, now, EventKind.CANCELLED, study_uid=run.study_uid, run_id=run_id)
                return False
            connection.execute(
                table.update()
                .where(table.c.run_id == run_id)
                .values(
                    state=RunState.RUNNING, started_at=now, lesions_done=None, lesions_total=None
                )
            )
            record(connection, now, EventKind.STARTED, study_uid=run.study_uid, run_id=run_id)
        return True

    def note_progress(self, run_id: str, done: int, total: int) -> None:
        """Remember how far extraction has come.

        Parameters
        ----------
        run_id : str
        done, total : int
            Lesions, counted over all profiles.
        """
        table = schema.runs
        with self._database.write() as connection:
            connection.execute(
                table.update()
                .where(table.c.run_id == run_id, table.c.state == RunState.RUNNING)
                .values(lesions_done=done, lesions_total=total)
            )

    def note_result(self, run_id: str, sha256: str) -> None:
        """Remember where the result record is, before the outputs are made."""
        with self._database.write() as connection:
            connection.execute(
                schema.runs.update()
                .where(schema.runs.c.run_id == run_id)
                .values(result_sha256=sha256)
            )

    def finish(
        self,
        run_id: str,
        artifacts: Sequence[ArtifactRow],
        destinations: Sequence[tuple[str, str]],
        attempts: int,
        now: float,
    ) -> bool:
        """Record artifacts and deliveries and end the run, all or nothing; once.

        Parameters
        ----------
        destinations : sequence of (role, destination name)
        attempts : int
            How often a delivery may be tried.

        Returns
        -------
        bool
            False when the run had ended before, or was superseded, so nothing is delivered.
        """
        table = schema.runs
        with self._database.write() as connection:
            run = connection.execute(sa.select(table).where(table.c.run_id == run_id)).one()
            if run.state in ENDED:
                return False
            _add_artifacts(connection, artifacts)
            _end(connection, run_id, RunState.FINISHED, Reason("", ""), now)
            record(
                connection,
                now,
                EventKind.FINISHED,
                study_uid=run.study_uid,
                run_id=run_id,
                result_sha256=run.result_sha256,
                outputs={artifact.role: artifact.sop_instance_uid for artifact in artifacts},
            )
            connection.execute(schema.finishes.insert().values(run_id=run_id))
            if run.superseded_by is not None:
                return False
            if run.predecessor is not None:
                _supersede(connection, run.predecessor, run_id, run.study_uid, now)
            _add_deliveries(connection, run_id, destinations, attempts, now)
        return True

    def refuse(self, run_id: str, reason: Reason, now: float, *, withdraw: bool = False) -> None:
        """End a run whose input cannot be analysed.

        Parameters
        ----------
        run_id : str
        reason : Reason
        now : float
            Seconds since 1970.
        withdraw : bool
            What it was to replace holds no more either: its input is not what there is now.
        """
        self._end_with(run_id, RunState.REFUSED, reason, now, withdraw=withdraw)

    def fail(self, run_id: str, reason: Reason, now: float) -> None:
        """End a run that met a fault of the node.

        Parameters
        ----------
        run_id : str
        reason : Reason
        now : float
            Seconds since 1970.
        """
        self._end_with(run_id, RunState.FAILED, reason, now)

    def cancel(self, run_id: str, now: float) -> bool:
        """End a run that has not ended; False when it has.

        Parameters
        ----------
        run_id : str
        now : float
            Seconds since 1970.

        Returns
        -------
        bool
        """
        reason = Reason("cancelled", "by the operator")
        return self._end_with(run_id, RunState.CANCELLED, reason, now)

    def again(self, run_id: str, now: float) -> bool:
        """Queue a refused, failed or cancelled run anew; False when it is none of these.

        Parameters
        ----------
        run_id : str
        now : float
            Seconds since 1970.

        Returns
        -------
        bool
        """
        table = schema.runs
        with self._database.write() as connection:
            changed = connection.execute(
                table.update()
                .where(
                    table.c.run_id == run_id,
                    table.c.state.in_(REPEATABLE),
                    table.c.superseded_by.is_(None),
                )
                .values(
                    state=RunState.QUEUED,
                    round=table.c.round + 1,
                    reason_code="",
                    reason_detail="",
                    finished_at=None,
                )
            )
            if changed.rowcount:
                record(connection, now, EventKind.QUEUED, run_id=run_id, again=True)
        return bool(changed.rowcount)

    def _end_with(
        self, run_id: str, state: RunState, reason: Reason, now: float, *, withdraw: bool = False
    ) -> bool:
        with self._database.write() as connection:
            table = schema.runs
            run = connection.execute(sa.select(table).where(table.c.run_id == run_id)).first()
            if run is None or run.state in ENDED:
                return False
            _end(connection, run_id, state, reason, now)
            record(
                connection,
                now,
                EventKind(state),
                study_uid=run.study_uid,
                run_id=run_id,
                code=reason.code,
                detail=reason.detail,
            )
            if withdraw and run.predecessor is not None and run.superseded_by is None:
                _supersede(connection, run.predecessor, run_id, run.study_uid, now)
                connection.execute(schema.finishes.insert().values(run_id=run_id))
        return True

    @staticmethod
    def _known(connection: sa.Connection, run_id: str) -> bool:
        column = schema.runs.c.run_id
        return connection.execute(sa.select(column).where(column == run_id)).first() is not None

    # Queries

    def get(self, run_id: str) -> RunRow | None:
        """The run of this identity."""
        with self._database.read() as connection:
            query = sa.select(schema.runs).where(schema.runs.c.run_id == run_id)
            row = connection.execute(query).mappings().first()
        return run_row(row) if row else None

    def all(
        self,
        *,
        states: Sequence[str] = (),
        study_uid: str = "",
        series_uid: str = "",
        current: bool = False,
        limit: int | None = None,
    ) -> list[RunRow]:
        """Runs, newest first.

        Parameters
        ----------
        states : sequence of RunState
            Only these; empty: all. A text from outside that is none of them finds nothing.
        current : bool
            Leave out what was superseded.
        limit : int or None
            At most so many, for showing; None: all.
        """
        table = schema.runs
        query = sa.select(table).order_by(table.c.created_at.desc(), table.c.run_id).limit(limit)
        if states:
            query = query.where(table.c.state.in_(states))
        if study_uid:
            query = query.where(table.c.study_uid == study_uid)
        if series_uid:
            query = query.where(table.c.series_uid == series_uid)
        if current:
            query = query.where(table.c.superseded_by.is_(None))
        with self._database.read() as connection:
            return [run_row(row) for row in connection.execute(query).mappings()]

    def current_results(self) -> list[str]:
        """SHA-256 of the results that hold: of finished runs not superseded, newest first."""
        table = schema.runs
        query = (
            sa.select(table.c.result_sha256)
            .where(
                table.c.state == RunState.FINISHED,
                table.c.superseded_by.is_(None),
                table.c.result_sha256.is_not(None),
            )
            .order_by(table.c.created_at.desc(), table.c.run_id)
        )
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def counts(self) -> dict[RunState, int]:
        """How many runs are in each state."""
        table = schema.runs
        query = sa.select(table.c.state, sa.func.count()).group_by(table.c.state)
        with self._database.read() as connection:
            return {RunState(state): count for state, count in connection.execute(query)}

    def under_way(self) -> int:
        """How many runs are queued or at work."""
        table = schema.runs
        query = sa.select(sa.func.count()).where(table.c.state.in_(UNDER_WAY))
        with self._database.read() as connection:
            return int(connection.scalar(query) or 0)

    def artifacts(self, run_id: str) -> list[ArtifactRow]:
        """What a run made, in the order it is sent."""
        table = schema.artifacts
        query = sa.select(table).where(table.c.run_id == run_id).order_by(table.c.position)
        with self._database.read() as connection:
            return [ArtifactRow(**row) for row in connection.execute(query).mappings()]

    def contents(self) -> set[str]:
        """SHA-256 of every result and artifact that should be on disk."""
        queries = (
            sa.select(schema.artifacts.c.sha256),
            sa.select(schema.runs.c.result_sha256).where(schema.runs.c.result_sha256.is_not(None)),
        )
        with self._database.read() as connection:
            return {sha256 for query in queries for sha256 in connection.scalars(query)}


def _insert(
    connection: sa.Connection, new: NewRun, predecessor: str | None, now: float, **more: object
) -> None:
    values = {
        **asdict(new), "created_at": int(now), "round": 0, "predecessor": predecessor, **more
    }  # fmt: skip
    connection.execute(schema.runs.insert().values(values))


def _end(
    connection: sa.Connection, run_id: str, state: RunState, reason: Reason, now: float
) -> None:
    connection.execute(
        schema.runs.update()
        .where(schema.runs.c.run_id == run_id)
        .values(state=state, reason_code=reason.code, reason_detail=reason.detail, finished_at=now)
    )


def _supersede(connection: sa.Connection, run_id: str, by: str, study_uid: str, now: float) -> None:
    table = schema.runs
    connection.execute(table.update().where(table.c.run_id == run_id).values(superseded_by=by))
    record(connection, now, EventKind.SUPERSEDED, study_uid=study_uid, run_id=run_id, by=by)


def _add_artifacts(connection: sa.Connection, artifacts: Sequence[ArtifactRow]) -> None:
    for artifact in artifacts:
        values = {name: getattr(artifact, name) for name in ArtifactRow.__dataclass_fields__}
        connection.execute(schema.artifacts.insert().values(values))


def _add_deliveries(
    connection: sa.Connection,
    run_id: str,
    destinations: Sequence[tuple[str, str]],
    attempts: int,
    now: float,
) -> None:
    for role, destination in destinations:
        connection.execute(
            schema.deliveries.insert().values(
                run_id=run_id,
                role=role,
                destination=destination,
                state=DeliveryState.WAITING,
                attempts=0,
                attempts_left=attempts,
                next_attempt_at=now,
                detail="",
                commitment=Commitment.NONE,
            )
        )
