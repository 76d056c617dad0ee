"""Several listener processes on one port: the node starts them, starts them anew and ends them.

Each takes objects in by itself, into the spool and the catalogue all share; the system hands each
new connection to one of them (SO_REUSEPORT). A process is tied to the node by a pair of sockets:
through it come its settings, through it go storage commitment requests and reports, which the
node's workflows deal with before they are acknowledged, and when it closes the process ends. So
processes outlive no node, however that ended.
"""

import contextlib
import errno
import logging
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset

from mirv.config.fresh_interpreter import command
from mirv.config.settings import network
from mirv.service.inbound.line import Line
from mirv.service.inbound.process import main
from mirv.service.peers.commitment import CommitmentCalls, Report
from mirv.service.runtime.log import get_logger

_START_S = 60.0
_START_TRIES = 3
_END_S = 10.0
_PORT_PATIENCE_S = 5.0
_SHORTEST_REST_S, _LONGEST_REST_S = 0.2, 5.0
_HEALTHY_S = 10.0

log = get_logger("listener")


@dataclass(slots=True)
class _Child:
    """A listener process and the line to it."""

    process: "subprocess.Popen[bytes]"
    line: Line


class ListenerProcesses:
    """The listener of a node as several processes.

    Parameters
    ----------
    settings : config.settings.network.Listener
    folder : Path
        The node's.
    catalogue_url : str
    commitment : CommitmentCalls
        As for `Listener`; called in the node's own process.
    identity : config.settings.network.IdentityRules
    """

    def __init__(
        self,
        settings: network.Listener,
        folder: Path,
        catalogue_url: str,
        commitment: CommitmentCalls,
        identity: network.IdentityRules,
    ) -> None:
        self._settings = settings
        self._message = {
            "listener": settings.model_dump(mode="json"),
            "identity": identity.model_dump(mode="json"),
            "folder": str(folder),
            "catalogue_url": catalogue_url,
            "log_level": logging.getLevelName(logging.getLogger().getEffectiveLevel()),
        }
        self._commitment = commitment
        self._stopping = threading.Event()
        self._children: list[_Child | None] = [None] * settings.processes
        self._keepers: list[threading.Thread] = []

    def start(self) -> None:
        """Start all processes; returns when the port is open in each.

        Raises
        ------
        OSError
            The address is taken or not ours, or a process does not come up.
        """
        self._stopping.clear()
        _wait_for_port((self._settings.bind, self._settings.port))
        try:
            for place in range(self._settings.processes):
                self._children[place] = self._started()
            for place in range(self._settings.processes):
                self._await_ready(place)
        except BaseException:
            self.stop()
            raise
        self._keepers = [
            threading.Thread(target=self._keep, args=(place,), name=f"listener {place}")
            for place in range(self._settings.processes)
        ]
        for keeper in self._keepers:
            keeper.start()
        log.info("listener processes started", processes=self._settings.processes)

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

    def _started(self) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - this interpreter, fixed code
                command(main, theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
            )
        line = Line(ours)
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
