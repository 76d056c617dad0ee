"""C-STORE requests read from the wire straight into what becomes a file.

pynetdicom takes each PDU through four copies, two queues, two threads and a dozen objects; for a CT
slice that is most of the listener's work. Here the thread that reads a connection gathers an
ordinary C-STORE request itself, hashes it while the peer sends on, has it stored and answers.
Everything else, an unusual C-STORE included, is put back for pynetdicom to read as ever: its state
machine keeps the association, and ends it when a peer breaks the rules (PS3.8 section 9.2).
"""

import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mirv.dicom_io.standard.uids import is_received_uid
from mirv.service.inbound.wire.bounded_receive import at_end_of_reading
from mirv.service.inbound.wire.receive_buffer import Budget, Buffer
from mirv.service.peers.statuses import PROCESSING_FAILURE
from mirv.service.runtime.log import get_logger

_P_DATA = 4
_HEAD = struct.Struct(">BxI")
_FRAGMENT = struct.Struct(">IBB")
_AHEAD = _HEAD.size + _FRAGMENT.size
_ELEMENT = struct.Struct("<HHI")
_COMMAND, _LAST = 1, 2
_C_STORE_REQUEST, _C_STORE_RESPONSE = 0x0001, 0x8001
_NO_DATA_SET = 0x0101
_ESTABLISHED = "Sta6"
_INVALID_PDU, _CLOSED = "Evt19", "Evt17"
_LARGEST_COMMAND = 1024
# Every call that lets other threads go on costs a wait to be let back in.
_HASHED_AT_ONCE = 1024 * 1024
# No answer is longer; a peer that takes less in one PDU is left to pynetdicom.
_LARGEST_ANSWER = 512

log = get_logger("listener")


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A whole C-STORE request.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid : str
        As the command says.
    negotiated : str
        Abstract syntax of its presentation context.
    content : bytes or memoryview
        A complete file: preamble, file meta information, data set. A view is of memory that is
        used anew once the request is answered.
    sha256 : str
        Of `content`; "" when it is not known yet.
    source : str
        Calling AE title and address.
    """

    sop_class_uid: str
    sop_instance_uid: str
    negotiated: str
    content: bytes | memoryview
    sha256: str
    source: str


@dataclass(frozen=True, slots=True)
class Storing:
    """How the listener stores.

    Attributes
    ----------
    classes : frozenset of str
        SOP classes to gather here.
    max_object : int
        Bytes of one data set.
    file_head : callable
        SOP class, SOP instance and transfer syntax to what comes before the data set in a file.
    memory : Budget
        What all large objects under way share.
    store : callable
        A request to its status and, when it is no success, a comment.
    """

    classes: frozenset[str]
    max_object: int
    file_head: Callable[[str, str, str], bytes]
    memory: Budget
    store: Callable[[StoreRequest], tuple[int, str]]


class _Violation(Exception):  # noqa: N818 - never leaves this module
    """A PDU that cannot be."""


class _Gathering:
    """A request whose data set is coming in."""

    def __init__(
        self, command: "_Command", negotiated: str, context_id: int, head: bytes, memory: Buffer
    ) -> None:
        self.command = command
        self.context_id = context_id
        self.negotiated = negotiated
        self.memory = memory
        self.head_length = len(head)
        memory.start(head)
        self._digest = hashlib.sha256()
        self._hashed = 0

    @property
    def length(self) -> int:
        """Bytes of the data set so far."""
        return self.memory.size - self.head_length

    def add(self, data: memoryview) -> None:
        """Take a fragment."""
        self.memory.add(data)
        self._hash(_HASHED_AT_ONCE)

    def receive(self, length: int, into: Callable[[memoryview], int]) -> bool:
        """Take a fragment from the wire; False when the peer closes within it."""
        read = self.memory.receive(length, into)
        self._hash(_HASHED_AT_ONCE)
        return read == length

    def sha256(self) -> str:
        """Of all that came."""
        self._hash(0)
        return self._digest.hexdigest()

    def _hash(self, least: int) -> None:
        if self.memory.size - self._hashed > least:
            with self.memory.content(self._hashed) as data:
                self._digest.update(data)
            self._hashed = self.memory.size


def gather_stores(association: Any, receive: Any, storing: Storing) -> None:
    """Let the reading thread of an association gather its C-STORE requests.

    Parameters
    ----------
    association : pynetdicom.association.Association
        An acceptor's, not started yet.
    receive : callable
        Its bounded ``recv``, with `unread` and `refused`.
    storing : Storing
    """
    dul = association.dul
    memory = Buffer(storing.memory)
    dul._read_pdu_data = _Reader(association, receive, storing, memory, dul._read_pdu_data).read
    # Associations are cycles, which a collection may find only after thousands of them.
    at_end_of_reading(dul, memory.close)


@dataclass(frozen=True, slots=True)
class _Peer:
    """Who sends, and what was agreed with it.

    Attributes
    ----------
    source : str
    takes_answers : bool
        Whether a whole answer fits one PDU.
    contexts : dict
        Number of a presentation context to its abstract and its transfer syntax.
    """

    source: str
    takes_answers: bool
    contexts: dict[int, tuple[str, str]]


class _Reader:
    """Reads PDUs in place of pynetdicom, or puts them back for it."""

    def __init__(
        self,
        association: Any,
        receive: Any,
        storing: Storing,
        memory: Buffer,
        otherwise: Callable[[], None],
    ) -> None:
        self._association = association
        self._dul = association.dul
        self._receive = receive
        self._storing = storing
        self._otherwise = otherwise
        self._request: _Gathering | None = None
        self._memory = memory
        self._peer: _Peer | None = None

    def read(self) -> None:
        """Read PDUs as long as they come one after the other and are ours."""
        if not self._is_ours():
            self._request = None
            self._otherwise()
            return
        self._read_one()
        dul = self._dul
        # Back in pynetdicom's loop every PDU would cost it a look at all else there could be.
        while (
            dul.event_queue.empty()
            and not dul.to_provider_queue.queue
            and not dul._kill_thread
            and self._is_ours()
            and self._has_more()
        ):
            self._read_one()

    def _has_more(self) -> bool:
        """Whether another PDU begins; in mid-object it is mostly there already."""
        if self._request is not None and self._receive.look_ahead(_AHEAD):
            return True
        return bool(self._dul.socket.ready)

    def _is_ours(self) -> bool:
        association = self._association
        return (
            self._dul.state_machine.current_state == _ESTABLISHED
            and association.dimse.message is None
            and not self._receive.refused
            and self._known_peer().takes_answers
        )

    def _known_peer(self) -> "_Peer":
        """What the negotiation settled; pynetdicom looks it all up anew each time it is asked."""
        if self._peer is None:
            association = self._association
            requestor = association.requestor
            self._peer = _Peer(
                f"{requestor.ae_title.strip()}@{requestor.address}",
                not 0 < requestor.maximum_length < _LARGEST_ANSWER,
                {
                    number: (str(context.abstract_syntax), str(context.transfer_syntax[0]))
                    for number, context in association._accepted_cx.items()
                },
            )
        return self._peer

    def _read_one(self) -> None:
        try:
            head = self._receive(_HEAD.size)
            if len(head) < _HEAD.size:
                self._end(_CLOSED)
                return
            kind, length = _HEAD.unpack(head)
            if kind != _P_DATA:
                self._put_back(head)
                return
            if self._request is not None and length > _FRAGMENT.size:
                self._read_on(self._request, length)
            else:
                self._read_body(head, length)
        except OSError as fault:
            log.info("connection ended", why=type(fault).__name__)
            self._end(_CLOSED)
        except _Violation:
            self._end(_INVALID_PDU)

    def _read_body(self, head: bytearray, length: int, begun: bytes | bytearray = b"") -> None:
        """Read the rest of a PDU and take what is in it."""
        body = begun + self._receive(length - len(begun))
        if len(body) < length:
            self._end(_CLOSED)
        elif not self._take(body):
            self._put_back(head + body)

    def _read_on(self, request: _Gathering, length: int) -> None:
        """Read a PDU of the data set: when it is one fragment, to where it will stay."""
        self._receive.check(length)  # before there is memory for it
        begun = self._receive(_FRAGMENT.size)
        if len(begun) < _FRAGMENT.size:
            self._end(_CLOSED)
            return
        fragment, context_id, flags = _FRAGMENT.unpack(begun)
        if fragment + 4 != length or context_id != request.context_id or flags & _COMMAND:
            self._read_body(bytearray(), length, begun)
            return
        self._check_length(request.length + fragment - 2)
        ahead = 0 if flags & _LAST else _AHEAD
        if not request.receive(fragment - 2, lambda free: self._receive.into(free, ahead)):
            self._end(_CLOSED)
        elif flags & _LAST:
            self._answer(request)

    def _check_length(self, length: int) -> None:
        if length > self._storing.max_object:
            self._receive.refused = f"a data set of more than {self._storing.max_object} bytes"
            raise _Violation

    def _put_back(self, data: bytearray) -> None:
        """Let pynetdicom read this PDU."""
        self._request = None
        self._receive.unread[:0] = data
        self._otherwise()

    def _end(self, event: str) -> None:
        self._request = None
        self._dul.event_queue.put(event)

    def _take(self, body: bytearray) -> bool:
        """Take the fragments of a P-DATA-TF; False when it is pynetdicom's to read."""
        fragments = iter(tuple(_fragments(memoryview(body))))  # none counts when one cannot be
        if self._request is None:
            first = next(fragments, None)
            request = self._begun(*first) if first else None
            if request is None:
                return False
            self._request = request
        for context_id, flags, data in fragments:
            request = self._request
            if request is None or context_id != request.context_id or flags & _COMMAND:
                raise _Violation
            self._check_length(request.length + len(data))
            request.add(data)
            if flags & _LAST:
                self._answer(request)
        return True

    def _begun(self, context_id: int, flags: int, data: memoryview) -> _Gathering | None:
        """The request a command begins; None for every other message."""
        context = self._known_peer().contexts.get(context_id)
        if flags & (_COMMAND | _LAST) != _COMMAND | _LAST or context is None:
            return None
        command = _store_command(data)
        if (
            command is None
            or command.sop_class_uid != context[0]
            or command.sop_class_uid not in self._storing.classes
        ):
            return None
        head = self._storing.file_head(command.sop_class_uid, command.sop_instance_uid, context[1])
        return _Gathering(command, context[0], context_id, head, self._memory)

    def _answer(self, request: _Gathering) -> None:
        self._request = None
        sha256 = request.sha256()
        try:
            with self._dul._idle_timer.at_work(), request.memory.content() as content:
                status, comment = self._storing.store(
                    StoreRequest(
                        request.command.sop_class_uid,
                        request.command.sop_instance_uid,
                        request.negotiated,
                        content,
                        sha256,
                        self._known_peer().source,
                    )
                )
        except Exception:
            # One object met a fault of ours: its sender is told, the association goes on.
            log.exception("storing failed")
            status, comment = PROCESSING_FAILURE, "processing failure"
        request.memory.discard()
        self._dul.socket.send(_response(request, status, comment))


def _fragments(body: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Context, control header and data of each presentation data value (PS3.8 section 9.3.5)."""
    position = 0
    while position < len(body):
        if position + _FRAGMENT.size > len(body):
            raise _Violation
        length, context_id, flags = _FRAGMENT.unpack_from(body, position)
        end = position + 4 + length
        if length < 2 or end > len(body):
            raise _Violation
        yield context_id, flags, body[position + _FRAGMENT.size : end]
        position = end


@dataclass(frozen=True, slots=True)
class _Command:
    """What a C-STORE request says beside its data set."""

    sop_class_uid: str
    sop_instance_uid: str
    message_id: int


def _store_command(encoded: memoryview) -> _Command | None:
    """An ordinary C-STORE request with a data set; None for any other command (PS3.7 9.3.1)."""
    if len(encoded) > _LARGEST_COMMAND:
        return None
    values: dict[int, bytes] = {}
    position = 0
    while position + _ELEMENT.size <= len(encoded):
        group, element, length = _ELEMENT.unpack_from(encoded, position)
        position += _ELEMENT.size
        if group or position + length > len(encoded):
            return None
        values[element] = bytes(encoded[position : position + length])
        position += length
    if position != len(encoded):
        return None
    sop_class, instance = (
        values.get(element, b"").rstrip(b"\0 ").decode("latin-1") for element in (0x2, 0x1000)
    )
    kind, message_id, data_set = (_number(values.get(element)) for element in (0x100, 0x110, 0x800))
    if kind != _C_STORE_REQUEST or message_id is None or data_set in (None, _NO_DATA_SET):
        return None
    if not (is_received_uid(sop_class) and is_received_uid(instance)):
        return None
    return _Command(sop_class, instance, message_id)


def _number(value: bytes | None) -> int | None:
    return int.from_bytes(value, "little") if value is not None and len(value) == 2 else None


def _response(request: _Gathering, status: int, comment: str) -> bytes:
    """The P-DATA-TF of a C-STORE response."""
    command = request.command

    def element(number: int, value: bytes, padding: bytes = b"\0") -> bytes:
        value += padding * (len(value) % 2)
        return _ELEMENT.pack(0, number, len(value)) + value

    body = b"".join(
        (
            element(0x0002, command.sop_class_uid.encode()),
            element(0x0100, struct.pack("<H", _C_STORE_RESPONSE)),
            element(0x0120, struct.pack("<H", command.message_id)),
            element(0x0800, struct.pack("<H", _NO_DATA_SET)),
            element(0x0900, struct.pack("<H", status)),
            element(0x0902, comment[:64].encode("ascii", "replace"), b" ") if comment else b"",
            element(0x1000, command.sop_instance_uid.encode()),
        )
    )
    encoded = element(0x0000, struct.pack("<I", len(body))) + body
    return (
        _HEAD.pack(_P_DATA, len(encoded) + _FRAGMENT.size)
        + _FRAGMENT.pack(len(encoded) + 2, request.context_id, _COMMAND | _LAST)
        + encoded
    )
