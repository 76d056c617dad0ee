"""The webhook: who sent it can be checked, what failed for now is repeated, no patient in it."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydantic import SecretStr

from mirv.analysis.errors import Transient, Unsuitable
from mirv.config.settings.network import Webhook
from mirv.service.peers.destinations.webhook import notify
from tests.peers import free_port


class Receiver(HTTPServer):
    """Keeps what it is told; answers with `status`."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heard: list[tuple[bytes, str]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((body, self.headers.get("X-Mirv-Signature", "")))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def hook(port: int, key: str | None = None) -> Webhook:
    return Webhook(url=f"http://127.0.0.1:{port}/", key=SecretStr(key) if key else None)


def test_an_event_is_told_and_signed(receiver: Receiver) -> None:
    notify(hook(receiver.server_port, "k"), "parked", "a" * 64, 1_700_000_000.5, destination="PACS")
    ((body, signature),) = receiver.heard
    assert json.loads(body) == {
        "kind": "parked",
        "run": "a" * 64,
        "at": "2023-11-14T22:13:20+00:00",
        "destination": "PACS",
    }
    assert signature == hmac.new(b"k", body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(("status", "fault"), [(500, Transient), (404, Unsuitable)])
def test_a_refusal_is_judged_by_its_status(
    receiver: Receiver, status: int, fault: type[Exception]
) -> None:
    receiver.status = status
    with pytest.raises(fault, match=str(status)):
        notify(hook(receiver.server_port), "finished", "a", 0.0)
    assert receiver.heard[0][1] == ""


def test_nobody_there_is_a_passing_fault() -> None:
    with pytest.raises(Transient, match="ConnectError"):
        notify(hook(free_port()), "finished", "a", 0.0)
