"""What is sent, what became of it, and when it is tried again."""

import random
from dataclasses import dataclass
from pathlib import Path

from mirv.analysis.errors import PeerRefused
from mirv.config.settings.keeping import Delivery
from mirv.config.settings.network import Destination
from mirv.service.peers.destinations.verdict import DeliveryVerdict
from mirv.service.peers.statuses import DUPLICATE_INSTANCE, SUCCESS, is_warning
from mirv.service.peers.web_client import passes

NO_ANSWER = "no answer: timed out or aborted"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An artifact to send: its delivery's number and where its file is.

    Attributes
    ----------
    delivery_id : int
    sop_class_uid : str
    path : Path
        Of a Part 10 file.
    """

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


def calling(destination: Destination, calling_ae_title: str) -> str:
    return destination.calling_ae_title or calling_ae_title


def judge(delivery_id: int, status: int, comment: str = "") -> DeliveryOutcome:
    """What a C-STORE status means for a delivery (PS3.4 table B.2-1, PS3.7 annex C).

    Success and warnings: stored; so is what the peer has already. Out of resources passes with
    time. Anything else will be the same next time, so it waits for a person.

    Parameters
    ----------
    delivery_id : int
    status : int
    comment : str
        Error Comment of the response.

    Returns
    -------
    DeliveryOutcome
    """
    detail = f"status 0x{status:04X}{': ' + comment if comment else ''}"
    # Only a resend meets a duplicate: our UIDs derive from what is in the object (PS3.7 C.5.6).
    if status in (SUCCESS, DUPLICATE_INSTANCE) or is_warning(status):
        return DeliveryOutcome(delivery_id, DeliveryVerdict.DELIVERED, status, detail)
    verdict = (
        DeliveryVerdict.RETRY if PeerRefused(status, detail).retryable else DeliveryVerdict.PARK
    )
    return DeliveryOutcome(delivery_id, verdict, status, detail)


def next_delay(attempts: int, rule: Delivery) -> float:
    """Seconds until the next try after this many: doubling, capped, spread by a half.

    Spread, so that a destination that comes back is not met by everyone at once.

    Parameters
    ----------
    attempts : int
        Tries so far.
    rule : Delivery

    Returns
    -------
    float
    """
    delay = min(rule.longest_retry_s, rule.first_retry_s * 2.0 ** min(attempts, 30))
    return delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreading, not secrecy


def judge_http(delivery_id: int, status: int) -> DeliveryOutcome:
    """What an HTTP status other than those with a meaning of their own means for a delivery.

    Parameters
    ----------
    delivery_id : int
    status : int

    Returns
    -------
    DeliveryOutcome
    """
    return DeliveryOutcome(
        delivery_id,
        DeliveryVerdict.RETRY if passes(status) else DeliveryVerdict.PARK,
        status,
        f"HTTP {status}",
    )
