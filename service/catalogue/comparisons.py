"""Runs of one patient: which study is compared with which, and who waits for whom."""

from collections.abc import Callable, Collection

import sqlalchemy as sa

from mirv.dicom_io.standard.person import SEVERAL_PATIENTS, Identity
from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import Database
from mirv.service.catalogue.run_rows import RunRow, identity_of, run_row
from mirv.service.catalogue.states import UNDER_WAY, RunState

_AT_A_TIME = 500
"""Values in one query: databases bound them."""


class Comparisons:
    """Earlier and later studies of a patient, by their runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def identities(self, patient_id: str | None = None) -> set[tuple[str, str, Identity]]:
        """Who the images of current runs are of.

        Parameters
        ----------
        patient_id : str, optional
            Only those under this Patient ID; none: all.

        Returns
        -------
        set of (Study Instance UID, Series Instance UID, Identity)
        """
        table = schema.runs
        query = sa.select(
            table.c.study_uid, table.c.series_uid, table.c.selection, table.c.patient_id
        ).where(
            table.c.superseded_by.is_(None),
            table.c.reason_code != SEVERAL_PATIENTS,  # those tell of no one
        )
        if patient_id is not None:
            query = query.where(table.c.patient_id == patient_id)
        with self._database.read() as connection:
            return {
                (study, series, identity_of(*told))
                for study, series, *told in connection.execute(query)
            }

    def earlier(self, patient_id: str, study_date: str) -> list[RunRow]:
        """The current finished runs of a Patient ID's studies before a date, latest first.

        Whether they are of one person is for who asks. None without a patient's ID or a date:
        studies are never joined by guess.

        Parameters
        ----------
        patient_id : str
        study_date : str
            YYYYMMDD, not included.

        Returns
        -------
        list of RunRow
        """
        if not patient_id or not study_date:
            return []
        table = schema.runs
        query = (
            sa.select(table)
            .where(_before(table, patient_id, study_date), table.c.state == RunState.FINISHED)
            .order_by(table.c.study_date.desc(), table.c.series_uid, table.c.run_id)
        )
        with self._database.read() as connection:
            return [run_row(row) for row in connection.execute(query).mappings()]

    def under_way_before(self, patient_id: str, study_date: str) -> list[RunRow]:
        """Current runs of a Patient ID's earlier studies that are under way.

        Parameters
        ----------
        patient_id : str
        study_date : str
            YYYYMMDD, not included.

        Returns
        -------
        list of RunRow
        """
        if not patient_id or not study_date:
            return []
        table = schema.runs
        query = sa.select(table).where(
            _before(table, patient_id, study_date), table.c.state.in_(UNDER_WAY)
        )
        with self._database.read() as connection:
            return [run_row(row) for row in connection.execute(query).mappings()]

    def hasten_prior(
        self, patient_id: str, study_date: str, priority: int, hasten: Callable[[str, int], None]
    ) -> None:
        """Let queued runs of earlier studies of the patient go no later than one that waits.

        Parameters
        ----------
        hasten : callable
            Told (workflow, priority) before it is noted; harmless when repeated.
        """
        table = schema.runs
        slower = sa.and_(
            _before(table, patient_id, study_date),
            table.c.state == RunState.QUEUED,
            table.c.priority > priority,
        )
        with self._database.read() as connection:
            found = [
                run_row(row)
                for row in connection.execute(sa.select(table).where(slower)).mappings()
            ]
        for run in found:
            hasten(run.workflow_id, priority)
            with self._database.write() as connection:
                connection.execute(
                    table.update().where(table.c.run_id == run.run_id).values(priority=priority)
                )

    def finishes(self, since: int) -> set[int]:
        """Numbers of the finished runs, in order of their ends, above a number.

        Parameters
        ----------
        since : int
            A number that was told before; 0 for all.

        Returns
        -------
        set of int
        """
        column = schema.finishes.c.id
        with self._database.read() as connection:
            return set(connection.scalars(sa.select(column).where(column > since)))

    def comparable(self, since: int, patients: Collection[str] = ()) -> list[RunRow]:
        """The latest runs of images that what is new of their patients may concern.

        A new study may be an earlier one of theirs, or tell that two persons share the Patient ID.

        Parameters
        ----------
        since : int
            Number of a finish: of Patient IDs with a run that has finished since; numbers grow
            with every finish, whatever the clock does.
        patients : collection of str
            Of these Patient IDs too.

        Returns
        -------
        list of RunRow
            In any state, of Patient IDs with several current runs; not those that another is to
            take the place of.
        """
        runs, finishes = schema.runs.alias("news"), schema.finishes
        news = sa.select(runs.c.patient_id).join(finishes, finishes.c.run_id == runs.c.run_id)
        found = self._current_of(news.where(finishes.c.id > since))
        wanted = sorted(patients)
        for first in range(0, len(wanted), _AT_A_TIME):
            found |= self._current_of(wanted[first : first + _AT_A_TIME])
        replaced = {run.predecessor for run in found.values()}
        return [run for run in found.values() if run.run_id not in replaced]

    def _current_of(self, patients: sa.Select[tuple[str]] | Collection[str]) -> dict[str, RunRow]:
        table, other = schema.runs, schema.runs.alias("other")
        query = (
            sa.select(table)
            .where(
                table.c.patient_id.in_(patients),
                table.c.patient_id != "",
                table.c.superseded_by.is_(None),
                sa.exists().where(
                    other.c.patient_id == table.c.patient_id,
                    other.c.superseded_by.is_(None),
                    other.c.run_id != table.c.run_id,
                ),
            )
            .order_by(table.c.study_date, table.c.run_id)
        )
        with self._database.read() as connection:
            found = [run_row(row) for row in connection.execute(query).mappings()]
        return {run.run_id: run for run in found}

    def with_withdrawn_priors(self) -> list[RunRow]:
        """Current runs that are compared with a run that a correction withdrew.

        Not those whose revision is under way already, nor while what was corrected has not been
        matched again.

        Returns
        -------
        list of RunRow
        """
        table = schema.runs
        places, marks = schema.withdrawals.c, schema.matchings.c
        withdrawn = sa.select(places.run_id).where(
            sa.exists().where(marks.study_uid == places.study_uid)
        )
        query = (
            sa.select(table)
            .where(
                table.c.prior.in_(withdrawn),
                table.c.superseded_by.is_(None),
                table.c.state.in_((RunState.FINISHED, *UNDER_WAY)),
                sa.not_(_under_way_at_the_place(table)),
            )
            .order_by(table.c.run_id)
        )
        with self._database.read() as connection:
            return [run_row(row) for row in connection.execute(query).mappings()]


def _under_way_at_the_place(table: sa.Table) -> sa.ColumnElement[bool]:
    other = table.alias("other")
    return sa.exists().where(
        other.c.study_uid == table.c.study_uid,
        other.c.series_uid == table.c.series_uid,
        other.c.superseded_by.is_(None),
        other.c.state.in_(UNDER_WAY),
        other.c.run_id != table.c.run_id,
    )


def _before(
    table: sa.FromClause, patient_id: str | sa.ColumnElement[str], date: str | sa.ColumnElement[str]
) -> sa.ColumnElement[bool]:
    """Current runs of a patient's earlier studies."""
    return sa.and_(
        table.c.patient_id == patient_id,
        table.c.superseded_by.is_(None),
        table.c.study_date != "",
        table.c.study_date < date,
    )
