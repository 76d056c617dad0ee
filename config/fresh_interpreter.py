"""Processes of our own code: a fresh interpreter that imports what this one imports.

No fork, which a threaded parent could not survive, and nothing from the working folder: a `json.py`
or `config.py` that lies there is not ours.
"""

import json
import sys
from collections.abc import Callable

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "from {module} import {name}; {name}()"
)


def command(entry: Callable[[], None], *words: object) -> list[str]:
    """The command line that runs a function of ours in a process of its own.

    Parameters
    ----------
    entry : callable
        A function at the top of its module; it finds its words in ``sys.argv[1:]``.
    *words : object
        Passed on as text.
    """
    boot = _BOOT.format(module=entry.__module__, name=entry.__name__)
    path = json.dumps([place for place in sys.path if place])
    # -P: nothing from the working folder; -W: what the environment says of warnings is about the
    # parent's code.
    return [sys.executable, "-P", "-W", "ignore", "-c", boot, path, *(str(word) for word in words)]
