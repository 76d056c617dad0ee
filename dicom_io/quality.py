"""Quality of images and lesions: eleven flags of a series, artifacts in a lesion, a description.

A check that is not configured is ``off``; one whose attribute is missing is ``unknown``; one that
fails warns, or refuses when the settings name it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset

from analysis.errors import Unsuitable
from analysis.model import Geometry, Lesion, Volume
from config.settings import Quality, Range, Reading
from dicom_io.header import DESCRIBED, InstanceHeader, headers_of_folder
from dicom_io.model import QualityRow
from dicom_io.parsing import numbers, text
from dicom_io.series import ImageSeries, read_series

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


@dataclass(frozen=True, slots=True)
class _Flag:
    check: str
    outcome: str
    found: str
    wanted: str
    detail: str = ""


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
    return tuple(
        QualityRow(
            study_uid=text(first, "StudyInstanceUID"),
            series_uid=text(first, "SeriesInstanceUID"),
            object_uid="",
            lesion="",
            check=flag.check,
            outcome=_action(flag, quality),
            found=flag.found,
            wanted=flag.wanted,
            detail=flag.detail,
        )
        for flag in flags
    )


def _action(flag: _Flag, quality: Quality) -> str:
    refuses = flag.outcome in {"warn", "unknown"} and flag.check in quality.refuse
    return "refused" if refuses else flag.outcome


def _verdict(check: str, good: bool, found: str, wanted: str, detail: str = "") -> _Flag:
    return _Flag(check, "ok" if good else "warn", found, wanted, detail)


def _values(images: Iterable[Dataset], keyword: str) -> list[tuple[float, ...]]:
    """Distinct values of a numeric attribute, also where functional groups hold it."""
    found = {value for ds in images for value in _everywhere(ds, keyword)}
    return sorted(found)


def _everywhere(ds: Dataset, keyword: str) -> list[tuple[float, ...]]:
    if value := numbers(ds, keyword):
        return [value]
    groups = [
        *(ds.get("SharedFunctionalGroupsSequence") or ()),
        *(ds.get("PerFrameFunctionalGroupsSequence") or ()),
    ]
    return [
        value
        for group in groups
        for element in group
        if element.VR == "SQ"
        for part in element.value
        if (value := numbers(part, keyword))
    ]


def _texts(images: Iterable[Dataset], keyword: str) -> list[str]:
    return sorted({text(ds, keyword) for ds in images} - {""})


def _shown(values: Iterable[tuple[float, ...]]) -> str:
    return ", ".join("x".join(f"{x:g}" for x in value) for value in values)


def _modality(images: Sequence[Dataset], quality: Quality) -> _Flag:
    found = ", ".join(_texts(images, "Modality"))
    if not quality.modalities:
        return _Flag("modality", "off", found, "")
    return _verdict("modality", found in quality.modalities, found, ", ".join(quality.modalities))


def _axial(images: Sequence[Dataset]) -> _Flag:
    orientations = _values(images, "ImageOrientationPatient")
    if not orientations or len(orientations[0]) != 6:
        return _Flag(
            "axial_projection", "unknown", "", f"within {AXIAL_DEGREES:g} degrees of axial"
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


def _complete(geometry: Geometry | None, fault: str) -> _Flag:
    if geometry is None:
        return _Flag("complete_scan", "warn", "irregular", "a regular stack of slices", fault)
    return _Flag("complete_scan", "ok", f"{geometry.shape[0]} slices", "a regular stack of slices")


def _in_range(check: str, value: float | None, wanted: Range | None, unit: str) -> _Flag:
    found = "" if value is None else f"{value:g} {unit}"
    if wanted is None:
        return _Flag(check, "off", found, "")
    limits = f"{wanted[0]:g} to {wanted[1]:g} {unit}"
    if value is None:
        return _Flag(check, "unknown", "", limits)
    return _verdict(check, wanted[0] <= value <= wanted[1], found, limits)


def _length(geometry: Geometry | None, quality: Quality) -> _Flag:
    length = None if geometry is None else geometry.spacing[0] * geometry.shape[0]
    return _in_range("scan_length", length, quality.scan_length_range_mm, "mm")


def _thickness(images: Sequence[Dataset], quality: Quality) -> list[_Flag]:
    found = _values(images, "SliceThickness")
    value = found[0][0] if found else None
    flags = [_in_range("thickness_range", value, quality.thickness_range_mm, "mm")]
    if not found:
        flags.append(_Flag("thickness_consistent", "unknown", "", "one slice thickness"))
    else:
        same = found[-1][0] - found[0][0] < 0.01
        flags.append(
            _verdict("thickness_consistent", same, f"{_shown(found)} mm", "one slice thickness")
        )
    return flags


def _spacing(images: Sequence[Dataset], quality: Quality) -> _Flag:
    found = _values(images, "PixelSpacing")
    if not found or len(found[0]) != 2:
        return _Flag("pixel_spacing", "unknown", "", "square pixels")
    square = all(abs(pair[0] - pair[1]) < 1e-3 for pair in found)
    if quality.spacing_range_mm is None:
        # Other shapes of pixel are read right; the flag tells, the range decides.
        return _verdict("pixel_spacing", square, f"{_shown(found)} mm", "square pixels")
    low, high = quality.spacing_range_mm
    good = square and all(low <= pair[0] <= high for pair in found)
    return _verdict(
        "pixel_spacing", good, f"{_shown(found)} mm", f"square pixels of {low:g} to {high:g} mm"
    )


def _kernel(images: Sequence[Dataset], quality: Quality) -> list[_Flag]:
    found = _texts(images, "ConvolutionKernel")
    shown = ", ".join(found)
    tag = _Flag("kernel_tag", "ok" if found else "unknown", shown, "a convolution kernel")
    if not quality.kernels:
        return [tag, _Flag("kernel_wanted", "off", shown, "")]
    wanted = ", ".join(quality.kernels)
    if not found:
        return [tag, _Flag("kernel_wanted", "unknown", "", wanted)]
    return [tag, _verdict("kernel_wanted", set(found) <= set(quality.kernels), shown, wanted)]


def _matrix(images: Sequence[Dataset], quality: Quality) -> _Flag:
    found = (int(images[0].Rows), int(images[0].Columns))
    shown = f"{found[0]} x {found[1]}"
    if quality.matrix is None:
        return _Flag("matrix", "off", shown, "")
    return _verdict(
        "matrix", found == quality.matrix, shown, f"{quality.matrix[0]} x {quality.matrix[1]}"
    )


def _rescale(images: Sequence[Dataset]) -> _Flag:
    slopes, intercepts = _values(images, "RescaleSlope"), _values(images, "RescaleIntercept")
    shown = f"slope {_shown(slopes)}, intercept {_shown(intercepts)}" if slopes else ""
    return _verdict("rescale", bool(slopes and intercepts), shown, "slope and intercept")


def _slice_distance(geometry: Geometry | None, quality: Quality) -> _Flag:
    wanted = f"at most {quality.max_slice_distance_mm:g} mm"
    if geometry is None:
        return _Flag("slice_distance", "unknown", "", wanted)
    found = geometry.spacing[0]
    return _verdict(
        "slice_distance", found <= quality.max_slice_distance_mm + 1e-6, f"{found:g} mm", wanted
    )


def _phase(images: Sequence[Dataset], quality: Quality) -> _Flag:
    described = " ".join(_texts(images, "SeriesDescription")).lower()
    found = [word for word in quality.phases if word.lower() in described]
    agent = ", ".join(_texts(images, "ContrastBolusAgent"))
    detail = f"contrast agent: {'given' if agent else 'not recorded'}"
    if not found:
        return _Flag("contrast_phase", "unknown", "", ", ".join(quality.phases), detail)
    return _Flag("contrast_phase", "ok", ", ".join(found), ", ".join(quality.phases), detail)


def artifact_rows(
    volume: Volume,
    lesions: Sequence[Lesion],
    padding: Sequence[float],
    quality: Quality,
    study_uid: str,
    series_uid: str,
) -> tuple[QualityRow, ...]:
    """Metal, saturated and padding voxels in each lesion (SPEC R-ART-1); only what is found."""
    rows = []
    for lesion in lesions:
        values = volume.values[lesion.mask.slices][lesion.mask.values]
        for kind, count in _artifacts(values, volume.unit, padding, quality):
            percent = 100 * count / max(values.size, 1)
            flag = _Flag(
                f"{kind}_in_lesion",
                "warn" if percent > quality.max_artifact_percent else "ok",
                f"{count} voxels, {percent:.2f} %",
                f"at most {quality.max_artifact_percent:g} %",
            )
            rows.append(
                QualityRow(
                    study_uid=study_uid,
                    series_uid=series_uid,
                    object_uid="",
                    lesion=lesion.tracking_uid,
                    check=flag.check,
                    outcome=_action(flag, quality),
                    found=flag.found,
                    wanted=flag.wanted,
                    detail=f"lesion {lesion.number}",
                )
            )
    return tuple(rows)


def _artifacts(
    values: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
    unit: str,
    padding: Sequence[float],
    quality: Quality,
) -> list[tuple[str, int]]:
    numeric = values.astype(np.float64)
    found = []
    if unit == "HU":
        found.append(("metal", int((numeric >= quality.metal_hu).sum())))
        found.append(("saturated", int((numeric >= quality.saturated_hu).sum())))
    if padding:
        low, high = min(padding), max(padding)
        found.append(("padding", int(((numeric >= low) & (numeric <= high)).sum())))
    return [(kind, count) for kind, count in found if count]


def describe(
    headers: Sequence[InstanceHeader], *, per_slice: bool = False
) -> tuple[dict[str, str | int | None], ...]:
    """The description table (SPEC R-DESC-1): one row an image series, or one an instance.

    Returns
    -------
    tuple of dict
        ``study_uid``, ``series_uid``, ``instance_uid`` ("" for a series), ``Modality``,
        ``instances`` and the tags of `DESCRIBED`:
        the distinct values in order, joined by " | ", None when no instance has the tag.
    """
    groups: dict[tuple[str, str, str], list[InstanceHeader]] = {}
    for header in headers:
        if header.is_image:
            instance = header.sop_instance_uid if per_slice else ""
            key = (header.study_uid, header.series_uid, instance)
            groups.setdefault(key, []).append(header)
    rows = []
    for (study, series, instance), members in sorted(groups.items()):
        row: dict[str, str | int | None] = {
            "study_uid": study,
            "series_uid": series,
            "instance_uid": instance,
            "Modality": members[0].modality,
            "instances": len(members),
        }
        for keyword in DESCRIBED:
            values = {dict(member.description).get(keyword) for member in members} - {None}
            row[keyword] = " | ".join(sorted(str(value) for value in values)) if values else None
        rows.append(row)
    return tuple(rows)


def require(rows: Iterable[QualityRow]) -> None:
    """Refuse a study when a check the settings name has failed.

    Raises
    ------
    Unsuitable
        ``quality_<check>`` of the first refusal.
    """
    for row in rows:
        if row.outcome == "refused":
            raise Unsuitable(
                f"quality_{row.check}",
                f"found {row.found or 'nothing'}, wanted {row.wanted} (series {row.series_uid})",
            )


def check_folder(paths: Sequence[Path], reading: Reading) -> tuple[QualityRow, ...]:
    """Every check on everything in folders, without analysing anything.

    Returns
    -------
    tuple of QualityRow
        Files that cannot be read, series and their flags, segmentations and their lesions.
    """
    # Reading a pair needs these checks, so the modules know each other only from here on.
    from dicom_io.assemble import assemble
    from dicom_io.matching import match

    found = headers_of_folder(paths)
    outcome = match(found.headers, reading)
    rows = [*found.quality, *outcome.quality]
    seen = set()
    for selection in outcome.selections:
        seen.add(selection.series_uid)
        try:
            rows.extend(assemble(selection, found.paths.__getitem__, reading).quality)
        except Unsuitable as error:
            rows.extend(selection.quality)
            rows.append(_fault(selection.study_uid, selection.series_uid, "", error))
            rows.extend(_unread(found.headers, found.paths, selection.series_uid, reading, error))
    for waiting in outcome.waiting:
        rows.append(
            QualityRow(
                study_uid=waiting.study_uid,
                series_uid=waiting.series_uid,
                object_uid=waiting.object_uid,
                lesion="",
                check="unmatched",
                outcome="refused",
                found="",
                wanted=waiting.waits_for,
                detail="nothing in the folders given completes this object",
            )
        )
        if not waiting.object_uid and waiting.series_uid not in seen:
            rows.extend(_unread(found.headers, found.paths, waiting.series_uid, reading, None))
    return tuple(rows)


def _fault(study: str, series: str, uid: str, error: Unsuitable) -> QualityRow:
    return QualityRow(
        study_uid=study,
        series_uid=series,
        object_uid=uid,
        lesion="",
        check=error.reason.code,
        outcome="refused",
        found="",
        wanted="",
        detail=error.reason.detail,
    )


def _unread(
    headers: Sequence[InstanceHeader],
    paths: dict[str, Path],
    series_uid: str,
    reading: Reading,
    known: Unsuitable | None,
) -> list[QualityRow]:
    """Flags of a series that no segmentation is read for."""
    members = [h for h in headers if h.series_uid == series_uid and not h.is_localizer]
    if not members:
        return []
    series: ImageSeries | None = None
    rows: list[QualityRow] = []
    fault = known
    try:
        series = read_series(
            [paths[h.sop_instance_uid] for h in members], reading.slice_tolerance_mm
        )
    except Unsuitable as error:
        fault = error
        if known is None:
            rows.append(_fault(members[0].study_uid, series_uid, "", error))
    from dicom_io.parsing import read_dataset

    images = (
        series.images
        if series is not None
        else [read_dataset(paths[h.sop_instance_uid], pixels=False) for h in members]
    )
    geometry = series.volume.geometry if series is not None else None
    detail = fault.reason.detail if fault is not None and geometry is None else ""
    return [*rows, *series_rows(images, geometry, reading.quality, detail)]
