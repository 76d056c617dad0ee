"""Memory to receive into: whole pages, used for one object after the other."""

import mmap
import threading
from collections.abc import Callable

_FIRST = 1 << 20
_KEPT = 4 << 20


class BudgetError(OSError):
    """What all buffers may hold together is held."""


class Budget:
    """Memory that many buffers share.

    Parameters
    ----------
    limit : int
        Bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._counting = threading.Lock()

    def change(self, former: int, wanted: int) -> None:
        """Hold so many bytes instead of so many; what a buffer keeps for good does not count.

        Raises
        ------
        BudgetError
        """
        change = max(0, wanted - _KEPT) - max(0, former - _KEPT)
        with self._counting:
            if change > 0 and self._held + change > self._limit:
                raise BudgetError(
                    f"found {self._held} bytes of {self._limit} held by large objects, "
                    f"wanted {change} more"
                )
            self._held += change


class Buffer:
    """Bytes that grow, in memory that starts at a page.

    Fresh memory costs more than what is done with it, so it is kept from object to object; and
    the disk can take whole pages from where they lie.

    Parameters
    ----------
    budget : Budget
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._pages: mmap.mmap | None = None
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes in it."""
        return self._size

    @property
    def held(self) -> int:
        """Bytes of memory it may take."""
        return 0 if self._pages is None else len(self._pages)

    def start(self, head: bytes) -> None:
        """Begin anew with these bytes; what was there is gone.

        Parameters
        ----------
        head : bytes

        Raises
        ------
        BudgetError
            There is no memory left for it.
        """
        if not 0 < self.held <= _KEPT:
            self.close()
            self._pages = _pages(_FIRST)
        self._size = 0
        self.add(head)

    def content(self, start: int = 0) -> memoryview:
        """What is in it from `start` on; to be released before anything is added.

        Parameters
        ----------
        start : int
            Bytes from the beginning.

        Returns
        -------
        memoryview
        """
        return memoryview(self._memory)[start : self._size]

    def add(self, data: bytes | memoryview) -> None:
        """Put bytes at the end.

        Parameters
        ----------
        data : bytes or memoryview

        Raises
        ------
        BudgetError
            There is no memory left for it.
        """
        room = self._room(len(data))
        self._memory[self._size : room] = data
        self._size = room

    def receive(self, length: int, into: Callable[[memoryview], int]) -> int:
        """Let `into` fill the next `length` bytes; as many as it says are added, and returned.

        Parameters
        ----------
        length : int
            Bytes.
        into : callable
            Given that much memory, fills it from its start and says how many bytes it filled.

        Returns
        -------
        int

        Raises
        ------
        BudgetError
            There is no memory left for it.
        """
        end = self._room(length)
        with memoryview(self._memory) as whole, whole[self._size : end] as free:
            read = into(free)
        self._size += read
        return read

    def discard(self) -> None:
        """Give large memory back."""
        self._size = 0
        if self.held > _KEPT:
            self.close()

    def close(self) -> None:
        """Give all memory back."""
        self._budget.change(self.held, 0)
        self._size, self._pages = 0, None

    @property
    def _memory(self) -> mmap.mmap:
        if self._pages is None:
            raise ValueError("found a buffer that was not started")
        return self._pages

    def _grow(self, length: int) -> None:
        self._budget.change(self.held, length)
        try:
            self._memory.resize(length)
        except BufferError:  # an exception may still hold a view of what was there
            former, self._pages = self._memory, _pages(length)
            self._memory[: self._size] = former[: self._size]
        except OSError:
            self._budget.change(length, self.held)
            raise

    def _room(self, length: int) -> int:
        """Make room for so many more; where they will end."""
        end = self._size + length
        if end > self.held:
            self._grow(max(end, 2 * self.held))
        return end


def _pages(length: int) -> mmap.mmap:
    return mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
