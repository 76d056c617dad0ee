"""One lesion's features: cut out, prepared as PyRadiomics does, measured.

Runs in the extraction workers, which load it by name: with it comes PyRadiomics.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name everybody uses
from numpy.typing import NDArray
from radiomics.imageoperations import normalizeImage

from mirv.analysis.errors import Reason
from mirv.analysis.extraction.job import Job, LesionFeatures, MaskFeatures, excluded, failed
from mirv.analysis.features.compute import run
from mirv.analysis.features.names import feature_names
from mirv.analysis.lattice.resampling import fill
from mirv.analysis.masks.morphology import ball, dilate, erode
from mirv.config.profiles import ExtractionProfile


def compute(job: Job) -> LesionFeatures:
    """Extract one lesion.

    A lesion that cannot be analysed is an outcome with a reason, not an exception; what is left
    to escape is a fault, and `serve` turns it into a reason as well.
    """
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
    mask = job.mask
    box = zip(mask.start, mask.values.shape, mask.grid_shape, strict=True)
    if any(start == 0 or start + n == whole for start, n, whole in box):
        return ("the lesion touches the border of the image: it may go on beyond it",)
    return ()


def _diagnostics(image: Any, mask: Any) -> dict[str, float]:
    """What the features of one mask are computed from, on the analysis grid (R-FEAT-4)."""
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
    z, y, x = mask.GetSpacing()[::-1]
    element = ball((z, y, x), profile.perturbation_mm)
    values = sitk.GetArrayViewFromImage(mask) == 1
    made = []
    for change in (erode, dilate):
        other = sitk.GetImageFromArray(change(values, element).astype(np.uint8))
        other.CopyInformation(mask)
        made.append(other)
    return made


def _measure(image: Any, masks: list[Any], job: Job) -> list[MaskFeatures]:
    if not masks:
        return []
    failures = _FeatureFailures()
    found = failures.watch(lambda: run(image, masks, job.profile, plain=job.plain))
    return [
        failed(job.profile, each)
        if isinstance(each, Exception)
        else _outcome(job.profile, each, failures.by_feature)
        for each in found
    ]


def _normalized(job: Job) -> NDArray[np.generic]:
    """The window of the image after PyRadiomics has normalised the whole of it."""
    whole = normalizeImage(sitk.GetImageFromArray(job.crop), **job.profile.settings)
    values: NDArray[np.generic] = sitk.GetArrayFromImage(whole)
    return np.ascontiguousarray(values[job.window.slices])


def _too_small(mask: Any, settings: Mapping[str, Any], eroded: bool) -> Reason | None:
    """PyRadiomics' own limits, told apart (R-FEAT-3)."""
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
) -> MaskFeatures:
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
    return MaskFeatures(values, missing)


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
