"""A catalogue and a spool that do not belong together: said at the start, nothing is touched."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mirv.config.settings import Settings
from mirv.config.settings.network import Http, Listener
from mirv.service.catalogue import Catalogue, EventKind, sqlite_url
from mirv.service.commands import main
from mirv.service.node.node import Node
from mirv.service.node.worker import Worker
from mirv.service.objects.intake import Intake
from mirv.service.objects.spool import Spool
from mirv.service.objects.spool_name import OtherSpool, check_if_named, check_spool, name_spool
from tests.peers import free_port
from tests.service.wire import ct_slice, part10

NOW = 1_700_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Catalogue]:
    opened = Catalogue(sqlite_url(tmp_path / "catalogue.sqlite"))
    yield opened
    opened.close()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return Spool(tmp_path / "spool").folder


def test_it_is_named_once(store: Catalogue, spool: Path) -> None:
    name_spool(spool, store, NOW)
    named = (spool / "identity").read_text()
    name_spool(spool, store, NOW)
    check_spool(spool, store)
    assert (spool / "identity").read_text() == named
    assert len(store.events.all()) == 1


def test_a_name_that_a_crash_left_unrecorded_is_taken(store: Catalogue, spool: Path) -> None:
    (spool / "identity").write_text("abc\n")
    name_spool(spool, store, NOW)
    check_spool(spool, store)
    assert (spool / "identity").read_text() == "abc\n"


@pytest.mark.parametrize("other", ["", "another\n", "é" * 10_000])
def test_another_spool_is_told_apart(
    store: Catalogue, spool: Path, tmp_path: Path, other: str
) -> None:
    name_spool(spool, store, NOW)
    folder = tmp_path / "elsewhere"
    if other:
        folder.mkdir()
        (folder / "identity").write_text(other, encoding="utf-8")
    with pytest.raises(OtherSpool, match=r"found .*elsewhere/identity, wanted"):
        check_spool(folder, store)
    with pytest.raises(OtherSpool):
        name_spool(folder, store, NOW)
    assert (spool / "identity").exists()
    assert folder.exists() == bool(other)


def test_what_it_says_to_do_helps(store: Catalogue, spool: Path) -> None:
    """The spool came back from a backup without the file."""
    name_spool(spool, store, NOW)
    (spool / "identity").unlink()
    with pytest.raises(OtherSpool) as caught:
        check_spool(spool, store)
    said = str(caught.value)
    (name, file) = said.rpartition(": write ")[2].split(" into ")
    Path(file).write_text(name)
    check_spool(spool, store)


@pytest.fixture
def unnamed(store: Catalogue, tmp_path: Path) -> Spool:
    """An installation of before there were names, with objects."""
    spool = Spool(tmp_path / "spool")
    for number in range(3):
        Intake(spool, store).take(part10(ct_slice(number)), "test")
    return spool


def test_an_installation_without_a_name_gets_one_where_its_objects_are(
    store: Catalogue, unnamed: Spool
) -> None:
    for sha256 in list(store.instances.contents())[1:]:
        unnamed.remove(sha256)
    check_if_named(unnamed.folder, store)
    assert store.events.all(kind=EventKind.SPOOL_NAMED) == []
    name_spool(unnamed.folder, store, NOW)
    check_spool(unnamed.folder, store)


@pytest.mark.parametrize("other", ["", "another\n"])
def test_an_empty_folder_is_not_taken_for_the_spool_of_a_catalogue_with_objects(
    store: Catalogue, unnamed: Spool, tmp_path: Path, other: str
) -> None:
    """The first start after an upgrade, with the storage not mounted or another's."""
    empty = Spool(tmp_path / "elsewhere").folder
    if other:
        (empty / "identity").write_text(other)
    for check in (check_if_named, lambda *what: name_spool(*what, NOW)):
        with pytest.raises(OtherSpool, match=r"found none of 3 objects .* mend `folder`"):
            check(empty, store)
    assert store.events.all(kind=EventKind.SPOOL_NAMED) == []
    name_spool(unnamed.folder, store, NOW)


def test_what_it_says_to_do_when_all_is_lost_helps(
    store: Catalogue, unnamed: Spool, tmp_path: Path
) -> None:
    empty = Spool(tmp_path / "elsewhere").folder
    with pytest.raises(OtherSpool) as caught:
        name_spool(empty, store, NOW)
    (name, file) = str(caught.value).rpartition(": write ")[2].split(" into ")
    Path(file).write_text(name)
    check_if_named(empty, store)
    name_spool(empty, store, NOW)
    check_spool(empty, store)
    with pytest.raises(OtherSpool):
        check_spool(unnamed.folder, store)


def test_objects_that_were_removed_need_not_be_there(store: Catalogue, unnamed: Spool) -> None:
    for sha256, uid in store.instances.contents().items():
        store.instances.remove(uid, "retention", NOW)
        unnamed.remove(sha256)
    name_spool(unnamed.folder, store, NOW)


def test_a_worker_waits_for_the_node_that_names_it(store: Catalogue, spool: Path) -> None:
    with pytest.raises(OtherSpool, match="wanted a node started first"):
        check_spool(spool, store)
    node = threading.Timer(0.3, name_spool, (spool, store, NOW))
    node.start()
    check_spool(spool, store, 60)
    node.join()


def test_a_worker_with_a_wrong_folder_does_not_start(store: Catalogue, tmp_path: Path) -> None:
    """SQLite stands for the server: nothing of it is asked that differs."""
    name_spool(Spool(tmp_path / "spool").folder, store, NOW)
    wrong = tmp_path / "wrong"
    settings = Settings(
        folder=wrong,
        database_url=sqlite_url(tmp_path / "catalogue.sqlite"),
        workflow_database_url=sqlite_url(tmp_path / "workflows.sqlite"),
        profiles=("henry2022",),
    )
    with pytest.raises(OtherSpool, match="found no name of a spool"):
        Worker(settings).start()
    assert not wrong.exists()
    assert store.workers.silent_since(NOW * 2) == [], "it was never at work"


@pytest.mark.parametrize("named", [True, False])
def test_neither_node_nor_doctor_takes_the_files_of_another_spool_for_lost(
    store: Catalogue, tmp_path: Path, named: bool
) -> None:
    spool = Spool(tmp_path / "spool")
    if named:
        name_spool(spool.folder, store, NOW)
    Intake(spool, store).take(part10(ct_slice()), "test")
    settings = Settings(
        folder=tmp_path / "wrong",
        database_url=sqlite_url(tmp_path / "catalogue.sqlite"),
        profiles=("henry2022",),
        listener=Listener(port=free_port()),
        http=Http(enabled=False),
    )
    node = Node(settings)
    try:
        with pytest.raises(OtherSpool, match="mend `folder`"):
            node.start()
    finally:
        node.stop()
    config = tmp_path / "mirv.yaml"
    config.write_text(
        yaml.safe_dump({"folder": str(settings.folder), "database_url": settings.database_url}),
        encoding="utf-8",
    )
    said = CliRunner().invoke(main.app, ["doctor", "--repair", "--config", str(config)])
    assert said.exit_code == 1
    assert store.events.all(kind=EventKind.REMOVED) == []
