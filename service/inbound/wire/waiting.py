"""Associations that wait for their socket instead of polling it."""

import contextlib
import os
import queue
import ssl
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from pynetdicom.transport import AssociationSocket

from mirv.service.inbound.wire.bounded_receive import at_end_of_reading
from mirv.service.peers.sockets import readable

_IDLE_WAIT_S = 0.02

_MESSAGE_WAIT_S = 0.1

_MOST_UNDER_WAY = 4


class _Alarm:
    """Wakes a connection's reading thread, which alone waits for it and closes it."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._open = True
        self._closing = threading.Lock()

    def ring(self) -> None:
        """Wake the thread; harmless after its end."""
        with self._closing:  # another connection may have the number by then
            if self._open:
                os.eventfd_write(self.descriptor, 1)

    def close(self) -> None:
        """Give the descriptor back; harmless when repeated."""
        with self._closing:
            if self._open:
                self._open = False
                os.close(self.descriptor)


def wait_instead_of_polling(association: Any) -> None:
    """Let both threads of an association wait for what they poll for."""
    dul, dimse = association.dul, association.dimse
    alarm = _Alarm()
    # Associations are cycles, which a collection may find only after thousands of them.
    weakref.finalize(association, alarm.close)
    at_end_of_reading(dul, alarm.close)
    put, take = dul.to_provider_queue.put, dimse.msg_queue.get
    tell_user = dul.to_user_queue.put

    def put_and_wake(*arguments: Any, **named: Any) -> None:
        put(*arguments, **named)
        alarm.ring()

    def tell_user_and_wake(*arguments: Any, **named: Any) -> None:
        tell_user(*arguments, **named)
        dimse.msg_queue.put((None, None))  # a release or an abort: no message, but look

    def get_msg(block: bool = False) -> Any:
        try:
            return take(timeout=dimse.dimse_timeout if block else _MESSAGE_WAIT_S)
        except queue.Empty:
            return None, None

    dul.to_provider_queue.put = put_and_wake
    dul.to_user_queue.put = tell_user_and_wake
    dimse.get_msg = get_msg
    dul.socket.alarm = alarm.descriptor
    dul.socket.is_full = lambda: (
        dimse.msg_queue.qsize() + dul._idle_timer.under_way >= _MOST_UNDER_WAY
    )
    dul.socket.__class__ = WaitingSocket
    dul._run_loop_delay = 0


class WaitingSocket(AssociationSocket):  # type: ignore[misc]  # pynetdicom is untyped
    """Says whether there is something to read after waiting for it a little."""

    alarm: int
    is_full: Callable[[], bool]

    @property
    def ready(self) -> bool:
        """Whether data can be read; returns early when there is something to send."""
        if self.socket is None or not self._is_connected:
            time.sleep(_IDLE_WAIT_S)
            return False
        if self.recv.unread or (isinstance(self.socket, ssl.SSLSocket) and self.socket.pending()):
            return True
        wait = _IDLE_WAIT_S if self.event_queue.empty() else 0
        try:
            connection = self.socket.fileno()
            # What is not read yet waits with the peer.
            ready = readable([self.alarm, *([] if self.is_full() else [connection])], wait)
        except (OSError, ValueError):
            self.event_queue.put("Evt17")
            return False
        if self.alarm in ready:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.alarm)
        return connection in ready
