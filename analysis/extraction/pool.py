"""Features of lesions, each in a process that may fail alone.

Lesions go, largest first, to a pool of worker processes. A worker gets only the part of the image
its lesion needs, runs on one thread, under a memory cap and a time limit. What a lesion does to
its worker (crash, allocate without end, never return) costs that lesion alone; the worker is
replaced. Values do not depend on the number of workers.
"""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from threading import Lock
from typing import Literal

import numpy as np

from mirv.analysis.errors import Transient
from mirv.analysis.extraction.job import (
    ONE_THREAD,
    READY,
    Job,
    LesionFeatures,
    LesionLimits,
    MaskFeatures,
    as_pixel_type,
    excluded,
)
from mirv.analysis.extraction.worker import main
from mirv.analysis.features.names import feature_names
from mirv.analysis.lattice.window import find_window
from mirv.analysis.model import Lesion, LesionResult, Volume
from mirv.config.fresh_interpreter import command
from mirv.config.profiles import ExtractionProfile

START_TIMEOUT_S = 300.0
"""A worker that has not loaded its libraries by then never will."""

Progress = Callable[[int, int], None]
Arithmetic = Literal["fast", "plain"]


@dataclass(frozen=True, slots=True, eq=False)
class Perturbed:
    """One lesion under one profile, from its mask and from that mask a little smaller and larger.

    All three are measured on the same resampled window, so nothing but the mask differs.
    """

    original: LesionResult
    eroded: LesionResult
    dilated: LesionResult


@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    """One lesion under one profile, and where its result goes."""

    at: int
    lesion: Lesion
    profile: ExtractionProfile
    cost: float
    plain: bool
    perturbed: bool

    def without_values(self, code: str, detail: str) -> LesionFeatures:
        """One outcome a mask, all excluded for the same reason."""
        return (excluded(self.profile, code, detail),) * (3 if self.perturbed else 1)


@dataclass(slots=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    deadline: float
    ready: bool = False
    order: _Order | None = None

    @property
    def idle(self) -> bool:
        return self.ready and self.order is None


@dataclass(slots=True)
class _Round:
    """One call of `Extractor.extract`: what is left to do and what is done."""

    volume: Volume
    waiting: deque[_Order]
    outcomes: dict[int, LesionFeatures] = field(default_factory=dict)


class Extractor:
    """A pool of extraction processes that stays warm between studies.

    Safe to use from several threads (calls take turns) and from a multi-threaded server: workers
    are fresh interpreters, nothing is forked.

    Parameters
    ----------
    workers : int
        Processes; 0: one for each core this process may use.
    limits : LesionLimits, optional
    arithmetic : {"fast", "plain"}
        ``plain``: PyRadiomics' own and nothing else; ``fast``: its repeated work done once, with
        the same values.
    """

    def __init__(
        self, workers: int = 0, limits: LesionLimits | None = None, arithmetic: Arithmetic = "fast"
    ) -> None:
        if workers < 0:
            raise ValueError(f"found {workers} workers, wanted 0 (one for each core) or more")
        self._size = workers or len(os.sched_getaffinity(0))
        self._limits = limits or LesionLimits()
        self._plain = arithmetic == "plain"
        self._target = "mirv.analysis.extraction.lesion:compute"
        self._workers: list[_Worker] = []
        self._lock = Lock()
        self._closed = False

    def __enter__(self) -> "Extractor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers, also those at work: their `extract` raises, and records nothing."""
        self._closed = True
        for worker in list(self._workers):
            worker.process.kill()
        with self._lock:
            for worker in list(self._workers):
                self._drop(worker)

    def extract(
        self,
        volume: Volume,
        lesions: Sequence[Lesion],
        profiles: Sequence[ExtractionProfile],
        progress: Progress | None = None,
    ) -> tuple[LesionResult, ...]:
        """Extract every lesion under every profile.

        Parameters
        ----------
        volume : Volume
        lesions : sequence of Lesion
        profiles : sequence of ExtractionProfile
        progress : callable (done, total), optional
            Called after each lesion and profile, from this thread.

        Returns
        -------
        tuple of LesionResult
            Profile by profile in the order given, lesion by lesion within each.

        Raises
        ------
        ValueError
            A profile that cannot be carried out, or a mask of another grid.
        RuntimeError
            Workers do not start.
        Transient
            The extractor was closed meanwhile.
        """
        return tuple(r[0] for r in self._results(volume, lesions, profiles, False, progress))

    def extract_perturbed(
        self,
        volume: Volume,
        lesions: Sequence[Lesion],
        profiles: Sequence[ExtractionProfile],
        progress: Progress | None = None,
    ) -> tuple[Perturbed, ...]:
        """As `extract`, from the eroded and the dilated masks as well (R-CCC-2).

        A lesion that vanishes on erosion has an `eroded` result that is excluded with its reason.
        """
        found = self._results(volume, lesions, profiles, True, progress)
        return tuple(Perturbed(*each) for each in found)

    def _results(
        self,
        volume: Volume,
        lesions: Sequence[Lesion],
        profiles: Sequence[ExtractionProfile],
        perturbed: bool,
        progress: Progress | None,
    ) -> list[tuple[LesionResult, ...]]:
        _check(volume, lesions)
        names = {profile.name: feature_names(profile) for profile in profiles}
        if len(names) != len(profiles):
            given = ", ".join(profile.name for profile in profiles)
            raise ValueError(f"found profiles {given}, wanted different names")
        orders = [
            _Order(
                which * len(lesions) + at,
                lesion,
                profile,
                _cost(volume, lesion, profile),
                self._plain,
                perturbed,
            )
            for which, profile in enumerate(profiles)
            for at, lesion in enumerate(lesions)
        ]
        with self._lock:
            outcomes = self._run(volume, orders, progress)
        return [
            tuple(
                _result(volume, order, names[order.profile.name], outcome)
                for outcome in outcomes[order.at]
            )
            for order in orders
        ]

    def _run(
        self, volume: Volume, orders: Sequence[_Order], progress: Progress | None
    ) -> dict[int, LesionFeatures]:
        this = _Round(volume, deque())
        for order in sorted(orders, key=lambda order: (-order.cost, order.at)):
            if order.lesion.mask.n_voxels == 0:
                detail = "found no voxel in the lesion, wanted at least 1"
                this.outcomes[order.at] = order.without_values("empty_mask", detail)
            else:
                this.waiting.append(order)
        reported = 0
        try:
            while True:
                for done in range(reported + 1, len(this.outcomes) + 1):
                    reported = done
                    if progress is not None:
                        progress(done, len(orders))
                if len(this.outcomes) == len(orders):
                    return this.outcomes
                self._check_open()
                self._fill(this)
                self._listen(this)
        finally:
            for worker in [w for w in self._workers if w.order is not None]:
                self._drop(worker)

    def _check_open(self) -> None:
        if self._closed:
            raise Transient("the extractor was closed before all lesions were extracted")

    def _fill(self, this: _Round) -> None:
        """Start the workers that are worth it and give each idle one a lesion."""
        busy = sum(worker.order is not None for worker in self._workers)
        while len(self._workers) < min(self._size, busy + len(this.waiting)):
            self._workers.append(self._start())
        for worker in [w for w in self._workers if w.idle]:
            if not this.waiting:
                return
            order = this.waiting[0]
            try:
                worker.connection.send(self._job(this.volume, order))
            except OSError:  # it died while idle: nobody's fault, the next one takes the lesion
                self._drop(worker)
                continue
            this.waiting.popleft()
            worker.order = order
            worker.deadline = time.monotonic() + self._limits.lesion_timeout_s

    def _job(self, volume: Volume, order: _Order) -> Job:
        """What a worker gets: the part of the image the lesion needs."""
        mask, profile = order.lesion.mask, order.profile
        shape = mask.values.shape
        window = find_window(
            volume.geometry,
            mask.start,
            (shape[0], shape[1], shape[2]),
            profile.settings,
            # A dilated mask needs image around the lesion's box as well.
            filtered=order.perturbed or set(profile.image_types) != {"Original"},
            centred=profile.preprocessing == "ibsi",
        )
        # Normalising needs the mean of the whole image; the worker cuts the window out afterwards.
        wanted = (
            volume.values if profile.settings.get("normalize") else volume.values[window.slices]
        )
        crop = as_pixel_type(wanted, volume.unit, profile)
        return Job(
            crop=crop,
            window=window,
            geometry=volume.geometry,
            mask=mask,
            profile=profile,
            plain=order.plain,
            perturbed=order.perturbed,
        )

    def _listen(self, this: _Round) -> None:
        """Wait for news or the next deadline."""
        awaited = [w for w in self._workers if not w.idle]
        if not awaited:
            return
        patience = max(min(w.deadline for w in awaited) - time.monotonic(), 0.0)
        told = wait([w.connection for w in awaited], patience)
        for worker in awaited:
            if worker.connection in told:
                self._hear(this, worker)
            elif time.monotonic() >= worker.deadline:
                self._give_up(this, worker)

    def _hear(self, this: _Round, worker: _Worker) -> None:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self._lost(this, worker)
            return
        if message == READY:
            worker.ready = True
            return
        outcomes, fit = message
        if worker.order is not None:
            this.outcomes[worker.order.at] = outcomes
        worker.order = None
        if not fit:
            self._drop(worker)

    def _lost(self, this: _Round, worker: _Worker) -> None:
        status = self._drop(worker)
        self._check_open()
        if worker.order is None:
            raise RuntimeError(f"an extraction worker could not start: it ended with {status}")
        this.outcomes[worker.order.at] = worker.order.without_values(
            "worker_died", f"the process that extracted this lesion ended with {status}"
        )
        worker.order = None

    def _give_up(self, this: _Round, worker: _Worker) -> None:
        self._drop(worker)
        if worker.order is None:
            raise RuntimeError(f"an extraction worker was not ready within {START_TIMEOUT_S:g} s")
        this.outcomes[worker.order.at] = worker.order.without_values(
            "time_limit", f"found no result after {self._limits.lesion_timeout_s:g} s"
        )
        worker.order = None

    def _start(self) -> _Worker:
        """A fresh interpreter: no fork of a threaded parent, no re-import of its main module."""
        ours, theirs = Pipe()
        limits = self._limits
        words = (theirs.fileno(), limits.lesion_timeout_s, limits.lesion_memory_mb, self._target)
        process = subprocess.Popen(  # noqa: S603 - this interpreter, fixed code, no outside words
            command(main, *words),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **ONE_THREAD},
        )
        theirs.close()
        return _Worker(process, ours, time.monotonic() + START_TIMEOUT_S)

    def _drop(self, worker: _Worker) -> str:
        """End a worker at once and say how it ended."""
        self._workers.remove(worker)
        worker.connection.close()
        if not worker.ready or worker.order is not None:
            # An ended pipe means it is already on its way out: let it say with what.
            status = _linger(worker.process)
            if status is not None:
                return _in_words(status)
        worker.process.kill()
        return _in_words(worker.process.wait())


def _linger(process: "subprocess.Popen[bytes]", seconds: float = 0.2) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _in_words(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _check(volume: Volume, lesions: Sequence[Lesion]) -> None:
    for lesion in lesions:
        if lesion.mask.grid_shape != volume.geometry.shape:
            raise ValueError(
                f"lesion {lesion.number}: found a mask on a grid of {lesion.mask.grid_shape}, "
                f"wanted the image's {volume.geometry.shape}"
            )


def _cost(volume: Volume, lesion: Lesion, profile: ExtractionProfile) -> float:
    """Expected effort, in no particular unit: voxels of the box times features."""
    box = float(np.prod(lesion.mask.values.shape)) * volume.geometry.voxel_volume_ml
    return (box + 1.0) * profile.n_features


def _result(
    volume: Volume, order: _Order, names: tuple[str, ...], outcome: MaskFeatures
) -> LesionResult:
    lesion = order.lesion
    return LesionResult(
        number=lesion.number,
        label=lesion.label,
        tracking_id=lesion.tracking_id,
        tracking_uid=lesion.tracking_uid,
        site=lesion.site,
        volume_ml=lesion.mask.n_voxels * volume.geometry.voxel_volume_ml,
        profile=order.profile.name,
        names=names,
        values=outcome.values,
        missing=outcome.missing,
        excluded=outcome.excluded,
        warnings=outcome.warnings,
        diagnostics=outcome.diagnostics,
    )
