"""The same on PostgreSQL: catalogue, audit trail, and workers that take over from the dead."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml

from mirv.dicom_io.phantom import patient
from mirv.service.catalogue import Catalogue, Conflict, EventKind, Wait
from mirv.service.node.node import Node
from mirv.service.node.worker import Worker
from mirv.service.objects.intake import Intake
from mirv.service.objects.spool import Spool
from tests.peers import free_port, stop, wait_until
from tests.service.catalogue.test_catalogue import finished, instance, new_run
from tests.service.postgres import create_database, postgres

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


def test_the_catalogue_works_the_same(server: str) -> None:
    store = Catalogue(create_database(server, "catalogue"))
    added: list[bool] = []

    def add_all() -> None:
        added.extend(store.arrivals.add(instance(number), 1.0) for number in range(25))

    threads = [threading.Thread(target=add_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(added) == 25
    with pytest.raises(Conflict):
        store.arrivals.add(instance(1, sha256="b" * 64), 3.0)
    assert [row.n_instances for row in store.studies.unmatched()] == [25]
    old, new = new_run("a" * 64), new_run("b" * 64)
    finished(store, old, 10.0)
    finished(store, new, 20.0)
    assert [run.run_id for run in store.runs.all(current=True)] == [new.run_id]
    numbers = sorted(store.comparisons.finishes(0))
    assert store.comparisons.finishes(numbers[0]) == {numbers[1]}
    assert store.comparisons.comparable(0) == []
    assert store.deliveries.due(20.0) == [(old.run_id, "PACS", 0), (new.run_id, "PACS", 0)]
    for change in ("UPDATE events SET kind = 'x'", "DELETE FROM events", "TRUNCATE events"):
        with (
            pytest.raises(sa.exc.DBAPIError, match="append-only"),
            store._database.write() as connection,
        ):
            connection.exec_driver_sql(change)
    drawn = instance(30, study_uid="1.10", series_uid="1.11", referenced_series=("1.8", "1.7"))
    for number, whose in enumerate("PX"):
        uids = {"study_uid": f"1.10.{whose}", "sop_instance_uid": f"1.3.{number}"}
        store.arrivals.add(replace(drawn, **uids, patient_id=whose), 4.0)
    store.arrivals.add(instance(31, patient_id="P"), 4.0)
    assert store.studies.group_of("1.9") == {"1.9", "1.10.P"}
    assert store.studies.group_of("1.10.P", apart={"1.9"}) == {"1.10.P"}
    counts = store.studies.count({"1.9", "1.10.P"})
    assert counts == {"1.9": 26, "1.10.P": 1}
    assert len(store.studies.headers(counts, {"1.9": 3})) == 4
    waits = [Wait("1.9", "1.8", "the rest", "1.8"), Wait("1.10.P", "1.3.0", "images")]
    store.studies.note_matched(counts, waits, [], 5.0)
    store.studies.note_waiting(Wait("1.10.P", "1.10.P", "an end"), 6.0)
    assert [row.object_uid for row in store.studies.waiting("1.10.P")] == ["1.3.0", "1.10.P"]
    assert sorted(store.studies.missing_series()) == [("1.7", "1.10.P"), ("1.8", "1.9")]
    assert [row.study_uid for row in store.studies.unmatched()] == ["1.10.X"]
    store.instances.remove("1.2.1", "retention", 7.0)
    assert store.instances.removed(["1.2.1", "1.2.2", "1.77"]) == {"1.2.1"}
    store.close()
    Catalogue(server + "catalogue").close()  # opened again: nothing left to migrate


def test_several_that_start_at_once_make_one_schema(server: str) -> None:
    """A node and its workers meet an empty database together."""
    url = create_database(server, "empty")
    code = (
        "import sys, time; from mirv.service.catalogue import Catalogue; "
        "print('ready', flush=True); "
        "sys.stdin.readline(); Catalogue(sys.argv[1]).close()"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", code, url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for one in starters:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in starters:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    said = [one.communicate(timeout=60)[1] for one in starters]
    assert [one.returncode for one in starters] == [0] * 4, said


def test_a_worker_goes_on_where_a_killed_node_stopped(server: str, tmp_path: Path) -> None:
    """The node is killed while it works; a worker finishes the run without it."""
    content = {
        "folder": str(tmp_path / "node"),
        "database_url": create_database(server, "shared"),
        "workflow_database_url": create_database(server, "workflows"),
        "quiet_s": 0.2,
        "profiles": ["henry2022"],
        "listener": {"port": free_port()},
        "http": {"enabled": False},
        "worker_silent_s": 3,
    }
    config = tmp_path / "mirv.yaml"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    made = patient.write_study(tmp_path / "study", n_lesions=2, shape=(10, 64, 64))
    store = Catalogue(str(content["database_url"]))
    intake = Intake(Spool(tmp_path / "node" / "spool"), store)
    for path in made.files:
        intake.take(path.read_bytes(), "test")
    with (tmp_path / "node.log").open("wb") as log:
        node = _process(Node, config, log)
        try:
            wait_until(lambda: _states(store) == ["running"], 60, "the node works", 0.01)
        finally:
            node.kill()
            node.wait()
        worker = _process(Worker, config, log)
        try:
            wait_until(lambda: _states(store) == ["finished"], 60, "the worker finishes")
        finally:
            stop(worker)
    (run,) = store.runs.all()
    assert run.result_sha256 is not None
    assert len(store.events.all(kind=EventKind.FINISHED)) == 1
    store.close()


def _process(kind: type, config: Path, log: object) -> "subprocess.Popen[bytes]":
    code = (
        "import sys; from pathlib import Path; from mirv.config.settings import load_settings; "
        f"from {kind.__module__} import {kind.__name__} as Kind\n"
        "if __name__ == '__main__':\n"
        "    one = Kind(load_settings(Path(sys.argv[1]))); one.start(); one.wait()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(config)],
        stdout=log,  # type: ignore[arg-type]
        stderr=log,  # type: ignore[arg-type]
    )


def _states(store: Catalogue) -> list[str]:
    return [run.state for run in store.runs.all()]
