"""Processes of our own code: a fresh interpreter that imports what this one imports.

No fork, which a threaded parent could not survive, and nothing hidden by the working folder: a
`json.py` that lies there is not ours. A notebook, and ``python -m``, have that folder
first in their path.
"""

import sys
from collections.abc import Callable
from pathlib import Path

# Only what is built in is imported before the path is right.
_BOOT = "import sys; sys.path[:] = {path!r}; from {module} import {name}; {name}()"
_OURS = Path(__file__).parents[2]  # what `import mirv` is found in


def command(entry: Callable[[], None], *words: object) -> list[str]:
    """The command line that runs a function of ours in a process of its own.

    Parameters
    ----------
    entry : callable
        A function at the top of its module; it finds its words in ``sys.argv[1:]``.
    *words : object
        Passed on as text.

    Returns
    -------
    list of str
        To be started in this working folder.
    """
    boot = _BOOT.format(path=_path(), module=entry.__module__, name=entry.__name__)
    # -P: nothing from the working folder before the path is set; -W: what the environment says of
    # warnings is about the parent's code.
    return [sys.executable, "-P", "-W", "ignore", "-c", boot, *(str(word) for word in words)]


def _path() -> list[str]:
    """Where this interpreter looks for modules; the working folder last, unless we come from it."""
    places, last = [], []
    for place in sys.path:
        if _is(place, _OURS):
            places.append(str(_OURS))
        elif _is(place, Path()):
            last.append(".")
        else:
            places.append(place)
    return [*places, *last[:1]]


def _is(place: str, folder: Path) -> bool:
    """Whether an entry of ``sys.path``, where "" is the working folder, is this folder."""
    try:
        return folder.samefile(place or ".")
    except OSError:
        return False
