"""The node's clock against one that no one can set: its jumps are noted in the audit trail.

Who counts days (retention) leaves out what the clock jumped: a battery that died or a wrong time
server must not make everything old at once.
"""

import time
from collections.abc import Callable

from service.log import get_logger
from service.store import Store

JUMPED = "clock_jumped"
_SLACK_S = 60.0
# A machine is off for so long at times; what is longer may as well be a wrong clock.
_OFF_S = 86_400.0

log = get_logger("clock")


def _steady() -> float:
    # Goes on while the machine is suspended, unlike `time.monotonic`.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClockWatch:
    """Notes by how much the clock jumped: at a look, or while the node was down.

    Parameters
    ----------
    store : Store
        Made before the node writes anything: its last time is what the clock must follow.
    executor_id : str
        Whose heartbeat counts as a last time, too.
    clock, steady : callable
        Seconds since 1970, and seconds that only ever go on.
    """

    def __init__(
        self,
        store: Store,
        executor_id: str,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = _steady,
    ) -> None:
        self._store = store
        self._clock = clock
        self._steady = steady
        self._last = max(store.events.last_at(), store.workers.heard_at(executor_id))
        self._ahead: float | None = None

    def look(self) -> float:
        """Compare, and note a jump; the time that was looked at."""
        now = self._clock()
        ahead = now - self._steady()
        jump = self._since_the_last_node(now) if self._ahead is None else ahead - self._ahead
        if abs(jump) > _SLACK_S:
            self._store.events.add(now, JUMPED, seconds=round(jump))
            log.warning("the clock jumped: retention does not count it", seconds=round(jump))
            self._ahead = ahead
        elif self._ahead is None:
            self._ahead = ahead  # not at every look: small steps add up to a jump
        return now

    def _since_the_last_node(self, now: float) -> float:
        gap = now - self._last if self._last else 0.0
        return 0.0 if 0.0 <= gap <= _OFF_S else gap
