"""The unit of an image's values: HU, or refused, for a CT; what the image says for others."""

from collections.abc import Sequence

from pydicom import Dataset

from mirv.analysis.errors import Unsuitable
from mirv.dicom_io.files.frame_groups import frame_groups, has_frame_groups, rescaling_of
from mirv.dicom_io.files.values import text
from mirv.dicom_io.standard.classes import CT_CLASSES, MR_CLASSES


def unit_of(images: Sequence[Dataset]) -> str:
    """Unit of the rescaled values of a series; refuses a CT that is not in HU.

    Parameters
    ----------
    images : sequence of Dataset
        Headers of one series; the class of the first is that of all.

    Returns
    -------
    str
        ``HU`` for CT, ``1`` for MR, else what the image says.

    Raises
    ------
    Unsuitable
        ``not_hu``
    """
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
    sources = frame_groups(ds) if has_frame_groups(ds) else [ds]
    for rescaling in map(rescaling_of, sources):
        if "RescaleSlope" not in rescaling or "RescaleIntercept" not in rescaling:
            raise Unsuitable(
                "not_hu", f"{place}: found no Rescale Slope and Intercept, wanted a CT in HU"
            )
        kind = text(rescaling, "RescaleType") or "HU"
        # US is "unspecified": scanners write it for plain HU (PS3.3 C.11.1.1.2).
        if kind not in {"HU", "US"}:
            raise Unsuitable("not_hu", f"{place}: found Rescale Type {kind!r}, wanted HU")
