"""C-STORE requests gathered from the wire: whole, in any fragments, or not at all."""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mirv.service.inbound.wire import store_requests as stores_module
from mirv.service.inbound.wire.receive_buffer import Budget, Buffer
from tests.peers import wait_until
from tests.service.inbound.wire.test_server import associated, store_command
from tests.service.wire import (
    Serving,
    associate,
    ct_slice,
    encoded,
    ended,
    part10,
    serving,
    store_status,
)

SUCCESS, PROCESSING_FAILURE = 0, 0x0110
ABORT, RELEASE = struct.pack(">BxIxxBB", 7, 4, 0, 0), struct.pack(">BxIxxxx", 5, 4)
DATA = encoded(ct_slice())


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path, acse_timeout_s=2, network_timeout_s=5) as running:
        yield running


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """UIDs of requests that were gathered from the wire, not read by pynetdicom."""
    seen: list[str] = []
    real = stores_module._response

    def note(request: Any, *answer: Any) -> bytes:
        seen.append(request.command.sop_instance_uid)
        return real(request, *answer)

    monkeypatch.setattr(stores_module, "_response", note)
    return seen


def fragment(content: bytes, flags: int, context: int = 1) -> bytes:
    """One presentation data value."""
    return struct.pack(">IBB", len(content) + 2, context, flags) + content


def pdu(*fragments: bytes) -> bytes:
    """A P-DATA-TF of these."""
    body = b"".join(fragments)
    return struct.pack(">BxI", 4, len(body)) + body


def answer(connection: socket.socket) -> int:
    """Status of the C-STORE response that comes."""
    head = connection.recv(6, socket.MSG_WAITALL)
    kind, length = struct.unpack(">BxI", head)
    assert kind == 4, "P-DATA-TF"
    body = connection.recv(length, socket.MSG_WAITALL)
    place = body.index(struct.pack("<HHI", 0, 0x0900, 2)) + 8
    return int(struct.unpack_from("<H", body, place)[0])


COMMAND = fragment(store_command(), 3)


@pytest.mark.parametrize(
    ("pdus", "straight"),
    [
        ([pdu(COMMAND), pdu(fragment(DATA, 2))], True),
        ([pdu(COMMAND, fragment(DATA, 2))], True),
        ([pdu(COMMAND, fragment(DATA[:9], 0)), pdu(fragment(DATA[9:], 2))], True),
        ([pdu(COMMAND), *(pdu(fragment(bytes((one,)), 0)) for one in DATA), pdu(fragment(b"", 2))],
         True),
        ([pdu(fragment(store_command()[:40], 1), fragment(store_command()[40:], 3)),
          pdu(fragment(DATA, 2))], False),
        ([pdu(fragment(store_command()[:40], 1)), pdu(fragment(store_command()[40:], 3)),
          pdu(fragment(DATA[:9], 0)), pdu(fragment(DATA[9:], 2))], False),
    ],
    ids=["ordinary", "one PDU", "two", "a PDU a byte", "command in two", "command in two PDUs"],
)  # fmt: skip
def test_any_fragments_make_the_same_file(
    node: Serving, gathered: list[str], pdus: list[bytes], straight: bool
) -> None:
    with associated(node) as connection:
        for number in range(2):
            connection.sendall(b"".join(pdus))
            assert answer(connection) == SUCCESS
            assert len(gathered) == straight * (number + 1)
    (row,) = node.store.instances.all()
    assert node.spool.path(row.sha256).read_bytes() == part10(ct_slice())
    assert row.source == "RAW@127.0.0.1"


@pytest.mark.parametrize("largest", [16_000, 131_000, 1_000_000])
def test_objects_of_any_size_follow_one_another(
    node: Serving, gathered: list[str], largest: int
) -> None:
    """In memory that is used for one after the other."""
    made = [
        ct_slice(number, Rows=side, Columns=side, PixelData=bytes((number,)) * (2 * side * side))
        for number, side in enumerate((400, 8, 900, 8, 1500, 512))
    ]
    with associated(node) as connection:
        for one in made:
            data, uid = encoded(one), str(one.SOPInstanceUID).encode()
            connection.sendall(pdu(fragment(store_command(uid + bytes(len(uid) % 2)), 3)))
            for start in range(0, len(data), largest):
                last = 2 if start + largest >= len(data) else 0
                connection.sendall(pdu(fragment(data[start : start + largest], last)))
            assert answer(connection) == SUCCESS
    assert len(gathered) == len(made)
    kept = {node.spool.path(row.sha256).read_bytes() for row in node.store.instances.all()}
    assert kept == {part10(one) for one in made}


def test_an_association_that_has_ended_holds_no_memory(
    node: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Buffer] = []

    class Noted(Buffer):
        def __init__(self, budget: Budget) -> None:
            super().__init__(budget)
            made.append(self)

    monkeypatch.setattr(stores_module, "Buffer", Noted)
    with associated(node) as connection:
        connection.sendall(pdu(COMMAND, fragment(DATA, 2)))
        assert answer(connection) == SUCCESS
        assert [buffer.held > 0 for buffer in made] == [True]
    wait_until(lambda: made[0].held == 0, 5, "its memory is given back")


@pytest.mark.parametrize(
    "rest",
    [
        pdu(fragment(DATA, 2, context=3)),
        pdu(fragment(DATA, 0), fragment(b"", 2, context=3)),
        pdu(COMMAND),
        pdu(struct.pack(">IBB", 1 << 20, 1, 2) + DATA),
        pdu(struct.pack(">IBB", 1, 1, 2)),
        pdu(fragment(DATA, 2) + b"\0\0\0"),
        struct.pack(">BxI", 9, 0),
    ],
    ids=["context", "another context", "command", "too long", "too short", "rest", "unknown PDU"],
)
def test_who_breaks_the_rules_in_mid_object_is_ended(node: Serving, rest: bytes) -> None:
    with associated(node) as connection:
        connection.sendall(pdu(COMMAND, fragment(b"", 0)) + rest)
        assert ended(connection, 5)
    assert node.echoes()
    assert node.store.instances.all() == []


@pytest.mark.parametrize("end", [ABORT, RELEASE, b""], ids=["abort", "release", "closed"])
def test_an_object_that_is_given_up_leaves_nothing(node: Serving, end: bytes) -> None:
    with associated(node) as connection:
        connection.sendall(pdu(COMMAND, fragment(DATA[:50], 0)) + end)
        if end == RELEASE:
            assert connection.recv(10)[0] == 6, "A-RELEASE-RP"
    assert node.echoes()
    assert node.files == []
    wait_until(lambda: not established(node), 5, "the association has ended")


def established(node: Serving) -> list[Any]:
    """Associations that are open."""
    server = node.listener._server
    assert server is not None
    return [one for one in server.active_associations if one.is_established]


def test_one_object_that_cannot_be_handled_is_refused_and_the_next_is_taken(
    node: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: Any, **_named: Any) -> Callable[..., Any]:
        raise ZeroDivisionError

    with associate(node.port) as association:
        with monkeypatch.context() as patch:
            patch.setattr(node.spool, "stage", broken)
            assert store_status(association, ct_slice()) == PROCESSING_FAILURE
        assert store_status(association, ct_slice()) == SUCCESS
    assert len(node.store.instances.all()) == 1


def test_a_peer_of_tiny_pdus_is_served_too(node: Serving, gathered: list[str]) -> None:
    with associate(node.port, max_pdu=128) as association:
        assert store_status(association, ct_slice()) == SUCCESS
    assert gathered == []


def test_who_sends_an_object_for_long_is_not_idle(tmp_path: Path) -> None:
    """Its PDUs follow so closely that the reading thread never goes back to pynetdicom."""
    with (
        serving(tmp_path, acse_timeout_s=2, network_timeout_s=0.5) as node,
        associated(node) as connection,
    ):
        connection.sendall(pdu(COMMAND))
        began = time.monotonic()
        while time.monotonic() - began < 1.5:
            connection.sendall(pdu(fragment(b"", 0)))
        connection.sendall(pdu(fragment(DATA, 2)))
        assert answer(connection) == SUCCESS


@pytest.mark.parametrize(
    "request_pdu",
    [
        pdu(COMMAND, fragment(DATA, 2)),
        pdu(fragment(store_command()[:40], 1), fragment(store_command()[40:], 3))
        + pdu(fragment(DATA, 2)),
    ],
    ids=["gathered here", "read by pynetdicom"],
)
def test_who_waits_for_a_slow_disk_is_not_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_pdu: bytes
) -> None:
    with serving(tmp_path, acse_timeout_s=2, network_timeout_s=0.5) as node:
        stage = node.spool.stage

        def slowly(*arguments: Any, **named: Any) -> Any:
            time.sleep(1)
            return stage(*arguments, **named)

        monkeypatch.setattr(node.spool, "stage", slowly)
        with associated(node) as connection:
            for _ in range(2):
                connection.sendall(request_pdu)
                assert answer(connection) == SUCCESS
            connection.sendall(RELEASE)
            assert connection.recv(10)[0] == 6, "A-RELEASE-RP"
