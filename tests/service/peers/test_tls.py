"""TLS both ways: strangers stay out, silent clients block no one."""

import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from mirv.config.settings.network import Destination, Tls
from mirv.service.peers.commitment import CommitmentCalls, Reference, Report
from mirv.service.peers.destinations.c_store import send
from mirv.service.peers.destinations.commit import report_commitment, request_commitment
from mirv.service.peers.destinations.outcome import Outgoing
from mirv.service.peers.tls import client_context
from tests.peers import PEER_ENVIRONMENT, Orthanc, free_port, orthanc, stop, storescu, wait_until
from tests.service import certificates
from tests.service.wire import CT, associate, ct_slice, dial, ended, part10, serving, store_status


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    issuer = certificates.authority(tmp_path_factory.mktemp("ours"))
    return certificates.identity(issuer, "node")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory, ours: Tls) -> Tls:
    """Signed by an authority the node does not know; trusts the node's."""
    issuer = certificates.authority(tmp_path_factory.mktemp("strangers"))
    made = certificates.identity(issuer, "stranger")
    return made.model_copy(update={"trusted": ours.trusted})


def test_known_peers_are_served_strangers_and_plain_ones_are_not(
    tmp_path: Path, ours: Tls, strangers: Tls
) -> None:
    bare = ssl.create_default_context(cafile=str(ours.trusted))
    with serving(tmp_path, tls=ours, acse_timeout_s=1) as node:
        with associate(node.port, tls_args=(client_context(ours), "127.0.0.1")) as association:
            assert store_status(association, ct_slice()) == 0
        for context in (client_context(strangers), bare):
            with associate(node.port, tls_args=(context, "127.0.0.1")) as association:
                assert not association.is_established
        with associate(node.port) as association:
            assert not association.is_established
        assert len(node.store.instances.all()) == 1


def test_old_versions_are_not_spoken(tmp_path: Path, ours: Tls) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(ours.trusted)
    old.load_cert_chain(ours.certificate, ours.key)
    with pytest.warns(DeprecationWarning):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with (
        serving(tmp_path, tls=ours, acse_timeout_s=1) as node,
        dial(node.port) as connection,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        old.wrap_socket(connection, server_hostname="127.0.0.1")


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"], ids=["silent", "partial hello"])
def test_clients_that_never_shake_hands_block_no_one(
    tmp_path: Path, ours: Tls, said: bytes
) -> None:
    with serving(tmp_path, tls=ours, acse_timeout_s=3) as node:
        silent = [dial(node.port) for _ in range(20)]
        for connection in silent:
            connection.sendall(said)
        with associate(node.port, tls_args=(client_context(ours), "127.0.0.1")) as association:
            assert association.is_established
        for connection in silent:
            assert ended(connection, 8)
            connection.close()


@pytest.mark.peers
def test_dcmtk_sends_over_tls(tmp_path: Path, ours: Tls, strangers: Tls) -> None:
    path = tmp_path / "ct.dcm"
    path.write_bytes(part10(ct_slice()))
    with serving(tmp_path / "node", tls=ours) as node:
        for who, welcome in ((ours, True), (strangers, False)):
            sent = storescu(
                node.port, [path], "MIRV", "DCMTK",
                "+tls", str(who.key), str(who.certificate), "+cf", str(who.trusted),
            )  # fmt: skip
            assert (sent.returncode == 0) is welcome, sent.stderr
        plain = storescu(node.port, [path], "MIRV", "DCMTK")
        assert plain.returncode != 0
        nameless = storescu(node.port, [path], "MIRV", "DCMTK", "+tla", "+cf", str(ours.trusted))
        assert nameless.returncode != 0
        assert len(node.store.instances.all()) == 1


@pytest.mark.peers
def test_dcmtk_receives_over_tls_from_whom_it_knows(
    tmp_path: Path, ours: Tls, strangers: Tls
) -> None:
    path, port = tmp_path / "ct.dcm", free_port()
    path.write_bytes(part10(ct_slice()))
    (tmp_path / "received").mkdir()
    peer = certificates.identity(ours.trusted, "dcmtk")
    process = subprocess.Popen(
        ["storescp", "+tls", str(peer.key), str(peer.certificate), "+cf", str(peer.trusted),
         "-rc", "-od", str(tmp_path / "received"), str(port)],
        env=PEER_ENVIRONMENT,
    )  # fmt: skip
    try:
        wait_until(lambda: _listens(port), 10, "storescp listens")
        to = Destination(name="d", ae_title="DCMTK", host="127.0.0.1", port=port, tls=ours)
        for tls, verdict in ((None, "retry"), (strangers, "retry"), (ours, "delivered")):
            changed = to.model_copy(update={"tls": tls})
            (outcome,) = send(changed, [Outgoing(1, CT, path)], "MIRV")
            assert outcome.verdict == verdict
            kept = list((tmp_path / "received").iterdir())
            assert len(kept) == (1 if verdict == "delivered" else 0)
    finally:
        stop(process)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.peers
def test_storage_commitment_both_ways_over_tls(tmp_path: Path, ours: Tls) -> None:
    """Node and Orthanc ask each other; each answers on a new association, all of it TLS."""
    path = tmp_path / "ct.dcm"
    path.write_bytes(part10(ct_slice()))
    reports: list[Report] = []
    asked: list[tuple[str, int, Dataset]] = []
    with serving(tmp_path / "node", tls=ours) as node, _orthanc_with_tls(
        tmp_path / "orthanc", ours, node.port, AllowStorageCommitment=True
    ) as peer:  # fmt: skip
        node.listener._commitment = CommitmentCalls(
            reports.append, lambda *what: asked.append(what)
        )
        to = Destination(
            name="o", ae_title="ORTHANC", host="127.0.0.1", port=peer.dicom_port, tls=ours
        )
        assert send(to, [Outgoing(1, CT, path)], "MIRV")[0].verdict == "delivered"
        wanted = [Reference(CT, "1.2.3.1")]
        refusal = request_commitment(
            to, "1.9", wanted, "MIRV", reports.append, lambda: bool(reports)
        )
        assert refusal == ""
        wait_until(lambda: reports, 10, "Orthanc reports")
        assert reports == [Report("1.9", frozenset({"1.2.3.1"}), {})]

        transaction = peer.send_and_ask("NODE", "1.2.3")
        wait_until(lambda: asked, 10, "Orthanc asks")
        ((_, kind, information),) = asked
        assert report_commitment(to, kind, information, "MIRV") == ""
        state = peer.commitment(transaction)
    assert (state["Status"], len(state["Success"])) == ("Success", 1)


@contextmanager
def _orthanc_with_tls(folder: Path, ours: Tls, node_port: int, **more: Any) -> Iterator[Orthanc]:
    identity = certificates.identity(ours.trusted, "orthanc")
    to_node = {"AET": "MIRV", "Host": "127.0.0.1", "Port": node_port, "UseDicomTls": True, **more}
    with orthanc(
        folder,
        DicomTlsEnabled=True,
        DicomTlsCertificate=str(identity.certificate),
        DicomTlsPrivateKey=str(identity.key),
        DicomTlsTrustedCertificates=str(identity.trusted),
        DicomModalities={"NODE": to_node},
    ) as peer:
        yield peer


@pytest.mark.peers
def test_orthanc_and_node_speak_tls_both_ways(tmp_path: Path, ours: Tls) -> None:
    path = tmp_path / "ct.dcm"
    path.write_bytes(part10(ct_slice()))
    with (
        serving(tmp_path / "node", tls=ours) as node,
        _orthanc_with_tls(tmp_path / "orthanc", ours, node.port) as peer,
    ):
        peer.upload([path])
        peer.send_to("NODE", "1.2.3")
        assert len(node.store.instances.all()) == 1
        sent = tmp_path / "other.dcm"
        sent.write_bytes(part10(ct_slice(2)))
        destination = Destination(
            name="o", ae_title="ORTHANC", host="127.0.0.1", port=peer.dicom_port, tls=ours
        )
        (outcome,) = send(destination, [Outgoing(1, CT, sent)], "MIRV")
        assert outcome.verdict == "delivered"
        assert len(peer.find("Instance", StudyInstanceUID="1.2.3")) == 2
        plain = destination.model_copy(update={"tls": None})
        (outcome,) = send(plain, [Outgoing(1, CT, sent)], "MIRV")
        assert outcome.verdict == "retry"
