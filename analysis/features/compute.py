"""PyRadiomics' features of one window: plainly, or with its repeated work done once.

Both give the same values to the last bit. ``plain`` calls PyRadiomics' extractor and nothing
else. ``fast`` walks the same steps with PyRadiomics' own feature classes, but filters an image
once for all masks, discretises it once for all classes, finds bins without Python loops, counts
texture matrices by `analysis.features.texture`, and measures large meshes by
`analysis.features.mesh`.

Runs in the extraction workers only.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import radiomics
import SimpleITK as sitk  # noqa: N813 - the name everybody uses
from numpy.typing import NDArray
from radiomics import (
    cShape,
    firstorder,
    glcm,
    gldm,
    glrlm,
    glszm,
    imageoperations,
    ngtdm,
    shape,
)
from radiomics.base import RadiomicsFeaturesBase
from radiomics.featureextractor import RadiomicsFeatureExtractor

from mirv.analysis.errors import out_of_memory
from mirv.analysis.features import ibsi, mesh, texture
from mirv.analysis.features.quick_numpy import QuickNumpy
from mirv.analysis.model import BoolArray, FloatArray
from mirv.config.profiles import ExtractionProfile

Found = Mapping[str, Any]


LARGE_MESH = 2000
"""Vertices from which PyRadiomics' comparison of all pairs costs more than numpy's overhead."""


def run(
    image: Any, masks: Sequence[Any], profile: ExtractionProfile, *, plain: bool
) -> list[Found | Exception]:
    """For each mask its features by PyRadiomics' names, or what went wrong.

    Parameters
    ----------
    image : SimpleITK.Image
        The window, resampled.
    masks : sequence of SimpleITK.Image
        On the same grid, 1 inside.
    profile : ExtractionProfile
    plain : bool
        PyRadiomics' extractor and nothing else.
    """
    extractor = _extractor(profile)
    if plain and profile.preprocessing == "pyradiomics":
        return [_tried(partial(extractor.execute, image, mask)) for mask in masks]
    regions = [_tried(partial(_Region, image, mask, extractor, plain)) for mask in masks]
    # Filters look at the whole window and not at the mask, so every mask shares them.
    filtered = chain.from_iterable(
        getattr(imageoperations, f"get{name}Image")(
            image, masks[0], **{**extractor.settings, **own}
        )
        for name, own in extractor.enabledImagetypes.items()
    )
    with nullcontext() if plain else _quick():
        for made, name, settings in filtered:
            values = sitk.GetArrayViewFromImage(made)
            for at, region in enumerate(regions):
                if not isinstance(region, Exception):
                    fault = _tried(partial(region.add, values, name, settings))
                    regions[at] = fault if isinstance(fault, Exception) else region
    if profile.preprocessing == "ibsi":
        for region in regions:
            if not isinstance(region, Exception):
                ibsi.restate(region.found, float(np.prod(image.GetSpacing())))
    return [r if isinstance(r, Exception) else r.found for r in regions]


def _tried(call: Callable[[], Any]) -> Any:
    """What the call returns, or its exception: one mask's fault is not the others'."""
    try:
        return call()
    except Exception as error:
        if out_of_memory(error):
            raise
        return error


def _extractor(profile: ExtractionProfile) -> Any:
    extractor = RadiomicsFeatureExtractor()
    # Not as keyword settings: PyRadiomics takes feature classes there and enables everything.
    extractor.settings.update(profile.settings)
    extractor.settings.update(
        resampledPixelSpacing=None, preCrop=False, normalize=False, additionalInfo=False, label=1
    )
    extractor.settings[ibsi.BINS] = profile.preprocessing == "ibsi"
    extractor.enabledImagetypes = {
        name: dict(own or {}) for name, own in profile.image_types.items()
    }
    extractor.enabledFeatures = {
        kind: list(names or []) for kind, names in profile.feature_classes.items()
    }
    return extractor


class _Region:
    """One mask on the window and the features found in it so far.

    The steps of PyRadiomics' ``execute`` for a window that is already resampled.
    """

    def __init__(self, image: Any, mask: Any, extractor: Any, plain: bool) -> None:
        self._own_zones = texture.COMPILED and not plain
        settings = extractor.settings
        box, _ = imageoperations.checkMask(image, mask, **settings)
        drawn, drawn_box = mask, box
        if settings.get(ibsi.OUTLIERS) is not None or settings.get("resegmentRange") is not None:
            mask = _resegmented(image, mask, settings)
            box, _ = imageoperations.checkMask(image, mask, **settings)
            if settings.get("resegmentShape", False):
                drawn = mask
        # PyRadiomics measures the whole shape in the box of what re-segmentation left.
        if drawn is mask or not settings[ibsi.BINS]:
            drawn_box = box
        with nullcontext() if plain else _quick_shape():
            self.found = dict(extractor.computeShape(image, drawn, drawn_box, **settings))
        self._cut = tuple(slice(int(box[at]), int(box[at + 1]) + 1) for at in (4, 2, 0))
        self._inside = np.ascontiguousarray(sitk.GetArrayViewFromImage(mask)[self._cut] == 1)
        self._spacing_of = image
        self._enabled = {
            kind: features
            for kind, features in extractor.enabledFeatures.items()
            if not kind.startswith("shape")
        }

    def add(self, values: NDArray[Any], name: str, settings: dict[str, Any]) -> None:
        """Compute every class but shape on one (filtered) image of the window."""
        shared = _Shared(np.ascontiguousarray(values[self._cut]), self._inside, settings)
        for kind, features in self._enabled.items():
            feature_class = _sharing(kind, self._own_zones)(self._spacing_of, shared, **settings)
            for feature in features:
                feature_class.enableFeatureByName(feature)
            for feature, value in feature_class.execute().items():
                self.found[f"{name}_{kind}_{feature}"] = value


def _resegmented(image: Any, mask: Any, settings: Mapping[str, Any]) -> Any:
    if settings.get(ibsi.OUTLIERS) is None:
        return imageoperations.resegmentMask(image, mask, **settings)
    kept = ibsi.resegment(
        sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(mask) == 1, settings
    )
    result = sitk.GetImageFromArray(kept.astype(np.uint8))
    result.CopyInformation(mask)
    return result


class _Shared:
    """One image in one mask, and its discretisation: the same for every feature class."""

    def __init__(
        self, values: NDArray[Any], inside: BoolArray, settings: Mapping[str, Any]
    ) -> None:
        self.values = values
        self.inside = inside
        if settings.get(ibsi.BINS):
            found = ibsi.levels(values[inside], settings)
        else:
            found = np.digitize(values[inside], bin_edges(values[inside], settings))
        if (least := int(found.min())) < 1:
            raise ValueError(f"found grey level {least} below the first bin, wanted 1 or more")
        self.levels = np.zeros(values.shape, np.intc)  # what the matrices in C take uncopied
        self.levels[inside] = found
        self.present = np.flatnonzero(np.bincount(found))


def bin_edges(values: NDArray[Any], settings: Mapping[str, Any]) -> Any:
    """PyRadiomics' bin edges of the values in a mask, without its loop over every voxel.

    PyRadiomics looks for the extremes with Python's own ``min`` and ``max``. It depends on the
    values only through them, so it is asked about the two extremes alone.

    Parameters
    ----------
    values : array (n,)
        Of the voxels in the mask.
    settings : mapping
        ``binWidth`` or ``binCount``, as PyRadiomics knows them.

    Returns
    -------
    array (n_bins + 1,)
        Ascending, in the unit of the values.
    """
    if settings.get("binCount") is not None:
        return imageoperations.getBinEdges(values, **settings)
    return imageoperations.getBinEdges(np.array([values.min(), values.max()]), **settings)


class _SharingBase(RadiomicsFeaturesBase):  # type: ignore[misc] # PyRadiomics is untyped
    """PyRadiomics' base class, given what is the same for every feature class of one image."""

    _names: Mapping[str, bool]

    def __init__(self, image: Any, shared: _Shared, **settings: Any) -> None:
        # What PyRadiomics' base sets, but for copying the images: they are here as arrays.
        self.logger = logging.getLogger(self.__module__)
        self.progressReporter = radiomics.getProgressReporter
        self.settings = settings
        self.label = 1
        self.voxelBased = False
        self.coefficients: dict[str, Any] = {}
        self.enabledFeatures: dict[str, bool] = {}
        self.featureValues: dict[str, Any] = {}
        self.featureNames = self._names
        self.inputImage = image
        self.inputMask = None
        self.imageArray = shared.values
        # Each class its own: the zone search in C marks voxels as seen.
        self.maskArray = shared.inside.copy()
        self._shared = shared

    def _applyBinning(self, _matrix: Any) -> Any:  # noqa: N802 - PyRadiomics' name
        self.coefficients["grayLevels"] = self._shared.present
        self.coefficients["Ng"] = int(self._shared.present.max())
        return self._shared.levels


class _SharingZones(_SharingBase):
    """Zones in a matrix without the sizes that do not occur, as PyRadiomics leaves it."""

    P_glszm: Any

    def _calculateMatrix(self, _voxels: Any = None) -> Any:  # noqa: N802 - PyRadiomics' name
        ng, present = self.coefficients["Ng"], self.coefficients["grayLevels"]
        found, self._sizes = texture.zone_matrix(
            self._shared.levels,
            int(np.count_nonzero(self._shared.inside)),
            ng,
            self.settings.get("force2D", False),
            self.settings.get("force2Ddimension", 0),
        )
        return np.delete(found, np.setdiff1d(np.arange(1, ng + 1), present) - 1, 1)

    def _calculateCoefficients(self) -> None:  # noqa: N802 - PyRadiomics' name
        by_size, by_level = self.P_glszm.sum(1), self.P_glszm.sum(2)
        empty = np.where(by_size.sum(0) == 0)
        self.P_glszm = np.delete(self.P_glszm, empty, 2)
        self.coefficients |= {
            "Np": np.sum(by_size * self._sizes, 1),
            "Nz": by_level.sum(1),
            "ps": np.delete(by_size, empty, 1),
            "pg": by_level,
            "ivector": self.coefficients["grayLevels"].astype(float),
            "jvector": np.delete(self._sizes, empty),
        }


@cache
def _sharing(kind: str, own_zones: bool) -> Any:
    """PyRadiomics' feature class over the sharing base."""
    own = radiomics.getFeatureClasses()[kind]
    names = own.getFeatureNames()
    first = (_SharingZones,) if kind == "glszm" and own_zones else ()
    # Its module names the logger that failures of features are reported to.
    made = type(
        own.__name__,
        (*first, own, _SharingBase),
        {"__module__": own.__module__, "_names": names},
    )
    return cast(Any, made)


@contextmanager
def _quick_shape() -> Iterator[None]:
    """PyRadiomics' shape class with `analysis.features.mesh` where that is sooner than its C."""
    table = mesh.trusted_table(Path(cShape.__file__), cShape.calculate_coefficients)

    def measure(mask: BoolArray, spacing: FloatArray) -> Any:
        if table is None or mesh.count_vertices(mask) < LARGE_MESH:
            return cShape.calculate_coefficients(mask, spacing)
        return mesh.coefficients(mask, spacing, table)

    shape.cShape = SimpleNamespace(calculate_coefficients=measure)
    try:
        yield
    finally:
        shape.cShape = cShape


@contextmanager
def _quick() -> Iterator[None]:
    """PyRadiomics' feature modules with `quick_numpy` and `texture` of this room."""
    modules = (firstorder, glcm, gldm, glrlm, glszm, ngtdm)
    textures = (glcm, gldm, glrlm, ngtdm) if texture.COMPILED else ()
    quick = QuickNumpy()
    for module in modules:
        module.numpy = quick
    for module in textures:
        module.cMatrices = texture.Matrices()
    try:
        yield
    finally:
        for module in modules:
            module.numpy = np
        for module in textures:
            module.cMatrices = radiomics.cMatrices
