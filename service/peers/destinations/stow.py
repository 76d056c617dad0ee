"""STOW-RS: one object sent, and its answer believed only as far as it names the object."""

import io
import json
from typing import Any
from uuid import uuid4

import httpx
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from mirv.service.peers.destinations.outcome import DeliveryOutcome, Outgoing, judge, judge_http
from mirv.service.peers.destinations.verdict import DeliveryVerdict
from mirv.service.peers.statuses import DUPLICATE_INSTANCE, PROCESSING_FAILURE
from mirv.service.peers.web_client import body, first_value

JSON = "application/dicom+json"

_FAILED_SEQUENCE, _FAILURE_REASON = "00081198", "00081197"

STORED_SEQUENCE, STORED_UID = "00081199", "00081155"

_LARGEST_REASON = 0xFFFF


def stow(web: httpx.Client, one: Outgoing) -> DeliveryOutcome:
    boundary = uuid4().hex
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    headers = {"Content-Type": kind, "Accept": JSON}
    file = one.path.read_bytes()
    content = head + file + tail
    with web.stream("POST", "/studies", content=content, headers=headers) as answer:
        return judge_stow(one.delivery_id, _uid_in(file), answer.status_code, body(answer))


def _uid_in(file: bytes) -> str:
    try:
        tags = ["SOPInstanceUID"]
        found = dcmread(io.BytesIO(file), stop_before_pixels=True, specific_tags=tags)
    except InvalidDicomError:
        return ""
    return str(found.get("SOPInstanceUID", ""))


def judge_stow(
    delivery_id: int, sop_instance_uid: str, status: int, content: bytes
) -> DeliveryOutcome:
    """What the answer to a STOW-RS request for one object means (PS3.18 table 10.5.3-1).

    Stored is what the answer names as stored, or all there is when it has no body: a portal's
    page to log in comes with 200, too.

    Parameters
    ----------
    sop_instance_uid : str
        Of the object.
    status : int
        Of HTTP. 202 and 409 say in the body what became of the object.
    content : bytes
        The body, DICOM JSON or not.
    """
    if status not in (200, 202, 409):
        return judge_http(delivery_id, status)
    told = read_answer(content)
    reasons = _failure_reasons(told)
    if reasons:
        if reasons[0] == DUPLICATE_INSTANCE:  # not failed, but there
            detail = f"HTTP {status}, failure reason 0x{DUPLICATE_INSTANCE:04X}: it has the object"
            return DeliveryOutcome(delivery_id, DeliveryVerdict.DELIVERED, status, detail)
        outcome = judge(delivery_id, reasons[0])
        # Not in C-STORE. Archives give it for any fault of their own, a full disk among them.
        verdict = DeliveryVerdict.RETRY if reasons[0] == PROCESSING_FAILURE else outcome.verdict
        detail = f"HTTP {status}, failure reason 0x{reasons[0]:04X}"
        # A failure is none the less one when its reason is in the range of warnings.
        return DeliveryOutcome(
            delivery_id,
            DeliveryVerdict.PARK if verdict == DeliveryVerdict.DELIVERED else verdict,
            status,
            detail,
        )
    if status == 409:
        return DeliveryOutcome(
            delivery_id, DeliveryVerdict.RETRY, status, f"HTTP {status} without a reason"
        )
    if not content.strip() or sop_instance_uid in _stored_uids(told):
        return DeliveryOutcome(delivery_id, DeliveryVerdict.DELIVERED, status, f"HTTP {status}")
    if _names_nothing(told):  # Orthanc without room says so little
        return DeliveryOutcome(
            delivery_id,
            DeliveryVerdict.RETRY,
            status,
            f"HTTP {status}: stored nothing, and not why",
        )
    detail = "found no answer of a STOW-RS service: check the url"
    return DeliveryOutcome(delivery_id, DeliveryVerdict.PARK, status, detail)


def _names_nothing(told: Any) -> bool:
    """Whether it is the answer of a STOW-RS service that lists no object, stored or failed."""
    lists = (_FAILED_SEQUENCE, STORED_SEQUENCE)
    found = [told[tag] for tag in lists if tag in told] if isinstance(told, dict) else []
    return bool(found) and all(isinstance(one, dict) and not one.get("Value") for one in found)


def read_answer(content: bytes) -> Any:
    """The answer's data set in DICOM JSON; None when it is none.

    Parameters
    ----------
    content : bytes
        Body of the answer.

    Returns
    -------
    dict or None
    """
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return told[0] if isinstance(told, list) and told else told


def _failure_reasons(told: Any) -> list[int]:
    return [_whole(first_value(one, _FAILURE_REASON)) for one in _items(told, _FAILED_SEQUENCE)]


def _stored_uids(told: Any) -> set[str]:
    found = (first_value(one, STORED_UID) for one in _items(told, STORED_SEQUENCE))
    return {one for one in found if isinstance(one, str)}


def _items(told: Any, tag: str) -> list[Any]:
    attribute = told.get(tag) if isinstance(told, dict) else None
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return values if isinstance(values, list) else []


def _whole(found: Any) -> int:
    """A failure's reason; 0 when it has none that can be read."""
    return found if isinstance(found, int) and 0 <= found <= _LARGEST_REASON else 0
