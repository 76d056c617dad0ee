"""The way in: a storage SCP that says "stored" only of what is on disk and indexed."""

import ipaddress
import struct
import time
from collections.abc import Callable
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.sop_class import Verification

from analysis.errors import Reason, Transient
from config import settings
from config.machine import memory_bytes
from dicom_io.header import InstanceHeader
from dicom_io.uids import derive_uid
from service.commitment import (
    CLASS_INSTANCE_CONFLICT,
    NO_SUCH_INSTANCE,
    PUSH_MODEL,
    REQUEST,
    Report,
    answer,
    read_report,
    read_request,
)
from service.intake import Intake, Taken
from service.log import get_logger
from service.memory import Budget
from service.pynetdicom_hardening import HardenedServer, silent_s, start_server
from service.pynetdicom_receive import Limits
from service.pynetdicom_stores import StoreRequest, Storing
from service.slots import Slots
from service.spool import Spool
from service.store import Store
from service.tls import server_context

SUCCESS = 0x0000
DUPLICATE_INSTANCE = 0x0111
INVALID_ARGUMENT = 0x0115
CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

STORAGE_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",  # CT
    "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT
    "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT
    "1.2.840.10008.5.1.4.1.1.4",  # MR
    "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR
    "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR
    "1.2.840.10008.5.1.4.1.1.128",  # PET
    "1.2.840.10008.5.1.4.1.1.128.1",  # Legacy Converted Enhanced PET
    "1.2.840.10008.5.1.4.1.1.130",  # Enhanced PET
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
    "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation
    "1.2.840.10008.5.1.4.1.1.481.3",  # RT Structure Set
)
# Explicit little endian first: of several offered, the first of this order is taken.
TRANSFER_SYNTAXES = (
    "1.2.840.10008.1.2.1",
    *(uid for uid in ALL_TRANSFER_SYNTAXES if uid != "1.2.840.10008.1.2.1"),
)
IMPLEMENTATION_UID = derive_uid("mirv-node", "implementation class")
IMPLEMENTATION_NAME = "MIRV_NODE"

# Association rejection (PS3.8 section 9.3.4): result, source, reason.
_CALLING_UNKNOWN = (1, 1, 3)
_CALLED_UNKNOWN = (1, 1, 7)
_LIMIT_EXCEEDED = (2, 3, 2)

# An association that is told to end gives its slot back in a moment.
_ROOM_S = 1.0

log = get_logger("listener")

# Of large objects under way, all together: some are read by what copies them once more.
_MEMORY_PART = 1 / 3


class Listener:
    """The DICOM listener of a node.

    Parameters
    ----------
    wanted : config.settings.Listener
    spool : Spool
    store : Store
    clock : callable
        Seconds since 1970.
    on_report : callable, optional
        Told of storage commitment reports about what the node has sent.
    on_commitment_request : callable, optional
        Told (calling AE title, event type, event information): what to answer to a peer that asks
        the node to commit itself. Called before the request is acknowledged.
    slots : Slots, optional
        Shared with other listener processes; none: `max_associations` of its own.
    shares_port : bool
        Whether other processes listen on the same port.
    """

    def __init__(
        self,
        wanted: settings.Listener,
        spool: Spool,
        store: Store,
        clock: Callable[[], float] = time.time,
        *,
        on_report: Callable[[Report], None] = lambda _report: None,
        on_commitment_request: Callable[[str, int, Dataset], None] = lambda *_: None,
        slots: Slots | None = None,
        shares_port: bool = False,
    ) -> None:
        self._slots = slots or Slots(wanted.max_associations)
        self._shares_port = shares_port
        self._on_report = on_report
        self._on_commitment_request = on_commitment_request
        self._store = store
        self._settings = wanted
        self._spool = spool
        self._intake = Intake(spool, store, clock)
        self._server: HardenedServer | None = None
        self._ae = self._application_entity()

    def _application_entity(self) -> AE:
        ae = AE(self._settings.ae_title)
        ae.implementation_class_uid = IMPLEMENTATION_UID
        ae.implementation_version_name = IMPLEMENTATION_NAME
        ae.acse_timeout = self._settings.acse_timeout_s
        ae.dimse_timeout = self._settings.network_timeout_s
        ae.network_timeout = self._settings.network_timeout_s
        ae.maximum_pdu_size = self._settings.max_pdu_bytes
        # Counted when asked for, see _on_requested: pynetdicom counts silent connections too.
        ae.maximum_associations = 1_000_000
        ae.add_supported_context(Verification)
        # Both roles: peers ask the node to commit itself, and report on what it asked of them.
        ae.add_supported_context(PUSH_MODEL, scu_role=True, scp_role=True)
        for sop_class in STORAGE_CLASSES:
            ae.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        return ae

    def start(self) -> None:
        """Listen; returns when the port is open.

        Raises
        ------
        OSError
            The address is taken or not ours.
        """
        self._server = start_server(
            self._ae,
            (self._settings.bind, self._settings.port),
            [
                (evt.EVT_REQUESTED, self._on_requested),
                (evt.EVT_C_ECHO, lambda _event: SUCCESS),
                (evt.EVT_C_STORE, self._on_store),
                (evt.EVT_N_EVENT_REPORT, self._on_event_report),
                (evt.EVT_N_ACTION, self._on_action),
            ],
            Limits(
                max_object=self._settings.max_object_mb * 1024**2,
                max_connections=self._settings.max_associations + 500,
                handshake_s=self._settings.acse_timeout_s,
                transfer_s=self._settings.network_timeout_s,
            ),
            admits=self._admits_address,
            tls=server_context(self._settings.tls) if self._settings.tls else None,
            storing=Storing(
                frozenset(STORAGE_CLASSES),
                self._settings.max_object_mb * 1024**2,
                file_meta,
                Budget(int(_MEMORY_PART * memory_bytes() / self._settings.processes)),
                self._store_object,
            ),
            shares_port=self._shares_port,
            ended=self._slots.give_back,
        )
        log.info("listening", ae_title=self._settings.ae_title, port=self._settings.port)

    def stop(self) -> None:
        """Stop listening and end every association."""
        self._ae.shutdown()
        self._server = None

    # Who may

    def _admits_address(self, address: str) -> bool:
        if not self._settings.allow:
            return _is_loopback(self._settings.bind)
        return any(_within(address, rule.address) for rule in self._settings.allow)

    def _on_requested(self, event: evt.Event) -> None:
        association = event.assoc
        request = association.requestor.primitive
        calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        address = association.requestor.address
        if called != self._settings.ae_title:
            refusal, why = _CALLED_UNKNOWN, "called AE title"
        elif not self._admits(calling, address):
            refusal, why = _CALLING_UNKNOWN, "calling AE title"
        elif not self._takes_slot(association):
            refusal, why = _LIMIT_EXCEEDED, "too many associations"
        else:
            return
        log.warning("association refused", why=why, address=address)
        association.acse.send_reject(*refusal)
        evt.trigger(association, evt.EVT_REJECTED, {})
        association.kill()

    def _takes_slot(self, association: Any) -> bool:
        """Take a slot; when there is none, that of the peer that has been silent for longest."""
        if self._slots.take(association):
            return True
        others = [one for one in association._server.active_associations if one.is_established]
        silent = max(
            (one for one in others if not one._sent_abort), key=silent_s, default=association
        )
        if silent_s(silent) < self._settings.acse_timeout_s:
            return False
        log.warning("silent association ended for another", address=silent.requestor.address)
        silent.abort(block=False)
        deadline = time.monotonic() + _ROOM_S
        while time.monotonic() < deadline:
            if self._slots.take(association):
                return True
            time.sleep(_ROOM_S / 50)
        return False

    def _admits(self, calling: str, address: str) -> bool:
        if not self._settings.allow:
            return True  # _admits_address has looked: every peer of a loopback bind
        return any(
            rule.ae_title == calling and _within(address, rule.address)
            for rule in self._settings.allow
        )

    # What comes in

    def _on_store(self, event: evt.Event) -> Dataset:
        """A C-STORE that was not ordinary enough to be gathered from the wire."""
        request, peer = event.request, event.assoc.requestor
        command = (str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID))
        head = file_meta(*command, str(event.context.transfer_syntax))
        status, comment = self._store_object(
            StoreRequest(
                *command,
                negotiated=str(event.context.abstract_syntax),
                content=b"".join((head, request.DataSet.getbuffer() if request.DataSet else b"")),
                sha256="",
                source=f"{peer.ae_title.strip()}@{peer.address}",
            )
        )
        response = Dataset()
        response.Status = status
        if comment:
            response.ErrorComment = comment[:64]
        return response

    def _store_object(self, request: StoreRequest) -> tuple[int, str]:
        """Store an object; status and, when it is no success, a comment."""
        try:
            return self._take(request)
        except OSError as error:
            log.warning("spool cannot be written", error=error.strerror or type(error).__name__)
            return OUT_OF_RESOURCES, "spool cannot be written"
        except Transient as error:
            log.warning("catalogue cannot be written", error=str(error))
            return OUT_OF_RESOURCES, "catalogue cannot be written"

    def _on_event_report(self, event: evt.Event) -> tuple[int, None]:
        try:
            self._on_report(read_report(event.event_information))
        except Transient:
            return OUT_OF_RESOURCES, None
        return SUCCESS, None

    def _on_action(self, event: evt.Event) -> tuple[int, None]:
        """A peer asks whether objects are here to stay: on disk and indexed is what counts."""
        transaction_uid, references = read_request(event.action_information)
        if event.action_type != REQUEST or not transaction_uid or not references:
            return INVALID_ARGUMENT, None
        committed, failed = [], []
        for one in references:
            row = self._store.instances.find(one.sop_instance_uid)
            if row is None or row.removed_at is not None:
                failed.append((one, NO_SUCH_INSTANCE))
            elif row.sop_class_uid != one.sop_class_uid:
                failed.append((one, CLASS_INSTANCE_CONFLICT))
            else:
                committed.append(one)
        calling = event.assoc.requestor.ae_title.strip()
        try:
            self._on_commitment_request(calling, *answer(transaction_uid, committed, failed))
        except Transient:
            return OUT_OF_RESOURCES, None
        return SUCCESS, None

    def _take(self, request: StoreRequest) -> tuple[int, str]:
        if self._spool.free_bytes() < self._settings.low_disk_mb * 1024**2:
            log.error("disk below its watermark", wanted_mb=self._settings.low_disk_mb)
            return OUT_OF_RESOURCES, "disk below its watermark"
        taken = self._intake.take(
            request.content,
            request.source,
            sha256=request.sha256,
            claimed_uid=request.sop_instance_uid,
            check=lambda header: _mismatch(header, request),
        )
        return _status(taken), taken.reason.code if taken.reason else ""


def _status(taken: Taken) -> int:
    if taken.reason is None:
        return SUCCESS
    if taken.verdict == "conflict":
        return DUPLICATE_INSTANCE
    return {
        "class_not_negotiated": CLASS_NOT_SUPPORTED,
        "command_and_data_set_differ": DOES_NOT_MATCH,
    }.get(taken.reason.code, CANNOT_UNDERSTAND)


def _mismatch(header: InstanceHeader, request: StoreRequest) -> Reason | None:
    """Whether command, presentation context and data set disagree about what this is."""
    command = (request.sop_class_uid, request.sop_instance_uid)
    if command[0] != request.negotiated:
        return Reason(
            "class_not_negotiated",
            f"found SOP class {command[0]} in a presentation context for {request.negotiated}",
        )
    found = (header.sop_class_uid, header.sop_instance_uid)
    if found != command:
        return Reason(
            "command_and_data_set_differ",
            f"found SOP class and instance {found} in the data set, {command} in the command",
        )
    return None


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str) -> bytes:
    """Preamble and File Meta Information (PS3.10 section 7.1) of a received data set.

    Written by hand: it depends on nothing but these UIDs, so the same data set gives the same
    file whoever sends it.
    """
    body = b"".join(
        _element(0x0002, number, b"UI", value.encode("ascii", "replace"), b"\0")
        for number, value in (
            (0x0002, sop_class_uid),
            (0x0003, sop_instance_uid),
            (0x0010, transfer_syntax),
            (0x0012, IMPLEMENTATION_UID),
        )
    ) + _element(0x0002, 0x0013, b"SH", IMPLEMENTATION_NAME.encode(), b" ")
    version = struct.pack("<HH2sHI", 0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01"
    length = struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(version) + len(body))
    return bytes(128) + b"DICM" + length + version + body


def _element(group: int, number: int, kind: bytes, value: bytes, padding: bytes) -> bytes:
    if len(value) % 2:
        value += padding
    return struct.pack("<HH2sH", group, number, kind, len(value)) + value


def _within(address: str, network: str | None) -> bool:
    if network is None:
        return True
    found = ipaddress.ip_address(address)
    mapped: Any = getattr(found, "ipv4_mapped", None)
    return (mapped or found) in ipaddress.ip_network(network, strict=False)


def _is_loopback(bind: str) -> bool:
    return bind == "localhost" or ipaddress.ip_address(bind or "0.0.0.0").is_loopback  # noqa: S104
