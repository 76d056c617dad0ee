"""Whether the instances of one series are one image: of one person, frame and acquisition.

A Series Instance UID alone does not say so. What is not one image is never stacked.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from mirv.analysis.model import FloatArray
from mirv.dicom_io.files.header import InstanceHeader
from mirv.dicom_io.model import Note, QualityOutcome
from mirv.dicom_io.standard.person import SEVERAL_PATIENTS, Sameness, compare

_APART_MM = 1e-3
MOST_IDENTITIES = 20
"""Writings of one patient in one series; beyond, comparing each with each would take long."""


def why_not_one(headers: Sequence[InstanceHeader]) -> Note | None:
    """Why the instances of one series are not one image; None when they may be.

    Parameters
    ----------
    headers : sequence of InstanceHeader
        Of one study and series, localizers left out.

    Returns
    -------
    Note or None
        ``several_patients``, ``several_frames_of_reference`` or ``interleaved_acquisitions``.
    """
    if _several_persons(headers):
        return _refused(
            SEVERAL_PATIENTS,
            "images of several patients",
            "one patient",
            "the images of one series contradict each other about whose they are",
        )
    frames = {header.frame_of_reference_uid for header in headers} - {""}
    if len(frames) > 1:
        return _refused(
            "several_frames_of_reference",
            f"{len(frames)} frames of reference",
            "1",
            "positions in two frames of reference have nothing to do with each other",
        )
    if interleaved := _interleaved(headers):
        return _refused(
            "interleaved_acquisitions",
            f"acquisitions {' and '.join(interleaved)} at alternating places",
            "one acquisition at a place",
            "two acquisitions of one series would be stacked as one volume",
        )
    return None


def _refused(check: str, found: str, wanted: str, detail: str) -> Note:
    return Note(check, QualityOutcome.REFUSED, found, wanted, detail)


def _several_persons(headers: Sequence[InstanceHeader]) -> bool:
    identities = sorted({header.stated for header in headers})
    return len(identities) > MOST_IDENTITIES or any(
        compare(*pair).sameness is Sameness.OTHER for pair in combinations(identities, 2)
    )


def _interleaved(headers: Sequence[InstanceHeader]) -> tuple[str, ...]:
    """Two CT acquisitions that overlap without sharing a place; () when there are none.

    MR may take the odd slices in one acquisition and the even ones in the next. Acquisitions that
    share places are told when the slices are stacked.
    """
    places: dict[str, list[float]] = {}
    for header in headers:
        if header.modality == "CT" and header.acquisition and header.frames == 1:
            places.setdefault(header.acquisition, []).extend(_place(header))
    ordered = sorted(
        ((np.sort(found), name) for name, found in places.items() if found),
        key=lambda one: (one[0][0], one[1]),
    )
    furthest, its_name = ordered[0] if ordered else (np.empty(0), "")
    for found, name in ordered[1:]:
        if found[0] + _APART_MM < furthest[-1] and _nearest(found, furthest) > _APART_MM:
            return its_name, name
        if found[-1] > furthest[-1]:
            furthest, its_name = found, name
    return ()


def _nearest(some: FloatArray, others: FloatArray) -> float:
    """The least distance between a place of one and a place of the other, both sorted."""
    after = np.clip(np.searchsorted(others, some), 1, others.size - 1) if others.size > 1 else 0
    return float(min(np.abs(some - others[after]).min(), np.abs(some - others[after - 1]).min()))


def _place(header: InstanceHeader) -> tuple[float, ...]:
    """Where an image lies along its normal, in mm; empty when it does not say."""
    if len(header.position) != 3 or len(header.orientation) != 6:
        return ()
    rows, columns = np.reshape(header.orientation, (2, 3))
    with np.errstate(all="ignore"):  # what is no number is seen below
        place = float(np.dot(np.cross(rows, columns), header.position))
    return (place,) if np.isfinite(place) else ()
