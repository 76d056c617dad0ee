"""Voxels in a lesion that no tissue gave: metal, saturated, padding."""

from collections.abc import Sequence

import numpy as np

from mirv.analysis.model import Lesion, Volume
from mirv.config.settings.processing import Quality
from mirv.dicom_io.model import Note, QualityOutcome, QualityRow
from mirv.dicom_io.study.quality_rows import row_of, with_action


def artifact_rows(
    volume: Volume,
    lesions: Sequence[Lesion],
    padding: Sequence[float],
    quality: Quality,
    study_uid: str,
    series_uid: str,
) -> tuple[QualityRow, ...]:
    """Metal, saturated and padding voxels in each lesion (SPEC R-ART-1); only what is found.

    Parameters
    ----------
    volume : Volume
    lesions : sequence of Lesion
        On the grid of the volume.
    padding : sequence of float
        Values, in the unit of the volume, that mean "no pixel here": one, or both ends of a range.
    quality : Quality
        Limits (HU), the part of a lesion that may be artifact (%), what is refused.
    study_uid, series_uid : str
        Of the image, for the rows.

    Returns
    -------
    tuple of QualityRow
        One a lesion and kind of artifact that is in it.
    """
    rows = []
    for lesion in lesions:
        values = volume.values[lesion.mask.slices][lesion.mask.values]
        for kind, count in _artifacts(values, volume.unit, padding, quality):
            percent = 100 * count / max(values.size, 1)
            flag = Note(
                f"{kind}_in_lesion",
                QualityOutcome.WARN
                if percent > quality.max_artifact_percent
                else QualityOutcome.OK,
                f"{count} voxels, {percent:.2f} %",
                f"at most {quality.max_artifact_percent:g} %",
                f"lesion {lesion.number}",
            )
            flag = with_action(flag, quality)
            rows.append(row_of(flag, study_uid, series_uid, lesion=lesion.tracking_uid))
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
