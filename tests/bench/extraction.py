"""Speed of extraction, as ratios to plain PyRadiomics calls measured in the same run.

CPU seconds of one process on one thread, medians; the plain call is PyRadiomics' own
``execute`` on the whole 512 x 512 x 300 volume with its default diagnostics. Takes about six
minutes alone on a machine, nearly all of it in the plain calls.
"""

import os
import resource
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from mirv.analysis.extraction.job import Job, LesionFeatures, LesionLimits, MaskFeatures
from mirv.analysis.extraction.lesion import compute
from mirv.analysis.extraction.pool import Extractor, _Order
from mirv.analysis.model import Geometry, Lesion, Mask, Volume
from mirv.config.profiles import ExtractionProfile, load_profile
from tests.analysis.extraction import reference

PROFILES = [load_profile("henry2022"), load_profile("mirv2025")]
SIZES_ML = (0.5, 10.0, 359.0)
FAST_RUNS, PLAIN_RUNS = 5, 3
GRID = reference.grid((300, 512, 512), (2.0, 0.8, 0.8))


def run() -> list[str]:
    """All rows."""
    volume = _volume(GRID)
    return [*_many(volume), *_linearity(volume), *_ratios(volume)]


def timed_compute(job: Job) -> LesionFeatures:
    """CPU seconds of extraction as a worker does it."""
    began = time.process_time()
    compute(job)
    return (MaskFeatures(np.array([time.process_time() - began])),)


def timed_plain(job: Job) -> LesionFeatures:
    """CPU seconds of PyRadiomics' own call; making its images is not counted."""
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    from tests.analysis.itk import to_sitk

    extractor = RadiomicsFeatureExtractor()
    extractor.settings.update(job.profile.settings)
    extractor.enabledImagetypes = dict(job.profile.image_types)
    extractor.enabledFeatures = dict(job.profile.feature_classes)
    image = to_sitk(job.crop, job.geometry)
    drawn = job.mask.full().astype(np.uint8)
    mask = to_sitk(drawn, job.geometry)
    began = time.process_time()
    extractor.execute(image, mask)
    return (MaskFeatures(np.array([time.process_time() - began])),)


class _Timed(Extractor):
    """One worker that returns seconds instead of features."""

    def __init__(self, what: str, *, whole: bool) -> None:
        super().__init__(1, LesionLimits(lesion_timeout_s=3000, lesion_memory_mb=16000))
        self._target = f"tests.bench.extraction:{what}"
        self._whole = whole

    def _job(self, volume: Volume, order: _Order) -> Job:
        job = super()._job(volume, order)
        return replace(job, crop=volume.values) if self._whole else job

    def seconds(
        self, volume: Volume, lesion: Lesion, profile: ExtractionProfile, runs: int
    ) -> list[float]:
        """CPU seconds of each run."""
        results = self.extract(volume, [lesion] * runs, [profile])
        return [float(result.values[0]) for result in results]


def _volume(geometry: Geometry) -> Volume:
    rng = np.random.default_rng(0)
    values = rng.normal(40, 25, geometry.shape).astype(np.float32)
    for axis in range(3):
        values += np.roll(values, 1, axis)
    return Volume((values / 8).astype(np.int16), geometry, "HU")


def _ball(centre_mm: tuple[float, float, float], ml: float, number: int = 1) -> Lesion:
    """A ball drawn in its own box: a full grid for each would be slow."""
    radius = (ml * 3000 / 4 / np.pi) ** (1 / 3)
    spacing = np.array(GRID.spacing)
    at = np.array(centre_mm) / spacing
    low = np.maximum(np.floor(at - radius / spacing).astype(int), 0)
    high = np.minimum(np.ceil(at + radius / spacing).astype(int) + 1, GRID.shape)
    index = np.indices(high - low) + low[:, None, None, None]
    gaps = (index - at[:, None, None, None]) * spacing[:, None, None, None]
    inside = (gaps**2).sum(axis=0) <= radius**2
    start = (int(low[0]), int(low[1]), int(low[2]))
    mask = Mask.from_box(start, inside, GRID.shape)
    return Lesion(number, f"ball {number}", "", f"2.25.{number}", "liver", mask)


def _ratios(volume: Volume) -> list[str]:
    rows = []
    with _Timed("timed_compute", whole=False) as fast, _Timed("timed_plain", whole=True) as plain:
        for ml in SIZES_ML:
            lesion = _ball((300, 205, 205), ml)
            for profile in PROFILES:
                ours = fast.seconds(volume, lesion, profile, FAST_RUNS + 1)[1:]
                theirs = plain.seconds(volume, lesion, profile, PLAIN_RUNS)
                rows.append(
                    f"{profile.name} {ml:g} ml, one core: x{median(theirs) / median(ours):.1f} "
                    f"({median(ours):.3f} s, n = {len(ours)}, against {median(theirs):.2f} s plain "
                    f"PyRadiomics, n = {len(theirs)})"
                )
    return rows


def _mixed(n: int) -> list[Lesion]:
    """Lesions of 0.1 to 50 ml all over the volume."""
    rng = np.random.default_rng(1)
    sizes = np.exp(rng.uniform(np.log(0.1), np.log(50), n))
    return [
        _ball((float(z), float(y), float(x)), float(ml), number)
        for number, (ml, z, y, x) in enumerate(
            zip(
                sizes,
                rng.uniform(40, 560, n),
                rng.uniform(40, 370, n),
                rng.uniform(40, 370, n),
                strict=True,
            ),
            1,
        )
    ]


def _many(volume: Volume) -> list[str]:
    found = _mixed(69)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _forget_peak()  # making the volume takes more than extraction does
    with Extractor(2) as pool:
        pool.extract(volume, found[:2], PROFILES)
        began = time.perf_counter()
        pool.extract_perturbed(volume, found, PROFILES)
        wall = time.perf_counter() - began
        workers = [_peak_mb(worker.process.pid) for worker in pool._workers]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    own = _peak_mb(os.getpid())
    return [
        f"69 mixed lesions, 3 masks each, both profiles, two processes: {wall:.1f} s wall, "
        f"{cpu:.1f} s CPU with start-up",
        f"peak memory with two processes: {own + sum(workers):.0f} MB ({own:.0f} MB here with the "
        f"volume, {' and '.join(f'{mb:.0f}' for mb in workers)} MB in them)",
    ]


def _forget_peak() -> None:
    """Let the kernel count this process's peak memory from now on."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mb(process: int) -> float:
    """Peak resident memory of a running process in MB, since it was started."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) / 1024
    return 0.0


def _linearity(volume: Volume) -> list[str]:
    found = _mixed(10)
    with _Timed("timed_compute", whole=False) as pool:
        pool.extract(volume, found[:1], PROFILES)
        ten, forty = (
            sum(float(r.values[0]) for r in pool.extract(volume, found * times, PROFILES))
            for times in (1, 4)
        )
    return [f"40 lesions against 10 of the same sizes: x{forty / ten:.2f} CPU"]


if __name__ == "__main__":
    for row in run():
        print(row, flush=True)
