"""Reading from a peer under limits: how much of it, and for how long.

What pynetdicom reads with, and `service.inbound.wire.store_requests` beside it.
"""

import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pynetdicom.transport import AssociationSocket

_LARGEST_READ = 256 * 1024
_NEARLY_ALL = 0.9


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """How much a peer may ask of the listener.

    Attributes
    ----------
    max_pdu : int
        Bytes of one PDU, association requests included.
    max_object : int
        Bytes of one data set.
    max_connections : int
        Open connections, silent ones included.
    handshake_s : float
        For TLS, and for an association request as a whole.
    transfer_s : float
        For one PDU as a whole, and for the peer to take what is sent to it.
    """

    max_pdu: int = 1024 * 1024
    max_object: int = 4 * 1024**3
    max_connections: int = 500
    handshake_s: float = 10
    transfer_s: float = 60


class BoundedReceive:
    """`AssociationSocket.recv` with a cap on what is asked and a deadline on the whole.

    What is in `unread` is read first. Once `refused` says why, nothing is read.

    Attributes
    ----------
    refused : str
        Why nothing more is read; "" while it is.
    unread : bytearray
        What was read ahead.
    """

    def __init__(self, wire: AssociationSocket, association: Any, limits: PeerLimits) -> None:
        self._wire = wire
        self._association = association
        self._limits = limits
        self.refused = ""
        self.unread = bytearray()
        self._patience_s = 0.0
        if not isinstance(wire.socket, ssl.SSLSocket):
            wire.socket.settimeout(None)
            _limit(wire.socket, socket.SO_SNDTIMEO, limits.transfer_s)

    def __call__(self, wanted: int) -> bytearray:
        """Read this many bytes; fewer when the peer closes.

        Raises
        ------
        OSError
            More was announced than a PDU may have, or the deadline passed.
        """
        self.check(wanted)
        received = bytearray(wanted)
        with memoryview(received) as free:
            number = self.into(free)
        del received[number:]
        return received

    def into(self, free: memoryview, ahead: int = 0) -> int:
        """Fill memory from the wire; how many bytes, fewer when the peer closes.

        Parameters
        ----------
        free : memoryview
        ahead : int
            How much of what comes after, if it is there already, to put into `unread`.

        Raises
        ------
        OSError
            As above.
        """
        self.check(len(free))
        number = min(len(self.unread), len(free))
        if number:
            free[:number] = self.unread[:number]
            del self.unread[:number]
            if number == len(free):
                return number
        heard = self._association.dul._idle_timer.restart
        heard()
        established = self._association.is_established
        seconds = self._limits.transfer_s if established else self._limits.handshake_s
        deadline = time.monotonic() + seconds
        while number < len(free):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"found {number} of {len(free)} bytes in {seconds} s")
            with free[number:] as rest:
                read = self._read(rest, seconds, left, ahead if number == 0 else 0)
            if not read:
                break
            number += read
        heard()
        return number

    def look_ahead(self, wanted: int) -> bool:
        """Put what is there already into `unread`; whether that holds anything.

        Parameters
        ----------
        wanted : int
            Bytes at most.

        Returns
        -------
        bool
        """
        if self.unread:
            return True
        connection = self._wire.socket
        if self.refused or isinstance(connection, ssl.SSLSocket):
            return False
        try:
            found = connection.recv(wanted, socket.MSG_DONTWAIT)
        except OSError:
            return False
        self.unread += found
        self._association.dul._idle_timer.restart()
        return bool(found)

    def check(self, wanted: int) -> None:
        """Raise OSError when more was announced than may be, or nothing is read any more.

        Parameters
        ----------
        wanted : int
            Bytes announced.

        Raises
        ------
        OSError
            As above.
        """
        if self.refused:
            # After an abort pynetdicom reads on until the peer has had enough.
            raise OSError(self.refused)
        if wanted > self._limits.max_pdu:
            raise OSError(f"found a PDU of {wanted} bytes, wanted {self._limits.max_pdu} at most")

    def _read(self, rest: memoryview, seconds: float, left: float, ahead: int) -> int:
        connection = self._wire.socket
        if isinstance(connection, ssl.SSLSocket):
            connection.settimeout(left)
            read = connection.recv_into(rest[:_LARGEST_READ])
            connection.settimeout(self._limits.transfer_s)
            return read
        # Setting it anew for what the first wait took of it would be a call for each PDU.
        patience_s = seconds if left > _NEARLY_ALL * seconds else left
        if patience_s != self._patience_s:
            _limit(connection, socket.SO_RCVTIMEO, patience_s)
            self._patience_s = patience_s
        try:
            if ahead:
                return self._read_ahead(connection, rest, ahead)
            # The system waits for all of it, and counts its own limit over the whole wait.
            return int(connection.recv_into(rest, 0, socket.MSG_WAITALL))
        except BlockingIOError as error:
            raise TimeoutError(f"found no more bytes in {seconds} s") from error

    def _read_ahead(self, connection: socket.socket, rest: memoryview, ahead: int) -> int:
        after = bytearray(ahead)
        read = connection.recvmsg_into([rest, after])[0]
        if read > len(rest):
            self.unread += after[: read - len(rest)]
        return min(read, len(rest))


def _limit(connection: socket.socket, what: int, seconds: float) -> None:
    """Let the system end a wait: Python's own limits cost two more calls each time."""
    whole = int(seconds)
    span = struct.pack("@ll", whole, max(1, int((seconds - whole) * 1e6)))
    connection.setsockopt(socket.SOL_SOCKET, what, span)


def at_end_of_reading(dul: Any, act: Callable[[], None]) -> None:
    """Act when the reading thread of an association ends, however it does."""
    read_on = dul.run

    def read_to_the_end() -> None:
        try:
            read_on()
        finally:
            act()

    dul.run = read_to_the_end
