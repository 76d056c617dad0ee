"""PACS.md's fault table, row by row, as far as strangers on the wire can cause it."""

import contextlib
import gc
import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset

from mirv.service.peers.commitment import PUSH_INSTANCE, PUSH_MODEL, CommitmentCalls, Report
from tests.peers import wait_until
from tests.service.wire import (
    CT,
    Serving,
    associate,
    associate_request,
    ct_slice,
    dial,
    encoded,
    ended,
    serving,
    store_status,
)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path, acse_timeout_s=1, network_timeout_s=2) as running:
        yield running


def p_data(content: bytes, *, command: bool, last: bool) -> bytes:
    """A P-DATA-TF PDU with one fragment in context 1."""
    header = int(command) | int(last) << 1
    value = struct.pack(">IBB", len(content) + 2, 1, header) + content
    return struct.pack(">BxI", 4, len(value)) + value


def store_command(uid: bytes = b"1.2.3.1\0") -> bytes:
    """A C-STORE-RQ command set, implicit little endian."""
    return command_set(
        (0x0002, _even(CT)), (0x0100, _US(1)), (0x0110, _US(7)), (0x0700, _US(2)),
        (0x0800, _US(1)), (0x1000, uid),
    )  # fmt: skip


def command_set(*elements: tuple[int, bytes]) -> bytes:
    """A command set of these elements of group 0000, implicit little endian."""
    body = b"".join(
        struct.pack("<HHI", 0, number, len(value)) + value for number, value in elements
    )
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def _US(number: int) -> bytes:  # noqa: N802 - the VR's own name
    return struct.pack("<H", number)


def _even(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


def associated(node: Serving, sop_class: str = CT) -> socket.socket:
    """A bare connection with an accepted association."""
    connection = dial(node.port)
    connection.sendall(associate_request(sop_class=sop_class))
    assert connection.recv(4096)[0] == 2, "A-ASSOCIATE-AC"
    return connection


@pytest.mark.parametrize("content", [b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\xff" * 4096])
def test_garbage_ends_its_connection_only(node: Serving, content: bytes) -> None:
    with associate(node.port) as association:
        with dial(node.port) as stranger:
            stranger.sendall(content)
            assert ended(stranger, 5)
        assert store_status(association, ct_slice()) == 0


def test_garbage_is_not_a_flood_in_the_log(
    node: Serving, capfd: pytest.CaptureFixture[str]
) -> None:
    strangers = [dial(node.port) for _ in range(20)]
    for stranger in strangers:
        stranger.sendall(b"\xff" * 512)
    for stranger in strangers:
        assert ended(stranger, 5)
        stranger.close()
    said = capfd.readouterr()
    assert len((said.out + said.err).splitlines()) <= 20


@pytest.mark.parametrize("established", [False, True])
def test_a_pdu_of_4_gib_is_not_read(node: Serving, established: bool) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    connection = associated(node) if established else dial(node.port)
    with connection:
        connection.sendall(struct.pack(">BxI", 4 if established else 1, 0xFFFFFFFF))
        sent = 0
        try:
            while sent < 300 * 1024**2:
                sent += connection.send(bytes(1024**2))
        except OSError:
            pass
        assert sent < 300 * 1024**2, "the node went on reading"
    assert node.echoes()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_a_data_set_beyond_the_limit_ends_its_association(tmp_path: Path) -> None:
    with serving(tmp_path, max_object_mb=1) as node:
        with associated(node) as connection:
            connection.sendall(p_data(store_command(), command=True, last=True))
            with pytest.raises(OSError):
                for _ in range(400):
                    connection.sendall(p_data(bytes(65536), command=False, last=False))
        assert node.echoes()
        assert node.files == []


def test_a_command_without_end_ends_its_association(node: Serving) -> None:
    with associated(node) as connection, pytest.raises(OSError):
        for _ in range(400):
            connection.sendall(p_data(bytes(65536), command=True, last=False))
    assert node.echoes()


def test_who_does_not_wait_for_answers_waits_to_be_read(
    node: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands in two fragments are read by pynetdicom, which would read on without end."""
    disk, stage = threading.Event(), node.spool.stage
    monkeypatch.setattr(
        node.spool, "stage", lambda *parts, **more: disk.wait(30) and stage(*parts, **more)
    )
    data = encoded(ct_slice())
    with associated(node) as connection:
        for _ in range(12):
            command = store_command()
            connection.sendall(p_data(command[:40], command=True, last=False))
            connection.sendall(p_data(command[40:], command=True, last=True))
            connection.sendall(p_data(data, command=False, last=True))
        server = node.listener._server
        assert server is not None
        (association,) = server.active_associations
        wait_until(association.dul.socket.is_full, 5, "as many are under way as may be")
        time.sleep(0.3)
        assert association.dimse.msg_queue.qsize() <= 4
        disk.set()
        connection.settimeout(20)
        answers = 0
        while answers < 12:
            answers += connection.recv(65536).count(struct.pack("<HHIH", 0, 0x0900, 2, 0))
    assert len(node.store.instances.all()) == 1


def test_reports_that_pile_up_are_not_a_thread_each(
    node: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue, begun = threading.Event(), []

    def slow(report: Report) -> None:
        begun.append(report)
        catalogue.wait(30)

    monkeypatch.setattr(node.listener, "_commitment", CommitmentCalls(report=slow))
    information = Dataset()
    information.TransactionUID = "1.2.3"
    with associated(node, PUSH_MODEL) as connection:
        for number in range(60):
            command = command_set(
                (0x0002, _even(PUSH_MODEL)), (0x0100, _US(0x0100)), (0x0110, _US(number + 1)),
                (0x0800, _US(1)), (0x1000, _even(PUSH_INSTANCE)), (0x1002, _US(1)),
            )  # fmt: skip
            connection.sendall(p_data(command, command=True, last=True))
            connection.sendall(p_data(encoded(information), command=False, last=True))
        wait_until(lambda: len(begun) >= 4, 5, "as many are served as may be")
        time.sleep(0.3)
        assert len(begun) <= 12
        catalogue.set()
        wait_until(lambda: len(begun) == 60, 20, "all are served")


@pytest.mark.parametrize(
    "head",
    [b"", b"\x01\x00\x00", associate_request()[:40]],
    ids=["silent", "partial header", "partial request"],
)
def test_a_connection_that_asks_for_nothing_is_ended(node: Serving, head: bytes) -> None:
    with dial(node.port) as connection:
        connection.sendall(head)
        assert ended(connection, 6)


def test_a_dripping_request_is_ended_in_the_time_of_a_whole_one(node: Serving) -> None:
    with dial(node.port) as connection:
        started = time.monotonic()
        with pytest.raises(OSError):
            for byte in associate_request():
                connection.sendall(bytes((byte,)))
                time.sleep(0.1)
                assert time.monotonic() - started < 8, "still open"


def test_a_dripping_object_is_ended_in_the_time_of_a_whole_pdu(node: Serving) -> None:
    with associated(node) as connection:
        started = time.monotonic()
        with pytest.raises(OSError):
            for byte in p_data(store_command(), command=True, last=True):
                connection.sendall(bytes((byte,)))
                time.sleep(0.1)
                assert time.monotonic() - started < 10, "still open"


def test_silent_connections_take_no_association_from_others(tmp_path: Path) -> None:
    with serving(tmp_path, max_associations=2, acse_timeout_s=5) as node:
        silent = [dial(node.port) for _ in range(50)]
        assert node.echoes()
        for connection in silent:
            connection.close()


def test_connections_beyond_1024_descriptors_are_served_as_all_others(tmp_path: Path) -> None:
    with serving(tmp_path) as node, contextlib.ExitStack() as filling:
        for _ in range(1100):
            filling.callback(os.close, os.dup(0))
        with associate(node.port) as association:  # and the requestor's own socket too
            assert association.dul.socket.socket.fileno() >= 1024
            assert store_status(association, ct_slice()) == 0


@pytest.fixture
def nofile() -> Iterator[tuple[int, int]]:
    """Limits of open files, given back in the end as far as they can be."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_as_many_open_files_are_allowed_as_the_connections_need(
    tmp_path: Path, nofile: tuple[int, int]
) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (700, nofile[1]))
    with serving(tmp_path, max_associations=50):
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 2 * (50 + 500)


def test_it_says_when_fewer_open_files_are_allowed_than_the_connections_need(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], nofile: tuple[int, int]
) -> None:
    with serving(tmp_path, max_associations=nofile[1]) as node:
        assert node.echoes()
    said = capfd.readouterr()
    assert "too few open files allowed" in said.out + said.err


def test_a_context_without_transfer_syntax_ends_its_association(
    node: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended pynetdicom's thread with an IndexError, one of some 100,000 mutated PDUs."""
    faults: list[object] = []
    monkeypatch.setattr(threading, "excepthook", faults.append)
    with dial(node.port) as connection:
        connection.sendall(associate_request(syntaxes=()))
        assert ended(connection, 5)
    assert node.echoes()
    assert faults == []


def open_files() -> int:
    """Descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_descriptors_come_back_without_a_collection(node: Serving) -> None:
    assert node.echoes()
    gc.collect()
    before = open_files()
    gc.disable()
    try:
        for _ in range(20):
            assert node.echoes()
        wait_until(lambda: open_files() <= before + 3, 10, "descriptors come back")
    finally:
        gc.enable()


def test_over_the_limit_is_refused_for_now(tmp_path: Path) -> None:
    with (
        serving(tmp_path, max_associations=2) as node,
        associate(node.port) as first,
    ):
        with associate(node.port) as second, associate(node.port) as third:
            assert first.is_established
            assert second.is_established
            transient = 2
            assert third.is_rejected
            assert third.acceptor.primitive.result == transient
        wait_until(node.echoes, 5, "a place comes free")


def test_a_sender_cut_in_mid_object_leaves_nothing(node: Serving) -> None:
    with associated(node) as connection:
        connection.sendall(p_data(store_command(), command=True, last=True))
        connection.sendall(p_data(encoded(ct_slice())[:400], command=False, last=False))
    assert node.echoes()
    assert node.files == []
    assert node.store.instances.all() == []


def test_two_associations_may_send_the_same_object_at_once(node: Serving) -> None:
    statuses: list[int] = []

    def send() -> None:
        with associate(node.port) as association:
            statuses.extend(store_status(association, ct_slice(n)) for n in range(10))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0] * 40
    assert len(node.files) == len(node.store.instances.all()) == 10
