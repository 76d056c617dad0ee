"""The search for earlier studies to compare with: how it went for a run, and what it found."""

import sqlalchemy as sa

from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import Database, put
from mirv.service.catalogue.events import EventKind, record
from mirv.service.catalogue.states import PriorSearch

_TOLD = {
    PriorSearch.FOUND: EventKind.PRIOR_FOUND,
    PriorSearch.MISSING: EventKind.PRIOR_MISSING,
    PriorSearch.UNANSWERED: EventKind.PRIOR_UNANSWERED,
}


class RunPriors:
    """How the search for an earlier study went."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(
        self, run_id: str, search: PriorSearch, study_uid: str, now: float, **detail: str
    ) -> None:
        """Note how asking a source, or all of them, went for a run.

        Parameters
        ----------
        study_uid : str
            The earlier study that was found; else that of the run.
        detail : str
            What else is known, for people.
        """
        what = {"run_id": run_id, "study_uid": study_uid}
        with self._database.write() as connection:
            put(connection, schema.run_priors, {"run_id": run_id}, {"search": search})
            if search == PriorSearch.FOUND:
                put(connection, schema.prior_studies, what, {"found_at": now})
            record(connection, now, _TOLD[search], **what, **detail)

    def is_prior(self, study_uid: str) -> bool:
        """Whether a study was found to be compared with."""
        column = schema.prior_studies.c.study_uid
        with self._database.read() as connection:
            query = sa.select(column).where(column == study_uid).limit(1)
            return connection.execute(query).first() is not None

    def unanswered(self) -> list[tuple[str, str]]:
        """(run, study) whose earlier study was looked for last when a source was away."""
        table, runs = schema.run_priors, schema.runs
        query = (
            sa.select(runs.c.run_id, runs.c.study_uid)
            .join(table, table.c.run_id == runs.c.run_id)
            .where(table.c.search == PriorSearch.UNANSWERED, runs.c.superseded_by.is_(None))
        )
        with self._database.read() as connection:
            return [(run_id, study_uid) for run_id, study_uid in connection.execute(query)]
