"""What durable work works with: one context a process, there while the node runs."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from mirv.analysis.errors import Transient
from mirv.analysis.extraction.pool import Extractor
from mirv.config.errors import MirvError
from mirv.config.settings import Settings
from mirv.dicom_io.model import StudyInput
from mirv.service.catalogue import Catalogue
from mirv.service.objects.spool import Spool
from mirv.service.study.plan import Plan

RUNS = "runs"
DELIVERIES = "deliveries"
FETCHES = "fetches"
PRIORS = "priors"
NOTICES = "notices"
COMMITMENTS = "commitments"
# What DBOS calls work that it will not go on with.
ENDED_STATES = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "SUCCESS")


@dataclass
class WorkContext:
    """What steps work with; one a process.

    Attributes
    ----------
    settings : Settings
    plan : Plan
    spool : Spool
    catalogue : Catalogue
    extractor : Extractor
        The pool lesions are shared out to; warm between runs.
    clock : callable
    studies : dict
        Read studies by run, kept from one step to the next so that nothing is read twice; empty
        after a crash.
    """

    settings: Settings
    plan: Plan
    spool: Spool
    catalogue: Catalogue
    extractor: Extractor
    clock: Callable[[], float] = time.time
    studies: dict[str, StudyInput] = field(default_factory=dict)


class Stopping(BaseException):
    """The node stops while a workflow is at work.

    Not an `Exception`: no one may take it for the run's own failure, so the workflow stays pending
    and is taken up at the next launch.
    """


_work: WorkContext | None = None


def set_work_context(work: WorkContext | None) -> None:
    """Put the context where steps find it: DBOS calls plain functions."""
    global _work
    _work = work


def work_context() -> WorkContext:
    """The context of this process.

    Raises
    ------
    Stopping
        The node stops.
    """
    if _work is None:
        raise Stopping
    return _work


def worth_repeating(fault: BaseException) -> bool:
    """Whether a step that met this fault is run again."""
    return isinstance(fault, (Transient, OSError))


def fault_code(fault: Exception) -> str:
    """The reason's code for work that ended with this fault."""
    return "retries_exhausted" if isinstance(fault, MirvError) else "internal_fault"


def fault_text(fault: Exception) -> str:
    """The fault with its traceback, cut to what a row holds."""
    return "".join(traceback.format_exception(fault))[-8000:]
