"""What tells the lesions of a study at another time point, beside UID, name and site."""

from itertools import product

import numpy as np

from mirv.analysis.model import Geometry, LesionIdentity, Mask, Point
from mirv.dicom_io.model import StudyInput


def identities_of(study: StudyInput) -> dict[str, LesionIdentity]:
    """Of every lesion: whether its tracking UID was received, and where it lies.

    Parameters
    ----------
    study : StudyInput

    Returns
    -------
    dict of tracking UID to LesionIdentity
    """
    frame = str(study.evidence.images[0].get("FrameOfReferenceUID") or "")
    return {
        lesion.tracking_uid: LesionIdentity(
            study.sources[lesion.tracking_uid].tracking_received,
            study.sources[lesion.tracking_uid].component > 0,
            frame,
            _box(lesion.mask, study.volume.geometry),
        )
        for lesion in study.lesions
    }


def _box(mask: Mask, geometry: Geometry) -> tuple[Point, Point] | None:
    """Lowest and highest corner of the lesion's voxel centres in LPS mm; None without voxels."""
    if not mask.n_voxels:
        return None
    ends = [(first, first + n - 1) for first, n in zip(mask.start, mask.values.shape, strict=True)]
    corners = geometry.to_lps(np.array(list(product(*ends)), np.float64))
    low, high = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])
