"""One lesion, one profile, in a process of its own: the only place PyRadiomics runs.

Started by `analysis.extraction.pool.Extractor`; speaks pickled `Job` and `LesionFeatures` over a
pipe.
"""

import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from math import ceil
from multiprocessing.connection import Connection
from typing import Any

from mirv.analysis.errors import out_of_memory
from mirv.analysis.extraction.job import READY, Job, LesionFeatures, excluded, failed


def _load(target: str) -> Callable[[Job], LesionFeatures]:
    """Load what jobs need; only here, since the parent knows this module as well."""
    import SimpleITK as sitk  # noqa: N813 - the name everybody uses
    from radiomics import featureextractor  # noqa: F401 - loading it is the point

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    sitk.ProcessObject.GlobalWarningDisplayOff()
    module, name = target.split(":")
    function: Callable[[Job], LesionFeatures] = getattr(import_module(module), name)
    return function


def _quiet() -> None:
    """PyRadiomics logs every step to standard error; here only failures are listened to."""
    logger = logging.getLogger("radiomics")
    logger.setLevel(logging.ERROR)
    logger.handlers.clear()
    logger.propagate = False


def _cap(memory_mb: int) -> None:
    """Cap the memory that jobs may add to what is loaded."""
    pages = int(open("/proc/self/statm").read().split()[0])  # noqa: SIM115, PTH123
    limit = pages * resource.getpagesize() + memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _guarded(target: Any, job: Job, memory_mb: int) -> tuple[LesionFeatures, bool]:
    """Run one job; whatever it raises costs this lesion alone.

    Returns
    -------
    outcomes, fit : LesionFeatures and bool
        `fit` is False when the worker should be replaced.
    """
    n = 3 if job.perturbed else 1
    try:
        return target(job), True
    except Exception as error:  # noqa: BLE001 - the top of a worker's loop
        if out_of_memory(error):
            detail = f"needed more than {memory_mb} MB"
            return (excluded(job.profile, "memory_limit", detail),) * n, False
        return (failed(job.profile, error),) * n, True


def serve(descriptor: int, timeout_s: float, memory_mb: int, target: str) -> None:
    """Answer jobs until the pipe closes.

    Parameters
    ----------
    descriptor : int
        File descriptor of this end of the pipe.
    timeout_s : float
        A lesion's time; the parent enforces it, and the kernel after it, in case the parent
        is gone.
    memory_mb : int
        Address space a job may add.
    target : str
        ``module:function`` from Job to LesionFeatures.
    """
    connection = Connection(descriptor)
    function = _load(target)
    _quiet()
    _cap(memory_mb)
    connection.send(READY)
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        signal.alarm(ceil(timeout_s) + 30)
        outcomes, fit = _guarded(function, job, memory_mb)
        signal.alarm(0)
        del job
        try:
            connection.send((outcomes, fit))
        except OSError:
            return
        if not fit:
            return


def main() -> None:
    """Entry point of the process: ``descriptor timeout_s memory_mb target``."""
    descriptor, timeout_s, memory_mb, target = sys.argv[1:5]
    # Crashes of one lesion are reported by the parent; what C code prints helps nobody there.
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(int(descriptor), float(timeout_s), int(memory_mb), target)
