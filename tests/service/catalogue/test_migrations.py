"""A catalogue of an earlier version opens with all it knew: state left the audit trail at 0004."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mirv.service.catalogue import (
    Catalogue,
    Change,
    EventKind,
    Fact,
    Jump,
    Position,
    RunState,
    sqlite_url,
)
from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import migrate, open_engine
from mirv.service.objects.clock import ClockWatch
from tests.service.catalogue.test_catalogue import instance, new_run
from tests.service.postgres import create_database, postgres

DAY = 86_400.0


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "catalogue.sqlite")
    else:
        with postgres() as server:
            yield create_database(server, "old")


class Old:
    """A catalogue at 0003, written as that version wrote it."""

    def __init__(self, url: str) -> None:
        database = open_engine(url)
        migrate(database, "0003")
        with database.write() as self.connection:
            self.tables = sa.MetaData()
            self.tables.reflect(self.connection)
            self.fill()
        database.close()

    def insert(self, table: str, **values: Any) -> None:
        self.connection.execute(self.tables.tables[table].insert().values(**values))

    def event(self, at: float, kind: str, **what: Any) -> int:
        columns = {name: what.pop(name, "") for name in ("study_uid", "run_id", "object_uid")}
        self.insert("events", at=at, kind=kind, detail=json.dumps(what), **columns)
        newest = sa.func.max(self.tables.tables["events"].c.id)
        return int(self.connection.execute(sa.select(newest)).scalar_one())

    def run(self, run_id: str, study_uid: str, date: str, state: str, **more: Any) -> None:
        made = new_run(run_id)
        kept = ("series_uid", "patient_id", "input_digest", "plan_digest", "selection")
        values = {name: getattr(made, name) for name in kept}
        self.insert(
            "runs",
            **values | {"run_id": run_id, "study_uid": study_uid, "study_date": date, **more},
            state=state,
            created_at=1,
            round=0,
            reason_code="",
            reason_detail="",
        )

    def receive(self, number: int, at: float) -> None:
        made = instance(number, study_uid=f"1.9{number}")
        kept = ("sop_instance_uid", "sop_class_uid", "study_uid", "series_uid", "sha256", "size")
        values = {name: getattr(made, name) for name in (*kept, "source", "own_output", "header")}
        self.insert("instances", **values, received_at=at)
        uid = made.sop_instance_uid
        self.event(at, "received", study_uid=made.study_uid, object_uid=uid)

    def follow(self, at: float, kind: str, source: str, resource: str, change: int) -> None:
        told = {"source": source, "change_type": "StableStudy", "resource": resource}
        about = f"{source} StableStudy {resource}"
        self.event(at, kind, object_uid=about, change=change, **told)

    def fill(self) -> None:
        """A node's life: two jumps, runs, searches and a followed Orthanc."""
        self.event(1, "node_started", swept=0)
        self.event(1, "spool_named", name="abc")
        self.receive(1, 10)
        self.event(20, "clock_jumped", seconds=30)
        self.receive(2, 30)
        self.event(40, "clock_jumped", seconds=-50)
        self.receive(3, 50)
        self.insert("positions", source="pacs", number=7, mark="a mark", updated_at=1)
        for run_id, study, date in (("a", "1.1", "20200101"), ("b", "1.2", "20200201")):
            self.run(run_id, study, date, "finished")
        for run_id in ("c", "d", "e"):
            self.run(run_id, f"1.{run_id}", "20200301", "refused")
        self.run("f", "1.f", "20200301", "refused", superseded_by="e")
        for run_id in ("b", "a"):
            self.event(60, "finished", run_id=run_id)
        self.event(61, "prior_found", run_id="b", study_uid="1.1", source="pacs")
        self.event(62, "prior_unanswered", run_id="c", study_uid="1.c")
        self.event(63, "prior_unanswered", run_id="d", study_uid="1.d")
        self.event(64, "prior_missing", run_id="d", study_uid="1.d", why="none")
        self.event(65, "prior_missing", run_id="e", study_uid="1.e", why="none")
        self.event(66, "prior_unanswered", run_id="e", study_uid="1.e")
        self.event(66, "prior_unanswered", run_id="f", study_uid="1.f")
        self.follow(67, "follow_postponed", "pacs", "aa", 3)
        self.follow(68, "follow_postponed", "pacs", "bb", 4)
        self.follow(69, "follow_postponed", "other", "aa", 5)
        self.follow(70, "follow_caught_up", "pacs", "aa", 3)
        self.keep_time()

    def keep_time(self) -> None:
        """As it was kept last."""
        newest = self.event(80, "node_started", swept=0)
        self.insert("positions", source="clock looked at", number=newest, mark="81.5", updated_at=1)


class JumpedLast(Old):
    """It crashed between noting a jump and keeping the time of after it."""

    def keep_time(self) -> None:
        self.insert("positions", source="clock looked at", number=0, mark="39.0", updated_at=1)


def test_what_the_audit_trail_knew_is_found_again(url: str) -> None:
    Old(url)
    catalogue = Catalogue(url)
    assert catalogue.facts.get(Fact.SPOOL_NAME) == "abc"
    assert catalogue.clock.looked_at() == 81.5
    first, second, third = sorted(catalogue.studies.all(), key=lambda study: study.last_seq)
    jumps = catalogue.clock.jumps()
    assert jumps == [Jump(first.last_seq, 30), Jump(second.last_seq, -50)]
    assert third.last_seq > second.last_seq
    assert catalogue.positions.get("pacs") == Position(7, "a mark")
    assert catalogue.positions.get("clock looked at") is None
    assert catalogue.positions.postponed("pacs") == [Change("pacs", "StableStudy", "bb", 4)]
    assert catalogue.positions.postponed("other") == [Change("other", "StableStudy", "aa", 5)]
    assert sorted(catalogue.priors.unanswered()) == [("c", "1.c"), ("e", "1.e")]
    assert catalogue.priors.is_prior("1.1")
    assert not catalogue.priors.is_prior("1.c")
    assert len(catalogue.comparisons.finishes(0)) == 2
    last = max(catalogue.comparisons.finishes(0))
    for since in (0, last - 1):
        news = catalogue.comparisons.comparable(since)
        assert [run.run_id for run in news if run.state == RunState.FINISHED] == ["a", "b"]
    assert catalogue.comparisons.comparable(last) == []
    assert len(catalogue.events.all(kind=EventKind.CLOCK_JUMPED)) == 2, "the audit trail stays"
    # Numbers go on after those that were carried over.
    run = new_run("9" * 64)
    assert catalogue.runs.queue(run, 90)
    assert catalogue.runs.finish(run.run_id, [], [], 1, 91)
    assert len(catalogue.comparisons.finishes(2)) == 1
    catalogue.clock.note_jump(92, 100)
    assert catalogue.clock.jumps() == [*jumps, Jump(third.last_seq, 100)]
    catalogue.close()


def test_a_jump_that_was_noted_last_counts_instead_of_the_time_kept(url: str) -> None:
    JumpedLast(url)
    catalogue = Catalogue(url)
    assert catalogue.clock.looked_at() == 40.0
    ClockWatch(catalogue, "serve", lambda: 41.0, lambda: 1.0).look()
    assert len(catalogue.clock.jumps()) == 2
    catalogue.close()


def test_a_stored_header_says_whose_the_object_is(url: str) -> None:
    headers = ['{"patient_id": "P \\u00e9"}', '{"patient_id": ""}', "{}", "[1]", "no JSON"]
    headers += ['{"patient_id": "Q"}'] * 2000  # more than are read at once
    database = open_engine(url)
    migrate(database, "0004")
    names = ("sop_instance_uid", "sop_class_uid", "study_uid", "series_uid", "sha256", "size")
    rows = [
        {name: getattr(instance(number), name) for name in (*names, "source", "own_output")}
        | {"header": header, "received_at": 1.0}
        for number, header in enumerate(headers)
    ]
    with database.write() as connection:
        tables = sa.MetaData()
        tables.reflect(connection)
        connection.execute(tables.tables["instances"].insert(), rows)
    database.close()
    catalogue = Catalogue(url)
    table = schema.instances
    with catalogue._database.read() as connection:
        found = list(connection.scalars(sa.select(table.c.patient_id).order_by(table.c.seq)))
    assert found == ["P \u00e9", "", "", "", "", *["Q"] * 2000]
    catalogue.close()


def test_an_empty_catalogue_knows_nothing_after_it_either(url: str) -> None:
    database = open_engine(url)
    migrate(database, "0003")
    database.close()
    catalogue = Catalogue(url)
    assert catalogue.facts.get(Fact.SPOOL_NAME) is None
    assert catalogue.clock.looked_at() is None
    assert catalogue.clock.jumps() == []
    catalogue.close()


def test_what_was_put_aside_as_other_content_waits_for_a_decision(url: str) -> None:
    """The latest of each object, as far as it is of one that is stored."""
    old = Old(url)
    database = open_engine(url)
    with database.write() as old.connection:
        for number, uid, code in (
            (1, "1.2.1", "other_content"),
            (2, "1.2.1", "other_content"),
            (3, "1.2.2", "truncated"),
            (4, "9.9", "other_content"),
        ):
            old.insert(
                "quarantine", sop_instance_uid=uid, sha256=f"{number}" * 64, size=1,
                received_at=1, source="PEER", code=code, detail="",
            )  # fmt: skip
    database.close()
    catalogue = Catalogue(url)
    studies = catalogue.corrections.studies()
    (row,) = catalogue.corrections.of_studies(studies)
    assert (row.sop_instance_uid, row.sha256, row.header) == ("1.2.1", "2" * 64, None)
    assert sorted(row.code for row in catalogue.quarantine.all()) == [
        "other_content", "other_content", "truncated",
    ]  # fmt: skip
    catalogue.close()
