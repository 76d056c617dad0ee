"""The audit trail: what happened, when, to which object. Rows are added, never changed."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import Database


class EventKind(StrEnum):
    """What happened."""

    # Objects
    RECEIVED = "received"  # indexed, whichever way it came
    QUARANTINED = "quarantined"  # kept apart
    REMOVED = "removed"  # its file is gone
    CORRECTED = "corrected"  # other content took the place of what was stored: who said so
    CORRECTION_REFUSED = "correction_refused"  # by whom
    CORRECTION_REOPENED = "correction_reopened"  # what was refused waits again
    FETCHED = "fetched"  # a series came from a source
    # Runs
    QUEUED = "queued"  # for the first time, or again
    STARTED = "started"  # or started again after a crash
    FINISHED = "finished"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"  # a run or a delivery
    SUPERSEDED = "superseded"  # another run took its place
    WITHDRAWN = "withdrawn"  # its input was corrected
    IMAGE_OF_ANOTHER = "image_of_another"  # another person's run is under its UIDs, and stays
    # Earlier studies
    PRIOR_FOUND = "prior_found"  # a source has one: its study is named
    PRIOR_MISSING = "prior_missing"  # a source has none, and why
    PRIOR_OF_ANOTHER = "prior_of_another"  # earlier studies under its Patient ID: other persons
    PRIOR_UNSURE = "prior_unsure"  # earlier studies under its Patient ID: whose is not sure
    PRIOR_UNANSWERED = "prior_unanswered"  # a source was away
    # Deliveries
    DELIVERED = "delivered"
    PARKED = "parked"
    DELIVERY_RETRIED = "delivery_retried"  # by the operator
    COMMITMENT_COMMITTED = "commitment_committed"
    COMMITMENT_REFUSED = "commitment_refused"
    # A followed Orthanc
    FOLLOW_RESET = "follow_reset"  # its log began anew
    FOLLOW_POSTPONED = "follow_postponed"  # a change was put off
    FOLLOW_CAUGHT_UP = "follow_caught_up"  # what was put off has come
    FOLLOW_SKIPPED = "follow_skipped"  # an object is never asked for again
    # The node
    NODE_STARTED = "node_started"
    SPOOL_NAMED = "spool_named"
    CLOCK_JUMPED = "clock_jumped"
    EXPORTED = "exported"  # tables were written


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the audit trail.

    Attributes
    ----------
    id : int
        Grows with time.
    at : float
        Seconds since 1970.
    kind : EventKind
    study_uid, run_id, object_uid : str
        "" where not about one.
    detail : dict
        What else is known; no patient names or identifiers.
    """

    id: int
    at: float
    kind: EventKind
    study_uid: str
    run_id: str
    object_uid: str
    detail: dict[str, Any]


COLUMNS = ("at", "kind", "study_uid", "run_id", "object_uid", "detail")


def row(
    at: float,
    kind: EventKind,
    *,
    study_uid: str = "",
    run_id: str = "",
    object_uid: str = "",
    **detail: Any,
) -> dict[str, Any]:
    """An event as `COLUMNS` of the table.

    Parameters
    ----------
    at : float
        Seconds since 1970.
    kind : EventKind
    study_uid, run_id, object_uid : str
        What it is about, "" for nothing of the kind.
    **detail
        What else is to be known, as JSON can hold it; no patient data.

    Returns
    -------
    dict
    """
    return {
        "at": at,
        "kind": kind,
        "study_uid": study_uid,
        "run_id": run_id,
        "object_uid": object_uid,
        "detail": json.dumps(detail, sort_keys=True),
    }


def record(connection: sa.Connection, at: float, kind: EventKind, **what: Any) -> None:
    """Add an event inside the transaction of what it tells about; see `row`."""
    connection.execute(schema.events.insert().values(row(at, kind, **what)))


class Events:
    """The audit trail."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        at: float,
        kind: EventKind,
        *,
        study_uid: str = "",
        run_id: str = "",
        object_uid: str = "",
        **detail: Any,
    ) -> None:
        """Add one event.

        Parameters
        ----------
        at : float
            Seconds since 1970.
        kind : EventKind
        study_uid, run_id, object_uid : str
            What it is about, "" for nothing of the kind.
        **detail
            What else is to be known, as JSON can hold it; no patient data.
        """
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
        self,
        *,
        kind: EventKind | None = None,
        study_uid: str = "",
        run_id: str = "",
        limit: int | None = None,
    ) -> list[Event]:
        """Newest first, filtered by what is not empty.

        Parameters
        ----------
        kind : EventKind, optional
        study_uid, run_id : str
        limit : int, optional
            So many at most.

        Returns
        -------
        list of Event
        """
        query = sa.select(schema.events).order_by(schema.events.c.id.desc()).limit(limit)
        for column, wanted in (("kind", kind), ("study_uid", study_uid), ("run_id", run_id)):
            if wanted:
                query = query.where(schema.events.c[column] == wanted)
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [_event(row) for row in rows]


def _event(found: sa.RowMapping) -> Event:
    known = {"kind": EventKind(found["kind"]), "detail": json.loads(found["detail"])}
    return Event(**{**found, **known})
