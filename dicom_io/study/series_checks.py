"""Quality of an image series: eleven flags and three further checks.

A check that is not configured is ``off``; one whose attribute is missing is ``unknown``; one that
fails warns, or refuses when the settings name it.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from pydicom import Dataset

from mirv.analysis.model import Geometry
from mirv.config.settings.fields import Range
from mirv.config.settings.processing import Quality
from mirv.dicom_io.files.frame_groups import values_anywhere
from mirv.dicom_io.files.values import text
from mirv.dicom_io.model import Note, QualityOutcome, QualityRow
from mirv.dicom_io.study.quality_rows import row_of, with_action

FLAGS = (
    "modality",
    "axial_projection",
    "complete_scan",
    "scan_length",
    "thickness_range",
    "thickness_consistent",
    "pixel_spacing",
    "kernel_tag",
    "kernel_wanted",
    "matrix",
    "rescale",
)
"""The eleven flags of a series (SPEC R-QC-1), in order."""

AXIAL_DEGREES = 5.0


def series_rows(
    images: Sequence[Dataset], geometry: Geometry | None, quality: Quality, fault: str = ""
) -> tuple[QualityRow, ...]:
    """The eleven flags and three further checks of one image series.

    Parameters
    ----------
    images : sequence of Dataset
        Headers of its instances.
    geometry : Geometry or None
        None when the slices form no regular stack; `fault` then says why.
    quality : Quality
        What is wanted (mm, degrees, HU), and what is refused.
    fault : str
        For people.

    Returns
    -------
    tuple of QualityRow
        One a check, the eleven of `FLAGS` first.

    Raises
    ------
    ValueError, TypeError
        A numeric attribute is no number.
    """
    flags = [
        _modality(images, quality),
        _axial(images),
        _complete(geometry, fault),
        _length(geometry, quality),
        *_thickness(images, quality),
        _spacing(images, quality),
        *_kernel(images, quality),
        _matrix(images, quality),
        _rescale(images),
        _slice_distance(geometry, quality),
        _phase(images, quality),
    ]
    first = images[0]
    study, series = text(first, "StudyInstanceUID"), text(first, "SeriesInstanceUID")
    return tuple(row_of(with_action(flag, quality), study, series) for flag in flags)


def _verdict(check: str, good: bool, found: str, wanted: str, detail: str = "") -> Note:
    return Note(check, QualityOutcome.OK if good else QualityOutcome.WARN, found, wanted, detail)


def _values(images: Iterable[Dataset], keyword: str) -> list[tuple[float, ...]]:
    """Distinct values of a numeric attribute, also where functional groups hold it."""
    found = {value for ds in images for value in values_anywhere(ds, keyword)}
    return sorted(found)


def _texts(images: Iterable[Dataset], keyword: str) -> list[str]:
    return sorted({text(ds, keyword) for ds in images} - {""})


def _shown(values: Iterable[tuple[float, ...]]) -> str:
    return ", ".join("x".join(f"{x:g}" for x in value) for value in values)


def _modality(images: Sequence[Dataset], quality: Quality) -> Note:
    found = ", ".join(_texts(images, "Modality"))
    if not quality.modalities:
        return Note("modality", QualityOutcome.OFF, found, "")
    return _verdict("modality", found in quality.modalities, found, ", ".join(quality.modalities))


def _axial(images: Sequence[Dataset]) -> Note:
    orientations = _values(images, "ImageOrientationPatient")
    if not orientations or len(orientations[0]) != 6:
        return Note(
            "axial_projection",
            QualityOutcome.UNKNOWN,
            "",
            f"within {AXIAL_DEGREES:g} degrees of axial",
        )
    first = np.array(orientations[0])
    normal = np.cross(first[:3], first[3:])
    cosine = min(abs(float(normal[2])) / max(float(np.linalg.norm(normal)), 1e-9), 1.0)
    angle = float(np.degrees(np.arccos(cosine)))
    return _verdict(
        "axial_projection",
        angle <= AXIAL_DEGREES,
        f"{angle:.1f} degrees",
        f"within {AXIAL_DEGREES:g} degrees of axial",
    )


def _complete(geometry: Geometry | None, fault: str) -> Note:
    if geometry is None:
        return Note(
            "complete_scan", QualityOutcome.WARN, "irregular", "a regular stack of slices", fault
        )
    return Note(
        "complete_scan",
        QualityOutcome.OK,
        f"{geometry.shape[0]} slices",
        "a regular stack of slices",
    )


def _in_range(check: str, value: float | None, allowed: Range | None, unit: str) -> Note:
    found = "" if value is None else f"{value:g} {unit}"
    if allowed is None:
        return Note(check, QualityOutcome.OFF, found, "")
    limits = f"{allowed[0]:g} to {allowed[1]:g} {unit}"
    if value is None:
        return Note(check, QualityOutcome.UNKNOWN, "", limits)
    return _verdict(check, allowed[0] <= value <= allowed[1], found, limits)


def _length(geometry: Geometry | None, quality: Quality) -> Note:
    length = None if geometry is None else geometry.spacing[0] * geometry.shape[0]
    return _in_range("scan_length", length, quality.scan_length_range_mm, "mm")


def _thickness(images: Sequence[Dataset], quality: Quality) -> list[Note]:
    found = _values(images, "SliceThickness")
    value = found[0][0] if found else None
    flags = [_in_range("thickness_range", value, quality.thickness_range_mm, "mm")]
    if not found:
        flags.append(
            Note("thickness_consistent", QualityOutcome.UNKNOWN, "", "one slice thickness")
        )
    else:
        same = found[-1][0] - found[0][0] < 0.01
        flags.append(
            _verdict("thickness_consistent", same, f"{_shown(found)} mm", "one slice thickness")
        )
    return flags


def _spacing(images: Sequence[Dataset], quality: Quality) -> Note:
    found = _values(images, "PixelSpacing")
    if not found or len(found[0]) != 2:
        return Note("pixel_spacing", QualityOutcome.UNKNOWN, "", "square pixels")
    square = all(abs(pair[0] - pair[1]) < 1e-3 for pair in found)
    if quality.spacing_range_mm is None:
        # Other shapes of pixel are read right; the flag tells, the range decides.
        return _verdict("pixel_spacing", square, f"{_shown(found)} mm", "square pixels")
    low, high = quality.spacing_range_mm
    good = square and all(low <= pair[0] <= high for pair in found)
    return _verdict(
        "pixel_spacing", good, f"{_shown(found)} mm", f"square pixels of {low:g} to {high:g} mm"
    )


def _kernel(images: Sequence[Dataset], quality: Quality) -> list[Note]:
    found = _texts(images, "ConvolutionKernel")
    shown = ", ".join(found)
    tag = Note(
        "kernel_tag",
        QualityOutcome.OK if found else QualityOutcome.UNKNOWN,
        shown,
        "a convolution kernel",
    )
    if not quality.kernels:
        return [tag, Note("kernel_wanted", QualityOutcome.OFF, shown, "")]
    wanted = ", ".join(quality.kernels)
    if not found:
        return [tag, Note("kernel_wanted", QualityOutcome.UNKNOWN, "", wanted)]
    return [tag, _verdict("kernel_wanted", set(found) <= set(quality.kernels), shown, wanted)]


def _matrix(images: Sequence[Dataset], quality: Quality) -> Note:
    found = (int(images[0].Rows), int(images[0].Columns))
    shown = f"{found[0]} x {found[1]}"
    if quality.matrix is None:
        return Note("matrix", QualityOutcome.OFF, shown, "")
    return _verdict(
        "matrix", found == quality.matrix, shown, f"{quality.matrix[0]} x {quality.matrix[1]}"
    )


def _rescale(images: Sequence[Dataset]) -> Note:
    slopes, intercepts = _values(images, "RescaleSlope"), _values(images, "RescaleIntercept")
    shown = f"slope {_shown(slopes)}, intercept {_shown(intercepts)}" if slopes else ""
    return _verdict("rescale", bool(slopes and intercepts), shown, "slope and intercept")


def _slice_distance(geometry: Geometry | None, quality: Quality) -> Note:
    wanted = f"at most {quality.max_slice_distance_mm:g} mm"
    if geometry is None:
        return Note("slice_distance", QualityOutcome.UNKNOWN, "", wanted)
    found = geometry.spacing[0]
    return _verdict(
        "slice_distance", found <= quality.max_slice_distance_mm + 1e-6, f"{found:g} mm", wanted
    )


def _phase(images: Sequence[Dataset], quality: Quality) -> Note:
    described = " ".join(_texts(images, "SeriesDescription")).lower()
    found = [word for word in quality.phases if word.lower() in described]
    agent = ", ".join(_texts(images, "ContrastBolusAgent"))
    detail = f"contrast agent: {'given' if agent else 'not recorded'}"
    if not found:
        return Note("contrast_phase", QualityOutcome.UNKNOWN, "", ", ".join(quality.phases), detail)
    return Note(
        "contrast_phase", QualityOutcome.OK, ", ".join(found), ", ".join(quality.phases), detail
    )
