"""Several listener processes on one port: the node starts them, starts them anew and ends them.

Each takes objects in by itself, into the spool and the catalogue all share; the system hands each
new connection to one of them (SO_REUSEPORT). A process is tied to the node by a pair of sockets:
through it come its settings, through it go storage commitment requests and reports, which the
node's workflows deal with before they are acknowledged, and when it closes the process ends. So
processes outlive no node, however that ended.
"""

import contextlib
import errno
import gc
import json
import logging
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset

from analysis.errors import Transient
from config import settings
from service.commitment import CommitmentCalls, Report
from service.listener import Listener
from service.log import configure, get_logger
from service.node_folder import NodeFolder
from service.slots import Slots
from service.spool import Spool
from service.store import Catalogue

_ROOT = str(Path(__file__).resolve().parents[1])
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from service.listener_process import main; main(int(sys.argv[2]))"
)
_START_S = 60.0
_START_TRIES = 3
_ANSWER_S = 30.0
_END_S = 10.0
_PORT_PATIENCE_S = 5.0
_SHORTEST_REST_S, _LONGEST_REST_S = 0.2, 5.0
_HEALTHY_S = 10.0

log = get_logger("listener")


class _Line:
    """One end of the pair of sockets: a JSON text a line."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reading = connection.makefile("r", encoding="utf-8")
        self._sending = threading.Lock()

    def send(self, **message: Any) -> None:
        """Send a message.

        Raises
        ------
        OSError
            The other end is gone.
        """
        with self._sending:
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when the other end is gone."""
        with contextlib.suppress(OSError, ValueError):
            if line := self._reading.readline():
                message: dict[str, Any] = json.loads(line)
                return message
        return None

    def hang_up(self) -> None:
        """Let both ends read no more."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end."""
        self.hang_up()
        self._reading.close()
        self._connection.close()


# The node's side


@dataclass(slots=True)
class _Child:
    """A listener process and the line to it."""

    process: "subprocess.Popen[bytes]"
    line: _Line


class ListenerProcesses:
    """The listener of a node as several processes.

    Parameters
    ----------
    wanted : config.settings.Listener
    folder : Path
        The node's.
    catalogue_url : str
    commitment : CommitmentCalls
        As for `Listener`; called in the node's own process.
    """

    def __init__(
        self,
        wanted: settings.Listener,
        folder: Path,
        catalogue_url: str,
        commitment: CommitmentCalls,
    ) -> None:
        self._wanted = wanted
        self._message = {
            "listener": wanted.model_dump(mode="json"),
            "folder": str(folder),
            "catalogue_url": catalogue_url,
            "log_level": logging.getLevelName(logging.getLogger().getEffectiveLevel()),
        }
        self._commitment = commitment
        self._stopping = threading.Event()
        self._children: list[_Child | None] = [None] * wanted.processes
        self._keepers: list[threading.Thread] = []

    def start(self) -> None:
        """Start all processes; returns when the port is open in each.

        Raises
        ------
        OSError
            The address is taken or not ours, or a process does not come up.
        """
        self._stopping.clear()
        _wait_for_port((self._wanted.bind, self._wanted.port))
        try:
            for place in range(self._wanted.processes):
                self._children[place] = self._started()
            for place in range(self._wanted.processes):
                self._await_ready(place)
        except BaseException:
            self.stop()
            raise
        self._keepers = [
            threading.Thread(target=self._keep, args=(place,), name=f"listener {place}")
            for place in range(self._wanted.processes)
        ]
        for keeper in self._keepers:
            keeper.start()
        log.info("listener processes started", processes=self._wanted.processes)

    def _await_ready(self, place: int) -> None:
        """Wait for a process to listen; one that was killed before has a few successors."""
        for tries_left in reversed(range(_START_TRIES)):
            child = self._children[place]
            why = "ended" if child is None else _why_not_ready(child)
            if not why:
                return
            if child is not None:
                _end(child)
                self._children[place] = None
            if why != "ended" or not tries_left:
                break
            log.warning("listener process ended at its start", place=place)
            self._children[place] = self._started()
        raise OSError(f"a listener process did not start: {why}")

    def stop(self) -> None:
        """End every process and its associations."""
        self._stopping.set()
        for child in self._children:
            if child is not None:
                child.line.hang_up()
        for keeper in self._keepers:
            keeper.join()
        self._keepers = []
        for place, child in enumerate(self._children):
            if child is not None:
                _end(child)
            self._children[place] = None

    @property
    def pids(self) -> list[int]:
        """Of the processes that run."""
        return [child.process.pid for child in self._children if child is not None]

    def _started(self) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - this interpreter, fixed code
                [sys.executable, "-c", _BOOT, _ROOT, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
            )
        line = _Line(ours)
        with contextlib.suppress(OSError):  # one that has died already says so to who waits
            line.send(**self._message)
        return _Child(process, line)

    def _keep(self, place: int) -> None:
        """Serve a process; when it ends by itself, start another in its place."""
        rest_s = _SHORTEST_REST_S
        while not self._stopping.is_set():
            child, began = self._children[place], time.monotonic()
            if child is not None:
                self._serve(child)
                if self._stopping.is_set():
                    return
                _end(child)
                log.error("listener process ended", status=child.process.returncode)
            healthy = time.monotonic() - began > _HEALTHY_S
            rest_s = _SHORTEST_REST_S if healthy else min(2 * rest_s, _LONGEST_REST_S)
            self._stopping.wait(rest_s)
            self._children[place] = self._started_anew()

    def _started_anew(self) -> _Child | None:
        if self._stopping.is_set():
            return None
        try:
            return self._started()
        except OSError as fault:
            log.warning("listener process not started", why=str(fault))
            return None

    def _serve(self, child: _Child) -> None:
        """Do what the process asks for until it ends."""
        while (message := child.line.receive()) is not None:
            if "ready" in message:
                continue
            if "failed" in message:
                log.error("listener process failed", why=message["failed"])
                continue
            try:
                self._do(message)
                answer: dict[str, Any] = {"done": True}
            except Exception as fault:  # noqa: BLE001 - the peer is told to try again
                log.warning("commitment message not taken", why=type(fault).__name__)
                answer = {"fault": type(fault).__name__}
            with contextlib.suppress(OSError):
                child.line.send(number=message["number"], **answer)

    def _do(self, message: dict[str, Any]) -> None:
        if "report" in message:
            transaction_uid, committed, failed = message["report"]
            self._commitment.report(Report(transaction_uid, frozenset(committed), failed))
        else:
            calling, event_type, information = message["request"]
            self._commitment.request(calling, event_type, Dataset.from_json(information))


def _wait_for_port(address: tuple[str, int]) -> None:
    """Make sure no one else serves the port: listener processes would share it with anyone."""
    deadline = time.monotonic() + _PORT_PATIENCE_S
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    while True:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                # The processes of a node that was killed end a moment after it.
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise
            else:
                return
        time.sleep(_SHORTEST_REST_S)


def _why_not_ready(child: _Child) -> str:
    """Wait for a process to say that it listens; "" when it does, "ended" without a word."""
    timer = threading.Timer(_START_S, child.process.kill)
    timer.daemon = True
    timer.start()
    message = child.line.receive()
    timer.cancel()
    if message is None:
        return "ended"
    return "" if "ready" in message else str(message.get("failed", message))


def _end(child: _Child) -> None:
    child.line.close()
    try:
        child.process.wait(_END_S)
    except subprocess.TimeoutExpired:
        child.process.kill()
        child.process.wait()


# The process's own side


class _NodeLine:
    """What a listener process hands to the node."""

    def __init__(self, line: _Line) -> None:
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


def main(descriptor: int) -> None:
    """Serve until the node closes the line."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # meant for the node, which then ends us
    line = _Line(socket.socket(fileno=descriptor))
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
    wanted = settings.Listener.model_validate(message["listener"])
    catalogue = Catalogue(message["catalogue_url"])
    listener = Listener(
        wanted,
        Spool(folder.spool),
        catalogue,
        commitment=CommitmentCalls(node.report, node.request),
        shared_slots=Slots(wanted.max_associations, folder.association_slots),
    )
    listener.start()
    return catalogue, listener
