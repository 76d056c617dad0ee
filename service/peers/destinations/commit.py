"""Storage commitment asked for and reported (PS3.4 annex J)."""

import time
from collections.abc import Callable, Sequence

from pydicom import Dataset
from pynetdicom import evt

from mirv.config.settings.network import Destination
from mirv.dicom_io.standard.classes import EXPLICIT
from mirv.service.peers.association import NoAssociation, Proposal, associated
from mirv.service.peers.commitment import (
    PUSH_INSTANCE,
    PUSH_MODEL,
    REQUEST,
    Reference,
    Report,
    read_report,
    request,
)
from mirv.service.peers.destinations.outcome import NO_ANSWER, calling
from mirv.service.peers.statuses import SUCCESS

_SAME_ASSOCIATION_S = 1.0

_COMMITMENT = ((PUSH_MODEL, (EXPLICIT,)),)


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
        with associated(destination, calling(destination, calling_ae_title), proposal) as made:
            answer, _ = made.send_n_action(
                request(transaction_uid, references), REQUEST, PUSH_MODEL, PUSH_INSTANCE
            )
            if "Status" not in answer:
                return NO_ANSWER
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
    """Tell a peer what the node commits itself to; "" when it was told, else why not.

    Parameters
    ----------
    destination : Destination
    event_type : int
    information : Dataset
        Both as `commitment.answer` made them.
    calling_ae_title : str
        Of the node; the destination's own setting goes before it.

    Returns
    -------
    str
    """
    proposal = Proposal(_COMMITMENT, as_scp=[PUSH_MODEL])
    try:
        with associated(destination, calling(destination, calling_ae_title), proposal) as made:
            answer, _ = made.send_n_event_report(information, event_type, PUSH_MODEL, PUSH_INSTANCE)
    except NoAssociation as fault:
        return fault.why
    except ValueError as fault:
        return f"{destination.name} takes no commitment reports: {fault}"
    return "" if answer.get("Status") == SUCCESS else "the report was not taken"
