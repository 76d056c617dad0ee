"""One listener process: it takes objects in by itself, and asks the node for durable work."""

import contextlib
import gc
import queue
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pydicom import Dataset

from mirv.analysis.errors import Transient
from mirv.config.settings import network
from mirv.service.catalogue import Catalogue
from mirv.service.inbound.association_slots import Slots
from mirv.service.inbound.line import Line
from mirv.service.inbound.listener import Listener
from mirv.service.objects.spool import Spool
from mirv.service.peers.commitment import CommitmentCalls, Report
from mirv.service.runtime.log import configure
from mirv.service.runtime.node_folder import NodeFolder

_ANSWER_S = 30.0


class _NodeLine:
    """What a listener process hands to the node."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._one_at_a_time = threading.Lock()
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._number = 0

    def report(self, report: Report) -> None:
        """Hand on a storage commitment report."""
        committed = sorted(report.committed)
        self._ask(report=[report.transaction_uid, committed, report.failed])

    def request(self, calling: str, event_type: int, information: Dataset) -> None:
        """Hand on what to answer to a peer that asks the node to commit itself."""
        self._ask(request=[calling, event_type, information.to_json()])

    def _ask(self, **message: Any) -> None:
        with self._one_at_a_time:
            self._number += 1
            try:
                self._line.send(number=self._number, **message)
                answer = self._answer()
            except (OSError, queue.Empty) as fault:
                raise Transient("the node does not answer its listener process") from fault
        if "done" not in answer:
            raise Transient(f"the node could not take it: {answer.get('fault')}")

    def _answer(self) -> dict[str, Any]:
        """The answer to the last message; one that comes late to another is let go."""
        deadline = time.monotonic() + _ANSWER_S
        while True:
            answer = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
            if answer["number"] == self._number:
                return answer

    def listen(self) -> None:
        """Pass answers on until the node is gone."""
        while (answer := self._line.receive()) is not None:
            self._answers.put(answer)


def main() -> None:
    """Serve until the node closes the line, whose descriptor is the one word given."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # meant for the node, which then ends us
    line = Line(socket.socket(fileno=int(sys.argv[1])))
    message = line.receive()
    if message is None:
        return
    configure(message["log_level"])
    node = _NodeLine(line)
    try:
        catalogue, listener = _listening(message, node)
    except Exception as fault:  # noqa: BLE001 - told to the node, which says so and gives up
        with contextlib.suppress(OSError):
            line.send(failed=str(fault))
        return
    gc.collect()
    gc.freeze()  # what is there now stays: no collection need look at it again
    with contextlib.suppress(OSError):  # a node that is gone by now: there is nothing to listen for
        line.send(ready=True)
    node.listen()
    listener.stop()
    catalogue.close()


def _listening(message: dict[str, Any], node: _NodeLine) -> tuple[Catalogue, Listener]:
    folder = NodeFolder(Path(message["folder"]))
    settings = network.Listener.model_validate(message["listener"])
    catalogue = Catalogue(message["catalogue_url"])
    listener = Listener(
        settings,
        Spool(folder.spool),
        catalogue,
        network.IdentityRules.model_validate(message["identity"]).issuer_of,
        commitment=CommitmentCalls(node.report, node.request),
        shared_slots=Slots(settings.max_associations, folder.association_slots),
    )
    listener.start()
    return catalogue, listener
