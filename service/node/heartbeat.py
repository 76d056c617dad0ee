"""One executor's heartbeat, and its ear for others'."""

import time

from mirv.service.catalogue import Catalogue
from mirv.service.runtime.log import get_logger
from mirv.service.work import engine

log = get_logger("heartbeat")


class Heart:
    """One executor's heartbeat, and its ear for others'.

    Parameters
    ----------
    catalogue : Catalogue
    executor_id : str
    silent_s : float
        Who is silent for longer is taken for dead.
    """

    def __init__(self, catalogue: Catalogue, executor_id: str, silent_s: float) -> None:
        self._catalogue = catalogue
        self._executor_id = executor_id
        self._silent_s = silent_s
        self._next = 0.0

    def turn(self) -> bool:
        """As `Loop` wants it."""
        self.beat(time.time())
        return False

    def beat(self, now: float) -> None:
        """Beat when it is time, and hand on what the silent have left.

        Parameters
        ----------
        now : float
            Seconds since 1970.
        """
        if self._next - self._silent_s < now < self._next:
            return
        self._next = now + self._silent_s / 4
        self._catalogue.workers.beat(self._executor_id, now)
        for silent in self._catalogue.workers.silent_since(
            now - self._silent_s, now + self._silent_s
        ):
            if silent == self._executor_id:
                continue
            recovered = engine.recover([silent])
            self._catalogue.workers.forget(silent)
            log.warning("a silent worker's work is handed on", workflows=recovered)
