"""What workflows and errands work with: one workbench a process, there while the node runs."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from analysis.errors import Transient
from analysis.extraction import Extractor
from config.settings import Settings
from dicom_io.model import StudyInput
from service import pipeline
from service.spool import Spool
from service.store import Store

RUNS = "runs"
DELIVERIES = "deliveries"
FETCHES = "fetches"
PRIORS = "priors"
NOTICES = "notices"
COMMITMENTS = "commitments"


@dataclass
class Workbench:
    """What steps work with; one a process.

    Attributes
    ----------
    settings : Settings
    plan : pipeline.Plan
    spool : Spool
    store : Store
    extractor : Extractor
        The pool lesions are shared out to; warm between runs.
    clock : callable
    studies : dict
        Read studies by run, kept from one step to the next so that nothing is read twice; empty
        after a crash.
    """

    settings: Settings
    plan: pipeline.Plan
    spool: Spool
    store: Store
    extractor: Extractor
    clock: Callable[[], float] = time.time
    studies: dict[str, StudyInput] = field(default_factory=dict)


class Stopping(BaseException):
    """The node stops while a workflow is at work.

    Not an `Exception`: no one may take it for the run's own failure, so the workflow stays pending
    and is taken up at the next launch.
    """


_bench: Workbench | None = None


def set_workbench(bench: Workbench | None) -> None:
    """Put the workbench where steps find it: DBOS calls plain functions."""
    global _bench
    _bench = bench


def workbench() -> Workbench:
    """The workbench.

    Raises
    ------
    Stopping
        The node stops.
    """
    if _bench is None:
        raise Stopping
    return _bench


def worth_repeating(fault: BaseException) -> bool:
    """Whether a step that met this fault is run again."""
    return isinstance(fault, (Transient, OSError))
