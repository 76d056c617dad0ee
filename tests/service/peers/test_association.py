"""One identity to every peer, whatever is asked of it, and no 40 ms lost to Nagle's algorithm."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt

from mirv.analysis.errors import Transient, Unsuitable
from mirv.config.settings.network import Destination, Source
from mirv.dicom_io.standard.classes import EXPLICIT
from mirv.dicom_io.standard.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from mirv.service.peers.association import NoAssociation, Proposal, associated
from mirv.service.peers.commitment import PUSH_MODEL, Reference, answer
from mirv.service.peers.destinations.c_store import send
from mirv.service.peers.destinations.commit import report_commitment, request_commitment
from mirv.service.peers.destinations.outcome import Outgoing
from mirv.service.peers.sources.fetch import fetch_series
from mirv.service.peers.sources.query import FIND, GET, MOVE, studies_of
from tests.peers import PEER_ENVIRONMENT, free_port, stop, wait_until
from tests.service.wire import CT, associate, serving, three_slices

OURS = (IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME)
MR = "1.2.840.10008.5.1.4.1.1.4"
UNCOMPRESSED = ["1.2.840.10008.1.2", EXPLICIT]


Find = Callable[[evt.Event], Iterator[tuple[int, Dataset | None]]]


def find_one(_event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
    found = Dataset()
    found.StudyInstanceUID = "1.2.3"
    yield 0xFF00, found


@contextmanager
def pacs(find: Find = find_one) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """A PACS with a series it sends nothing of; its port, and who has associated with it."""
    ae, port, seen = AE("PACS"), free_port(), list[tuple[str, str]]()
    for sop_class in (CT, FIND, GET, MOVE, PUSH_MODEL):
        ae.add_supported_context(sop_class, UNCOMPRESSED, scu_role=True, scp_role=True)

    def note(event: evt.Event) -> None:
        asking = event.assoc.requestor
        seen.append((str(asking.implementation_class_uid), asking.implementation_version_name))

    def get(_event: evt.Event) -> Iterator[Any]:
        yield 0

    def move(_event: evt.Event) -> Iterator[Any]:
        yield "127.0.0.1", free_port()
        yield 0

    server = ae.start_server(
        ("127.0.0.1", port),
        block=False,
        evt_handlers=[
            (evt.EVT_ACCEPTED, note),
            (evt.EVT_C_STORE, lambda _event: 0),
            (evt.EVT_C_FIND, find),
            (evt.EVT_C_GET, get),
            (evt.EVT_C_MOVE, move),
            (evt.EVT_N_ACTION, lambda _event: (0, None)),
            (evt.EVT_N_EVENT_REPORT, lambda _event: (0, None)),
        ],
    )
    try:
        yield port, seen
    finally:
        ae.shutdown()
        server.server_close()


def source(port: int, method: str) -> Source:
    return Source.model_validate(
        {"name": "pacs", "method": method, "ae_title": "PACS", "host": "127.0.0.1", "port": port}
    )


def test_peers_see_one_node_however_they_are_spoken_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undelayed: list[bool] = []
    real = AE.associate

    def watched(self: AE, *where: Any, **how: Any) -> Any:
        made = real(self, *where, **how)
        option = made.dul.socket.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        undelayed.append(option != 0)
        return made

    monkeypatch.setattr(AE, "associate", watched)
    with pacs() as (port, seen):
        to = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
        assert send(to, three_slices(tmp_path)[:1], "MIRV")[0].verdict == "delivered"
        one = Reference(CT, "1.2.3.1")
        assert request_commitment(to, "1.9", [one], "MIRV", lambda _: None, lambda: True) == ""
        assert report_commitment(to, *answer("1.9", [one], []), "MIRV") == ""
        assert studies_of(source(port, "c-get"), "P", "20200101", "20200102", "MIRV")
        for method in ("c-get", "c-move"):
            assert fetch_series(source(port, method), "1.2.3", "1.2.3.0", "MIRV", id) == 0
    assert seen == [OURS] * 6
    assert undelayed == [True] * 6


def test_a_query_whose_answers_do_not_end_is_given_up(tmp_path: Path) -> None:
    """Three times as many as are read: they are no longer asked for, and none of them counts."""
    sent: list[int] = []

    def find(_event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        for number in range(3000):
            found = Dataset()
            found.StudyInstanceUID = f"1.2.{number}"
            sent.append(number)
            yield 0xFF00, found

    with pacs(find) as (port, _), pytest.raises(Unsuitable, match="found more than 1000 answers"):
        studies_of(source(port, "c-get"), "P", "", "", "MIRV")
    assert len(sent) < 3000


def test_who_calls_meets_the_same_node(tmp_path: Path) -> None:
    with serving(tmp_path) as node, associate(node.port) as association:
        met = association.acceptor
        assert (met.implementation_class_uid, met.implementation_version_name) == OURS


@pytest.mark.peers
def test_dcmtk_sees_who_sends(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            ["storescp", "-d", "--ignore", str(port)],
            env=PEER_ENVIRONMENT, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        to = Destination(name="d", ae_title="DCMTK", host="127.0.0.1", port=port)
        files: list[Outgoing] = three_slices(tmp_path)[:1]
        wait_until(lambda: send(to, files, "MIRV")[0].verdict == "delivered", 10, "it is sent")
    finally:
        stop(process)
    theirs = {
        line.partition(":")[2].strip(": ").partition(": ")[2].strip()
        for line in log.read_text("utf-8", "replace").splitlines()
        if "Their Implementation" in line
    }
    assert set(OURS) <= theirs


def test_no_association_says_whose_and_whether_another_try_helps() -> None:
    with pacs() as (port, _):
        with pytest.raises(NoAssociation) as refused, associated(far(port), "MIRV", of(MR)):
            pass
        with associated(far(port), "MIRV", of(CT)) as made:
            assert made.is_established
        assert made.is_released
    assert str(refused.value) == f"far: the peer does not accept SOP class {MR}"
    assert (refused.value.why, refused.value.for_good) == (str(refused.value)[5:], True)
    with (
        pytest.raises(Transient, match="far: no association") as nobody,
        associated(far(free_port()), "MIRV", of(CT)),
    ):
        pass
    assert isinstance(nobody.value, NoAssociation)
    assert not nobody.value.for_good


def far(port: int) -> Destination:
    return Destination(name="far", ae_title="PACS", host="127.0.0.1", port=port)


def of(sop_class: str) -> Proposal:
    return Proposal([(sop_class, (EXPLICIT,))])
