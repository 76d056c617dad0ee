"""How long a peer has been silent, not counting our own work."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from pynetdicom.timer import Timer


def silent_s(association: Any) -> float:
    """Seconds since the peer said anything."""
    timer = association.dul._idle_timer
    return 0.0 if timer.timeout is None else float(timer.timeout - timer.remaining)


class IdleTimer(Timer):  # type: ignore[misc]  # pynetdicom is untyped
    """How long we have waited for the peer: not while it waits for us."""

    def __init__(self, timeout: float | None) -> None:
        super().__init__(timeout)
        self._work = 0
        self._counting = threading.Lock()

    @property
    def remaining(self) -> float:
        """Seconds until it expires."""
        if self._work and self.timeout is not None:
            return float(self.timeout)
        return float(super().remaining)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Not a second counts within; all count anew after."""
        self._count(1)
        try:
            yield
        finally:
            self.restart()
            self._count(-1)

    @property
    def under_way(self) -> int:
        """How many requests are being served."""
        return self._work

    def _count(self, change: int) -> None:
        with self._counting:
            self._work += change


def blame_no_one_for_our_work(association: Any) -> None:
    timer = IdleTimer(association.dul._idle_timer.timeout)
    association.dul._idle_timer = timer
    serve = association._serve_request

    def serve_at_work(*arguments: Any) -> None:
        with timer.at_work():
            serve(*arguments)

    association._serve_request = serve_at_work
