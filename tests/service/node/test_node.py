"""The node as a whole: start and stop, one a folder, a destination that comes back."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirv.config.settings import Settings
from mirv.config.settings.keeping import Delivery, Retention
from mirv.config.settings.network import Destination, Http, Listener
from mirv.dicom_io.phantom import patient
from mirv.service.catalogue import Catalogue, DeliveryState, EventKind, RunState, sqlite_url
from mirv.service.node.node import SERVE_EXECUTOR, Node
from mirv.service.objects.clock import ClockWatch
from mirv.service.objects.intake import Intake
from mirv.service.objects.spool import Spool
from mirv.service.runtime.node_folder import AlreadyRunning
from tests.peers import free_port, orthanc, storescu, wait_until
from tests.service.wire import ct_slice, part10


def settings(folder: Path, *destinations: Destination, port: int = 0) -> Settings:
    return Settings(
        folder=folder,
        quiet_s=0.3,
        profiles=("henry2022",),
        listener=Listener(port=port or free_port()),
        http=Http(enabled=False),
        delivery=Delivery(first_retry_s=0.3, longest_retry_s=0.5, max_attempts=100),
        destinations=destinations,
    )


@contextmanager
def running(wanted: Settings) -> Iterator[Node]:
    node = Node(wanted)
    node.start()
    try:
        yield node
    finally:
        node.stop()


def test_a_second_node_on_one_folder_refuses_to_start(tmp_path: Path) -> None:
    with running(settings(tmp_path)) as first:
        second = Node(settings(tmp_path))
        with pytest.raises(AlreadyRunning, match="another node serves"):
            second._lock.take()
        assert first.catalogue.studies.all() == []
    second._lock.take()
    second._lock.release()


def test_a_taken_port_is_said_and_leaves_the_folder_free(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            Node(settings(tmp_path, port=other.getsockname()[1])).start()
    with running(settings(tmp_path)) as node:
        assert [event.kind for event in node.catalogue.events.all(kind=EventKind.NODE_STARTED)]


def test_a_clock_that_is_years_ahead_at_the_start_removes_nothing(tmp_path: Path) -> None:
    """As the node finds it: what it has is from long before, and so is all it knows of."""
    store = Catalogue(sqlite_url(tmp_path / "catalogue.sqlite"))
    long_ago = 1_000_000_000.0
    Intake(Spool(tmp_path / "spool"), store, lambda: long_ago).take(part10(ct_slice()), "test")
    store.close()
    wanted = settings(tmp_path).model_copy(update={"retention": Retention(keep_unused_days=30)})
    with running(wanted) as node:
        wait_until(lambda: node.catalogue.workers.heard_at(SERVE_EXECUTOR), 30, "the house is kept")
    store = Catalogue(sqlite_url(tmp_path / "catalogue.sqlite"))
    assert len(store.events.all(kind=EventKind.CLOCK_JUMPED)) == 1
    assert store.events.all(kind=EventKind.REMOVED) == []
    store.close()


@pytest.mark.parametrize("days", [1000, -1000])
def test_what_a_start_finds_counts_on_the_right_side_of_a_jump(tmp_path: Path, days: int) -> None:
    """A file without a row: from before a clock that is ahead, new under one that is behind."""
    before = time.time() - days * 86_400
    store = Catalogue(sqlite_url(tmp_path / "catalogue.sqlite"))
    ClockWatch(store, SERVE_EXECUTOR, lambda: before).look()
    store.close()
    left = Spool(tmp_path / "spool").put((part10(ct_slice()),))
    os.utime(left.path, (before, before))
    wanted = settings(tmp_path).model_copy(update={"retention": Retention(keep_unused_days=30)})
    with running(wanted) as node:
        wait_until(lambda: node.catalogue.workers.heard_at(SERVE_EXECUTOR), 30, "the house is kept")
    store = Catalogue(sqlite_url(tmp_path / "catalogue.sqlite"))
    (jump,), (found,) = store.clock.jumps(), store.studies.all()
    assert (jump.after_seq >= found.last_seq) == (days > 0)
    assert store.events.all(kind=EventKind.REMOVED) == []
    store.close()


@pytest.mark.peers
def test_a_part_after_retention_waits_for_the_rest(tmp_path: Path) -> None:
    """Finding H4: some slices come back, then all."""
    made = patient.write_study(tmp_path / "study", n_lesions=1, shape=(10, 64, 64))
    assert made.seg is not None
    wanted = settings(tmp_path / "node").model_copy(update={"retention": Retention(keep_days=0)})
    with running(wanted) as node:
        listening, store = node.settings.listener.port, node.catalogue
        assert storescu(listening, [made.folder], "MIRV", "CT", "-R").returncode == 0
        wait_until(lambda: store.runs.all(states=(RunState.FINISHED,)), 120, "the run finishes")
        (whole,) = store.runs.all()
    with running(wanted) as node:  # it makes room at its start
        listening, store = node.settings.listener.port, node.catalogue
        wait_until(lambda: store.events.all(kind=EventKind.REMOVED), 30, "the files are removed")
        assert storescu(listening, [*made.ct[2:8], made.seg], "MIRV", "CT").returncode == 0
        said = "was complete with 10 images, 6 are here"
        wait_until(
            lambda: [said in row.waits_for for row in store.studies.waiting()] == [True],
            30,
            "the part waits",
        )
        assert [run.run_id for run in store.runs.all(current=True)] == [whole.run_id]
        assert storescu(listening, made.ct, "MIRV", "CT").returncode == 0
        wait_until(lambda: not store.studies.waiting(), 30, "all is there")
        assert [run.run_id for run in store.runs.all()] == [whole.run_id], "the same again"


@pytest.mark.peers
def test_results_wait_for_a_destination_and_images_come_back_harmlessly(tmp_path: Path) -> None:
    """Orthanc is down when the results are ready; it gets each once, and sends all back."""
    made = patient.write_study(tmp_path / "study", n_lesions=1, shape=(10, 64, 64))
    with orthanc(tmp_path / "orthanc") as probe:
        port = probe.dicom_port
    destination = Destination(name="pacs", ae_title="ORTHANC", host="127.0.0.1", port=port)
    with running(settings(tmp_path / "node", destination)) as node:
        listening = node.settings.listener.port
        assert storescu(listening, [made.folder], "MIRV", "CT", "-R").returncode == 0
        wait_until(
            lambda: node.catalogue.runs.all(states=(RunState.FINISHED,)), 120, "the run finishes"
        )
        wait_until(
            lambda: min((row.attempts for row in node.catalogue.deliveries.all()), default=0) > 1,
            30,
            "it is tried again",
        )
        with orthanc(tmp_path / "orthanc", {"NODE": ("MIRV", listening)}, DicomPort=port) as peer:
            sent = node.catalogue.deliveries.all()
            wait_until(
                lambda: (
                    len(node.catalogue.deliveries.all(state=DeliveryState.DELIVERED)) == len(sent)
                ),
                60,
                "all is delivered",
            )
            study_uid = made.identity.study_uid
            assert len(peer.find("Instance", StudyInstanceUID=study_uid)) == len(sent)
            (own_seg,) = peer.instances_of(study_uid, "1.2.840.10008.5.1.4.1.1.66.4")
            answer = peer.http.post(
                "/modalities/NODE/store", json={"Resources": [own_seg], "Synchronous": True}
            )
            assert answer.is_success
        wait_until(lambda: not node.catalogue.studies.unmatched(), 30, "the study settles")
        assert len(node.catalogue.runs.all()) == 1
        assert [row.own_output for row in node.catalogue.instances.all()].count(True) == 1
