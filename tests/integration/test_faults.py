"""Faults around a running node: its destination, its database, its own double."""

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from mirv.dicom_io.phantom.patient import Phantom, write_study
from tests.integration.node import MIRV, NodeProcess, node
from tests.peers import Orthanc, free_port, orthanc, storescu, wait_until
from tests.service.postgres import Server, create_database, postgres_server

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres_server() as running:
        yield running


def destination(peer: Orthanc, **more: Any) -> dict[str, Any]:
    """An Orthanc as the settings name it."""
    at = {"host": "127.0.0.1", "port": peer.dicom_port}
    return {"name": "orthanc", "ae_title": peer.ae_title, **at, **more}


def small_study(folder: Path, **more: Any) -> Phantom:
    return write_study(folder, n_lesions=2, shape=(10, 64, 64), **more)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of this size."""
    folder.mkdir()
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def web_destination(peer: Orthanc, method: str, root: str) -> dict[str, Any]:
    """The same over HTTP."""
    known = {"user": "tester", "password": "tester"}
    return {"name": "orthanc", "method": method, "url": peer.url + root, **known}


@pytest.mark.parametrize(
    "named",
    [
        pytest.param(destination, id="c-store"),
        pytest.param(partial(web_destination, method="stow-rs", root="/dicom-web"), id="stow-rs"),
        pytest.param(partial(web_destination, method="orthanc", root=""), id="orthanc"),
    ],
)
def test_a_full_orthanc_is_tried_again_until_it_has_room(
    tmp_path: Path, named: Callable[[Orthanc], dict[str, Any]]
) -> None:
    study = small_study(tmp_path / "study")
    with small_disk(tmp_path / "disk", 8) as disk, orthanc(disk) as peer:
        filler = disk / "filler"
        with node(tmp_path / "mirv", [named(peer)], profiles=["henry2022"]) as running:
            filler.write_bytes(bytes(shutil.disk_usage(disk).free - 8192))
            assert storescu(running.port, [study.folder]).returncode == 0

            def tried() -> list[dict[str, Any]]:
                rows = running.api("deliveries?state=waiting")
                return [row for row in rows if row["attempts"] >= 2]

            wait_until(tried, 90, "it is tried again")
            assert running.api("deliveries?state=parked") == []
            study_uid = study.identity.study_uid
            delivered = running.api("deliveries?state=delivered")  # what is small enough
            assert len(delivered) <= len(peer.find("Instance", StudyInstanceUID=study_uid))
            filler.unlink()
            run = running.wait_for(study_uid)
            made = running.api(f"runs/{run['run_id']}/artifacts")
            there = peer.find("Instance", StudyInstanceUID=study_uid)
            assert len(there) == len(made)


def test_postgres_restarts_under_a_running_node(server: Server, tmp_path: Path) -> None:
    """While it is away objects are refused for now; afterwards everything goes on by itself."""
    first = small_study(tmp_path / "first", patient_id="FIRST")
    second = small_study(tmp_path / "second", patient_id="SECOND")
    third = small_study(tmp_path / "third", patient_id="THIRD")
    with orthanc(tmp_path / "orthanc") as peer, node(
        tmp_path / "mirv", [destination(peer)], profiles=["henry2022"],
        **databases(server, "restarted"),
    ) as running:  # fmt: skip
        assert storescu(running.port, [first.folder]).returncode == 0
        wait_until(lambda: running.runs(state="running"), 60, "the first is at work", 0.02)
        server.stop()
        try:
            refused = storescu(running.port, [second.folder])
        finally:
            server.start()
        assert refused.returncode != 0
        assert "Refused: OutOfResources" in refused.stdout + refused.stderr
        for study in (second, third):
            assert storescu(running.port, [study.folder]).returncode == 0
        for study in (first, second, third):
            assert running.wait_for(study.identity.study_uid)["state"] == "finished"
        assert running.process is not None
        assert running.process.poll() is None


def databases(server: Server, name: str) -> dict[str, str]:
    """Catalogue and workflows in databases of their own."""
    return {
        "database_url": create_database(server.url, name),
        "workflow_database_url": create_database(server.url, f"{name}_workflows"),
    }


def second_node(where: Path, first: NodeProcess, **changed: Any) -> str:
    """Start a node with the first one's settings, changed; what it says when it refuses."""
    where.mkdir()
    ports = {"listener": {"port": free_port()}, "http": {"port": free_port()}}
    config = where / "mirv.yaml"
    config.write_text(yaml.safe_dump({**first.settings, **ports, **changed}), encoding="utf-8")
    done = subprocess.run(
        [MIRV, "serve", "--config", str(config)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    return " ".join(done.stderr.split())


def test_two_nodes_on_one_spool_or_catalogue_by_mistake(server: Server, tmp_path: Path) -> None:
    """The second says why it does not start; the first goes on; its place comes free with it."""
    urls = databases(server, "claimed")
    study = small_study(tmp_path / "study")
    with node(tmp_path / "mirv", [], profiles=["henry2022"], **urls) as first:
        said = second_node(tmp_path / "again", first)
        assert "another node serves" in said
        said = second_node(tmp_path / "elsewhere", first, folder=str(tmp_path / "other folder"))
        assert "another node, on another folder or machine, serves the catalogue" in said
        assert storescu(first.port, [study.folder]).returncode == 0
        assert first.wait_for(study.identity.study_uid)["state"] == "finished"
        first.kill()
        first.start()
        assert first.runs(study_uid=study.identity.study_uid)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_database_locked_by_another_makes_senders_wait(tmp_path: Path) -> None:
    """A backup program holds the catalogue for a moment: nothing is refused, nothing lost."""
    study = small_study(tmp_path / "study")
    with node(tmp_path / "mirv", [], profiles=["henry2022"]) as running:
        catalogue = Path(running.settings["folder"]) / "catalogue.sqlite"
        spool = catalogue.parent / "spool" / "objects"
        locker = sqlite3.connect(catalogue, isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as sender:
            sent = sender.submit(storescu, running.port, [study.folder])
            try:
                wait_until(lambda: _files(spool), 60, "the first object is there")
                # The sender's wait begins here. A refusal, at once or soon, would end it.
                time.sleep(2)
                assert len(_files(spool)) == 1
                assert not sent.done(), sent.result().stdout + sent.result().stderr
            finally:
                locker.execute("ROLLBACK")
                locker.close()
        assert sent.result().returncode == 0, sent.result().stderr
        assert running.wait_for(study.identity.study_uid)["state"] == "finished"
