"""What a worker is asked and what it answers: plain data that both sides know."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirv.analysis.errors import Reason
from mirv.analysis.lattice.window import Window
from mirv.analysis.model import FloatArray, Geometry, Mask
from mirv.config.profiles import ExtractionProfile

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
    mask : Mask
        The lesion in the whole image.
    profile : ExtractionProfile
    plain : bool
        PyRadiomics' own arithmetic and nothing else.
    perturbed : bool
        Extract from the eroded and the dilated mask as well.
    """

    crop: NDArray[np.generic]
    window: Window
    geometry: Geometry
    mask: Mask
    profile: ExtractionProfile
    plain: bool = False
    perturbed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class MaskFeatures:
    """What came of one mask; fields as in `analysis.model.LesionResult`."""

    values: FloatArray
    missing: Mapping[str, Reason] = field(default_factory=dict)
    excluded: Reason | None = None
    warnings: tuple[str, ...] = ()
    diagnostics: Mapping[str, float] = field(default_factory=dict)


def excluded(profile: ExtractionProfile, code: str, detail: str) -> MaskFeatures:
    """An outcome without values, and why."""
    return MaskFeatures(np.full(profile.n_features, np.nan), excluded=Reason(code, detail))


def failed(profile: ExtractionProfile, error: Exception) -> MaskFeatures:
    """The outcome of a fault that nobody foresaw."""
    line = str(error).strip().splitlines()[-1:] or [""]
    detail = f"PyRadiomics failed: {type(error).__name__}: {line[0]}"
    return excluded(profile, "extraction_failed", detail)


LesionFeatures = tuple[MaskFeatures, ...]
"""Of the lesion's mask; and when asked for of the eroded and the dilated mask."""


@dataclass(frozen=True, slots=True)
class LesionLimits:
    """What one lesion may cost.

    Attributes
    ----------
    lesion_timeout_s : float
        Wall time in s.
    lesion_memory_mb : int
        Address space in MB on top of the libraries.
    """

    lesion_timeout_s: float = 600.0
    lesion_memory_mb: int = 4096


def as_pixel_type(
    values: NDArray[np.generic], unit: str, profile: ExtractionProfile
) -> NDArray[np.generic]:
    """The profile's pixel type for HU, 32-bit float otherwise; integers are rounded and clamped."""
    kind: np.dtype[Any] = np.dtype(profile.pixel_type if unit == "HU" else "float32")
    if values.dtype == kind:
        return np.ascontiguousarray(values)
    if np.issubdtype(kind, np.integer) and np.issubdtype(values.dtype, np.floating):
        if not np.isfinite(values).all():
            return np.ascontiguousarray(values)  # the worker refuses it with a reason
        values = np.rint(values)
    if np.issubdtype(kind, np.integer):
        limits = np.iinfo(kind)
        values = np.clip(values, limits.min, limits.max)
    return values.astype(kind)
