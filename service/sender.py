"""The way out: artifacts to their destinations by C-STORE, judged by the status of each."""

import io
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pynetdicom import evt

from analysis.errors import PeerRefused
from config.settings import Delivery, Destination
from dicom_io.classes import EXPLICIT
from service.association import NoAssociation, Proposal, associated
from service.commitment import (
    PUSH_INSTANCE,
    PUSH_MODEL,
    REQUEST,
    Reference,
    Report,
    read_report,
    request,
)
from service.statuses import DUPLICATE_INSTANCE, SUCCESS, is_warning
from service.verdicts import DeliveryVerdict

_SAME_ASSOCIATION_S = 1.0
_COMMITMENT = ((PUSH_MODEL, (EXPLICIT,)),)
_NO_ANSWER = "no answer: timed out or aborted"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An artifact to send: its delivery's number and where its file is."""

    delivery_id: int
    sop_class_uid: str
    path: Path


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """What became of one artifact.

    Attributes
    ----------
    delivery_id : int
    verdict : DeliveryVerdict
    status : int or None
        DIMSE status; None when the peer gave none.
    detail : str
    """

    delivery_id: int
    verdict: DeliveryVerdict
    status: int | None
    detail: str


def send(
    destination: Destination, outgoing: Sequence[Outgoing], calling_ae_title: str
) -> list[DeliveryOutcome]:
    """Send artifacts over one association; an outcome for each, in order."""
    proposal = Proposal(
        [(one, [EXPLICIT]) for one in sorted({one.sop_class_uid for one in outgoing})]
    )
    try:
        with associated(destination, _calling(destination, calling_ae_title), proposal) as made:
            return _send_all(made, outgoing)
    except NoAssociation as fault:
        verdict = DeliveryVerdict.PARK if fault.for_good else DeliveryVerdict.RETRY
        return [DeliveryOutcome(one.delivery_id, verdict, None, fault.why) for one in outgoing]


def _send_all(association: Any, outgoing: Sequence[Outgoing]) -> list[DeliveryOutcome]:
    outcomes: list[DeliveryOutcome] = []
    for one in outgoing:
        if outcomes and outcomes[-1].detail == _NO_ANSWER:
            # pynetdicom may not have noticed yet, and would wait for an answer once more.
            outcomes.append(
                DeliveryOutcome(one.delivery_id, DeliveryVerdict.RETRY, None, _NO_ANSWER)
            )
        else:
            outcomes.append(_send_one(association, one))
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
        return SUCCESS, None

    proposal = Proposal(_COMMITMENT, handlers=[(evt.EVT_N_EVENT_REPORT, on_event)])
    try:
        with associated(destination, _calling(destination, calling_ae_title), proposal) as made:
            answer, _ = made.send_n_action(
                request(transaction_uid, references), REQUEST, PUSH_MODEL, PUSH_INSTANCE
            )
            if "Status" not in answer:
                return _NO_ANSWER
            if answer.Status != SUCCESS:
                return f"storage commitment refused with status 0x{answer.Status:04X}"
            deadline = time.monotonic() + _SAME_ASSOCIATION_S
            while not answered() and made.is_established and time.monotonic() < deadline:
                time.sleep(0.02)
            return ""
    except NoAssociation as fault:
        return fault.why


def report_commitment(
    destination: Destination, event_type: int, information: Dataset, calling_ae_title: str
) -> str:
    """Tell a peer what the node commits itself to; "" when it was told, else why not."""
    proposal = Proposal(_COMMITMENT, as_scp=[PUSH_MODEL])
    try:
        with associated(destination, _calling(destination, calling_ae_title), proposal) as made:
            answer, _ = made.send_n_event_report(information, event_type, PUSH_MODEL, PUSH_INSTANCE)
    except NoAssociation as fault:
        return fault.why
    except ValueError as fault:
        return f"{destination.name} takes no commitment reports: {fault}"
    return "" if answer.get("Status") == SUCCESS else "the report was not taken"


def _calling(destination: Destination, calling_ae_title: str) -> str:
    return destination.calling_ae_title or calling_ae_title


def _send_one(association: Any, one: Outgoing) -> DeliveryOutcome:
    if not association.is_established:
        return DeliveryOutcome(
            one.delivery_id, DeliveryVerdict.RETRY, None, "association ended by the peer"
        )
    dataset = dcmread(io.BytesIO(one.path.read_bytes()))
    try:
        answer = association.send_c_store(dataset)
    except ValueError:
        # pynetdicom's way to say that no context was accepted for this SOP class.
        detail = f"the peer does not accept SOP class {one.sop_class_uid}"
        return DeliveryOutcome(one.delivery_id, DeliveryVerdict.PARK, None, detail)
    except RuntimeError as fault:
        return DeliveryOutcome(
            one.delivery_id, DeliveryVerdict.RETRY, None, f"association lost: {fault}"
        )
    if "Status" not in answer:
        return DeliveryOutcome(one.delivery_id, DeliveryVerdict.RETRY, None, _NO_ANSWER)
    return judge(one.delivery_id, int(answer.Status), str(answer.get("ErrorComment", "")))


def judge(delivery_id: int, status: int, comment: str = "") -> DeliveryOutcome:
    """What a C-STORE status means for a delivery (PS3.4 table B.2-1, PS3.7 annex C).

    Success and warnings: stored; so is what the peer has already. Out of resources passes with
    time. Anything else will be the same next time, so it waits for a person.
    """
    detail = f"status 0x{status:04X}{': ' + comment if comment else ''}"
    # Only a resend meets a duplicate: our UIDs derive from what is in the object (PS3.7 C.5.6).
    if status in (SUCCESS, DUPLICATE_INSTANCE) or is_warning(status):
        return DeliveryOutcome(delivery_id, DeliveryVerdict.DELIVERED, status, detail)
    verdict = (
        DeliveryVerdict.RETRY if PeerRefused(status, detail).retryable else DeliveryVerdict.PARK
    )
    return DeliveryOutcome(delivery_id, verdict, status, detail)


def next_delay(attempts: int, wanted: Delivery) -> float:
    """Seconds until the next try after this many: doubling, capped, spread by a half.

    Spread, so that a destination that comes back is not met by everyone at once.
    """
    delay = min(wanted.longest_retry_s, wanted.first_retry_s * 2.0 ** min(attempts, 30))
    return delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreading, not secrecy
