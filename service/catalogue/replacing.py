"""What a new run of an image takes the place of, and what stays beside it."""

from collections.abc import Collection

import sqlalchemy as sa

from mirv.dicom_io.standard.person import compare
from mirv.service.catalogue.database import schema
from mirv.service.catalogue.run_rows import NewRun, identity_of
from mirv.service.catalogue.states import CORRECTED, RunState


def results_of_another(connection: sa.Connection, new: NewRun) -> dict[str, tuple[str, ...]]:
    """Results that are another person's, of an image under the same UIDs, and what contradicts.

    The names alone may differ (married, misspelt): the UIDs decide then.

    Parameters
    ----------
    connection : Connection
    new : NewRun

    Returns
    -------
    dict of run to tuple of str
        Fields of `Identity`.
    """
    table = schema.runs
    query = sa.select(table.c.run_id, table.c.selection, table.c.patient_id).where(
        table.c.study_uid == new.study_uid,
        table.c.series_uid == new.series_uid,
        table.c.superseded_by.is_(None),
        table.c.state == RunState.FINISHED,
    )
    ours = identity_of(new.selection, new.patient_id)
    differing = {
        run_id: compare(ours, identity_of(*told)).differing
        for run_id, *told in connection.execute(query)
    }
    return {run_id: found for run_id, found in differing.items() if found not in ((), ("name",))}


def replaced_by(
    connection: sa.Connection, new: NewRun, others: Collection[str] = ()
) -> tuple[str | None, list[str]]:
    """What a new run of an image replaces: its last result, and the runs that have not finished.

    Parameters
    ----------
    connection : Connection
    new : NewRun
    others : collection of str
        Runs that stay.

    Returns
    -------
    predecessor : str or None
    unfinished : list of str
    """
    table = schema.runs
    current = connection.execute(
        sa.select(table.c.run_id, table.c.state, table.c.predecessor)
        .where(
            table.c.study_uid == new.study_uid,
            table.c.series_uid == new.series_uid,
            table.c.superseded_by.is_(None),
            table.c.run_id.not_in(others),
        )
        .order_by(table.c.finished_at.desc())
    ).all()
    finished = [run.run_id for run in current if run.state == RunState.FINISHED]
    unfinished = [run for run in current if run.state != RunState.FINISHED]
    # Where the result was withdrawn, the run that was refused names it.
    before = finished or [run.predecessor for run in unfinished if run.predecessor]
    return (before[0] if before else _withdrawn(connection, new)), [
        run.run_id for run in unfinished
    ]


def _withdrawn(connection: sa.Connection, new: NewRun) -> str | None:
    """The last run that a correction withdrew into this place and no other run replaced."""
    table, places = schema.runs, schema.withdrawals
    return connection.scalar(
        sa.select(table.c.run_id)
        .join(places, places.c.run_id == table.c.run_id)
        .where(
            places.c.study_uid == new.study_uid,
            places.c.series_uid == new.series_uid,
            table.c.superseded_by == CORRECTED,
        )
        .order_by(table.c.finished_at.desc())
        .limit(1)
    )
