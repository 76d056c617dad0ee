"""Every check there is on everything in folders, without an analysis."""

from collections.abc import Sequence
from pathlib import Path

from mirv.analysis.errors import Unsuitable
from mirv.config.settings.processing import Reading
from mirv.dicom_io.files.folder import FolderHeaders, headers_of_folder
from mirv.dicom_io.files.values import read_dataset
from mirv.dicom_io.images.series import ImageSeries, read_series
from mirv.dicom_io.model import QualityOutcome, QualityRow
from mirv.dicom_io.study.assemble import assemble
from mirv.dicom_io.study.matching import match, unmatched
from mirv.dicom_io.study.series_checks import series_rows


def check_folder(
    paths: Sequence[Path], reading: Reading, default_issuer: str = ""
) -> tuple[QualityRow, ...]:
    """Every check on everything in folders, without analysing anything.

    Parameters
    ----------
    paths : sequence of Path
        Files and folders.
    reading : Reading
    default_issuer : str
        Of Patient IDs that come without one; "" for unknown.

    Returns
    -------
    tuple of QualityRow
        Files that cannot be read, series and their flags, segmentations and their lesions.

    Raises
    ------
    Unavailable
        A path that is not there.
    """
    found = headers_of_folder(paths)
    outcome = match([header.issued_by(default_issuer) for header in found.headers], reading)
    rows = [*found.quality, *outcome.quality]
    seen = set()
    for selection in outcome.selections:
        seen.add(selection.series_uid)
        try:
            rows.extend(assemble(selection, found.paths.__getitem__, reading).quality)
        except Unsuitable as error:
            rows.extend(selection.quality)
            rows.append(_fault(selection.study_uid, selection.series_uid, error))
            rows.extend(_unread(found, selection.series_uid, reading, error))
    for waiting in outcome.waiting:
        rows.append(unmatched(waiting, QualityOutcome.REFUSED))
        if not waiting.object_uid and waiting.series_uid not in seen:
            rows.extend(_unread(found, waiting.series_uid, reading, None))
    return tuple(rows)


def _fault(study: str, series: str, error: Unsuitable) -> QualityRow:
    return QualityRow(
        study_uid=study,
        series_uid=series,
        check=error.reason.code,
        outcome=QualityOutcome.REFUSED,
        detail=error.reason.detail,
    )


def _unread(
    found: FolderHeaders, series_uid: str, reading: Reading, known: Unsuitable | None
) -> list[QualityRow]:
    """Flags of a series that no segmentation is read for."""
    members = [h for h in found.headers if h.series_uid == series_uid and not h.is_localizer]
    if not members:
        return []
    paths = [found.paths[header.sop_instance_uid] for header in members]
    series: ImageSeries | None = None
    rows: list[QualityRow] = []
    fault = known
    try:
        series = read_series(paths, reading.slice_tolerance_mm)
    except Unsuitable as error:
        fault = error
        if known is None:
            rows.append(_fault(members[0].study_uid, series_uid, error))
    images = (
        series.images
        if series is not None
        else [read_dataset(path, pixels=False) for path in paths]
    )
    geometry = series.volume.geometry if series is not None else None
    detail = fault.reason.detail if fault is not None and geometry is None else ""
    return [*rows, *series_rows(images, geometry, reading.quality, detail)]
