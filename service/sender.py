"""The way out: artifacts to their destinations by C-STORE, judged by the status of each."""

import io
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pynetdicom import AE, evt

from analysis.errors import PeerRefused
from config.settings import Delivery, Destination
from service.listener import IMPLEMENTATION_NAME, IMPLEMENTATION_UID
from service.tls import client_context

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_CONNECT_S = 10.0
_ANSWER_S = 60.0


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
    ae = AE(destination.calling_ae_title or calling_ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_UID
    ae.implementation_version_name = IMPLEMENTATION_NAME
    ae.connection_timeout = _CONNECT_S
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = _ANSWER_S
    for sop_class in sorted({one.sop_class_uid for one in outgoing}):
        ae.add_requested_context(sop_class, EXPLICIT_LITTLE_ENDIAN)
    association = ae.associate(
        destination.host,
        destination.port,
        ae_title=destination.ae_title,
        evt_handlers=[(evt.EVT_CONN_OPEN, _without_delay)],
        tls_args=(client_context(destination.tls), destination.host) if destination.tls else None,
    )
    if not association.is_established:
        return [Outcome(one.delivery_id, "retry", None, _why_not(association)) for one in outgoing]
    try:
        return [_send_one(association, one, destination.name) for one in outgoing]
    finally:
        association.release()


def _without_delay(event: evt.Event) -> None:
    # Nagle's algorithm would stall each object for 40 ms.
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _why_not(association: Any) -> str:
    if association.is_rejected:
        answer = association.acceptor.primitive
        return f"association rejected: {answer.reason_str}"
    return "no association: refused, unreachable or ended by the peer"


def _send_one(association: Any, one: Outgoing, name: str) -> Outcome:
    if not association.is_established:
        return Outcome(one.delivery_id, "retry", None, "association ended by the peer")
    dataset = dcmread(io.BytesIO(one.path.read_bytes()))
    try:
        answer = association.send_c_store(dataset)
    except ValueError:
        # pynetdicom's way to say that no context was accepted for this SOP class.
        detail = f"{name} does not accept SOP class {one.sop_class_uid}"
        return Outcome(one.delivery_id, "park", None, detail)
    except RuntimeError as fault:
        return Outcome(one.delivery_id, "retry", None, f"association lost: {fault}")
    if "Status" not in answer:
        return Outcome(one.delivery_id, "retry", None, "no answer: timed out or aborted")
    return judge(one.delivery_id, int(answer.Status), str(answer.get("ErrorComment", "")))


def judge(delivery_id: int, status: int, comment: str = "") -> Outcome:
    """What a C-STORE status means for a delivery (PS3.4 table B.2-1, PS3.7 annex C).

    Success and warnings: stored. Out of resources passes with time. Anything else will be the
    same next time, so it waits for a person.
    """
    detail = f"status 0x{status:04X}{': ' + comment if comment else ''}"
    if status == 0x0000 or status & 0xF000 == 0xB000:
        return Outcome(delivery_id, "delivered", status, detail)
    verdict = "retry" if PeerRefused(status, detail).retryable else "park"
    return Outcome(delivery_id, verdict, status, detail)


def next_delay(attempts: int, wanted: Delivery) -> float:
    """Seconds until the next try after this many: doubling, capped, spread by a half.

    Spread, so that a destination that comes back is not met by everyone at once.
    """
    delay = min(wanted.longest_retry_s, wanted.first_retry_s * 2.0 ** min(attempts, 30))
    return delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreading, not secrecy
