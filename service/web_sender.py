"""The way out over HTTP: artifacts by STOW-RS (PS3.18 section 10.5) or into Orthanc itself.

Judged like C-STORE: accepted, refused for good, or to be tried again.
"""

import io
import json
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import uuid4

import httpx
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from analysis.errors import Transient
from config.settings import WebDestination
from service.commitment import Reference, Report
from service.sender import DeliveryOutcome, Outgoing, judge
from service.statuses import DUPLICATE_INSTANCE, NO_SUCH_INSTANCE, PROCESSING_FAILURE
from service.verdicts import DeliveryVerdict
from service.web import body, client, first_value, objects, passes

_JSON = "application/dicom+json"
_FAILED_SEQUENCE, _FAILURE_REASON = "00081198", "00081197"
_STORED_SEQUENCE, _STORED_UID = "00081199", "00081155"
_LARGEST_REASON = 0xFFFF
_STORED_IN_ORTHANC = ("Success", "AlreadyStored")


def send(destination: WebDestination, outgoing: Sequence[Outgoing]) -> list[DeliveryOutcome]:
    """Send artifacts over one connection; an outcome for each, in order."""
    outcomes: list[DeliveryOutcome] = []
    store = _stow if destination.method == "stow-rs" else _post_to_orthanc
    with client(destination, destination.url) as web:
        for one in outgoing:
            try:
                outcomes.append(store(web, one))
            except (httpx.HTTPError, Transient) as fault:
                detail = f"no answer: {type(fault).__name__}"
                # The others would wait for the same silence, one after the other.
                left = outgoing[len(outcomes) :]
                outcomes += [
                    DeliveryOutcome(rest.delivery_id, DeliveryVerdict.RETRY, None, detail)
                    for rest in left
                ]
                break
    return outcomes


def look_up(
    destination: WebDestination, transaction_uid: str, references: Iterable[Reference]
) -> Report:
    """Whether the destination has the objects, as if it had committed itself to them.

    Raises
    ------
    Transient
        It could not be asked.
    """
    found, missing = set(), {}
    with client(destination, destination.url) as web:
        for one in references:
            uid = one.sop_instance_uid
            try:
                there = _is_in(web, destination, uid)
            except httpx.HTTPError as fault:
                raise Transient(f"lookup: {type(fault).__name__}") from fault
            if there:
                found.add(uid)
            else:
                missing[uid] = NO_SUCH_INSTANCE
    return Report(transaction_uid, frozenset(found), missing)


# STOW-RS


def _stow(web: httpx.Client, one: Outgoing) -> DeliveryOutcome:
    boundary = uuid4().hex
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    headers = {"Content-Type": kind, "Accept": _JSON}
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
    told = _told(content)
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
    lists = (_FAILED_SEQUENCE, _STORED_SEQUENCE)
    found = [told[tag] for tag in lists if tag in told] if isinstance(told, dict) else []
    return bool(found) and all(isinstance(one, dict) and not one.get("Value") for one in found)


def _told(content: bytes) -> Any:
    """The answer's data set in DICOM JSON; None when it is none."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return told[0] if isinstance(told, list) and told else told


def _failure_reasons(told: Any) -> list[int]:
    return [_whole(first_value(one, _FAILURE_REASON)) for one in _items(told, _FAILED_SEQUENCE)]


def _stored_uids(told: Any) -> set[str]:
    found = (first_value(one, _STORED_UID) for one in _items(told, _STORED_SEQUENCE))
    return {one for one in found if isinstance(one, str)}


def _items(told: Any, tag: str) -> list[Any]:
    attribute = told.get(tag) if isinstance(told, dict) else None
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return values if isinstance(values, list) else []


def _whole(found: Any) -> int:
    """A failure's reason; 0 when it has none that can be read."""
    return found if isinstance(found, int) and 0 <= found <= _LARGEST_REASON else 0


def judge_http(delivery_id: int, status: int) -> DeliveryOutcome:
    """What an HTTP status other than those with a meaning of their own means for a delivery."""
    return DeliveryOutcome(
        delivery_id,
        DeliveryVerdict.RETRY if passes(status) else DeliveryVerdict.PARK,
        status,
        f"HTTP {status}",
    )


# Orthanc


def _post_to_orthanc(web: httpx.Client, one: Outgoing) -> DeliveryOutcome:
    headers = {"Content-Type": "application/dicom"}
    with web.stream("POST", "/instances", content=one.path.read_bytes(), headers=headers) as answer:
        return judge_orthanc(one.delivery_id, answer.status_code, body(answer))


def judge_orthanc(delivery_id: int, status: int, content: bytes) -> DeliveryOutcome:
    """What Orthanc's answer to ``POST /instances`` means."""
    if status != httpx.codes.OK:
        return judge_http(delivery_id, status)
    try:
        said = str(json.loads(content)["Status"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return DeliveryOutcome(
            delivery_id, DeliveryVerdict.PARK, status, "found no answer of Orthanc's: check the url"
        )
    if said in _STORED_IN_ORTHANC:
        return DeliveryOutcome(delivery_id, DeliveryVerdict.DELIVERED, status, said)
    # Filtered out by its own rules, which stay as they are.
    return DeliveryOutcome(delivery_id, DeliveryVerdict.PARK, status, f"Orthanc says {said[:40]!r}")


# Looking up


def _is_in(web: httpx.Client, destination: WebDestination, sop_instance_uid: str) -> bool:
    if destination.method == "orthanc":
        with web.stream("POST", "/tools/lookup", content=sop_instance_uid) as answer:
            answer.raise_for_status()
            return any(_is_instance(one) for one in objects(answer))
    params = {"SOPInstanceUID": sop_instance_uid}
    with web.stream("GET", "/instances", params=params, headers={"Accept": _JSON}) as answer:
        answer.raise_for_status()
        return any(first_value(one, "00080018") == sop_instance_uid for one in objects(answer))


def _is_instance(found: Any) -> bool:
    return isinstance(found, dict) and found.get("Type") == "Instance"
