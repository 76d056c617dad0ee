"""Orthanc's own interface: one object posted, and its answer."""

import json

import httpx

from mirv.service.peers.destinations.outcome import DeliveryOutcome, Outgoing, judge_http
from mirv.service.peers.destinations.verdict import DeliveryVerdict
from mirv.service.peers.web_client import body

_STORED_IN_ORTHANC = ("Success", "AlreadyStored")


def post_to_orthanc(web: httpx.Client, one: Outgoing) -> DeliveryOutcome:
    headers = {"Content-Type": "application/dicom"}
    with web.stream("POST", "/instances", content=one.path.read_bytes(), headers=headers) as answer:
        return judge_orthanc(one.delivery_id, answer.status_code, body(answer))


def judge_orthanc(delivery_id: int, status: int, content: bytes) -> DeliveryOutcome:
    """What Orthanc's answer to ``POST /instances`` means.

    Parameters
    ----------
    delivery_id : int
    status : int
        Of HTTP.
    content : bytes
        Body of the answer.

    Returns
    -------
    DeliveryOutcome
    """
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
