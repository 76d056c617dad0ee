"""Turns of work in a thread of their own, until told to stop: the only loops of node and worker."""

import signal
import threading
from collections.abc import Callable

from mirv.analysis.errors import Transient
from mirv.service.runtime.log import get_logger

log = get_logger("loop")


class Loop:
    """A thread that does a turn of work, rests, and goes on whatever a turn met.

    Parameters
    ----------
    name : str
        For the log.
    turn : callable
        One turn; True when there is more to do at once.
    rest_s : float
        Between two turns.
    """

    def __init__(self, name: str, turn: Callable[[], bool], rest_s: float) -> None:
        self._name = name
        self._turn = turn
        self._rest_s = rest_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End after the turn that is under way, and wait for that."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._one():
                self._stopping.wait(self._rest_s)

    def _one(self) -> bool:
        try:
            return self._turn()
        except (Transient, OSError) as fault:
            log.warning("turn postponed", loop=self._name, why=str(fault))
        except Exception:
            log.exception("turn failed", loop=self._name)
        return False


def end_when_told(stopping: threading.Event) -> None:
    """From now on a signal to end the process sets `stopping`, instead of ending it at once."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopping.set())


def wait_for_the_end(stopping: threading.Event) -> None:
    """Block until the process is told to end, or someone sets `stopping`."""
    end_when_told(stopping)
    while not stopping.wait(0.5):
        pass
