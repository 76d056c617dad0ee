"""What DBOS has on record: failures of steps, as pickles that name a class by its module.

So a class that a step may raise keeps its module, or its old name is entered here: without it
work in flight could not be read, and a run refused for a reason would fail for none. Arguments and
results of workflows and steps are plain data and need no name.
"""

import sys
from collections.abc import Callable
from types import ModuleType

from mirv.analysis.errors import PeerRefused, Transient, Unsuitable
from mirv.config.errors import MirvError
from mirv.service.peers.web_client import TooLarge


def _peer_refused(message: str) -> PeerRefused:
    """Version 0.1.0 recorded it by its message; status and detail follow as its state."""
    return PeerRefused.__new__(PeerRefused, message)


# As of version 0.1.0, when `mirv` was not yet the package's name.
FORMER_NAMES: dict[str, dict[str, Callable[..., MirvError]]] = {
    "analysis.errors": {
        "MirvError": MirvError,
        "PeerRefused": _peer_refused,
        "Transient": Transient,
        "Unsuitable": Unsuitable,
    },
    "service.web": {"TooLarge": TooLarge},
}


def know_former_names() -> None:
    """Let what earlier versions recorded be read; before DBOS takes up what was in flight."""
    for name, members in FORMER_NAMES.items():
        module = ModuleType(name, "Former names of what moved; see mirv.service.work.recorded.")
        vars(module).update(members)
        sys.modules.setdefault(name, module)
