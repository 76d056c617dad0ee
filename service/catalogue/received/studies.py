"""Studies as their objects make them: what is new, what was matched, what waits for what."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import Database

if TYPE_CHECKING:
    from mirv.dicom_io.model import QualityRow

# Rows commit out of order when several processes write: look back this far for late ones.
_LATE_COMMITS = 1000


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study as it stands, derived from its objects."""

    study_uid: str
    n_instances: int
    size: int
    first_received_at: float
    last_received_at: float
    last_seq: int


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """What cannot be processed yet, and what it waits for.

    `object_uid` is a segmentation's SOP Instance UID, or an image series' own UID.
    """

    study_uid: str
    object_uid: str
    waits_for: str
    since: float


class Studies:
    """Studies, derived from the index of objects."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, *, limit: int | None = None) -> list[StudyRow]:
        """Every study, last received first."""
        with self._database.read() as connection:
            query = _study_query().order_by(sa.desc("last_received_at")).limit(limit)
            return [StudyRow(**row) for row in connection.execute(query).mappings()]

    def unmatched(self, after_seq: int = 0) -> list[StudyRow]:
        """Studies with objects that were not there at their last matching.

        Parameters
        ----------
        after_seq : int
            Look only at studies with objects later than this (and a little before it).
        """
        table, marks = schema.instances, schema.matchings
        recent = sa.select(table.c.study_uid).where(table.c.seq > after_seq - _LATE_COMMITS)
        studies = _study_query().where(table.c.study_uid.in_(recent)).subquery()
        query = (
            sa.select(studies)
            .outerjoin(marks, marks.c.study_uid == studies.c.study_uid)
            .where(sa.func.coalesce(marks.c.n_instances, 0) != studies.c.n_instances)
        )
        with self._database.read() as connection:
            return [StudyRow(**row) for row in connection.execute(query).mappings()]

    def group_of(self, study_uid: str) -> set[str]:
        """The study and every other that segmentations link it with, either way.

        Parameters
        ----------
        study_uid : str

        Returns
        -------
        set of str
            Study Instance UIDs.
        """
        table, references = schema.instances, schema.series_references
        image, drawn = table.alias("image"), table.alias("drawn")
        linked = references.join(
            drawn, drawn.c.sop_instance_uid == references.c.sop_instance_uid
        ).join(image, image.c.series_uid == references.c.series_uid)
        group, new = {study_uid}, {study_uid}
        with self._database.read() as connection:
            while new:  # links lead on: two studies may draw on the images of a third
                query = (
                    sa.select(drawn.c.study_uid, image.c.study_uid)
                    .select_from(linked)
                    .where(sa.or_(drawn.c.study_uid.in_(new), image.c.study_uid.in_(new)))
                    .distinct()
                )
                reached = {uid for row in connection.execute(query) for uid in row}
                new = reached - group
                group |= new
        return group

    def headers(self, study_uids: Iterable[str]) -> list[str]:
        """Headers (JSON) of the usable objects of these studies, in order of arrival.

        Parameters
        ----------
        study_uids : iterable of str

        Returns
        -------
        list of str
        """
        table = schema.instances
        query = (
            sa.select(table.c.header)
            .where(
                table.c.study_uid.in_(sorted(study_uids)),
                table.c.own_output.is_(False),
                table.c.removed_at.is_(None),
            )
            .order_by(table.c.seq)
        )
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def count(self, study_uids: Iterable[str]) -> dict[str, int]:
        """How many objects each study has."""
        query = _study_query().where(schema.instances.c.study_uid.in_(sorted(study_uids)))
        with self._database.read() as connection:
            return {
                row["study_uid"]: row["n_instances"] for row in connection.execute(query).mappings()
            }

    def note_matched(
        self,
        counts: dict[str, int],
        waiting: Sequence[tuple[str, str, str]],
        quality: Sequence["QualityRow"],
        now: float,
    ) -> None:
        """Record a matching: what it saw, what waits (study, object, for what), what it refused.

        Parameters
        ----------
        counts : mapping of study UID to number of objects, read before the headers
        """
        studies = sorted(counts)
        with self._database.write() as connection:
            for table in (schema.matchings, schema.quality):
                connection.execute(table.delete().where(table.c.study_uid.in_(studies)))
            self._replace_waiting(connection, studies, waiting, now)
            for study_uid, number in counts.items():
                connection.execute(
                    schema.matchings.insert().values(
                        study_uid=study_uid, n_instances=number, matched_at=now
                    )
                )
            for row in quality:
                connection.execute(
                    schema.quality.insert().values(
                        study_uid=row.study_uid, row=json.dumps(asdict(row))
                    )
                )

    @staticmethod
    def _replace_waiting(
        connection: sa.Connection,
        studies: Sequence[str],
        waiting: Sequence[tuple[str, str, str]],
        now: float,
    ) -> None:
        table = schema.waiting
        concerned = table.c.study_uid.in_(studies)
        known = connection.execute(sa.select(table).where(concerned)).mappings()
        since = {(row["study_uid"], row["object_uid"]): row["since"] for row in known}
        connection.execute(table.delete().where(concerned))
        latest = {(study, uid): reason for study, uid, reason in waiting}
        for (study_uid, object_uid), waits_for in latest.items():
            connection.execute(
                table.insert().values(
                    study_uid=study_uid,
                    object_uid=object_uid,
                    waits_for=waits_for,
                    since=since.get((study_uid, object_uid), now),
                )
            )

    def waiting(self, study_uid: str = "") -> list[WaitingRow]:
        """What waits and for what, longest first."""
        query = sa.select(schema.waiting).order_by(schema.waiting.c.since)
        if study_uid:
            query = query.where(schema.waiting.c.study_uid == study_uid)
        with self._database.read() as connection:
            return [WaitingRow(**row) for row in connection.execute(query).mappings()]

    def missing_series(self) -> list[tuple[str, str]]:
        """(series, study of the segmentation) that segmentations wait for and no image is of.

        Returns
        -------
        list of (str, str)
        """
        table, references, waiting = schema.instances, schema.series_references, schema.waiting
        drawn, image = table.alias("drawn"), table.alias("image")
        there = sa.exists().where(
            image.c.series_uid == references.c.series_uid, image.c.removed_at.is_(None)
        )
        query = (
            sa.select(references.c.series_uid, drawn.c.study_uid)
            .join(drawn, drawn.c.sop_instance_uid == references.c.sop_instance_uid)
            .join(waiting, waiting.c.object_uid == references.c.sop_instance_uid)
            .where(~there)
            .distinct()
        )
        with self._database.read() as connection:
            return [(row[0], row[1]) for row in connection.execute(query)]

    def quality(self, study_uid: str = "") -> "list[QualityRow]":
        """What the last matching refused."""
        # Only now: with it comes numpy, which no other question to the catalogue needs.
        from mirv.dicom_io.model import QualityRow

        query = sa.select(schema.quality.c.row).order_by(schema.quality.c.id)
        if study_uid:
            query = query.where(schema.quality.c.study_uid == study_uid)
        with self._database.read() as connection:
            return [QualityRow.from_fields(json.loads(text)) for text in connection.scalars(query)]


def _study_query() -> sa.Select[tuple[str, int, int, float, float, int]]:
    table = schema.instances
    return sa.select(
        table.c.study_uid,
        sa.func.count().label("n_instances"),
        sa.func.sum(table.c.size).label("size"),
        sa.func.min(table.c.received_at).label("first_received_at"),
        sa.func.max(table.c.received_at).label("last_received_at"),
        sa.func.max(table.c.seq).label("last_seq"),
    ).group_by(table.c.study_uid)
