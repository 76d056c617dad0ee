"""Messages between a node and its listener processes: JSON, one a line."""

import contextlib
import json
import socket
import threading
from typing import Any


class Line:
    """One end of the pair of sockets: a JSON text a line."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reading = connection.makefile("r", encoding="utf-8")
        self._sending = threading.Lock()

    def send(self, **message: Any) -> None:
        """Send a message.

        Raises
        ------
        OSError
            The other end is gone.
        """
        with self._sending:
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when the other end is gone.

        Returns
        -------
        dict or None
        """
        with contextlib.suppress(OSError, ValueError):
            if line := self._reading.readline():
                message: dict[str, Any] = json.loads(line)
                return message
        return None

    def hang_up(self) -> None:
        """Let both ends read no more."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end."""
        self.hang_up()
        self._reading.close()
        self._connection.close()
