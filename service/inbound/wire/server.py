"""Mends of pynetdicom 3.0.4 as a listener among strangers; each has its fault test.

========================================  =====================================================
as it comes                               mended here
========================================  =====================================================
a PDU may claim 4 GiB and is read         longer than `PeerLimits.max_pdu` ends the connection
reads 4 KiB at a time, no time limit:     large reads under a deadline for the whole PDU
a dripping peer holds its thread
a data set or a command grows in memory   larger than `PeerLimits.max_object`, or 64 KiB of command,
unchecked                                 aborts the association
messages, and a thread for each report,   no more is read while four wait or are served
pile up while a handler is at work
TLS handshake in the accept loop: one     handshake in the connection's own thread, with a
silent client blocks everyone             time limit
silent connections count as               only associations asked for count; connections have
associations                              a limit of their own
Nagle's algorithm stalls each response    TCP_NODELAY
a socket whose peer is gone is shut down, closed in any case, for requestors too
which fails, and so never closed
a message that cannot be decoded ends its  ends its association
thread with a traceback
looks with select(), which knows no          looks with poll(), for requestors too; as many
descriptor above 1023                        descriptors as the limits need are asked for at start
a peer counts as idle while its PDU comes  idle is who says nothing while we wait for it
in, and while it waits for our answer
sleeps 1 ms, then looks again: half of     waits for the socket, for something to send, or for a
the time of a transfer                     message or an end to come
collects all garbage every 30 s, while     leaves it to the interpreter, as the rest
every association waits
copies its 500 transfer syntaxes anew for  all share one copy, which nothing changes
every association
takes each PDU through four copies, two    the reading thread gathers and stores an ordinary
queues and two threads                     C-STORE itself, see `service.inbound.wire.store_requests`
========================================  =====================================================
"""

import contextlib
import resource
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from mirv.service.inbound.wire.bounded_receive import BoundedReceive, PeerLimits
from mirv.service.inbound.wire.idleness import blame_no_one_for_our_work
from mirv.service.inbound.wire.store_requests import Storing, gather_stores
from mirv.service.inbound.wire.waiting import wait_instead_of_polling
from mirv.service.peers.sockets import close_socket
from mirv.service.runtime.log import get_logger

log = get_logger("listener")

_POLL_S = 0.1
_LARGEST_COMMAND = 64 * 1024
# A connection has its socket and its alarm; the rest is for spool, catalogue and requestors.
_DESCRIPTORS_EACH, _DESCRIPTORS_ELSE = 2, 512


@dataclass(frozen=True, slots=True)
class Serving:
    """On which terms peers are served.

    Attributes
    ----------
    limits : PeerLimits
    admits : callable
        Peer's IP address to whether it may connect at all.
    tls : ssl.SSLContext or None
    storing : Storing or None
        How C-STORE requests are stored; none: all are pynetdicom's, and the handlers'.
    shares_port : bool
        Whether other processes serve the same port.
    ended : callable
        Told of each association whose thread has come to its end, however it went.
    """

    limits: PeerLimits
    admits: Callable[[str], bool]
    tls: ssl.SSLContext | None
    storing: Storing | None
    shares_port: bool
    ended: Callable[[Any], None]


def start_server(
    ae: AE, address: tuple[str, int], handlers: list[Any], serving: Serving
) -> "HardenedServer":
    """Serve an application entity; returns once it listens.

    Parameters
    ----------
    ae : pynetdicom.AE
        With contexts and timeouts set.
    address : (host, port)
    handlers : list of (event, callable)
    serving : Serving

    Raises
    ------
    OSError
        The address is taken or not ours.
    """
    _allow_descriptors(_DESCRIPTORS_EACH * serving.limits.max_connections + _DESCRIPTORS_ELSE)
    handlers = [*handlers, (evt.EVT_PDU_RECV, _end_oversized(serving.limits.max_object))]
    server = HardenedServer(ae, address, _Shared(ae.supported_contexts), handlers, serving)
    ae._servers.append(server)
    threading.Thread(
        target=server.serve_forever, args=(_POLL_S,), name="dicom-listener", daemon=True
    ).start()
    return server


def _allow_descriptors(wanted: int) -> None:
    """Let this process open as many files as it needs, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("too few open files allowed", found=allowed, wanted=wanted)


class _Shared(list[Any]):
    """Presentation contexts that every association may share."""

    def __deepcopy__(self, _memo: Any) -> "_Shared":
        return self


class _Handler(RequestHandler):  # type: ignore[misc]  # pynetdicom is untyped
    def _create_association(self) -> Any:
        association = super()._create_association()
        wire, serving = association.dul.socket, self.server.serving
        wire.recv = BoundedReceive(wire, association, serving.limits)
        blame_no_one_for_our_work(association)
        _end_on_fault(association)
        wait_instead_of_polling(association)
        if serving.storing is not None:
            gather_stores(association, wire.recv, serving.storing)
        _tell_when_ended(association, serving.ended)
        return association


class HardenedServer(ThreadedAssociationServer):  # type: ignore[misc]  # pynetdicom is untyped
    """Accepts quickly, shakes hands elsewhere."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        ae: AE,
        address: tuple[str, int],
        contexts: list[Any],
        handlers: list[Any],
        serving: Serving,
    ) -> None:
        self.serving = serving
        super().__init__(
            ae, address, ae.ae_title, contexts, None, handlers, request_handler=_Handler
        )

    def server_bind(self) -> None:
        """Bind, with others when the port is shared."""
        if self.serving.shares_port:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def service_actions(self) -> None:
        """Nothing: a full collection every few seconds would stop every association for it."""

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept, and nothing that could wait for the peer."""
        connection, address = self.socket.accept()
        connection.settimeout(self.serving.limits.handshake_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Refuse strangers, and everyone when connections have run out."""
        return (
            self.serving.admits(client_address[0])
            and len(self.active_associations) < self.serving.limits.max_connections
        )

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands, then serve; runs in the connection's own thread."""
        if self.serving.tls is not None:
            request = self._shaken(request)
        super().finish_request(request, client_address)

    def _shaken(self, request: socket.socket) -> socket.socket:
        assert self.serving.tls is not None  # noqa: S101 - the only caller has looked
        secured = self.serving.tls.wrap_socket(
            request, server_side=True, do_handshake_on_connect=False
        )
        try:
            with _deadline(secured, self.serving.limits.handshake_s):
                secured.do_handshake()
        except BaseException:
            secured.close()  # the plain socket has handed its descriptor over
            raise
        return secured

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that fails before its association is its peer's affair."""


@contextlib.contextmanager
def _deadline(connection: socket.socket, seconds: float) -> Iterator[None]:
    """Close the connection under a peer that drips: a socket's own timeout starts over a byte."""

    def end() -> None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end_on_fault(association: Any) -> None:
    """What pynetdicom cannot make sense of ends its association, not silently its thread."""
    dul = association.dul
    act = dul.state_machine.do_action

    def act_or_end(event: str) -> None:
        try:
            act(event)
        except Exception as fault:  # noqa: BLE001 - a peer's bytes, deep inside pynetdicom
            _end(association, fault)

    dul.state_machine.do_action = act_or_end


def _end(association: Any, fault: Exception) -> None:
    log.warning("association ended", why=type(fault).__name__)
    association.is_aborted, association.is_established = True, False
    association._kill = association.dul._kill_thread = True
    close_socket(association.dul.socket)


def _tell_when_ended(association: Any, ended: Callable[[Any], None]) -> None:
    """Also when negotiation met what pynetdicom did not expect of a peer."""
    run = association.run

    def run_and_tell() -> None:
        try:
            run()
        except Exception as fault:  # noqa: BLE001 - a peer's bytes, deep inside pynetdicom
            _end(association, fault)
        finally:
            ended(association)

    association.run = run_and_tell


def _end_oversized(max_object: int) -> Callable[[evt.Event], None]:
    def check(event: evt.Event) -> None:
        message = event.assoc.dimse.message
        if message is None:
            return
        refused = ""
        if message.data_set.tell() > max_object:
            refused = f"a data set of more than {max_object} bytes"
        elif message.encoded_command_set.tell() > _LARGEST_COMMAND:
            refused = f"a command of more than {_LARGEST_COMMAND} bytes"
        if refused:
            event.assoc.dul.socket.recv.refused = refused
            # The state machine's own event for a PDU that cannot be: it sends A-ABORT.
            event.assoc.dul.event_queue.put("Evt19")

    return check
