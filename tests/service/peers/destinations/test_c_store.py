"""The sender: each status by its class, each fault of a peer survived."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pynetdicom import AE, evt

from mirv.config.settings.keeping import Delivery
from mirv.config.settings.network import Destination
from mirv.service.peers.destinations.c_store import send
from mirv.service.peers.destinations.outcome import Outgoing, judge, next_delay
from tests.peers import free_port, orthanc
from tests.service.wire import CT, three_slices

MR = "1.2.840.10008.5.1.4.1.1.4"


@contextmanager
def archive(answer: Callable[[evt.Event], int]) -> Iterator[Destination]:
    """A storage SCP for CT that answers as told."""
    ae, port = AE("ARCHIVE"), free_port()
    ae.add_supported_context(CT)
    server = ae.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, answer)]
    )
    try:
        yield Destination(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port)
    finally:
        ae.shutdown()
        server.server_close()


@pytest.fixture
def files(tmp_path: Path) -> list[Outgoing]:
    return three_slices(tmp_path)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, "delivered"),
        (0xB000, "delivered"),
        (0xB006, "delivered"),
        (0xB007, "delivered"),
        (0x0111, "delivered"),  # there since an earlier try: our UIDs are our contents'
        (0xA700, "retry"),
        (0xA701, "retry"),
        (0xA900, "park"),
        (0xC000, "park"),
        (0xC211, "park"),
        (0x0122, "park"),
        (0x0124, "park"),
    ],
)
def test_a_status_is_judged_by_its_class(status: int, verdict: str) -> None:
    outcome = judge(7, status, "said the peer")
    assert (outcome.delivery_id, outcome.verdict, outcome.status) == (7, verdict, status)
    assert outcome.detail == f"status 0x{status:04X}: said the peer"


def test_each_object_has_its_own_outcome(files: list[Outgoing]) -> None:
    statuses = {"1.2.3.1": 0x0000, "1.2.3.2": 0xA700, "1.2.3.3": 0xC000}
    with archive(lambda event: statuses[event.request.AffectedSOPInstanceUID]) as destination:
        outcomes = send(destination, files, "MIRV")
    assert [(one.delivery_id, one.verdict) for one in outcomes] == [
        (1, "delivered"),
        (2, "retry"),
        (3, "park"),
    ]


def test_nobody_there_is_tried_again(files: list[Outgoing]) -> None:
    nobody = Destination(name="n", ae_title="N", host="127.0.0.1", port=free_port())
    assert {one.verdict for one in send(nobody, files, "MIRV")} == {"retry"}


def test_a_peer_that_goes_in_the_middle_is_tried_again_from_there(files: list[Outgoing]) -> None:
    def answer(event: evt.Event) -> int:
        if event.request.AffectedSOPInstanceUID == "1.2.3.2":
            event.assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        return 0

    with archive(answer) as destination:
        outcomes = send(destination, files, "MIRV")
    assert [one.verdict for one in outcomes] == ["delivered", "retry", "retry"]


def test_a_class_the_peer_does_not_take_waits_for_a_person(files: list[Outgoing]) -> None:
    strange = Outgoing(9, MR, files[0].path)
    with archive(lambda _event: 0) as destination:
        (outcome,) = send(destination, [strange], "MIRV")
        assert outcome.verdict == "park"
        assert MR in outcome.detail
        mixed = send(destination, [files[1], strange], "MIRV")
    assert mixed[0].verdict == "delivered"


def test_delays_double_up_to_their_limit_and_are_spread() -> None:
    wanted = Delivery(first_retry_s=4, longest_retry_s=100)
    for attempts, longest in ((0, 4), (1, 8), (4, 64), (5, 100), (10_000, 100)):
        delays = [next_delay(attempts, wanted) for _ in range(200)]
        assert longest / 2 <= min(delays)
        assert max(delays) <= longest
        assert max(delays) - min(delays) > longest / 10


@pytest.mark.peers
def test_orthanc_has_it_once_however_often_it_is_sent(
    files: list[Outgoing], tmp_path: Path
) -> None:
    with orthanc(tmp_path / "orthanc") as peer:
        destination = Destination(
            name="o", ae_title="ORTHANC", host="127.0.0.1", port=peer.dicom_port
        )
        for _ in range(2):
            outcomes = send(destination, files, "MIRV")
            assert [one.verdict for one in outcomes] == ["delivered"] * 3
        assert len(peer.find("Instance", StudyInstanceUID="1.2.3")) == 3
