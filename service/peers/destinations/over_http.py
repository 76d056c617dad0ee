"""The way out over HTTP: artifacts by STOW-RS (PS3.18 section 10.5) or into Orthanc itself.

Judged like C-STORE: accepted, refused for good, or to be tried again.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import httpx

from mirv.analysis.errors import Transient
from mirv.config.settings.network import WebDestination
from mirv.service.peers.commitment import Reference, Report
from mirv.service.peers.destinations.orthanc import post_to_orthanc
from mirv.service.peers.destinations.outcome import DeliveryOutcome, Outgoing
from mirv.service.peers.destinations.stow import JSON, stow
from mirv.service.peers.destinations.verdict import DeliveryVerdict
from mirv.service.peers.statuses import NO_SUCH_INSTANCE
from mirv.service.peers.web_client import client, first_value, objects


def send(destination: WebDestination, outgoing: Sequence[Outgoing]) -> list[DeliveryOutcome]:
    """Send artifacts over one connection; an outcome for each, in order.

    Parameters
    ----------
    destination : WebDestination
    outgoing : sequence of Outgoing

    Returns
    -------
    list of DeliveryOutcome
    """
    outcomes: list[DeliveryOutcome] = []
    store = stow if destination.method == "stow-rs" else post_to_orthanc
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


# Orthanc


# Looking up


def _is_in(web: httpx.Client, destination: WebDestination, sop_instance_uid: str) -> bool:
    if destination.method == "orthanc":
        with web.stream("POST", "/tools/lookup", content=sop_instance_uid) as answer:
            answer.raise_for_status()
            return any(_is_instance(one) for one in objects(answer))
    params = {"SOPInstanceUID": sop_instance_uid}
    with web.stream("GET", "/instances", params=params, headers={"Accept": JSON}) as answer:
        answer.raise_for_status()
        return any(first_value(one, "00080018") == sop_instance_uid for one in objects(answer))


def _is_instance(found: Any) -> bool:
    return isinstance(found, dict) and found.get("Type") == "Instance"
