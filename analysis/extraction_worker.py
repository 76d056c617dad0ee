"""One lesion, one profile, in a process of its own: the only place PyRadiomics runs.

Started by `analysis.extraction.Extractor`; speaks pickled `Job` and `Outcomes` over a pipe.
"""

import logging
import os
import re
import resource
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from math import ceil
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.errors import Reason
from analysis.features import feature_names
from analysis.lattice import Window
from analysis.model import BoolArray, FloatArray, Geometry, Index3
from config.profiles import ExtractionProfile

READY = "ready"

ONE_THREAD = {
    name: "1"
    for name in (
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
        "MKL_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
    )
}
"""Environment of a worker: cores are shared out by lesion, not inside one."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """All a worker needs to extract one lesion under one profile.

    Attributes
    ----------
    crop : array [slice, row, column]
        The image inside `window`'s box (all of it when the profile normalises), in the profile's
        pixel type.
    window : Window
    geometry : Geometry
        Of the whole image.
    mask_start : Index3
    mask : bool array
        The lesion's box in the whole image.
    profile : ExtractionProfile
    plain : bool
        PyRadiomics' own arithmetic and nothing else.
    perturbed : bool
        Extract from the eroded and the dilated mask as well.
    """

    crop: NDArray[np.generic]
    window: Window
    geometry: Geometry
    mask_start: Index3
    mask: BoolArray
    profile: ExtractionProfile
    plain: bool = False
    perturbed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What came of one mask; fields as in `analysis.model.LesionResult`."""

    values: FloatArray
    missing: Mapping[str, Reason] = field(default_factory=dict)
    excluded: Reason | None = None
    warnings: tuple[str, ...] = ()
    diagnostics: Mapping[str, float] = field(default_factory=dict)


def excluded(profile: ExtractionProfile, code: str, detail: str) -> Outcome:
    """An outcome without values, and why."""
    return Outcome(np.full(profile.n_features, np.nan), excluded=Reason(code, detail))


Outcomes = tuple[Outcome, ...]
"""Of the lesion's mask; and when asked for of the eroded and the dilated mask."""


def compute(job: Job) -> Outcomes:
    """Extract one lesion.

    A lesion that cannot be analysed is an outcome with a reason, not an exception; what is left
    to escape is a fault, and `serve` turns it into a reason as well.
    """
    from analysis.resampling import fill

    profile = job.profile
    if not np.isfinite(job.crop).all():
        detail = "found NaN or infinity in the image around the lesion"
        return (excluded(profile, "image_not_finite", detail),) * (3 if job.perturbed else 1)
    crop = _normalized(job) if profile.settings.get("normalize") else job.crop
    image, mask = fill(
        crop,
        job.window,
        job.geometry,
        job.mask,
        job.mask_start,
        profile.settings.get("interpolator", "sitkBSpline"),
        ibsi=profile.preprocessing == "ibsi",
    )
    masks = [mask, *_perturbed(mask, profile)] if job.perturbed else [mask]
    reasons = [_too_small(each, profile.settings, at == 1) for at, each in enumerate(masks)]
    fit = [each for each, reason in zip(masks, reasons, strict=True) if reason is None]
    found = iter(_measure(image, fit, job))
    warnings = _warnings(job)
    return tuple(
        replace(
            next(found) if reason is None else excluded(profile, reason.code, reason.detail),
            warnings=warnings,
            diagnostics=_diagnostics(image, each),
        )
        for each, reason in zip(masks, reasons, strict=True)
    )


def _warnings(job: Job) -> tuple[str, ...]:
    box = zip(job.mask_start, job.mask.shape, job.geometry.shape, strict=True)
    if any(start == 0 or start + n == whole for start, n, whole in box):
        return ("the lesion touches the border of the image: it may go on beyond it",)
    return ()


def _diagnostics(image: Any, mask: Any) -> dict[str, float]:
    """What the features of one mask are computed from, on the analysis grid (R-FEAT-4)."""
    import SimpleITK as sitk  # noqa: N813 - loaded only in workers

    inside = sitk.GetArrayViewFromImage(image)[sitk.GetArrayViewFromImage(mask) == 1]
    found = {
        f"spacing_{axis}_mm": float(mm) for axis, mm in zip("xyz", mask.GetSpacing(), strict=True)
    }
    found["voxels"] = float(inside.size)
    if inside.size:
        found |= {"minimum": float(inside.min()), "maximum": float(inside.max())}
    return found


def _perturbed(mask: Any, profile: ExtractionProfile) -> list[Any]:
    """The mask eroded and dilated on the analysis grid (R-CCC-2)."""
    import SimpleITK as sitk  # noqa: N813 - loaded only in workers

    from analysis.robustness import ball, dilate, erode

    z, y, x = mask.GetSpacing()[::-1]
    element = ball((z, y, x), profile.perturbation_mm)
    values = sitk.GetArrayViewFromImage(mask) == 1
    made = []
    for change in (erode, dilate):
        other = sitk.GetImageFromArray(change(values, element).astype(np.uint8))
        other.CopyInformation(mask)
        made.append(other)
    return made


def _measure(image: Any, masks: list[Any], job: Job) -> list[Outcome]:
    from analysis.arithmetic import run

    if not masks:
        return []
    failures = _FeatureFailures()
    found = failures.watch(lambda: run(image, masks, job.profile, plain=job.plain))
    return [
        _failed(job.profile, each)
        if isinstance(each, Exception)
        else _outcome(job.profile, each, failures.by_feature)
        for each in found
    ]


def _normalized(job: Job) -> NDArray[np.generic]:
    """The window of the image after PyRadiomics has normalised the whole of it."""
    import SimpleITK as sitk  # noqa: N813 - loaded only in workers
    from radiomics.imageoperations import normalizeImage

    whole = normalizeImage(sitk.GetImageFromArray(job.crop), **job.profile.settings)
    values: NDArray[np.generic] = sitk.GetArrayFromImage(whole)
    return np.ascontiguousarray(values[job.window.slices])


def _too_small(mask: Any, settings: Mapping[str, Any], eroded: bool) -> Reason | None:
    """PyRadiomics' own limits, told apart (R-FEAT-3)."""
    import SimpleITK as sitk  # noqa: N813 - loaded only in workers

    filled = np.nonzero(sitk.GetArrayViewFromImage(mask))
    n = int(filled[0].size)
    if n == 0 and eroded:
        return Reason("vanished_on_erosion", "found no voxel of the lesion after erosion, wanted 1")
    if n == 0:
        return Reason(
            "vanished_on_resampling", "found no voxel of the lesion on the resampled grid, wanted 1"
        )
    dimensions = sum(int(axis.max() > axis.min()) for axis in filled)
    wanted = int(settings.get("minimumROIDimensions", 2))
    if dimensions < max(wanted, 1):
        return Reason(
            "too_few_dimensions",
            f"found a lesion of {n} voxel(s) extended in {dimensions} dimension(s) on the analysis "
            f"grid, wanted {max(wanted, 1)}",
        )
    least = settings.get("minimumROISize")
    if least is not None and n <= least:
        return Reason(
            "too_small", f"found {n} voxels on the analysis grid, wanted more than {least}"
        )
    return None


def _outcome(
    profile: ExtractionProfile, found: Mapping[str, Any], failures: Mapping[str, str]
) -> Outcome:
    names = feature_names(profile)
    values = np.full(len(names), np.nan)
    missing: dict[str, Reason] = {}
    for at, name in enumerate(names):
        if name not in found:
            missing[name] = Reason(
                "not_computed", "the image type or feature does not apply to a lesion of this size"
            )
            continue
        value = float(found[name])
        if np.isfinite(value):
            values[at] = value
        else:
            short = name.rsplit("_", 1)[-1]
            why = failures.get(short, "the formula has no finite value for this lesion")
            missing[name] = Reason("not_computable", f"PyRadiomics found {value}: {why}")
    return Outcome(values, missing)


class _FeatureFailures(logging.Handler):
    """Collects what PyRadiomics logs when a feature fails: it returns only NaN."""

    FEATURE = re.compile(r"get(\w+)FeatureValue")

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.by_feature: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        last = text.strip().splitlines()[-1]
        for feature in self.FEATURE.findall(text):
            self.by_feature.setdefault(feature, last)

    def watch(self, call: Any) -> Any:
        """Run `call` while listening."""
        logger = logging.getLogger("radiomics")
        logger.addHandler(self)
        try:
            return call()
        finally:
            logger.removeHandler(self)


def _quiet() -> None:
    """PyRadiomics logs every step to standard error; here only failures are listened to."""
    import radiomics  # noqa: F401 - sets up the logger that is silenced here

    logger = logging.getLogger("radiomics")
    logger.setLevel(logging.ERROR)
    logger.handlers.clear()
    logger.propagate = False


def _prepare(memory_mb: int) -> None:
    """Load what jobs need, then cap the memory that jobs may add."""
    import SimpleITK as sitk  # noqa: N813 - loaded only in workers
    from radiomics import featureextractor  # noqa: F401 - loading it is the point

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    sitk.ProcessObject.GlobalWarningDisplayOff()
    _quiet()
    import_module("analysis.resampling")
    import_module("analysis.arithmetic")
    pages = int(open("/proc/self/statm").read().split()[0])  # noqa: SIM115, PTH123
    limit = pages * resource.getpagesize() + memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out: ITK's is only a RuntimeError with words."""
    return isinstance(error, MemoryError) or "allocat" in str(error).lower()


def _failed(profile: ExtractionProfile, error: Exception) -> Outcome:
    line = str(error).strip().splitlines()[-1:] or [""]
    detail = f"PyRadiomics failed: {type(error).__name__}: {line[0]}"
    return excluded(profile, "extraction_failed", detail)


def _guarded(target: Any, job: Job, memory_mb: int) -> tuple[Outcomes, bool]:
    """Run one job; whatever it raises costs this lesion alone.

    Returns
    -------
    outcomes, fit : tuple of Outcome and bool
        `fit` is False when the worker should be replaced.
    """
    n = 3 if job.perturbed else 1
    try:
        return target(job), True
    except Exception as error:  # noqa: BLE001 - the top of a worker's loop
        if out_of_memory(error):
            detail = f"needed more than {memory_mb} MB"
            return (excluded(job.profile, "memory_limit", detail),) * n, False
        return (_failed(job.profile, error),) * n, True


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
        ``module:function`` from Job to Outcomes.
    """
    connection = Connection(descriptor)
    _prepare(memory_mb)
    module, name = target.split(":")
    function = getattr(import_module(module), name)
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


if __name__ == "__main__":
    main()
