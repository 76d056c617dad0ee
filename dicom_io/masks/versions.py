"""Versions of one lesion: what changed between two masks of the same tracking UID (R-VER-1)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mirv.analysis.model import Lesion, Mask


@dataclass(frozen=True, slots=True)
class MaskChange:
    """One lesion in two lesion sets of the same image.

    Attributes
    ----------
    tracking_uid : str
    voxels_before, voxels_after : int
        0 where the set has no such lesion.
    dice : float or None
        Dice similarity coefficient; None when one set lacks the lesion.
    """

    tracking_uid: str
    voxels_before: int
    voxels_after: int
    dice: float | None


def dice(first: Mask, second: Mask) -> float:
    """Dice similarity coefficient of two masks on one grid; 1 when both are empty.

    Parameters
    ----------
    first, second : Mask

    Returns
    -------
    float
        0 to 1.

    Raises
    ------
    ValueError
        The grids differ.
    """
    if first.grid_shape != second.grid_shape:
        raise ValueError(f"found grids {first.grid_shape} and {second.grid_shape}, wanted one")
    total = first.n_voxels + second.n_voxels
    return 2 * shared_voxels(first, second) / total if total else 1.0


def shared_voxels(first: Mask, second: Mask) -> int:
    """Voxels that are in both masks.

    Parameters
    ----------
    first, second : Mask
        On one grid.

    Returns
    -------
    int
    """
    low = np.maximum(first.start, second.start)
    high = np.minimum(
        np.add(first.start, first.values.shape), np.add(second.start, second.values.shape)
    )
    if (high <= low).any():
        return 0
    boxes = [
        mask.values[
            tuple(slice(a - s, b - s) for a, b, s in zip(low, high, mask.start, strict=True))
        ]
        for mask in (first, second)
    ]
    return int(np.count_nonzero(boxes[0] & boxes[1]))


def compare(before: Iterable[Lesion], after: Iterable[Lesion]) -> tuple[MaskChange, ...]:
    """Compare two lesion sets of one image by tracking UID.

    What a new version of a set replaced, added and dropped, for whoever has to report it.

    Parameters
    ----------
    before, after : iterable of Lesion
        On one grid.

    Returns
    -------
    tuple of MaskChange
        By tracking UID; a lesion that is new or gone has no Dice coefficient.

    Raises
    ------
    ValueError
        Masks of one tracking UID lie on different grids.
    """
    old = {lesion.tracking_uid: lesion.mask for lesion in before}
    new = {lesion.tracking_uid: lesion.mask for lesion in after}
    return tuple(
        MaskChange(
            uid,
            old[uid].n_voxels if uid in old else 0,
            new[uid].n_voxels if uid in new else 0,
            dice(old[uid], new[uid]) if uid in old and uid in new else None,
        )
        for uid in sorted(old.keys() | new.keys())
    )
