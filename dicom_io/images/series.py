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

from mirv.analysis.errors import Unsuitable
from mirv.analysis.model import Geometry, Volume
from mirv.config.machine import memory_bytes
from mirv.dicom_io.files import isolated_decoder
from mirv.dicom_io.files.frame_groups import (
    FrameGroup,
    frame_groups,
    has_frame_groups,
    placing_of,
    rescaling_of,
)
from mirv.dicom_io.files.pixels import stored_frames
from mirv.dicom_io.files.values import PARSE_FAULTS, numbers, read_dataset, text
from mirv.dicom_io.images.stack import Plane, Tolerances, require_numbers, stack
from mirv.dicom_io.images.units import unit_of
from mirv.dicom_io.model import Note, QualityOutcome

READERS = 4
MAX_VOLUME_BYTES = 8 << 30


@dataclass(frozen=True, slots=True)
class _Slice:
    """One slice of the series.

    Attributes
    ----------
    image : int
        Index of the instance it comes from.
    frame : int or None
        1-based frame of a multi-frame image.
    plane : Plane
    slope, intercept : float
        Stored value to real unit.
    """

    image: int
    frame: int | None
    plane: Plane
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
    notes : tuple of Note
        What was odd but could be read.
    """

    volume: Volume
    images: tuple[Dataset, ...]
    frame_of: tuple[tuple[int, int | None], ...]
    padding: tuple[float, ...]
    notes: tuple[Note, ...]


def read_series(paths: Sequence[Path], tolerance_mm: float = 0.1) -> ImageSeries:
    """Read the instances of one series as a volume.

    Parameters
    ----------
    paths : sequence of Path
        In any order.
    tolerance_mm : float
        How far a slice may be from its place in the regular stack.

    Returns
    -------
    ImageSeries

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
        slices = [one for i in kept for one in _slices(headers[i], i)]
        unit = unit_of([headers[i] for i in kept])
    except PARSE_FAULTS as error:
        raise Unsuitable(
            "malformed", f"the image headers cannot be read: {type(error).__name__}: {error}"
        ) from error
    order, geometry = stack([one.plane for one in slices], tolerance_mm, Tolerances())
    _require_room(geometry)
    ordered = [slices[i] for i in order]
    values = _values(ordered, geometry, paths)
    used = list(dict.fromkeys(one.image for one in ordered))
    images = tuple(headers[i] for i in used)
    return ImageSeries(
        Volume(values, geometry, unit),
        images,
        tuple((used.index(one.image), one.frame) for one in ordered),
        _padding(headers[ordered[0].image], ordered[0]),
        _notes(images, len(headers) - len(kept)),
    )


def _notes(images: Sequence[Dataset], localizers: int) -> tuple[Note, ...]:
    notes = []
    if localizers:
        notes.append(
            Note(
                "localizers",
                QualityOutcome.WARN,
                f"{localizers} localizer images",
                "none in the volume",
                "left out of the volume",
            )
        )
    if lossy := sum(text(ds, "LossyImageCompression") == "01" for ds in images):
        notes.append(
            Note(
                "lossy_compression",
                QualityOutcome.WARN,
                f"{lossy} of {len(images)} images",
                "0",
                "values are not those the scanner measured",
            )
        )
    return tuple(notes)


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


def _slices(ds: Dataset, image: int) -> list[_Slice]:
    """The slices of one instance."""
    if not has_frame_groups(ds):
        return [_slice(ds, image, None, ds)]
    return [
        _slice(ds, image, number, group) for number, group in enumerate(frame_groups(ds), start=1)
    ]


def _slice(ds: Dataset, image: int, frame: int | None, said_by: Dataset | FrameGroup) -> _Slice:
    placing = placing_of(said_by)
    place = f"instance {text(ds, 'SOPInstanceUID')}" + (f" frame {frame}" if frame else "")
    require_numbers(f"{place}: Image Position (Patient)", placing.position, 3)
    require_numbers(f"{place}: Pixel Spacing", placing.spacing, 2)
    require_numbers(f"{place}: Image Orientation (Patient)", placing.orientation, 6)
    if min(placing.spacing) <= 0:
        raise Unsuitable(
            "no_geometry", f"{place}: found Pixel Spacing {placing.spacing}, wanted positive"
        )
    rescaling = rescaling_of(said_by)
    slope = (numbers(rescaling, "RescaleSlope") or (1.0,))[0]
    intercept = (numbers(rescaling, "RescaleIntercept") or (0.0,))[0]
    if slope == 0 or not np.isfinite((slope, intercept)).all():
        raise Unsuitable(
            "not_hu", f"{place}: found Rescale Slope and Intercept {(slope, intercept)}"
        )
    plane = Plane(image + 1, placing, (int(ds.Rows), int(ds.Columns)))
    return _Slice(image, frame, plane, slope, intercept)


def _values(
    slices: Sequence[_Slice], geometry: Geometry, paths: Sequence[Path]
) -> NDArray[np.generic]:
    """Rescaled values in slice order, one instance in memory a reader.

    int16 when every value fits in it exactly, else float32.
    """
    whole = all(s.slope == int(s.slope) and s.intercept == int(s.intercept) for s in slices)
    if whole:
        values = np.empty(geometry.shape, np.int16)
        if _fill(values, slices, paths):
            return values
        del values
    values32 = np.empty(geometry.shape, np.float32)
    _fill(values32, slices, paths)
    return values32


def _fill(values: NDArray[Any], slices: Sequence[_Slice], paths: Sequence[Path]) -> bool:
    """Decode every slice into its place; False as soon as a value does not fit int16."""
    wanted: dict[int, dict[int, int]] = {}
    for index, one in enumerate(slices):
        wanted.setdefault(one.image, {})[(one.frame or 1) - 1] = index

    def fill(image: int) -> bool:
        places = wanted[image]
        frames = range(min(places), max(places) + 1)
        dataset = read_dataset(paths[image])
        for frame, stored in zip(frames, stored_frames(dataset, frames), strict=True):
            if frame not in places:
                continue
            one = slices[places[frame]]
            if values.dtype != np.int16:
                values[places[frame]] = stored * one.slope + one.intercept
                continue
            exact = stored.astype(np.int64) * int(one.slope) + int(one.intercept)
            if exact.min() < -32768 or exact.max() > 32767:
                return False
            values[places[frame]] = exact
        return True

    try:
        with ThreadPoolExecutor(READERS) as pool:
            return all(pool.map(fill, wanted))
    finally:
        isolated_decoder.close()


def _padding(ds: Dataset, first: _Slice) -> tuple[float, ...]:
    """Padding value (or both ends of its range) in the unit of the volume."""
    found = numbers(ds, "PixelPaddingValue") + numbers(ds, "PixelPaddingRangeLimit")
    return tuple(sorted(value * first.slope + first.intercept for value in found))
