"""What extraction is compared with: PyRadiomics on the whole volume, and volumes made for it."""

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.extraction import Extractor, Limits, _Order
from analysis.extraction_worker import Job, Outcome, Outcomes, compute
from analysis.features import feature_names
from analysis.model import BoolArray, FloatArray, Geometry, Lesion, Mask, Volume
from config.profiles import ExtractionProfile


def plain(volume: Volume, mask: Mask, profile: ExtractionProfile) -> FloatArray:
    """The profile's values from a plain PyRadiomics call on the whole volume; NaN as it says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from radiomics.featureextractor import RadiomicsFeatureExtractor

        from analysis.resampling import to_sitk

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
        super().__init__(workers, Limits(lesion_timeout_s=3000, lesion_memory_mb=16000))
        self._target = "tests.analysis.extraction_reference:on_whole_volume"

    def _job(self, volume: Volume, order: _Order) -> Job:
        return replace(super()._job(volume, order), crop=volume.values)

    def values(
        self, volume: Volume, found: Sequence[Lesion], profiles: Sequence[ExtractionProfile]
    ) -> list[FloatArray]:
        """Profile by profile, lesion by lesion."""
        results = self.extract(volume, found, profiles)
        assert all(result.excluded is None for result in results), results[0].excluded
        return [result.values for result in results]


def on_whole_volume(job: Job) -> Outcomes:
    """What `WholeVolume`'s workers do."""
    mask = Mask(job.mask_start, job.mask, job.geometry.shape)
    volume = Volume(job.crop, job.geometry, "HU")
    return (Outcome(plain(volume, mask, job.profile)),)


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


def poisoned(job: Job) -> Outcomes:
    """As `compute`, but lesions of certain sizes crash, allocate without end or never return."""
    n = int(job.mask.sum())
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
POISON = "tests.analysis.extraction_reference:poisoned"


def boxes(geometry: Geometry, sizes: Sequence[tuple[int, int, int]]) -> tuple[Lesion, ...]:
    """One box-shaped lesion of each size, all at the middle of the grid."""
    masks = []
    for size in sizes:
        mask = np.zeros(geometry.shape, bool)
        start = [(n - s) // 2 for n, s in zip(geometry.shape, size, strict=True)]
        mask[tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))] = True
        masks.append(mask)
    return lesions(*masks)
