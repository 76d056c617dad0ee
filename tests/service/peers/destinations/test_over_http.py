"""Delivery over HTTP: STOW-RS and Orthanc's interface, each answer by its class."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import SecretStr

from mirv.analysis.errors import Transient
from mirv.config.errors import SettingsError
from mirv.config.settings import load_settings
from mirv.config.settings.network import Tls, WebDestination
from mirv.service.peers.commitment import Reference, Report
from mirv.service.peers.destinations.orthanc import judge_orthanc
from mirv.service.peers.destinations.outcome import Outgoing
from mirv.service.peers.destinations.over_http import look_up, send
from mirv.service.peers.destinations.stow import judge_stow
from mirv.service.peers.statuses import NO_SUCH_INSTANCE
from tests.peers import Orthanc, free_port, orthanc
from tests.service import certificates
from tests.service.http_peer import archive
from tests.service.wire import CT, ct_slice, part10, three_slices

Method = Literal["stow-rs", "orthanc"]
STORED, FORGOTTEN = Reference(CT, "1.2.3.1"), Reference(CT, "1.2.3.99")


@pytest.fixture
def files(tmp_path: Path) -> list[Outgoing]:
    return three_slices(tmp_path)


def destination(url: str, method: Method = "stow-rs", **more: Any) -> WebDestination:
    return WebDestination(name="archive", method=method, url=url, **more)


def at(peer: Orthanc, method: Method) -> WebDestination:
    url = f"{peer.url}/dicom-web" if method == "stow-rs" else f"{peer.url}/"
    return destination(url, method, user="tester", password=SecretStr("tester"))


def stow_failure(*reasons: int) -> bytes:
    failed = [{"00081197": {"vr": "US", "Value": [reason]}} for reason in reasons]
    return json.dumps({"00081198": {"vr": "SQ", "Value": failed}}).encode()


def stow_success(*uids: str) -> bytes:
    stored = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in uids]
    return json.dumps({"00081199": {"vr": "SQ", "Value": stored}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, b"", "delivered"),
        (200, stow_success("1.2.3.7"), "delivered"),
        (202, stow_success("1.2.3.7"), "delivered"),  # stored with a warning
        (202, b"", "delivered"),
        (200, stow_success("1.2.3.8"), "park"),
        (200, b"<html>please log in</html>", "park"),
        (200, b'{"error": "quota exceeded"}', "park"),
        (200, b"{}", "park"),
        (202, b"{}", "park"),
        (200, b"[]", "park"),
        (200, b"null", "park"),
        (200, b'"1.2.3.7"', "park"),
        (200, b'{"00081199": {"vr": "SQ"}}', "retry"),  # Orthanc without room: names no object
        (200, b'{"00081198": {"vr": "SQ"}, "00081199": {"vr": "SQ"}}', "retry"),
        (200, b'{"00081199": {"vr": "SQ", "Value": ["1.2.3.7", {"00081155": 7}]}}', "park"),
        (200, b'{"00081198": {"vr": "SQ", "Value": []}}', "retry"),
        (200, b'{"00081199": 7}', "park"),
        (200, b"<NativeDicomModel>1.2.3.7</NativeDicomModel>", "park"),  # JSON was asked for
        (409, stow_failure(0x0111), "delivered"),  # there since an earlier try
        (200, stow_failure(0xA700), "retry"),
        (202, stow_failure(0xC000), "park"),
        (409, stow_failure(0xA702), "retry"),
        (409, stow_failure(0xA900), "park"),
        (409, stow_failure(0x0122), "park"),
        (409, stow_failure(0xC122), "park"),
        (409, stow_failure(0x0110), "retry"),  # Orthanc's word for a full disk, too
        (409, stow_failure(0xB000), "park"),  # listed as failed, whatever its range says
        (409, b"{}", "retry"),
        (409, b"<html>", "retry"),
        (409, b'{"00081198": {"Value": [{"00081197": {"Value": ["x"]}}]}}', "park"),
        (202, b"<html>", "park"),
        (202, b'{"00081198": {"Value": 7}}', "park"),
        (202, b"[" * 100_000, "park"),
        (400, b"", "park"),
        (401, b"", "park"),
        (404, b"", "park"),
        (413, b"", "park"),
        (408, b"", "retry"),
        (429, b"", "retry"),
        (500, b"", "retry"),
        (501, b"", "park"),
        (503, b"", "retry"),
        (507, b"", "retry"),
        (302, b"", "park"),
    ],
)
def test_an_answer_to_stow_is_judged_by_its_class(status: int, body: bytes, verdict: str) -> None:
    outcome = judge_stow(7, "1.2.3.7", status, body)
    assert (outcome.delivery_id, outcome.verdict, outcome.status) == (7, verdict, status)


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, b'{"Status": "Success"}', "delivered"),
        (200, b'{"Status": "AlreadyStored"}', "delivered"),
        (200, b'{"Status": "FilteredOut"}', "park"),
        (200, b"<html>a portal</html>", "park"),
        (400, b"", "park"),
        (403, b"", "park"),
        (500, b"", "retry"),
        (507, b"", "retry"),
    ],
)
def test_an_answer_of_orthanc_is_judged_by_its_class(
    status: int, body: bytes, verdict: str
) -> None:
    assert judge_orthanc(7, status, body).verdict == verdict


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as peer:
        yield peer


@pytest.mark.peers
@pytest.mark.parametrize("method", ["stow-rs", "orthanc"])
def test_orthanc_has_it_once_and_says_so(
    peer: Orthanc, files: list[Outgoing], method: Method
) -> None:
    for _ in range(2):
        outcomes = send(at(peer, method), files)
        assert [one.verdict for one in outcomes] == ["delivered"] * 3, outcomes
    assert look_up(at(peer, method), "1.9", [STORED, FORGOTTEN]) == Report(
        "1.9", frozenset({"1.2.3.1"}), {"1.2.3.99": NO_SUCH_INSTANCE}
    )
    instances = peer.find("Instance", StudyInstanceUID="1.2.3")
    sent = {one.path.read_bytes() for one in files}
    assert {peer.file(one) for one in instances} == sent
    assert len(instances) == 3


@pytest.mark.peers
@pytest.mark.parametrize("method", ["stow-rs", "orthanc"])
def test_orthanc_refuses_for_good_what_is_not_dicom_or_not_allowed(
    peer: Orthanc, files: list[Outgoing], method: Method
) -> None:
    files[1].path.write_bytes(b"not DICOM" * 100)
    outcomes = send(at(peer, method), files)
    assert [one.verdict for one in outcomes] == ["delivered", "park", "delivered"], outcomes
    stranger = at(peer, method).model_copy(update={"password": SecretStr("guess")})
    assert [one.verdict for one in send(stranger, files)] == ["park"] * 3
    with pytest.raises(Transient, match="lookup"):
        look_up(stranger, "1.9", [STORED])


@pytest.mark.peers
@pytest.mark.parametrize("method", ["stow-rs", "orthanc"])
def test_an_orthanc_without_room_is_asked_again_until_it_has_it(
    tmp_path: Path, method: Method
) -> None:
    """All is of one patient, so that there is no other whose objects it could recycle."""
    large = {"Rows": 600, "Columns": 512, "PixelData": bytes(600 * 1024)}
    old, new = tmp_path / "old.dcm", tmp_path / "new.dcm"
    old.write_bytes(part10(ct_slice(1, **large)))
    new.write_bytes(part10(ct_slice(2, **large)))
    limits = {"MaximumStorageSize": 1, "MaximumStorageMode": "Reject"}
    with orthanc(tmp_path / "orthanc", **limits) as full:
        full.upload([old])
        for _ in range(2):
            (outcome,) = send(at(full, method), [Outgoing(2, CT, new)])
            assert outcome.verdict == "retry", outcome
        (there,) = full.find("Instance", StudyInstanceUID="1.2.3")
        full.http.delete(f"/instances/{there}").raise_for_status()
        (outcome,) = send(at(full, method), [Outgoing(2, CT, new)])
        assert outcome.verdict == "delivered", outcome
        (there,) = full.find("Instance", StudyInstanceUID="1.2.3")
        assert full.file(there) == new.read_bytes()


def test_nobody_there_is_tried_again_without_asking_for_each(files: list[Outgoing]) -> None:
    outcomes = send(destination(f"http://127.0.0.1:{free_port()}"), files)
    assert [(one.delivery_id, one.verdict) for one in outcomes] == [
        (1, "retry"),
        (2, "retry"),
        (3, "retry"),
    ]


def test_an_endless_answer_is_not_read_to_its_end(files: list[Outgoing]) -> None:
    with archive() as server:
        server.body = bytes(9 << 20)
        url = f"http://127.0.0.1:{server.server_port}"
        assert {one.verdict for one in send(destination(url), files)} == {"retry"}
        with pytest.raises(Transient, match="more than"):
            look_up(destination(url, "orthanc"), "1.9", [STORED])


@pytest.mark.parametrize("body", [b"{}", b"<html>", b"[7]", b'[{"00080018": []}]'])
def test_an_odd_answer_to_a_lookup_commits_to_nothing(body: bytes) -> None:
    with archive() as server:
        server.body = body
        try:
            report = look_up(destination(f"http://127.0.0.1:{server.server_port}"), "1.9", [STORED])
        except Transient:
            return
    assert report.committed == frozenset()


def test_uncompressed_answers_are_asked_for_and_who_we_are_is_said(files: list[Outgoing]) -> None:
    with archive() as server:
        where = destination(
            f"http://127.0.0.1:{server.server_port}/dicom-web/",
            user="u",
            password=SecretStr("p"),
        )
        assert send(where, files[:1])[0].verdict == "delivered"
    ((path, headers),) = server.heard
    assert path == "/dicom-web/studies"
    assert headers["accept-encoding"] == "identity"
    assert headers["authorization"] == "Basic dTpw"
    assert headers["content-type"].startswith('multipart/related; type="application/dicom"')


def test_a_server_proves_itself_and_asks_for_our_certificate(
    files: list[Outgoing], tmp_path: Path
) -> None:
    ours, strangers = (
        certificates.identity(certificates.authority(tmp_path / name), "mirv")
        for name in ("house", "strangers")
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ours.trusted))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(ours.certificate, ours.key)
    with archive(context) as server:
        url = f"https://127.0.0.1:{server.server_port}"

        def sent(trusted: Tls | None, shown: Tls | None) -> str:
            more: dict[str, Any] = {"trusted": trusted.trusted} if trusted else {}
            if shown is not None:
                more |= {"certificate": shown.certificate, "key": shown.key}
            return send(destination(url, **more), files[:1])[0].verdict

        assert sent(ours, ours) == "delivered"
        assert sent(None, ours) == "retry", "an authority the system does not know"
        assert sent(strangers, ours) == "retry"
        assert sent(ours, strangers) == "retry"
        assert sent(ours, None) == "retry"
        assert len(server.heard) == 1


def test_passwords_come_from_where_they_are_kept_and_are_never_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHIVE_PASSWORD", "from the environment")
    kept = tmp_path / "secret"
    kept.write_text("from a file\n")
    here = destination("http://a", user="u", password_env="ARCHIVE_PASSWORD")  # noqa: S106
    assert here.credentials == ("u", "from the environment")
    there = destination("http://a", user="u", password_file=kept)
    assert there.credentials == ("u", "from a file")
    faulty = [
        {"name": "a", "method": "orthanc", "url": "http://a", "password": "SENTINEL"},
        {"name": "b", "method": "orthanc", "url": "http://u:SENTINEL@a"},
        {"name": "c", "method": "orthanc", "url": "http://a", "user": "u", "password_env": "NONE"},
        {"name": "c", "method": "stow-rs", "url": "http://a", "key": str(kept)},
    ]
    with pytest.raises(SettingsError) as caught:
        load_settings(destinations=faulty)
    text = str(caught.value)
    assert text.startswith("4 fault(s)"), text
    assert "SENTINEL" not in text
    with pytest.raises(SettingsError, match="found a more than once"):
        load_settings(destinations=[faulty[0] | {"user": "u"}] * 2)
