"""The way out: artifacts to their destinations by C-STORE, judged by the status of each."""

import io
from collections.abc import Sequence
from typing import Any

from pydicom import dcmread

from mirv.config.settings.network import Destination
from mirv.dicom_io.standard.classes import EXPLICIT
from mirv.service.peers.association import NoAssociation, Proposal, associated
from mirv.service.peers.destinations.outcome import (
    NO_ANSWER,
    DeliveryOutcome,
    Outgoing,
    calling,
    judge,
)
from mirv.service.peers.destinations.verdict import DeliveryVerdict


def send(
    destination: Destination, outgoing: Sequence[Outgoing], calling_ae_title: str
) -> list[DeliveryOutcome]:
    """Send artifacts over one association; an outcome for each, in order.

    Parameters
    ----------
    destination : Destination
    outgoing : sequence of Outgoing
    calling_ae_title : str
        Of the node; the destination's own setting goes before it.

    Returns
    -------
    list of DeliveryOutcome
    """
    proposal = Proposal(
        [(one, [EXPLICIT]) for one in sorted({one.sop_class_uid for one in outgoing})]
    )
    try:
        with associated(destination, calling(destination, calling_ae_title), proposal) as made:
            return _send_all(made, outgoing)
    except NoAssociation as fault:
        verdict = DeliveryVerdict.PARK if fault.for_good else DeliveryVerdict.RETRY
        return [DeliveryOutcome(one.delivery_id, verdict, None, fault.why) for one in outgoing]


def _send_all(association: Any, outgoing: Sequence[Outgoing]) -> list[DeliveryOutcome]:
    outcomes: list[DeliveryOutcome] = []
    for one in outgoing:
        if outcomes and outcomes[-1].detail == NO_ANSWER:
            # pynetdicom may not have noticed yet, and would wait for an answer once more.
            outcomes.append(
                DeliveryOutcome(one.delivery_id, DeliveryVerdict.RETRY, None, NO_ANSWER)
            )
        else:
            outcomes.append(_send_one(association, one))
    return outcomes


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
        return DeliveryOutcome(one.delivery_id, DeliveryVerdict.RETRY, None, NO_ANSWER)
    return judge(one.delivery_id, int(answer.Status), str(answer.get("ErrorComment", "")))
