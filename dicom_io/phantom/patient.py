"""A synthetic patient: a small CT with lesions at several sites, and its segmentation.

Everything is computed from `seed`, nothing is anyone's: for the demo and the tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRLittleEndian
from scipy import ndimage

from mirv.analysis.model import BoolArray, FloatArray, Geometry, Mask
from mirv.dicom_io.model import Code
from mirv.dicom_io.phantom.writers import DrawnLesion, Identity, write_ct, write_rtstruct, write_seg
from mirv.dicom_io.standard import codes
from mirv.dicom_io.standard.uids import derive_uid


@dataclass(frozen=True, slots=True)
class _Organ:
    """Where lesions of one site sit: an ellipsoid in parts of the body (z, y, x, -1 to 1)."""

    site: str
    anatomy: Code
    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    hu: float
    lesion_hu: tuple[float, float]


RIGHT_LUNG = _Organ("lung", codes.LUNG, (0.5, 0, -0.45), (0.45, 0.62, 0.33), -820, (0, 60))
LEFT_LUNG = _Organ("lung", codes.LUNG, (0.5, 0, 0.45), (0.45, 0.62, 0.33), -820, (0, 60))
LIVER = _Organ("liver", codes.LIVER, (-0.5, -0.05, -0.25), (0.46, 0.62, 0.62), 110, (40, 85))
BONE = _Organ("bone", codes.BONE, (0, 0.72, 0), (1.2, 0.2, 0.22), 260, (60, 160))
NODES = _Organ("lymph node", codes.LYMPH_NODE, (-0.5, 0.05, 0.62), (0.46, 0.5, 0.22), 45, (70, 110))
ORGANS = (LIVER, RIGHT_LUNG, BONE, LEFT_LUNG, NODES)
SMALLEST_RADIUS = 3.2  # mm
FAT_HU, AIR_HU, TISSUE_HU = -95.0, -1000.0, 45.0


@dataclass(frozen=True, slots=True)
class PhantomLesion:
    """What is known of one lesion.

    Attributes
    ----------
    tracking_id, tracking_uid : str
        The same at every time point.
    site : str
    n_voxels : int
    volume_ml : float
    segment : int
        Segment Number in the SEG (1-based).
    """

    tracking_id: str
    tracking_uid: str
    site: str
    n_voxels: int
    volume_ml: float
    segment: int


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """A written study and the truth about it.

    Attributes
    ----------
    folder : Path
    ct, seg, rtstruct : paths; `seg` and `rtstruct` None when not asked for
    identity : Identity
        Patient and UIDs (`identity.study_uid` ...).
    geometry : Geometry
    values : int16 array [slice, row, column], HU
    lesions : tuple of PhantomLesion
    drawn : tuple of DrawnLesion
        The masks, in the order of `lesions`.
    """

    folder: Path
    ct: tuple[Path, ...]
    seg: Path | None
    rtstruct: Path | None
    identity: Identity
    geometry: Geometry
    values: NDArray[np.int16]
    lesions: tuple[PhantomLesion, ...]
    drawn: tuple[DrawnLesion, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the study."""
        return (*self.ct, *(path for path in (self.seg, self.rtstruct) if path is not None))


# Many switches, all by name and with a default: a test names the one thing it makes odd.
def write_study(
    folder: Path,
    *,
    n_lesions: int = 12,
    seed: int = 0,
    shape: tuple[int, int, int] = (40, 128, 128),
    spacing: tuple[float, float, float] = (2.5, 1.3, 1.3),
    time_point: int = 0,
    patient_id: str = "MIRV-PHANTOM",
    patient_name: str = "Phantom^Mirv",
    seg: bool = True,
    rtstruct: bool = False,
    shuffled: bool = False,
    tracked: bool = True,
    fractional: bool = False,
    syntax: str = ExplicitVRLittleEndian,
    ct_tags: dict[str, Any] | None = None,
) -> Phantom:
    """Write a CT series (``CT/``) and the segmentation of its lesions.

    Parameters
    ----------
    folder : Path
        Made when missing.
    n_lesions : int
        Lesions go to liver, lungs, bone and lymph nodes in turn, 0.2 to 7 ml.
    seed : int
        Other lesions and texture.
    shape, spacing : (slices, rows, columns), mm
    time_point : int
        From 1 on: the same patient, lesions grown or shrunk, the last one gone and a new one there.
    seg, rtstruct : bool
        Write ``SEG.dcm``, ``RTSTRUCT.dcm`` (of the same masks).
    shuffled : bool
        Segments in another order than the lesions.
    tracked : bool
        With tracking identifiers.
    fractional : bool
        FRACTIONAL instead of BINARY.
    syntax : str
        Transfer syntax UID of the CT.
    ct_tags : mapping of DICOM keyword to value, None leaves out

    Returns
    -------
    Phantom
    """
    identity = Identity(patient_id, patient_name, time_point)
    geometry = _geometry(shape, spacing)
    values, drawn = _paint(geometry, n_lesions, seed, identity)
    folder.mkdir(parents=True, exist_ok=True)
    order = list(range(len(drawn)))
    if shuffled:
        np.random.default_rng(seed + 1).shuffle(order)
    lesions = tuple(
        PhantomLesion(
            lesion.tracking_id,
            lesion.tracking_uid,
            site,
            lesion.mask.n_voxels,
            lesion.mask.n_voxels * geometry.voxel_volume_ml,
            order.index(i) + 1,
        )
        for i, (lesion, site) in enumerate(drawn)
    )
    masks = tuple(lesion for lesion, _ in drawn)
    ct = write_ct(folder / "CT", values, geometry, identity, syntax=syntax, **(ct_tags or {}))
    seg_path = rt_path = None
    if seg:
        seg_path = write_seg(
            folder / "SEG.dcm", masks, geometry, identity,
            order=order, tracked=tracked, fractional=fractional,
        )  # fmt: skip
    if rtstruct:
        rt_path = write_rtstruct(folder / "RTSTRUCT.dcm", masks, geometry, identity)
    return Phantom(folder, tuple(ct), seg_path, rt_path, identity, geometry, values, lesions, masks)


def _geometry(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Geometry:
    """An axial grid, head last, centred on x and y."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing, 1
    affine[:3, 3] = [-spacing[2] * (shape[2] - 1) / 2, -spacing[1] * (shape[1] - 1) / 2, -200]
    return Geometry(shape, affine)


def _in_body(shape: tuple[int, int, int]) -> tuple[FloatArray, ...]:
    """Normalised body coordinates of all voxels: z from -1 to 1, y and x within an ellipse."""
    z, y, x = (np.linspace(-1, 1, n) for n in shape)
    return z[:, None, None], y[None, :, None] / 0.78, x[None, None, :] / 0.94


def _ellipsoid(
    grid: tuple[FloatArray, ...],
    centre: Sequence[float] | FloatArray,
    half: Sequence[float] | FloatArray,
) -> FloatArray:
    """Squared normalised radius from `centre`: below 1 inside."""
    radius: FloatArray = sum(
        ((axis - c) / h) ** 2 for axis, c, h in zip(grid, centre, half, strict=True)
    )
    return radius


def _smooth_noise(
    rng: np.random.Generator, shape: Sequence[int], sigma: float, sd: float
) -> FloatArray:
    noise = ndimage.gaussian_filter(rng.standard_normal(tuple(shape)), sigma, mode="wrap")
    result: FloatArray = noise * (sd / noise.std())
    return result


def _paint(
    geometry: Geometry, n_lesions: int, seed: int, identity: Identity
) -> tuple[NDArray[np.int16], list[tuple[DrawnLesion, str]]]:
    """HU values and lesions of one time point."""
    # The places of the lesions must not depend on the time point: an own generator each.
    places = np.random.default_rng([seed, 1])
    texture = np.random.default_rng([seed, 2, identity.time_point])
    grid = _in_body(geometry.shape)
    hu = np.full(geometry.shape, AIR_HU)
    body = np.broadcast_to(grid[1] ** 2 + grid[2] ** 2 <= 1, geometry.shape)
    hu[body] = FAT_HU
    hu[np.broadcast_to(grid[1] ** 2 + grid[2] ** 2 <= 0.9, geometry.shape)] = TISSUE_HU
    for organ in ORGANS:
        hu[_ellipsoid(grid, organ.centre, organ.half) <= 1] = organ.hu
    hu += _smooth_noise(texture, geometry.shape, 1.2, 14)
    drawn = _lesions(geometry, hu, n_lesions, seed, identity, _Chance(places, texture))
    hu += texture.normal(0, 6, geometry.shape)
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16), drawn


@dataclass(frozen=True, slots=True, eq=False)
class _Chance:
    """Where lesions lie and how they look: streams apart, so that neither disturbs the other."""

    places: np.random.Generator
    texture: np.random.Generator


def _lesions(
    geometry: Geometry,
    hu: FloatArray,
    n_lesions: int,
    seed: int,
    identity: Identity,
    chance: _Chance,
) -> list[tuple[DrawnLesion, str]]:
    """Place lesions apart from each other, paint them into `hu`, return them."""
    places, texture = chance.places, chance.texture
    taken = np.zeros(geometry.shape, bool)
    drawn = []
    counts: dict[str, int] = {}
    later = identity.time_point > 0
    # One more than asked: the new lesion of a follow-up, which the baseline leaves out.
    for index in range(n_lesions + 1):
        organ = ORGANS[index % len(ORGANS)]
        counts[organ.site] = counts.get(organ.site, 0) + 1
        name = f"{organ.site.upper().replace(' ', '-')}-{counts[organ.site]:02d}"
        shape_noise = np.random.default_rng([seed, 3, index])
        radius = places.uniform(4.0, 9.5)
        growth = shape_noise.uniform(0.75, 1.2) ** identity.time_point
        size = _Size(radius, growth)
        box, start = _place(geometry, organ, size, taken, places, shape_noise)
        here = index != n_lesions - 1 if later else index != n_lesions
        mean = places.uniform(*organ.lesion_hu)
        if not here:
            continue
        region = hu[tuple(slice(s, s + n) for s, n in zip(start, box.shape, strict=True))]
        pattern = _smooth_noise(texture, box.shape, texture.uniform(0.7, 1.6), 1)
        region[box] = (mean + texture.uniform(12, 35) * pattern)[box]
        tracking_uid = derive_uid("mirv phantom", identity.patient_id, str(seed), name)
        mask = Mask.from_box(start, box, geometry.shape)
        drawn.append((DrawnLesion(name, name, tracking_uid, organ.anatomy, mask), organ.site))
    return drawn


@dataclass(frozen=True, slots=True)
class _Size:
    """Of a lesion: radius in mm when its place is found, and the factor it has grown by since."""

    radius: float
    growth: float


def _place(
    geometry: Geometry,
    organ: _Organ,
    size: _Size,
    taken: BoolArray,
    places: np.random.Generator,
    shape_noise: np.random.Generator,
) -> tuple[BoolArray, tuple[int, int, int]]:
    """A lumpy ellipsoid in an organ that keeps clear of the others; shrinks until it fits.

    Growth scales the lesion only after its place is found, so places are the same at every time.
    """
    stretch = shape_noise.uniform(0.75, 1.25, 3)
    half = np.array(geometry.shape) / 2
    lump_seed = int(shape_noise.integers(2**32))
    for attempt in range(600):
        radius = max(size.radius * 0.99**attempt, SMALLEST_RADIUS)
        centre = half - 0.5 + _spot(organ, places) * half * np.array([1, 0.78, 0.94])
        reach = np.ceil(1.8 * radius / np.array(geometry.spacing)).astype(int)
        low, high = np.rint(centre).astype(int) - reach, np.rint(centre).astype(int) + reach + 1
        if (low < 0).any() or (high > geometry.shape).any():
            continue
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        box = centre - low, high - low
        claim = _blob(*box, radius * 1.2, stretch, geometry, np.random.default_rng(lump_seed))
        if not (taken[window] & claim).any():
            taken[window] |= claim
            grown = _blob(
                *box, radius * size.growth, stretch, geometry, np.random.default_rng(lump_seed)
            )
            return grown, (int(low[0]), int(low[1]), int(low[2]))
    raise ValueError(f"no room for another lesion of site {organ.site} in {geometry.shape}")


def _spot(organ: _Organ, places: np.random.Generator) -> FloatArray:
    """A random point well inside an organ, in body coordinates."""
    while True:
        offset = places.uniform(-0.85, 0.85, 3)
        if (offset**2).sum() < 0.72:
            spot: FloatArray = np.array(organ.centre) + offset * np.minimum(organ.half, 0.9)
            return spot


def _blob(
    centre: FloatArray,
    shape: NDArray[np.int_],
    radius: float,
    stretch: FloatArray,
    geometry: Geometry,
    rng: np.random.Generator,
) -> BoolArray:
    axes = np.ix_(*(np.arange(n) for n in shape))
    squared = sum(
        ((axis - c) * s / (radius * e)) ** 2
        for axis, c, s, e in zip(axes, centre, geometry.spacing, stretch, strict=True)
    )
    lumps = _smooth_noise(rng, tuple(shape), 2.0, 0.12)
    labels, n = ndimage.label(np.sqrt(squared) + lumps < 1)
    sizes = np.bincount(labels.ravel())[1:]
    result: BoolArray = labels == 1 + int(np.argmax(sizes)) if n else labels > 0
    return result
