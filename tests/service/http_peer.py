"""An HTTP archive that answers as it is told."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Archive(ThreadingHTTPServer):
    """An HTTP server that answers every request as told; its requests are kept.

    `status_of` and `body_of` have what some paths answer, `status` and `body` what all others do.
    """

    status, body = 200, b""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heard: list[tuple[str, dict[str, str]]] = []
        self.status_of: dict[str, int] = {}
        self.body_of: dict[str, bytes] = {}
        self.headers: dict[str, str] = {}
        self.cut: set[str] = set()  # paths whose answers break off

    def handle_error(self, *_: Any) -> None:
        """Say nothing: peers that break off are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    server: Archive
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_GET(self) -> None:
        self.server.heard.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        path = self.path.partition("?")[0]
        self.send_response(self.server.status_of.get(path, self.server.status))
        body = self.server.body_of.get(path, self.server.body)
        cut = path in self.server.cut
        self.close_connection |= cut
        self.send_header("Content-Length", str(len(body) + cut))
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def archive(tls: ssl.SSLContext | None = None) -> Iterator[Archive]:
    with Archive() as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
