"""The way out: artifacts to their destinations by C-STORE, judged by the status of each."""

import io
import random
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pynetdicom import AE, build_role, evt

from analysis.errors import PeerRefused
from config.settings import Delivery, Destination
from service.commitment import (
    PUSH_INSTANCE,
    PUSH_MODEL,
    REQUEST,
    Reference,
    Report,
    read_report,
    request,
)
from service.listener import IMPLEMENTATION_NAME, IMPLEMENTATION_UID
from service.tls import client_context

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_CONNECT_S = 10.0
_ANSWER_S = 60.0
_SAME_ASSOCIATION_S = 1.0
# Only a resend meets it: our UIDs derive from what is in the object (PS3.7 section C.5.6).
DUPLICATE = 0x0111
_NO_ANSWER = "no answer: timed out or aborted"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An artifact to send: its delivery's number and where its file is."""

    delivery_id: int
    sop_class_uid: str
    path: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one artifact.

    Attributes
    ----------
    delivery_id : int
    verdict : str
        ``delivered``, ``retry`` or ``park``.
    status : int or None
        DIMSE status; None when the peer gave none.
    detail : str
    """

    delivery_id: int
    verdict: str
    status: int | None
    detail: str


def send(
    destination: Destination, outgoing: Sequence[Outgoing], calling_ae_title: str
) -> list[Outcome]:
    """Send artifacts over one association; an outcome for each, in order."""
    classes = sorted({one.sop_class_uid for one in outgoing})
    association = _associate(destination, calling_ae_title, classes)
    if not association.is_established:
        # pynetdicom aborts when the peer takes none of the contexts: no use trying again.
        verdict = "park" if association.rejected_contexts else "retry"
        return [Outcome(one.delivery_id, verdict, None, _why_not(association)) for one in outgoing]
    outcomes: list[Outcome] = []
    try:
        for one in outgoing:
            if outcomes and outcomes[-1].detail == _NO_ANSWER:
                # pynetdicom may not have noticed yet, and would wait for an answer once more.
                outcomes.append(Outcome(one.delivery_id, "retry", None, _NO_ANSWER))
            else:
                outcomes.append(_send_one(association, one))
    finally:
        association.release()
    return outcomes


def request_commitment(
    destination: Destination,
    transaction_uid: str,
    references: Sequence[Reference],
    calling_ae_title: str,
    on_report: Callable[[Report], None],
    answered: Callable[[], bool],
) -> str:
    """Ask a destination to commit itself to objects; "" when it takes the request, else why not.

    The report comes on this association or, later, on a new one to the listener. This one is held
    open for a moment for peers that answer on it.

    Parameters
    ----------
    on_report : callable
        Told what comes on this association.
    answered : callable
        Whether a report has come, by either way.
    """

    def on_event(event: evt.Event) -> tuple[int, None]:
        on_report(read_report(event.event_information))
        return 0x0000, None

    association = _associate(
        destination, calling_ae_title, [PUSH_MODEL], (evt.EVT_N_EVENT_REPORT, on_event)
    )
    if not association.is_established:
        return _why_not(association)
    try:
        answer, _ = association.send_n_action(
            request(transaction_uid, references), REQUEST, PUSH_MODEL, PUSH_INSTANCE
        )
        if "Status" not in answer:
            return _NO_ANSWER
        if answer.Status != 0x0000:
            return f"storage commitment refused with status 0x{answer.Status:04X}"
        deadline = time.monotonic() + _SAME_ASSOCIATION_S
        while not answered() and association.is_established and time.monotonic() < deadline:
            time.sleep(0.02)
        return ""
    finally:
        association.release()


def report_commitment(
    destination: Destination, event_type: int, information: Dataset, calling_ae_title: str
) -> str:
    """Tell a peer what the node commits itself to; "" when it was told, else why not."""
    association = _associate(destination, calling_ae_title, [PUSH_MODEL], as_scp=True)
    if not association.is_established:
        return _why_not(association)
    try:
        answer, _ = association.send_n_event_report(
            information, event_type, PUSH_MODEL, PUSH_INSTANCE
        )
    except ValueError as fault:
        return f"{destination.name} takes no commitment reports: {fault}"
    finally:
        association.release()
    return "" if answer.get("Status") == 0x0000 else "the report was not taken"


def _associate(
    destination: Destination,
    calling_ae_title: str,
    classes: Sequence[str],
    *handlers: Any,
    as_scp: bool = False,
) -> Any:
    ae = AE(destination.calling_ae_title or calling_ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_UID
    ae.implementation_version_name = IMPLEMENTATION_NAME
    ae.connection_timeout = _CONNECT_S
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = _ANSWER_S
    for sop_class in classes:
        ae.add_requested_context(sop_class, EXPLICIT_LITTLE_ENDIAN)
    return ae.associate(
        destination.host,
        destination.port,
        ae_title=destination.ae_title,
        ext_neg=[build_role(sop_class, scp_role=True) for sop_class in classes] if as_scp else None,
        evt_handlers=[(evt.EVT_CONN_OPEN, _without_delay), *handlers],
        tls_args=(client_context(destination.tls), destination.host) if destination.tls else None,
    )


def _without_delay(event: evt.Event) -> None:
    # Nagle's algorithm would stall each object for 40 ms.
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _why_not(association: Any) -> str:
    if association.is_rejected:
        answer = association.acceptor.primitive
        return f"association rejected: {answer.reason_str}"
    if association.rejected_contexts:
        refused = ", ".join(str(one.abstract_syntax) for one in association.rejected_contexts)
        return f"the peer does not accept SOP class {refused}"
    return "no association: refused, unreachable or ended by the peer"


def _send_one(association: Any, one: Outgoing) -> Outcome:
    if not association.is_established:
        return Outcome(one.delivery_id, "retry", None, "association ended by the peer")
    dataset = dcmread(io.BytesIO(one.path.read_bytes()))
    try:
        answer = association.send_c_store(dataset)
    except ValueError:
        # pynetdicom's way to say that no context was accepted for this SOP class.
        detail = f"the peer does not accept SOP class {one.sop_class_uid}"
        return Outcome(one.delivery_id, "park", None, detail)
    except RuntimeError as fault:
        return Outcome(one.delivery_id, "retry", None, f"association lost: {fault}")
    if "Status" not in answer:
        return Outcome(one.delivery_id, "retry", None, _NO_ANSWER)
    return judge(one.delivery_id, int(answer.Status), str(answer.get("ErrorComment", "")))


def judge(delivery_id: int, status: int, comment: str = "") -> Outcome:
    """What a C-STORE status means for a delivery (PS3.4 table B.2-1, PS3.7 annex C).

    Success and warnings: stored; so is what the peer has already. Out of resources passes with
    time. Anything else will be the same next time, so it waits for a person.
    """
    detail = f"status 0x{status:04X}{': ' + comment if comment else ''}"
    if status in (0x0000, DUPLICATE) or status & 0xF000 == 0xB000:
        return Outcome(delivery_id, "delivered", status, detail)
    verdict = "retry" if PeerRefused(status, detail).retryable else "park"
    return Outcome(delivery_id, verdict, status, detail)


def next_delay(attempts: int, wanted: Delivery) -> float:
    """Seconds until the next try after this many: doubling, capped, spread by a half.

    Spread, so that a destination that comes back is not met by everyone at once.
    """
    delay = min(wanted.longest_retry_s, wanted.first_retry_s * 2.0 ** min(attempts, 30))
    return delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreading, not secrecy
