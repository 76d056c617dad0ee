"""The way in: a storage SCP that says "stored" only of what is on disk and indexed."""

import time
from collections.abc import Callable
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from mirv.analysis.errors import Reason, Transient
from mirv.config.machine import memory_bytes
from mirv.config.settings import network
from mirv.dicom_io.files.header import InstanceHeader
from mirv.dicom_io.files.part10 import file_meta
from mirv.service.catalogue import Catalogue
from mirv.service.inbound.association_slots import Slots
from mirv.service.inbound.wire.bounded_receive import PeerLimits
from mirv.service.inbound.wire.idleness import silent_s
from mirv.service.inbound.wire.receive_buffer import Budget
from mirv.service.inbound.wire.server import HardenedServer, Serving, start_server
from mirv.service.inbound.wire.store_requests import StoreRequest, Storing
from mirv.service.objects.intake import Intake, Taken, Verdict, no_issuer
from mirv.service.objects.spool import Spool
from mirv.service.peers.admission import Admission
from mirv.service.peers.commitment import (
    PUSH_MODEL,
    REQUEST,
    CommitmentCalls,
    answer,
    read_report,
    read_request,
)
from mirv.service.peers.entity import STORAGE_CLASSES, TRANSFER_SYNTAXES, application_entity
from mirv.service.peers.statuses import (
    CANNOT_UNDERSTAND,
    CLASS_INSTANCE_CONFLICT,
    CLASS_NOT_SUPPORTED,
    DOES_NOT_MATCH,
    DUPLICATE_INSTANCE,
    INVALID_ARGUMENT,
    NO_SUCH_INSTANCE,
    OUT_OF_RESOURCES,
    SUCCESS,
)
from mirv.service.peers.tls import server_context
from mirv.service.runtime.log import get_logger

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
    settings : config.settings.network.Listener
    spool : Spool
    catalogue : Catalogue
    issuer_of : callable
        As for `Intake`.
    commitment : CommitmentCalls, optional
        Who is told of storage commitment messages; none: nobody.
    shared_slots : Slots, optional
        With other processes that listen on the same port; none: it is the only one, and has
        `max_associations` of its own.
    """

    def __init__(
        self,
        settings: network.Listener,
        spool: Spool,
        catalogue: Catalogue,
        issuer_of: Callable[[str], str] = no_issuer,
        *,
        commitment: CommitmentCalls | None = None,
        shared_slots: Slots | None = None,
    ) -> None:
        self._slots = shared_slots or Slots(settings.max_associations)
        self._shares_port = shared_slots is not None
        self._commitment = commitment or CommitmentCalls()
        self._catalogue = catalogue
        self._settings = settings
        self._admission = Admission(settings)
        self._spool = spool
        self._intake = Intake(spool, catalogue, issuer_of=issuer_of)
        self._server: HardenedServer | None = None
        self._ae = self._application_entity()

    def _application_entity(self) -> AE:
        ae = application_entity(self._settings.ae_title)
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
            self._serving(),
        )
        log.info("listening", ae_title=self._settings.ae_title, port=self._settings.port)

    def _serving(self) -> Serving:
        settings, largest = self._settings, self._settings.max_object_mb * 1024**2
        return Serving(
            PeerLimits(
                max_object=largest,
                max_connections=settings.max_associations + 500,
                handshake_s=settings.acse_timeout_s,
                transfer_s=settings.network_timeout_s,
            ),
            admits=self._admission.may_connect,
            tls=server_context(settings.tls) if settings.tls else None,
            storing=Storing(
                frozenset(STORAGE_CLASSES),
                largest,
                file_meta,
                Budget(int(_MEMORY_PART * memory_bytes() / settings.processes)),
                self._store_object,
            ),
            shares_port=self._shares_port,
            ended=self._slots.give_back,
        )

    def stop(self) -> None:
        """Stop listening and end every association."""
        self._ae.shutdown()
        self._server = None

    # Who may

    def _on_requested(self, event: evt.Event) -> None:
        association = event.assoc
        request = association.requestor.primitive
        calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        address = association.requestor.address
        if called != self._settings.ae_title:
            refusal, why = _CALLED_UNKNOWN, "called AE title"
        elif not self._admission.may_associate(calling, address):
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
            self._commitment.report(read_report(event.event_information))
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
            row = self._catalogue.instances.find(one.sop_instance_uid)
            if row is None or row.removed_at is not None:
                failed.append((one, NO_SUCH_INSTANCE))
            elif row.sop_class_uid != one.sop_class_uid:
                failed.append((one, CLASS_INSTANCE_CONFLICT))
            else:
                committed.append(one)
        calling = event.assoc.requestor.ae_title.strip()
        try:
            self._commitment.request(calling, *answer(transaction_uid, committed, failed))
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
    if taken.verdict == Verdict.CONFLICT:
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
