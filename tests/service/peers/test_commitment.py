"""Storage commitment both ways, answered on the same association or on a new one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt

from mirv.config.settings.network import Destination
from mirv.service.peers.commitment import (
    PUSH_INSTANCE,
    PUSH_MODEL,
    CommitmentCalls,
    Reference,
    Report,
    answer,
    read_report,
    read_request,
    request,
)
from mirv.service.peers.destinations.c_store import send
from mirv.service.peers.destinations.commit import report_commitment, request_commitment
from mirv.service.peers.destinations.outcome import Outgoing
from mirv.service.peers.statuses import NO_SUCH_INSTANCE
from tests.peers import free_port, orthanc, wait_until
from tests.service.wire import CT, associate, ct_slice, part10, serving, store_status

STORED, FORGOTTEN = Reference(CT, "1.2.3.1"), Reference(CT, "1.2.3.99")


def test_requests_and_reports_read_back_as_written() -> None:
    assert read_request(request("1.9", [STORED, FORGOTTEN])) == ("1.9", (STORED, FORGOTTEN))
    kind, information = answer("1.9", [STORED], [(FORGOTTEN, NO_SUCH_INSTANCE)])
    assert kind == 2
    assert read_report(information) == Report(
        "1.9", frozenset({"1.2.3.1"}), {"1.2.3.99": NO_SUCH_INSTANCE}
    )
    assert answer("1.9", [STORED], [])[0] == 1
    assert read_report(Dataset()) == Report("", frozenset(), {})


@contextmanager
def archive(folder: Path, *, keeps: bool) -> Iterator[tuple[Destination, list[str]]]:
    """A storage SCP that answers commitment on the same association, and may forget."""
    ae, port, kept = AE("ARCHIVE"), free_port(), list[str]()
    ae.add_supported_context(CT)
    ae.add_supported_context(PUSH_MODEL)

    def store(event: evt.Event) -> int:
        if keeps:
            kept.append(event.request.AffectedSOPInstanceUID)
        return 0

    def act(event: evt.Event) -> tuple[int, None]:
        transaction, references = read_request(event.action_information)
        there = [one for one in references if one.sop_instance_uid in kept]
        gone = [(one, NO_SUCH_INSTANCE) for one in references if one not in there]
        kind, information = answer(transaction, there, gone)
        threading.Timer(
            0.1,
            event.assoc.send_n_event_report,
            (information, kind, PUSH_MODEL, PUSH_INSTANCE),
        ).start()
        return 0, None

    server = ae.start_server(
        ("127.0.0.1", port),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, store), (evt.EVT_N_ACTION, act)],
    )
    try:
        yield Destination(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port), kept
    finally:
        ae.shutdown()
        server.server_close()


@pytest.mark.parametrize("keeps", [True, False])
def test_an_answer_on_the_same_association_is_heard(tmp_path: Path, keeps: bool) -> None:
    path = tmp_path / "ct.dcm"
    path.write_bytes(part10(ct_slice()))
    reports: list[Report] = []
    with archive(tmp_path, keeps=keeps) as (destination, _):
        (outcome,) = send(destination, [Outgoing(1, CT, path)], "MIRV")
        assert outcome.verdict == "delivered"
        refusal = request_commitment(
            destination, "1.9", [STORED], "MIRV", reports.append, lambda: bool(reports)
        )
    assert refusal == ""
    (report,) = reports
    assert report.committed == ({"1.2.3.1"} if keeps else set())
    assert report.failed == ({} if keeps else {"1.2.3.1": NO_SUCH_INSTANCE})


def test_a_destination_that_does_not_offer_it_says_so(tmp_path: Path) -> None:
    port = free_port()
    ae = AE("PLAIN")
    ae.add_supported_context(CT)
    server = ae.start_server(("127.0.0.1", port), block=False)
    destination = Destination(name="plain", ae_title="PLAIN", host="127.0.0.1", port=port)
    refusal = request_commitment(
        destination, "1.9", [STORED], "MIRV", lambda _report: None, lambda: True
    )
    ae.shutdown()
    server.server_close()
    assert refusal == f"the peer does not accept SOP class {PUSH_MODEL}"


@pytest.mark.peers
def test_orthanc_reports_on_a_new_association_to_the_listener(tmp_path: Path) -> None:
    path = tmp_path / "ct.dcm"
    path.write_bytes(part10(ct_slice()))
    reports: list[Report] = []
    with serving(tmp_path / "node") as node:
        node.listener._commitment = CommitmentCalls(report=reports.append)
        with orthanc(tmp_path / "orthanc", {"NODE": ("MIRV", node.port)}) as peer:
            destination = Destination(
                name="o", ae_title="ORTHANC", host="127.0.0.1", port=peer.dicom_port
            )
            send(destination, [Outgoing(1, CT, path)], "MIRV")
            refusal = request_commitment(
                destination,
                "1.9.9",
                [STORED, FORGOTTEN],
                "MIRV",
                reports.append,
                lambda: bool(reports),
            )
            assert refusal == ""
            wait_until(lambda: reports, 10, "Orthanc reports")
    assert reports == [Report("1.9.9", frozenset({"1.2.3.1"}), {"1.2.3.99": NO_SUCH_INSTANCE})]


@pytest.mark.peers
def test_the_node_commits_itself_to_orthanc_to_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "ct.dcm"
    path.write_bytes(part10(ct_slice()))
    asked: list[tuple[str, int, Dataset]] = []
    with serving(tmp_path / "node") as node:
        node.listener._commitment = CommitmentCalls(request=lambda *what: asked.append(what))
        with orthanc(tmp_path / "orthanc", {"NODE": ("MIRV", node.port)}) as peer:
            peer.upload([path])
            transaction = peer.send_and_ask("NODE", "1.2.3")
            wait_until(lambda: asked, 10, "Orthanc asks")
            ((calling, kind, information),) = asked
            assert calling == "ORTHANC"
            back = Destination(name="o", ae_title="ORTHANC", host="127.0.0.1", port=peer.dicom_port)
            assert report_commitment(back, kind, information, "MIRV") == ""
            state = peer.commitment(transaction)
    assert state["Status"] == "Success"
    assert len(state["Success"]) == 1


def test_the_node_does_not_commit_itself_to_what_it_does_not_hold(tmp_path: Path) -> None:
    asked: list[tuple[str, int, Dataset]] = []
    with serving(tmp_path) as node:
        node.listener._commitment = CommitmentCalls(request=lambda *what: asked.append(what))
        with associate(node.port, [CT, PUSH_MODEL]) as association:
            assert store_status(association, ct_slice()) == 0
            wrong_class = Reference("1.2.840.10008.5.1.4.1.1.4", "1.2.3.1")
            wanted = request("1.9", [STORED, FORGOTTEN, wrong_class])
            response, _ = association.send_n_action(wanted, 1, PUSH_MODEL, PUSH_INSTANCE)
            assert response.Status == 0
            response, _ = association.send_n_action(
                request("1.9", []), 1, PUSH_MODEL, PUSH_INSTANCE
            )
            assert response.Status != 0
    ((_, kind, information),) = asked
    assert kind == 2
    assert [one.ReferencedSOPInstanceUID for one in information.ReferencedSOPSequence] == [
        "1.2.3.1"
    ]
    assert [one.FailureReason for one in information.FailedSOPSequence] == [0x0112, 0x0119]
