"""Image series as volumes: geometry from position and orientation only, values in real units."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from analysis.errors import Unsuitable
from analysis.model import FloatArray, Geometry, Volume
from config.machine import memory_bytes
from dicom_io import isolated
from dicom_io.classes import CT_CLASSES, MR_CLASSES
from dicom_io.parsing import PARSE_FAULTS, numbers, read_dataset, text
from dicom_io.pixels import frame_count, stored_frames

ORIENTATION_TOLERANCE = 1e-4
SPACING_TOLERANCE = 1e-4  # mm
READERS = 4
MAX_VOLUME_BYTES = 8 << 30


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice before it is put in place.

    Attributes
    ----------
    image : int
        Index of the instance it comes from.
    frame : int or None
        1-based frame of a multi-frame image.
    position, orientation : tuple of float, LPS mm and direction cosines (row, then column)
    spacing : (between rows, between columns), mm
    shape : (rows, columns)
    slope, intercept : float
        Stored value to real unit.
    """

    image: int
    frame: int | None
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    shape: tuple[int, int]
    slope: float
    intercept: float


@dataclass(frozen=True, slots=True, eq=False)
class ImageSeries:
    """A series read as one volume.

    Attributes
    ----------
    volume : Volume
    images : tuple of Dataset
        Without pixel data, in the order of first appearance in the volume.
    frame_of : tuple of (index into `images`, 1-based frame or None)
        One a slice.
    padding : tuple of float
        Values, in the unit of the volume, that mean "no pixel here".
    notes : tuple of (check, found, wanted, detail)
        What was odd but could be read.
    """

    volume: Volume
    images: tuple[Dataset, ...]
    frame_of: tuple[tuple[int, int | None], ...]
    padding: tuple[float, ...]
    notes: tuple[tuple[str, str, str, str], ...]


def read_series(paths: Sequence[Path], tolerance_mm: float = 0.1) -> ImageSeries:
    """Read the instances of one series as a volume.

    Parameters
    ----------
    paths : sequence of Path
        In any order.
    tolerance_mm : float
        How far a slice may be from its place in the regular stack.

    Raises
    ------
    Unsuitable
        ``missing_slices``, ``duplicate_slices``, ``uneven_slices``, ``gantry_tilt``,
        ``mixed_orientation``, ``mixed_matrix``, ``mixed_spacing``, ``no_geometry``, ``not_hu`` ...
    """
    with ThreadPoolExecutor(READERS) as pool:
        headers = list(pool.map(lambda path: read_dataset(path, pixels=False), paths))
    kept = [i for i, ds in enumerate(headers) if "LOCALIZER" not in (ds.get("ImageType") or ())]
    if not kept:
        raise Unsuitable("only_localizers", f"found {len(headers)} localizer images, no other")
    try:
        planes = [plane for i in kept for plane in _planes(headers[i], i)]
        unit = _unit([headers[i] for i in kept])
    except PARSE_FAULTS as error:
        raise Unsuitable(
            "malformed", f"the image headers cannot be read: {type(error).__name__}: {error}"
        ) from error
    order, geometry, notes = stack(planes, tolerance_mm)
    _require_room(geometry)
    ordered = [planes[i] for i in order]
    values = _values(ordered, geometry, paths)
    used = list(dict.fromkeys(plane.image for plane in ordered))
    frame_of = tuple((used.index(plane.image), plane.frame) for plane in ordered)
    if len(kept) < len(headers):
        left = len(headers) - len(kept)
        notes.append(
            (
                "localizers",
                f"{left} localizer images",
                "none in the volume",
                "left out of the volume",
            )
        )
    if lossy := sum(text(headers[i], "LossyImageCompression") == "01" for i in used):
        notes.append(
            (
                "lossy_compression",
                f"{lossy} of {len(used)} images",
                "0",
                "values are not those the scanner measured",
            )
        )
    return ImageSeries(
        Volume(values, geometry, unit),
        tuple(headers[i] for i in used),
        frame_of,
        _padding(headers[ordered[0].image], ordered[0]),
        tuple(notes),
    )


def _require_room(geometry: Geometry) -> None:
    """Refuse what would fill the memory: a compressed series of gigabytes may come in kilobytes."""
    most = min(MAX_VOLUME_BYTES, memory_bytes() // 2)
    wanted = math.prod(geometry.shape) * np.dtype(np.int16).itemsize
    if wanted > most:
        raise Unsuitable(
            "too_large",
            f"found a volume of {wanted >> 20} MB, wanted at most "
            f"{most >> 20} MB (8 GB and half of this machine's "
            "memory)",
        )


def _planes(ds: Dataset, image: int) -> list[Plane]:
    """The slices of one instance."""
    groups = ds.get("PerFrameFunctionalGroupsSequence")
    if not groups:
        return [_plane(image, None, _where(ds), _rescale(ds), ds)]
    shared = (ds.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    if len(groups) != frame_count(ds):
        raise Unsuitable(
            "malformed",
            f"found functional groups of {len(groups)} frames, wanted {frame_count(ds)}",
        )
    result = []
    for number, group in enumerate(groups, start=1):
        parts = _merged(shared, group)
        result.append(_plane(image, number, _where(parts), _rescale(parts), ds))
    return result


def _merged(shared: Dataset, group: Dataset) -> Dataset:
    """The functional groups that place and scale one frame, flat; the frame's own come first."""
    flat = Dataset()
    for name in (
        "PlanePositionSequence",
        "PlaneOrientationSequence",
        "PixelMeasuresSequence",
        "PixelValueTransformationSequence",
    ):
        sequence = group.get(name) or shared.get(name)
        if sequence:
            flat.update(sequence[0])
    return flat


def _where(ds: Dataset) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    return (
        numbers(ds, "ImagePositionPatient"),
        numbers(ds, "ImageOrientationPatient"),
        numbers(ds, "PixelSpacing"),
    )


def _rescale(ds: Dataset) -> tuple[float, float]:
    slope = numbers(ds, "RescaleSlope") or (1.0,)
    intercept = numbers(ds, "RescaleIntercept") or (0.0,)
    return slope[0], intercept[0]


def _plane(
    image: int,
    frame: int | None,
    where: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]],
    rescale: tuple[float, float],
    ds: Dataset,
) -> Plane:
    position, orientation, spacing = where
    place = f"instance {text(ds, 'SOPInstanceUID')}" + (f" frame {frame}" if frame else "")
    wanted = {"Image Position (Patient)": (position, 3), "Pixel Spacing": (spacing, 2)}
    wanted["Image Orientation (Patient)"] = (orientation, 6)
    for name, (found, count) in wanted.items():
        if len(found) != count or not np.isfinite(found).all():
            raise Unsuitable(
                "no_geometry", f"{place}: {name}: found {found}, wanted {count} numbers"
            )
    if min(spacing) <= 0:
        raise Unsuitable("no_geometry", f"{place}: found Pixel Spacing {spacing}, wanted positive")
    if rescale[0] == 0 or not np.isfinite(rescale).all():
        raise Unsuitable("not_hu", f"{place}: found Rescale Slope and Intercept {rescale}")
    shape = int(ds.Rows), int(ds.Columns)
    return Plane(image, frame, position, orientation, spacing, shape, *rescale)


def _unit(images: Sequence[Dataset]) -> str:
    """Unit of the rescaled values; refuses a CT that is not in HU."""
    first = images[0]
    if str(first.SOPClassUID) in CT_CLASSES:
        for ds in images:
            _require_hu(ds)
        return "HU"
    if str(first.SOPClassUID) in MR_CLASSES:
        return "1"
    return text(first, "Units") or "1"


def _require_hu(ds: Dataset) -> None:
    place = f"instance {text(ds, 'SOPInstanceUID')}"
    shared = (ds.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    groups = [_merged(shared, g) for g in ds.get("PerFrameFunctionalGroupsSequence") or ()] or [ds]
    for group in groups:
        if "RescaleSlope" not in group or "RescaleIntercept" not in group:
            raise Unsuitable(
                "not_hu", f"{place}: found no Rescale Slope and Intercept, wanted a CT in HU"
            )
        kind = text(group, "RescaleType") or "HU"
        # US is "unspecified": scanners write it for plain HU (PS3.3 C.11.1.1.2).
        if kind not in {"HU", "US"}:
            raise Unsuitable("not_hu", f"{place}: found Rescale Type {kind!r}, wanted HU")


def stack(
    planes: Sequence[Plane], tolerance_mm: float
) -> tuple[list[int], Geometry, list[tuple[str, str, str, str]]]:
    """Order slices along their normal and check that they form a regular grid.

    Returns
    -------
    order : list of int
        Indices into `planes`, so that the slice axis runs along the normal (row x column).
    geometry : Geometry
    notes : list of (check, found, wanted, detail)
    """
    _require_same(planes)
    orientation = np.array(planes[0].orientation, float)
    row_axis, column_axis = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(row_axis), np.linalg.norm(column_axis)
    if abs(row_axis @ column_axis) > 1e-3 or max(abs(n - 1) for n in lengths) > 1e-3:
        raise Unsuitable(
            "no_geometry",
            f"found Image Orientation (Patient) {planes[0].orientation}, wanted two perpendicular "
            "unit vectors",
        )
    row_axis, column_axis = row_axis / lengths[0], column_axis / lengths[1]
    normal = np.cross(row_axis, column_axis)
    normal /= np.linalg.norm(normal)
    positions = np.array([plane.position for plane in planes], float)
    along = positions @ normal
    order = np.argsort(along, kind="stable").tolist()
    step, notes = _step(positions[order], along[order], normal, tolerance_mm, planes[0])
    affine = np.eye(4)
    affine[:3, 0] = normal * step
    affine[:3, 1] = column_axis * planes[0].spacing[0]
    affine[:3, 2] = row_axis * planes[0].spacing[1]
    affine[:3, 3] = positions[order[0]]
    return order, Geometry((len(planes), *planes[0].shape), affine), notes


def _require_same(planes: Sequence[Plane]) -> None:
    first = planes[0]
    for plane in planes:
        where = f"image {plane.image + 1} of {len(planes)}"
        if plane.shape != first.shape:
            raise Unsuitable(
                "mixed_matrix", f"{where}: found {plane.shape} pixels, wanted {first.shape}"
            )
        turn = np.abs(np.subtract(plane.orientation, first.orientation)).max()
        if turn > ORIENTATION_TOLERANCE:
            raise Unsuitable(
                "mixed_orientation",
                f"{where}: found orientation {plane.orientation}, wanted {first.orientation}",
            )
        if np.abs(np.subtract(plane.spacing, first.spacing)).max() > SPACING_TOLERANCE:
            raise Unsuitable(
                "mixed_spacing", f"{where}: found {plane.spacing} mm, wanted {first.spacing} mm"
            )


def _step(
    positions: FloatArray, along: FloatArray, normal: FloatArray, tolerance: float, plane: Plane
) -> tuple[float, list[tuple[str, str, str, str]]]:
    """Distance between neighbouring slices in mm, or the reason why there is none."""
    n = len(along)
    if n == 1:
        # One slice has no neighbour: its thickness is unknown here, and no volume comes of it.
        raise Unsuitable("single_slice", "found 1 slice, wanted at least 2 to know their distance")
    steps = np.diff(along)
    middle = float(np.median(steps))
    if (close := np.flatnonzero(steps <= tolerance)).size:
        raise Unsuitable(
            "duplicate_slices",
            f"found {close.size} slices at a place already taken, first at "
            f"{along[close[0]]:.3f} mm along the normal; wanted one slice a place",
        )
    drift = positions - positions[0] - np.outer(along - along[0], normal)
    sideways = np.linalg.norm(drift, axis=1)
    if sideways.max() > tolerance:
        angle = float(np.degrees(np.arctan2(sideways[-1], along[-1] - along[0])))
        raise Unsuitable(
            "gantry_tilt",
            f"found slices moving {sideways.max():.2f} mm sideways over the stack (tilt "
            f"{angle:.1f} degrees), steps {steps.min():.2f} to {steps.max():.2f} mm; wanted at "
            f"most {tolerance} mm",
        )
    _require_even(along, steps, middle, tolerance)
    mean = float(along[-1] - along[0]) / (n - 1)
    # Positions are decimal strings: their noise must not make 3 mm out to be 2.9999999.
    rounded = round(mean, 4)
    return (rounded if abs(rounded - mean) * n < tolerance / 10 else mean), []


def _require_even(along: FloatArray, steps: FloatArray, middle: float, tolerance: float) -> None:
    odd = np.flatnonzero(np.abs(steps - middle) > tolerance)
    if not odd.size:
        return
    ratio = steps[odd] / middle
    whole = np.abs(ratio - np.rint(ratio)) * middle <= tolerance * np.maximum(np.rint(ratio), 1)
    if whole.all() and (ratio > 1.5).all() and odd.size * 3 <= steps.size:
        lacking = int((np.rint(ratio) - 1).sum())
        raise Unsuitable(
            "missing_slices",
            f"found {lacking} slice(s) missing, first after {along[odd[0]]:.3f} mm along the "
            f"normal (step {steps[odd[0]]:.3f} mm); wanted steps of {middle:.3f} mm",
        )
    raise Unsuitable(
        "uneven_slices",
        f"found steps from {steps.min():.3f} to {steps.max():.3f} mm, first odd one after "
        f"{along[odd[0]]:.3f} mm; wanted {middle:.3f} mm within {tolerance} mm",
    )


def _values(
    planes: Sequence[Plane], geometry: Geometry, paths: Sequence[Path]
) -> NDArray[np.generic]:
    """Rescaled values in slice order, one instance in memory a reader.

    int16 when every value fits in it exactly, else float32.
    """
    whole = all(p.slope == int(p.slope) and p.intercept == int(p.intercept) for p in planes)
    if whole:
        values = np.empty(geometry.shape, np.int16)
        if _fill(values, planes, paths):
            return values
        del values
    values32 = np.empty(geometry.shape, np.float32)
    _fill(values32, planes, paths)
    return values32


def _fill(values: NDArray[Any], planes: Sequence[Plane], paths: Sequence[Path]) -> bool:
    """Decode every slice into its place; False as soon as a value does not fit int16."""
    wanted: dict[int, dict[int, int]] = {}
    for index, plane in enumerate(planes):
        wanted.setdefault(plane.image, {})[(plane.frame or 1) - 1] = index

    def fill(image: int) -> bool:
        places = wanted[image]
        frames = range(min(places), max(places) + 1)
        dataset = read_dataset(paths[image])
        for frame, stored in zip(frames, stored_frames(dataset, frames), strict=True):
            if frame not in places:
                continue
            plane = planes[places[frame]]
            if values.dtype != np.int16:
                values[places[frame]] = stored * plane.slope + plane.intercept
                continue
            exact = stored.astype(np.int64) * int(plane.slope) + int(plane.intercept)
            if exact.min() < -32768 or exact.max() > 32767:
                return False
            values[places[frame]] = exact
        return True

    try:
        with ThreadPoolExecutor(READERS) as pool:
            return all(pool.map(fill, wanted))
    finally:
        isolated.close()


def _padding(ds: Dataset, plane: Plane) -> tuple[float, ...]:
    """Padding value (or both ends of its range) in the unit of the volume."""
    found = numbers(ds, "PixelPaddingValue") + numbers(ds, "PixelPaddingRangeLimit")
    return tuple(sorted(value * plane.slope + plane.intercept for value in found))
