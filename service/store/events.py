"""The audit trail: what happened, when, to which object. Rows are added, never changed."""

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from service.store import schema
from service.store.engine import Database


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the audit trail.

    Attributes
    ----------
    id : int
        Grows with time.
    at : float
        Seconds since 1970.
    kind : str
        ``received``, ``quarantined``, ``settled``, ``queued``, ``started``, ``finished``,
        ``refused``, ``failed``, ``superseded``, ``delivered``, ``parked`` ...
    study_uid, run_id, object_uid : str
        "" where not about one.
    detail : dict
        What else is known; no patient names or identifiers.
    """

    id: int
    at: float
    kind: str
    study_uid: str
    run_id: str
    object_uid: str
    detail: dict[str, Any]


COLUMNS = ("at", "kind", "study_uid", "run_id", "object_uid", "detail")


def row(
    at: float,
    kind: str,
    *,
    study_uid: str = "",
    run_id: str = "",
    object_uid: str = "",
    **detail: Any,
) -> dict[str, Any]:
    """An event as `COLUMNS` of the table."""
    return {
        "at": at,
        "kind": kind,
        "study_uid": study_uid,
        "run_id": run_id,
        "object_uid": object_uid,
        "detail": json.dumps(detail, sort_keys=True),
    }


def record(connection: sa.Connection, at: float, kind: str, **what: Any) -> None:
    """Add an event inside the transaction of what it tells about; see `row`."""
    connection.execute(schema.events.insert().values(row(at, kind, **what)))


class Events:
    """The audit trail."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        at: float,
        kind: str,
        *,
        study_uid: str = "",
        run_id: str = "",
        object_uid: str = "",
        **detail: Any,
    ) -> None:
        """Add one event."""
        with self._database.write() as connection:
            record(
                connection,
                at,
                kind,
                study_uid=study_uid,
                run_id=run_id,
                object_uid=object_uid,
                **detail,
            )

    def all(
        self, *, kind: str = "", study_uid: str = "", run_id: str = "", limit: int = 1000
    ) -> list[Event]:
        """Newest first, filtered by what is not empty."""
        query = sa.select(schema.events).order_by(schema.events.c.id.desc()).limit(limit)
        for column, wanted in (("kind", kind), ("study_uid", study_uid), ("run_id", run_id)):
            if wanted:
                query = query.where(schema.events.c[column] == wanted)
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [_event(row) for row in rows]

    def unsettled(self, kind: str, settled_by: str) -> list[Event]:
        """Events of a kind with none of the other about the same object since, oldest first."""
        table, later = schema.events, schema.events.alias("later")
        settled = sa.exists().where(
            later.c.kind == settled_by,
            later.c.object_uid == table.c.object_uid,
            later.c.id > table.c.id,
        )
        query = sa.select(table).where(table.c.kind == kind, sa.not_(settled)).order_by(table.c.id)
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [_event(row) for row in rows]

    def unanswered_priors(self) -> list[tuple[str, str]]:
        """(run, study) whose earlier study was looked for last when a source was away."""
        table, later, runs = schema.events, schema.events.alias("later"), schema.runs
        answered = sa.exists().where(
            later.c.run_id == table.c.run_id,
            later.c.kind.in_(("prior_found", "prior_missing")),
            later.c.id > table.c.id,
        )
        query = (
            sa.select(table.c.run_id, table.c.study_uid)
            .distinct()
            .join(runs, runs.c.run_id == table.c.run_id)
            .where(
                table.c.kind == "prior_unanswered",
                runs.c.superseded_by.is_(None),
                sa.not_(answered),
            )
        )
        with self._database.read() as connection:
            return [(run_id, study_uid) for run_id, study_uid in connection.execute(query)]


def _event(found: sa.RowMapping) -> Event:
    return Event(**{**found, "detail": json.loads(found["detail"])})
