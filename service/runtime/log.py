"""Structured logs without patient data.

What is logged at INFO and above are kinds, counts, states, AE titles, addresses and digests. UIDs
come at DEBUG. Libraries that put values of data sets into their messages are heard at DEBUG only,
and so is what an exception says: above, its kind and the lines it came through.
"""

import logging
import sys
import threading
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

_TALKATIVE = (
    "pynetdicom", "pydicom", "py.warnings", "highdicom", "radiomics", "alembic", "dbos", "httpx",
    "httpcore",
)  # fmt: skip


def get_logger(name: str) -> Any:
    """A structured logger: ``log.info("what happened", key=value)``."""
    return structlog.get_logger(name)


def configure(level: str = "INFO") -> None:
    """Send the node's log as one JSON object a line to standard error.

    Parameters
    ----------
    level : str
        ``DEBUG`` also lets the libraries speak.
    """
    threshold = getattr(logging, level)
    logging.captureWarnings(True)
    logging.basicConfig(level=threshold, stream=sys.stderr, format="%(name)s: %(message)s")
    for name in _TALKATIVE:
        quiet = logging.DEBUG if threshold <= logging.DEBUG else logging.CRITICAL
        logging.getLogger(name).setLevel(quiet)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if threshold <= logging.DEBUG else _where,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    threading.excepthook = _log_end_of_thread


def _log_end_of_thread(fault: threading.ExceptHookArgs) -> None:
    get_logger("thread").error("thread ended by a fault", exc_info=fault.exc_value or True)


def _where(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An exception without the words of it, which may hold values of a data set."""
    fault = event.pop("exc_info", None)
    if fault and not isinstance(fault, BaseException):
        fault = sys.exc_info()[1] if fault is True else fault[1]
    if fault:
        lines = [
            f"{Path(one.filename).name}:{one.lineno} {one.name}"
            for one in traceback.extract_tb(fault.__traceback__)
        ]
        event["exception"] = f"Traceback: {', '.join(lines)}: {_kinds(fault)}"
    return event


def _kinds(fault: BaseException) -> str:
    cause = fault.__cause__ or fault.__context__
    kind = type(fault).__name__
    return kind if cause is None else f"{kind} after {_kinds(cause)}"
