"""How pynetdicom's sockets are waited for and closed, in either direction.

Requestors make their own sockets deep inside pynetdicom: there is no other place to mend these two.
"""

import contextlib
import errno
import os
import select
import socket
import ssl

from pynetdicom.transport import AssociationSocket


def mend_sockets() -> None:
    """Let all associations of this process close and look as below; harmless when repeated."""
    AssociationSocket._shutdown_socket = close_socket
    AssociationSocket.ready = property(_is_ready)


def close_socket(wire: AssociationSocket) -> None:
    """Close a connection, also one whose peer is gone; harmless when repeated."""
    if wire.socket is None:
        return
    with contextlib.suppress(OSError):
        wire.socket.shutdown(socket.SHUT_RDWR)
    wire.socket.close()


def _is_ready(wire: AssociationSocket) -> bool:
    """Whether data can be read now."""
    if wire.socket is None or not wire._is_connected:
        return False
    if isinstance(wire.socket, ssl.SSLSocket) and wire.socket.pending():
        return True
    try:
        return bool(readable([wire.socket.fileno()], 0))
    except (OSError, ValueError):
        wire.event_queue.put("Evt17")
        return False


def readable(descriptors: list[int], seconds: float) -> set[int]:
    """Those of which a read would not wait.

    Raises
    ------
    OSError, ValueError
        One of them is closed.
    """
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    ready = dict(poll.poll(seconds * 1000))
    if any(events & select.POLLNVAL for events in ready.values()):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return set(ready)
