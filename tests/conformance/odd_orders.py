"""Studies whose segments come in an order, with numbers and overlaps, that readers trip over."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom

from mirv.analysis.model import Mask
from mirv.config.settings.processing import Reading
from mirv.dicom_io.files.folder import headers_of_folder
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.phantom.patient import write_study
from mirv.dicom_io.phantom.writers import DrawnLesion, write_seg
from mirv.dicom_io.study.assemble import assemble
from mirv.dicom_io.study.matching import match

N_LESIONS = 12


def odd_study(
    folder: Path, *, gaps: bool = False, overlaps: bool = False
) -> tuple[StudyInput, dict[str, Mask]]:
    """Twelve lesions, segments 1, 10, 11, 12, 2 ... as file names sort; and the truth by UID.

    Parameters
    ----------
    gaps : bool
        Segment numbers 7, 10, 13 ...
    overlaps : bool
        The second lesion holds the first within it, the sixth a part of the fifth.
    """
    phantom = write_study(folder, n_lesions=N_LESIONS)
    drawn = list(phantom.drawn)
    if overlaps:
        drawn[1] = _swollen(drawn[1], drawn[0], 0)
        drawn[5] = _swollen(drawn[5], drawn[4], 2)
    order = sorted(range(N_LESIONS), key=lambda index: str(index + 1))
    assert phantom.seg is not None
    write_seg(phantom.seg, drawn, phantom.geometry, phantom.identity, order=order)
    if gaps:
        _spread(phantom.seg)
    found = headers_of_folder([folder])
    (selection,) = match(found.headers, Reading()).selections
    study = assemble(selection, found.paths.__getitem__, Reading())
    return study, {lesion.tracking_uid: lesion.mask for lesion in drawn}


def _swollen(lesion: DrawnLesion, within: DrawnLesion, skipped: int) -> DrawnLesion:
    """A lesion drawn over another one's box instead, without that box's first planes."""
    box = np.ones_like(within.mask.values)
    box[:skipped] = False
    mask = Mask.from_box(within.mask.start, box, within.mask.grid_shape)
    return replace(lesion, mask=mask)


def _spread(path: Path) -> None:
    """Segment numbers with gaps between them."""
    seg = pydicom.dcmread(path)
    for segment in seg.SegmentSequence:
        segment.SegmentNumber = 3 * segment.SegmentNumber + 4
    for group in seg.PerFrameFunctionalGroupsSequence:
        identification = group.SegmentIdentificationSequence[0]
        number = identification.ReferencedSegmentNumber
        identification.ReferencedSegmentNumber = 3 * number + 4
    seg.save_as(path)
