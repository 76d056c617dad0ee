"""What the machine has."""

import os


def memory_bytes() -> int:
    """Its whole memory, used or not; of a container's own limit this knows nothing.

    Returns
    -------
    int
    """
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
