"""The node's clock against one that no one can set: its jumps are noted.

Who counts days (retention) leaves out what the clock jumped: a battery that died or a wrong time
server must not make everything old at once.
"""

import time
from collections.abc import Callable

from mirv.service.catalogue import Catalogue
from mirv.service.runtime.log import get_logger

_SLACK_S = 60.0
# A machine is off for so long at times; what is longer may as well be a wrong clock.
_OFF_S = 86_400.0
# How far back the last time that was looked at may lie; each is a synced write.
_KEEP_EVERY_S = 15.0

log = get_logger("clock")


def _steady() -> float:
    # Goes on while the machine is suspended, unlike `time.monotonic`.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClockWatch:
    """Notes by how much the clock jumped: at a look, or while the node was down.

    A start compares with the last time that the node itself looked at, or noted a jump to: what
    else is in the catalogue may have been written under the clock that is wrong. A jump and the
    time that counts after it are written together, so that no start notes a jump again.

    Parameters
    ----------
    catalogue : Catalogue
        Where the last time is kept.
    executor_id : str
        Whose heartbeat counts where no time was kept yet.
    clock, steady : callable
        Seconds since 1970, and seconds that only ever go on.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        executor_id: str,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = _steady,
    ) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._steady = steady
        self._ahead: float | None = None
        self._kept = 0.0
        kept = catalogue.clock.looked_at()
        if kept is None:
            # Kept before anything is noted: a jump must not be noted again for want of it.
            kept = catalogue.workers.heard_at(executor_id) or catalogue.instances.last_received_at()
            self._keep(kept)
        self._last = kept

    def look_back(self) -> None:
        """Note at a start that the clock was set back, before anything is written under it.

        What comes while the clock is behind must count as later than the jump: once the clock is
        right again, only the jump forward may be left out. What is found of before a jump forward
        must count as earlier: that one is noted by the first `look`.
        """
        now = self._clock()
        gap = self._since_the_last_node(now)
        if gap < -_SLACK_S:
            self._note(now, gap, now - self._steady())

    def look(self) -> float:
        """Compare, and note a jump; the time that was looked at.

        Returns
        -------
        float
            Seconds since 1970.
        """
        now = self._clock()
        ahead = now - self._steady()
        jump = self._since_the_last_node(now) if self._ahead is None else ahead - self._ahead
        if abs(jump) > _SLACK_S:
            self._note(now, jump, ahead)
        elif self._ahead is None:
            self._ahead = ahead  # not at every look: small steps add up to a jump
        if abs(now - self._kept) >= _KEEP_EVERY_S:
            self._keep(now)
        return now

    def _since_the_last_node(self, now: float) -> float:
        gap = now - self._last if self._last else 0.0
        return 0.0 if 0.0 <= gap <= _OFF_S else gap

    def _note(self, now: float, jump: float, ahead: float) -> None:
        self._catalogue.clock.note_jump(now, round(jump))
        log.warning("the clock jumped: retention does not count it", seconds=round(jump))
        self._ahead, self._kept = ahead, now

    def _keep(self, moment: float) -> None:
        self._catalogue.clock.keep(moment)
        self._kept = moment
