"""Structured logs without patient data.

What is logged at INFO and above are kinds, counts, states, AE titles, addresses and digests. UIDs
come at DEBUG. Libraries that put values of data sets into their messages are heard at DEBUG only.
"""

import logging
import sys
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
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
