"""Associations the node asks for: one way for sending, for asking and for fetching."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pynetdicom import build_role, evt

from mirv.analysis.errors import Transient
from mirv.config.settings.network import Destination, Source
from mirv.service.peers.entity import application_entity
from mirv.service.peers.tls import client_context

_CONNECT_S = 10.0


# A source is spoken to by DIMSE when its method says so; then it has all that is needed.
Peer = Destination | Source


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is asked of a peer.

    Attributes
    ----------
    contexts : sequence of (SOP class UID, transfer syntax UIDs)
        Without a syntax: in every uncompressed one.
    as_scp : sequence of SOP class UID
        Those of them in which the peer is to be the user, and the node the provider.
    handlers : sequence of (event, callable)
        For what the peer asks of the node on this association.
    answer_s : float
        How long each answer may take.
    """

    contexts: Sequence[tuple[str, Sequence[str]]]
    as_scp: Sequence[str] = ()
    handlers: Sequence[tuple[Any, Callable[[Any], Any]]] = ()
    answer_s: float = 60.0


class NoAssociation(Transient):
    """A peer and the node have come to no association.

    Attributes
    ----------
    why : str
        Without the peer's name.
    for_good : bool
        The peer is there and takes nothing of what was proposed: it would not the next time.
    """

    def __init__(self, peer: Peer, why: str, *, for_good: bool) -> None:
        super().__init__(f"{peer.name}: {why}")
        self.why = why
        self.for_good = for_good


@contextmanager
def associated(peer: Peer, calling_ae_title: str, proposal: Proposal) -> Iterator[Any]:
    """An established association with a peer; released at the end.

    Raises
    ------
    NoAssociation
        The peer is not reached or refuses.
    OSError
        A file of its TLS settings is missing or holds no usable certificate or key.
    """
    ae = application_entity(calling_ae_title)
    ae.connection_timeout = _CONNECT_S
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = proposal.answer_s
    for sop_class, syntaxes in proposal.contexts:
        ae.add_requested_context(sop_class, list(syntaxes) or None)
    association = ae.associate(
        peer.host or "",
        peer.port or 0,
        ae_title=peer.ae_title or "",
        ext_neg=[build_role(sop_class, scp_role=True) for sop_class in proposal.as_scp] or None,
        evt_handlers=[(evt.EVT_CONN_OPEN, _without_delay), *proposal.handlers],
        tls_args=(client_context(peer.tls), peer.host) if peer.tls else None,
    )
    if not association.is_established:
        # pynetdicom aborts when the peer takes none of the contexts: no use trying again.
        for_good = bool(association.rejected_contexts)
        raise NoAssociation(peer, _why_not(association), for_good=for_good)
    try:
        yield association
    finally:
        association.release()


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
