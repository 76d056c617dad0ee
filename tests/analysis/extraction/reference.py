"""What extraction is compared with: PyRadiomics on the whole volume, and volumes made for it."""

import hashlib
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from mirv.analysis.extraction.job import Job, LesionFeatures, LesionLimits, MaskFeatures
from mirv.analysis.extraction.lesion import compute
from mirv.analysis.extraction.pool import Extractor, _Order
from mirv.analysis.features.names import feature_names
from mirv.analysis.model import BoolArray, FloatArray, Geometry, Lesion, Mask, Volume
from mirv.config.profiles import ExtractionProfile


def plain(volume: Volume, mask: Mask, profile: ExtractionProfile) -> FloatArray:
    """The profile's values from a plain PyRadiomics call on the whole volume; NaN as it says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from radiomics.featureextractor import RadiomicsFeatureExtractor

        from tests.analysis.itk import to_sitk

        logging.getLogger("radiomics").setLevel(logging.CRITICAL)
        logging.getLogger("radiomics").addHandler(logging.NullHandler())  # it asks for the first
        extractor = RadiomicsFeatureExtractor(
            {
                "setting": dict(profile.settings),
                "imageType": profile.image_types,
                "featureClass": profile.feature_classes,
            }
        )
        extractor.settings["additionalInfo"] = False  # hashes and such: no feature among them
        found = extractor.execute(
            to_sitk(volume.values.astype(profile.pixel_type), volume.geometry),
            to_sitk(mask.full().astype(np.uint8), volume.geometry),
        )
    assert tuple(found) == feature_names(profile)
    return np.array([float(value) for value in found.values()])


class WholeVolume(Extractor):
    """Plain PyRadiomics calls on whole volumes, in processes of one thread.

    One thread as in extraction: how BLAS and ITK split their sums shows in the last bit of
    eigenvalues and of a whole image's mean.
    """

    def __init__(self, workers: int = 2) -> None:
        super().__init__(workers, LesionLimits(lesion_timeout_s=3000, lesion_memory_mb=16000))
        self._target = "tests.analysis.extraction.reference:on_whole_volume"

    def _job(self, volume: Volume, order: _Order) -> Job:
        return replace(super()._job(volume, order), crop=volume.values)

    def values(
        self, volume: Volume, found: Sequence[Lesion], profiles: Sequence[ExtractionProfile]
    ) -> list[FloatArray]:
        """Profile by profile, lesion by lesion."""
        results = self.extract(volume, found, profiles)
        assert all(result.excluded is None for result in results), results[0].excluded
        return [result.values for result in results]


def on_whole_volume(job: Job) -> LesionFeatures:
    """What `WholeVolume`'s workers do."""
    volume = Volume(job.crop, job.geometry, "HU")
    how = plain_ibsi if job.profile.preprocessing == "ibsi" else plain
    return (MaskFeatures(how(volume, job.mask, job.profile)),)


def plain_ibsi(volume: Volume, mask: Mask, profile: ExtractionProfile) -> FloatArray:
    """The profile's values from PyRadiomics' feature classes on the whole volume, after IBSI's own
    preprocessing of it: SimpleITK on the centre-aligned grid, grey levels in whole numbers.

    IBSI reference manual, chapter 2: interpolation, re-segmentation, discretisation.
    """
    import radiomics
    import SimpleITK as sitk  # noqa: N813 - loaded only in workers
    from radiomics import imageoperations

    from tests.analysis.itk import to_sitk

    key = profile.name, hashlib.sha256(volume.values).hexdigest()
    if key not in _PREPARED:
        _PREPARED[key] = _as_ibsi(to_sitk(volume.values.astype(float), volume.geometry), profile)
    image = _PREPARED[key]
    drawn = to_sitk(mask.full().astype(float), volume.geometry)
    if (wanted := profile.settings.get("resampledPixelSpacing")) is not None:
        drawn = _centred(sitk, drawn, wanted, "sitkLinear")
    drawn = sitk.Cast(drawn >= 0.5 - HALF, sitk.sitkUInt8)
    kept = _within_range(sitk, image, drawn, profile.settings)
    settings = {**profile.settings, "label": 1}
    found: dict[str, float] = {}
    with mock.patch.object(imageoperations, "binImage", _whole_levels):
        for kind in profile.feature_classes:
            region = drawn if kind == "shape" else kept
            box, _ = imageoperations.checkMask(image, region, **settings)
            cut = imageoperations.cropToTumorMask(image, region, box, padDistance=0)
            values = radiomics.getFeatureClasses()[kind](*cut, **settings).execute()
            found |= {f"original_{kind}_{name}": float(value) for name, value in values.items()}
    found["original_firstorder_Kurtosis"] -= 3.0
    n = int(sitk.GetArrayViewFromImage(drawn).sum())
    for axis in ("MajorAxisLength", "MinorAxisLength", "LeastAxisLength"):
        found[f"original_shape_{axis}"] *= np.sqrt(n / (n - 1.0))
    return np.array([found[name] for name in feature_names(profile)])


HALF = 1e-9
"""What is a half in exact arithmetic counts as one, whatever the last bit says."""

_PREPARED: dict[tuple[str, str], Any] = {}
"""The same for every lesion of an image; a worker works through them profile by profile."""


def _as_ibsi(image: Any, profile: ExtractionProfile) -> Any:
    """All of an image on the profile's grid, in whole HU."""
    import SimpleITK as sitk  # noqa: N813 - loaded only in workers

    if (wanted := profile.settings.get("resampledPixelSpacing")) is None:
        return image
    made = _centred(sitk, image, wanted, profile.settings["interpolator"])
    rounded = sitk.GetImageFromArray(np.floor(sitk.GetArrayFromImage(made) + 0.5 + HALF))
    rounded.CopyInformation(made)
    return rounded


def _centred(sitk: Any, image: Any, wanted: Sequence[float], interpolator: str) -> Any:
    """All of an image on the grid of `wanted` mm (0: as it is) with the same centre."""
    own, size = np.array(image.GetSpacing()), np.array(image.GetSize())
    new = np.where(np.array(wanted, float) == 0, own, wanted)
    n = np.ceil(size * own / new)
    first = 0.5 * ((size - 1) - (n - 1) * new / own)
    resample = sitk.ResampleImageFilter()
    resample.SetOutputSpacing(new.tolist())
    resample.SetOutputDirection(image.GetDirection())
    resample.SetOutputOrigin(image.TransformContinuousIndexToPhysicalPoint(first.tolist()))
    resample.SetSize([int(each) for each in n])
    resample.SetInterpolator(getattr(sitk, interpolator))
    return resample.Execute(image)


def _within_range(sitk: Any, image: Any, drawn: Any, settings: Mapping[str, Any]) -> Any:
    """The intensity mask: range first, then three (or so) standard deviations from the mean."""
    values, inside = sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(drawn) == 1
    if (limits := settings.get("resegmentRange")) is not None:
        inside &= (limits[0] <= values) & (values <= limits[1])
    if (sigmas := settings.get("resegmentSigma")) is not None:
        left = values[inside]
        inside &= np.abs(values - left.mean()) <= sigmas * left.std()
    kept = sitk.GetImageFromArray(inside.astype(np.uint8))
    kept.CopyInformation(drawn)
    return kept


def _whole_levels(
    values: FloatArray, inside: BoolArray, **settings: Any
) -> tuple[NDArray[np.int_], None]:
    """Grey levels of whole HU, without a fraction computed on the way."""
    whole = values[inside].astype(int)
    assert (whole == values[inside]).all()
    low, high = whole.min(), whole.max()
    if (n := settings.get("binCount")) is not None:
        found = np.minimum(n * (whole - low) // max(high - low, 1) + 1, n)
    else:
        found = (whole - int(settings["binFrom"])) // int(settings["binWidth"]) + 1
    levels = np.zeros(values.shape, int)
    levels[inside] = found
    return levels, None


def rotation(a: float, b: float) -> FloatArray:
    """Columns: unit vectors of x, y, z turned by `a` about z, then `b` about x (radians)."""
    ca, sa, cb, sb = math.cos(a), math.sin(a), math.cos(b), math.sin(b)
    about_z = np.array([[ca, -sa, 0], [sa, ca, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cb, -sb], [0, sb, cb]])
    return about_z @ about_x


def grid(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    turned: FloatArray | None = None,
    origin: tuple[float, float, float] = (-190.3, -171.7, 33.1),
) -> Geometry:
    """A grid of `shape` and `spacing` (slice, row, column)."""
    axes = np.eye(3) if turned is None else turned
    affine = np.eye(4)
    affine[:3, :3] = axes[:, ::-1] * np.array(spacing)
    affine[:3, 3] = origin
    return Geometry(shape, affine)


def noisy(geometry: Geometry, seed: int = 0) -> Volume:
    """Blurred noise around 40 HU, 16-bit."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=geometry.shape)
    for axis in range(3):
        values = values + np.roll(values, 1, axis)
    return Volume((40 + 25 * values).astype(np.int16), geometry, "HU")


def ball(geometry: Geometry, centre: tuple[float, float, float], radius_mm: float) -> BoolArray:
    """A ball about the voxel index `centre`, cut at the border of the grid."""
    at = np.indices(geometry.shape, float)
    spacing = geometry.spacing
    squares = sum(((at[a] - centre[a]) * spacing[a]) ** 2 for a in range(3))
    result: BoolArray = squares <= radius_mm**2
    return result


def lesions(*masks: BoolArray) -> tuple[Lesion, ...]:
    """Lesions numbered from 1."""
    return tuple(
        Lesion(n, f"lesion {n}", f"L{n}", f"2.25.{n}", "liver", Mask.from_full(mask))
        for n, mask in enumerate(masks, 1)
    )


def poisoned(job: Job) -> LesionFeatures:
    """As `compute`, but lesions of certain sizes crash, allocate without end or never return."""
    n = job.mask.n_voxels
    if n == CRASHES:
        import ctypes

        ctypes.string_at(0)
    if n == ALLOCATES:
        hoard: list[FloatArray] = []
        while True:
            hoard.append(np.ones(1_000_000))
    while n == NEVER_RETURNS:
        pass
    return compute(job)


CRASHES, ALLOCATES, NEVER_RETURNS = 2 * 3 * 5, 2 * 3 * 7, 2 * 3 * 11
POISON = "tests.analysis.extraction.reference:poisoned"


def boxes(geometry: Geometry, sizes: Sequence[tuple[int, int, int]]) -> tuple[Lesion, ...]:
    """One box-shaped lesion of each size, all at the middle of the grid."""
    masks = []
    for size in sizes:
        mask = np.zeros(geometry.shape, bool)
        start = [(n - s) // 2 for n, s in zip(geometry.shape, size, strict=True)]
        mask[tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))] = True
        masks.append(mask)
    return lesions(*masks)
