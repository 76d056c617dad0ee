"""The types every room of the house shares: plain, frozen, without DICOM.

Arrays are indexed ``[slice, row, column]``; lengths are in mm, volumes in ml, CT values in HU;
patient coordinates are LPS (DICOM PS3.3 C.7.6.2.1.1).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mirv.analysis.errors import Reason

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Index3 = tuple[int, int, int]
Point = tuple[float, float, float]
State = Literal["matched", "vanished", "new", "unmatched", "unknown"]


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """A regular grid in patient space.

    Attributes
    ----------
    shape : (slices, rows, columns)
    affine : float64 (4, 4)
        Maps the homogeneous index ``(slice, row, column, 1)`` to LPS mm, voxel centres.
    """

    shape: Index3
    affine: FloatArray

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighbours along (slice, row, column)."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    @property
    def directions(self) -> FloatArray:
        """Unit vectors of the three index axes in LPS, as columns (3, 3)."""
        axes = self.affine[:3, :3]
        result: FloatArray = axes / np.linalg.norm(axes, axis=0)
        return result

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def to_lps(self, index: FloatArray) -> FloatArray:
        """Map indices (n, 3) to LPS mm (n, 3).

        Parameters
        ----------
        index : float64 (n, 3)
            Slice, row, column; whole at voxel centres.

        Returns
        -------
        float64 (n, 3)
            mm.
        """
        result: FloatArray = index @ self.affine[:3, :3].T + self.affine[:3, 3]
        return result

    def to_index(self, lps: FloatArray) -> FloatArray:
        """Map LPS mm (n, 3) to fractional indices (n, 3).

        Parameters
        ----------
        lps : float64 (n, 3)
            mm.

        Returns
        -------
        float64 (n, 3)
            Slice, row, column; whole at voxel centres.
        """
        result: FloatArray = (lps - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T
        return result


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """An image on a grid.

    Attributes
    ----------
    values : array [slice, row, column]
    geometry : Geometry
    unit : str
        UCUM-like: ``"HU"`` for CT, else what the image says (``"BQML"``, ``"1"`` ...).
    """

    values: NDArray[np.generic]
    geometry: Geometry
    unit: str

    def __post_init__(self) -> None:
        if self.values.shape != self.geometry.shape:
            raise ValueError(f"values {self.values.shape} do not fit grid {self.geometry.shape}")


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """A lesion's voxels as a cropped box inside an image grid.

    A hundred lesions cost their boxes, not a hundred volumes.

    Attributes
    ----------
    start : Index3
        Index of the box's first voxel in the image grid.
    values : bool array
        The box; tight around the lesion. Shape (0, 0, 0) when the lesion has no voxel.
    grid_shape : Index3
        Shape of the image grid the box lies in.
    """

    start: Index3
    values: BoolArray
    grid_shape: Index3

    @classmethod
    def from_full(cls, full: BoolArray) -> "Mask":
        """Crop a full-grid mask to its tight box.

        Parameters
        ----------
        full : bool [slice, row, column]
        """
        return cls.from_box((0, 0, 0), full, (full.shape[0], full.shape[1], full.shape[2]))

    @classmethod
    def from_box(cls, start: Index3, box: BoolArray, grid_shape: Index3) -> "Mask":
        """Tighten a box that starts at `start` in a grid of `grid_shape`.

        Parameters
        ----------
        start : Index3
        box : bool [slice, row, column]
            Part of the grid; it may have empty margins, or no voxel at all.
        grid_shape : Index3
        """
        lo, hi = [], []
        for axis in range(3):
            others = tuple(a for a in range(3) if a != axis)
            filled = np.flatnonzero(box.any(axis=others))
            if filled.size == 0:
                return cls((0, 0, 0), np.zeros((0, 0, 0), bool), grid_shape)
            lo.append(int(filled[0]))
            hi.append(int(filled[-1]) + 1)
        tight = np.ascontiguousarray(box[lo[0] : hi[0], lo[1] : hi[1], lo[2] : hi[2]], dtype=bool)
        return cls((start[0] + lo[0], start[1] + lo[1], start[2] + lo[2]), tight, grid_shape)

    @property
    def n_voxels(self) -> int:
        """Number of voxels in the lesion."""
        return int(np.count_nonzero(self.values))

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as slices into the image grid."""
        a, b, c = (slice(s, s + n) for s, n in zip(self.start, self.values.shape, strict=True))
        return a, b, c

    def full(self) -> BoolArray:
        """The mask on the whole grid (large: for tests and small images)."""
        out = np.zeros(self.grid_shape, bool)
        out[self.slices] = self.values
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Lesion:
    """One lesion to analyse: one segment or ROI (or one component of it).

    Attributes
    ----------
    number : int
        1-based position in the lesion set of this study: stable for the same inputs.
    label : str
        Segment label or ROI name as received (an outside string: hostile).
    tracking_id, tracking_uid : str
        DICOM tracking identifier and unique identifier; made stable where missing.
        Everything is keyed on `tracking_uid`, never on order.
    site : str
        Metastatic site, one of ``config.sites.SITES`` ("unknown" when it cannot be told).
    mask : Mask
    """

    number: int
    label: str
    tracking_id: str
    tracking_uid: str
    site: str
    mask: Mask


@dataclass(frozen=True, slots=True, eq=False)
class LesionResult:
    """What one profile says of one lesion.

    Attributes
    ----------
    number, label, tracking_id, tracking_uid, site
        As in `Lesion`.
    volume_ml : float
        Voxel count times voxel volume of the mask as received, before any resampling.
    profile : str
        Name of the extraction profile.
    names : tuple of str
        Feature names as PyRadiomics writes them (``original_shape_Sphericity``).
    values : float64 (len(names),)
        NaN only where `missing` or `excluded` says why.
    missing : mapping of feature name to Reason
    excluded : Reason or None
        Set when the lesion as a whole has no features; `values` is then all NaN.
    warnings : tuple of str
    diagnostics : mapping of name to number
        What the values were computed from (R-FEAT-4): spacing (mm), voxels and value range of the
        lesion on the analysis grid. Empty when it did not get that far.
    """

    number: int
    label: str
    tracking_id: str
    tracking_uid: str
    site: str
    volume_ml: float
    profile: str
    names: tuple[str, ...]
    values: FloatArray
    missing: Mapping[str, Reason] = field(default_factory=dict)
    excluded: Reason | None = None
    warnings: tuple[str, ...] = ()
    diagnostics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measure:
    """A patient-level number, or why there is none.

    Attributes
    ----------
    name : str
        ``snake_case``, the column name in ``patients.csv``.
    value : float or None
        None exactly when `reason` is set.
    unit : str
        UCUM (``"1"``, ``"ml"``, ``"%"``, ``"{count}"``).
    profile, space : str
        What the number was computed with; "" where none applies (native volumes).
    n_lesions : int
        Lesions that entered it.
    reason : Reason or None
    """

    name: str
    value: float | None
    unit: str
    profile: str
    space: str
    n_lesions: int
    reason: Reason | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError(f"{self.name}: exactly one of value and reason must be set")
        if self.value is not None and not np.isfinite(self.value):
            raise ValueError(f"{self.name}: {self.value} is not a value; give a reason instead")


@dataclass(frozen=True, slots=True)
class Pair:
    """Distances between two lesions in one space; one row of ``pairs.csv``.

    `cosine` is 1 - cos; `euclidean` is in units of the scaled features. None with `reason`.
    """

    profile: str
    space: str
    tracking_uid_a: str
    tracking_uid_b: str
    cosine: float | None
    euclidean: float | None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Variation:
    """Coefficient of variation of one feature over a group of lesions; one row of
    ``variation.csv`` (R-CV-1).

    Attributes
    ----------
    profile, feature : str
    site : str
        "" for all lesions of the patient, else the metastatic site.
    n_lesions : int
    cv_percent : float or None
        100 * |s / mean|, s with ddof 1.
    quartile_coefficient : float or None
        (Q3 - Q1) / (Q3 + Q1), the robust companion.
    sign_change : bool
        The feature takes both signs, so its CV is unstable.
    reason : Reason or None
        Why `cv_percent` is None.
    """

    profile: str
    feature: str
    site: str
    n_lesions: int
    cv_percent: float | None
    quartile_coefficient: float | None
    sign_change: bool
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class LesionIdentity:
    """What tells a lesion at another time point, beside its tracking UID, name and site.

    Attributes
    ----------
    tracking_received : bool
        False for a tracking UID that the node derived: it says nothing at another time point.
    part : bool
        A part of a segment: numbered by size, so that neither name nor UID is its own.
    frame_of_reference : str
        UID, "" when unknown.
    box : (lowest corner, highest corner) or None
        Of the voxel centres, LPS mm; None without voxels or when unknown.
    """

    tracking_received: bool = True
    part: bool = False
    frame_of_reference: str = ""
    box: tuple[Point, Point] | None = None


@dataclass(frozen=True, slots=True)
class LesionChange:
    """One lesion over two time points; one row of ``changes.csv``.

    Attributes
    ----------
    tracking_uid, name, site : str
        Of the current time point; of the previous one for a lesion that is not in the current one.
    state : {"matched", "vanished", "new", "unmatched", "unknown"}
        ``unmatched``: measured at one time point, and nothing tells which lesion of the other one
        it is, if any. ``unknown``: measured before, not measured now, and not said to have
        vanished (or the other way round).
    matched_by : str
        ``"tracking_uid"``, ``"name"``, ``"table"`` (identifier of a user's table), ``"row"`` (both
        volumes in one row of it) or "".
    previous_ml, current_ml : float or None
    change_percent : float or None
        ``100 (current - previous) / previous``; -100 vanished, +100 new, None otherwise.
    reason : Reason or None
        Why `change_percent` is None.
    previous_uid : str
        Tracking UID at the earlier time point; "" for a lesion that is not in it.
    """

    tracking_uid: str
    name: str
    site: str
    state: State
    matched_by: str
    previous_ml: float | None
    current_ml: float | None
    change_percent: float | None
    reason: Reason | None = None
    previous_uid: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a result comes from: enough to compute it again.

    Attributes
    ----------
    input_digest : str
        SHA-256 over the sorted inputs (SOP Instance UIDs and content hashes).
    profile_digests, space_digests : mapping of name to SHA-256
    versions : mapping of package name to version, "mirv-node" among them
    prior_input_digest, prior_study_uid, prior_study_date : str
        Of the earlier study that the response is measured since, "" for none; the date as DICOM DA.
    default_issuer : str
        Who issued the Patient ID by the settings, where the images do not say; "" where they do,
        or it is not known.
    """

    input_digest: str
    profile_digests: Mapping[str, str]
    space_digests: Mapping[str, str]
    versions: Mapping[str, str]
    prior_input_digest: str = ""
    prior_study_uid: str = ""
    prior_study_date: str = ""
    default_issuer: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class StudyResult:
    """Everything computed for one image and its lesion set.

    Attributes
    ----------
    lesions, measures, pairs, variation, provenance
    changes : tuple of LesionChange
        Since the earlier study that `provenance` names; empty when there is none.
    identities : mapping of tracking UID to LesionIdentity
        Empty where not known (results of earlier versions).
    """

    lesions: tuple[LesionResult, ...]
    measures: tuple[Measure, ...]
    pairs: tuple[Pair, ...]
    variation: tuple[Variation, ...]
    provenance: Provenance
    changes: tuple[LesionChange, ...] = ()
    identities: Mapping[str, LesionIdentity] = field(default_factory=dict)
