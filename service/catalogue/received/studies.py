"""Studies as their objects make them: what is new, what was matched, what waits for what."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import Database

if TYPE_CHECKING:
    from mirv.dicom_io.model import QualityRow

# Rows commit out of order when several processes write: look back this far for late ones.
_LATE_COMMITS = 1000

MOST_LINKED = 100
"""Studies that are matched together: what a sender links must not cost more and more."""


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study as it stands, derived from its objects.

    `n_matched` is how many of them were there at its last matching; 0 when it has had none.
    """

    study_uid: str
    n_instances: int
    size: int
    first_received_at: float
    last_received_at: float
    last_seq: int
    n_matched: int


class Wait(NamedTuple):
    """What cannot be processed yet, and what it waits for.

    Attributes
    ----------
    study_uid : str
    object_uid : str
        A segmentation's SOP Instance UID, an image series' own UID, or that of the study itself.
    waits_for : str
        For people.
    rest_of : str
        A series of which a part is here, and the rest is to be asked for; else "".
    """

    study_uid: str
    object_uid: str
    waits_for: str
    rest_of: str = ""


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """A `Wait`, and since when."""

    study_uid: str
    object_uid: str
    waits_for: str
    since: float
    rest_of: str


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
        table = schema.instances
        recent = sa.select(table.c.study_uid).where(table.c.seq > after_seq - _LATE_COMMITS)
        studies = _study_query().where(table.c.study_uid.in_(recent)).subquery()
        query = sa.select(studies).where(studies.c.n_matched != studies.c.n_instances)
        with self._database.read() as connection:
            return [StudyRow(**row) for row in connection.execute(query).mappings()]

    def group_of(self, study_uid: str, apart: Collection[str] = ()) -> set[str]:
        """The study and every other that segmentations of one patient link it with, either way.

        A link is a segmentation and an image under one Patient ID: what it names of others links
        nothing. The search ends when there are more than `MOST_LINKED`; each step is linear in
        the objects of the studies reached.

        Parameters
        ----------
        study_uid : str
        apart : collection of str
            Studies that are not reached, and nothing through them.

        Returns
        -------
        set of str
            Study Instance UIDs.
        """
        group, new = {study_uid}, {study_uid}
        with self._database.read() as connection:
            # Links lead on: two studies may draw on the images of a third.
            while new and len(group) <= MOST_LINKED:
                queries = _drawn_on_by(new), _drawing_on(new)
                reached = {str(row[0]) for query in queries for row in connection.execute(query)}
                new = {uid for uid in reached - group if uid not in apart}
                group |= new
        return group

    def headers(
        self, study_uids: Iterable[str], only_first: Mapping[str, int] | None = None
    ) -> list[str]:
        """Headers (JSON) of the usable objects of these studies, in order of arrival by study.

        Parameters
        ----------
        study_uids : iterable of str
        only_first : mapping of study UID to int, optional
            Of these studies so many objects, the first that came.

        Returns
        -------
        list of str
        """
        table, limits = schema.instances, only_first or {}
        found: list[str] = []
        with self._database.read() as connection:
            for study_uid in sorted(study_uids):
                mine = table.c.study_uid == study_uid
                usable = mine, table.c.own_output.is_(False), table.c.removed_at.is_(None)
                query = sa.select(table.c.header).where(*usable).order_by(table.c.seq)
                if study_uid in limits:
                    ordered = sa.select(table.c.seq).where(mine).order_by(table.c.seq)
                    query = query.where(table.c.seq.in_(ordered.limit(limits[study_uid])))
                found += connection.scalars(query)
        return found

    def count(self, study_uids: Iterable[str]) -> dict[str, int]:
        """How many objects each study has."""
        query = _study_query().where(schema.instances.c.study_uid.in_(sorted(study_uids)))
        with self._database.read() as connection:
            return {
                row["study_uid"]: row["n_instances"] for row in connection.execute(query).mappings()
            }

    def last_seq(self, study_uids: Iterable[str]) -> int:
        """Number of the last object of these studies; 0 when they have none."""
        with self._database.read() as connection:
            return _last_seq(connection, sorted(study_uids))

    def note_matched(
        self,
        counts: Mapping[str, int],
        waiting: Sequence[Wait],
        quality: Sequence["QualityRow"],
        now: float,
        *,
        last_seq: int | None = None,
    ) -> None:
        """Record a matching: what it saw, what waits, what it refused.

        Parameters
        ----------
        counts : mapping of study UID to number of objects, read before the headers
        waiting : sequence of Wait
        quality : sequence of QualityRow
        now : float
            Seconds since 1970.
        last_seq : int, optional
            Number of their last object, read then too: where another is there now, an object may
            have been corrected since, and what was matched does not count as matched.
        """
        studies = sorted(counts)
        with self._database.write() as connection:
            for table in (schema.matchings, schema.quality):
                connection.execute(table.delete().where(table.c.study_uid.in_(studies)))
            self._replace_waiting(connection, studies, waiting, now)
            same = last_seq is None or _last_seq(connection, studies) == last_seq
            for study_uid, number in counts.items() if same else ():
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
        connection: sa.Connection, studies: Sequence[str], waiting: Sequence[Wait], now: float
    ) -> None:
        table = schema.waiting
        concerned = table.c.study_uid.in_(studies)
        known = connection.execute(sa.select(table).where(concerned)).mappings()
        since = {(row["study_uid"], row["object_uid"]): row["since"] for row in known}
        connection.execute(table.delete().where(concerned))
        latest = {(one.study_uid, one.object_uid): one for one in waiting}
        for key, one in latest.items():
            values = {**one._asdict(), "since": since.get(key, now)}
            connection.execute(table.insert().values(values))

    def note_waiting(self, one: Wait, now: float) -> None:
        """Record something that waits, until the next matching of its study; once.

        Parameters
        ----------
        one : Wait
        now : float
            Seconds since 1970.
        """
        table = schema.waiting
        same = table.c.study_uid == one.study_uid, table.c.object_uid == one.object_uid
        with self._database.write() as connection:
            if connection.execute(sa.select(table.c.since).where(*same)).first() is None:
                connection.execute(table.insert().values({**one._asdict(), "since": now}))

    def waiting(self, study_uid: str = "") -> list[WaitingRow]:
        """What waits and for what, longest first."""
        query = sa.select(schema.waiting).order_by(schema.waiting.c.since)
        if study_uid:
            query = query.where(schema.waiting.c.study_uid == study_uid)
        with self._database.read() as connection:
            return [WaitingRow(**row) for row in connection.execute(query).mappings()]

    def missing_series(self) -> list[tuple[str, str]]:
        """(series, study it is asked for in) of which no image is here, or only a part.

        Returns
        -------
        list of (str, str)
            Series that segmentations wait for, with the study of the segmentation, and those
            whose rest is waited for.
        """
        table, references, waiting = schema.instances, schema.series_references, schema.waiting
        drawn, image = table.alias("drawn"), table.alias("image")
        there = sa.exists().where(
            image.c.series_uid == references.c.series_uid, image.c.removed_at.is_(None)
        )
        absent = (
            sa.select(references.c.series_uid, drawn.c.study_uid)
            .join(drawn, drawn.c.sop_instance_uid == references.c.sop_instance_uid)
            .join(waiting, waiting.c.object_uid == references.c.sop_instance_uid)
            .where(~there)
        )
        partly_here = sa.select(waiting.c.rest_of, waiting.c.study_uid).where(
            waiting.c.rest_of != ""
        )
        with self._database.read() as connection:
            return [(row[0], row[1]) for row in connection.execute(absent.union(partly_here))]

    def quality(self, study_uid: str = "") -> "list[QualityRow]":
        """What the last matching refused."""
        # Only now: with it comes numpy, which no other question to the catalogue needs.
        from mirv.dicom_io.model import QualityRow

        query = sa.select(schema.quality.c.row).order_by(schema.quality.c.id)
        if study_uid:
            query = query.where(schema.quality.c.study_uid == study_uid)
        with self._database.read() as connection:
            return [QualityRow.from_fields(json.loads(text)) for text in connection.scalars(query)]


def _last_seq(connection: sa.Connection, studies: Sequence[str]) -> int:
    table = schema.instances
    query = sa.select(sa.func.max(table.c.seq)).where(table.c.study_uid.in_(studies))
    return connection.scalar(query) or 0


def _study_query() -> sa.Select[tuple[str, int, int, float, float, int, int]]:
    table, marks = schema.instances, schema.matchings
    matched = sa.select(marks.c.n_instances).where(marks.c.study_uid == table.c.study_uid)
    return sa.select(
        table.c.study_uid,
        sa.func.count().label("n_instances"),
        sa.func.sum(table.c.size).label("size"),
        sa.func.min(table.c.received_at).label("first_received_at"),
        sa.func.max(table.c.received_at).label("last_received_at"),
        sa.func.max(table.c.seq).label("last_seq"),
        sa.func.coalesce(matched.scalar_subquery(), 0).label("n_matched"),
    ).group_by(table.c.study_uid)


def _drawn_on_by(study_uids: Iterable[str]) -> sa.Select[tuple[str]]:
    """Studies with images that segmentations of these studies name, under their Patient ID."""
    table, references = schema.instances, schema.series_references
    named = (
        sa.select(references.c.series_uid, table.c.patient_id)
        .join(table, table.c.sop_instance_uid == references.c.sop_instance_uid)
        .where(table.c.study_uid.in_(sorted(study_uids)), table.c.own_output.is_(False))
        .distinct()
        .subquery()
    )
    both = sa.and_(
        table.c.series_uid == named.c.series_uid, table.c.patient_id == named.c.patient_id
    )
    return sa.select(table.c.study_uid).join(named, both).distinct()


def _drawing_on(study_uids: Iterable[str]) -> sa.Select[tuple[str]]:
    """Studies with segmentations that name images of these studies, under their Patient ID."""
    table, references = schema.instances, schema.series_references
    here = (
        sa.select(table.c.series_uid, table.c.patient_id)
        .where(table.c.study_uid.in_(sorted(study_uids)))
        .distinct()
        .subquery()
    )
    return (
        sa.select(table.c.study_uid)
        .join(references, references.c.sop_instance_uid == table.c.sop_instance_uid)
        .join(
            here,
            sa.and_(
                references.c.series_uid == here.c.series_uid,
                table.c.patient_id == here.c.patient_id,
            ),
        )
        .where(table.c.own_output.is_(False))
        .distinct()
    )
