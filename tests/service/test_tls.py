"""TLS both ways: strangers stay out, silent clients block no one."""

import ssl
import subprocess
from pathlib import Path

import pytest

from config.settings import Destination, Tls
from service.sender import Outgoing, send
from service.tls import client_context
from tests.peers import PEER_ENVIRONMENT, orthanc, storescu
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
        plain = subprocess.run(
            ["echoscu", "-aec", "MIRV", "127.0.0.1", str(node.port)],
            env=PEER_ENVIRONMENT, capture_output=True, check=False,
        )  # fmt: skip
        assert plain.returncode != 0


@pytest.mark.peers
def test_orthanc_and_node_speak_tls_both_ways(tmp_path: Path, ours: Tls) -> None:
    path = tmp_path / "ct.dcm"
    path.write_bytes(part10(ct_slice()))
    peer_identity = certificates.identity(ours.trusted, "orthanc")
    with (
        serving(tmp_path / "node", tls=ours) as node,
        orthanc(
            tmp_path / "orthanc",
            DicomTlsEnabled=True,
            DicomTlsCertificate=str(peer_identity.certificate),
            DicomTlsPrivateKey=str(peer_identity.key),
            DicomTlsTrustedCertificates=str(peer_identity.trusted),
            DicomModalities={
                "NODE": {"AET": "MIRV", "Host": "127.0.0.1", "Port": node.port, "UseDicomTls": True}
            },
        ) as peer,
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
