"""A number of associations that all listener processes of a node share."""

import fcntl
import os
import threading
from pathlib import Path


class Slots:
    """So many at a time and no more.

    With a file, all processes that name it share the number: a slot is a locked byte of it, which
    the system frees when its process dies.

    Parameters
    ----------
    number : int
    file : Path, optional
        Made when absent; none: the number is this process's own.
    """

    def __init__(self, number: int, file: Path | None = None) -> None:
        self._number = number
        self._descriptor = None if file is None else os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        self._held: dict[object, int] = {}
        self._lock = threading.Lock()

    def take(self, holder: object) -> bool:
        """Take a slot; False when all are taken.

        Parameters
        ----------
        holder : object
            By which it is given back; anything that can be told from others.

        Returns
        -------
        bool
        """
        with self._lock:
            mine = set(self._held.values())
            for slot in range(self._number):
                if slot not in mine and self._locked(slot):
                    self._held[holder] = slot
                    return True
        return False

    def give_back(self, holder: object) -> None:
        """Give the holder's slot back; harmless when it has none."""
        with self._lock:
            slot = self._held.pop(holder, None)
            if slot is not None and self._descriptor is not None:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, slot)

    def _locked(self, slot: int) -> bool:
        if self._descriptor is None:
            return True
        try:
            # A process's second lock on a byte always succeeds: ours are left out by the caller.
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Give everything back."""
        with self._lock:
            self._held.clear()
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
