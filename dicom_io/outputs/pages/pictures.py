"""Lesions on their own slices: grey values by window, masks by their edge. No text is burned in."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib.image
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mirv.analysis.model import BoolArray, FloatArray, Lesion, Volume
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.outputs.segmentation.frames import plane_of, planes_of

RED = (255, 0, 0)


@dataclass(frozen=True, slots=True)
class Window:
    """Grey value window in the unit of the image: `centre` and `width`."""

    centre: float
    width: float

    def grey(self, values: NDArray[np.generic]) -> FloatArray:
        """Values from 0 (black) to 1 (white).

        Parameters
        ----------
        values : array
            In the unit of the image.

        Returns
        -------
        float64 array of the same shape
        """
        low = self.centre - self.width / 2
        return np.clip((values.astype(float) - low) / self.width, 0, 1)


SOFT_TISSUE, LUNG, BONE = Window(40, 400), Window(-600, 1500), Window(400, 1800)
_SITES = {"lung": LUNG, "lymphangitis": LUNG, "bone": BONE}


def window_for(volume: Volume, site: str) -> Window:
    """The usual CT window of a site; for other images the middle 98 % of the values.

    Parameters
    ----------
    volume : Volume
    site : str
        One of ``config.sites.SITES``.

    Returns
    -------
    Window
        In the unit of the volume.
    """
    if volume.unit == "HU":
        return _SITES.get(site, SOFT_TISSUE)
    low, high = np.percentile(volume.values.astype(float), (1, 99))
    return Window(float(low + high) / 2, max(float(high - low), 1e-6))


def edge_of(mask: BoolArray) -> BoolArray:
    """Pixels of a plane's mask that touch its outside.

    Parameters
    ----------
    mask : bool array (rows, columns)

    Returns
    -------
    bool array (rows, columns)
    """
    inner: BoolArray = ndimage.binary_erosion(mask)
    return mask & ~inner


@dataclass(frozen=True, slots=True, eq=False)
class QuickCheck:
    """One slice of one lesion, plain and with its edge in red, side by side.

    Attributes
    ----------
    name : str
        ``lesion-<number>_slice-<index>``: no patient data.
    pixels : uint8 (rows, 2 columns, 3)
    """

    name: str
    pixels: NDArray[np.uint8]


def quick_check(study: StudyInput, window: Window | None = None) -> Iterator[QuickCheck]:
    """Every slice of every lesion (R-QI-1), lesion by lesion, upwards.

    Parameters
    ----------
    study : StudyInput
    window : Window, optional
        The same for all; none: by site.

    Yields
    ------
    QuickCheck
    """
    for lesion in study.lesions:
        if lesion.mask.n_voxels == 0:
            continue
        chosen = window or window_for(study.volume, lesion.site)
        for plane in planes_of(lesion):
            grey = np.rint(255 * chosen.grey(study.volume.values[plane])).astype(np.uint8)
            plain = np.repeat(grey[..., None], 3, axis=2)
            drawn = plain.copy()
            drawn[edge_of(plane_of(lesion, plane))] = RED
            name = f"lesion-{lesion.number:03d}_slice-{plane:04d}"
            yield QuickCheck(name, np.concatenate([plain, drawn], axis=1))


def write_quick_check(study: StudyInput, folder: Path, window: Window | None = None) -> int:
    """Write the quick-check images as PNG into `folder`, made when missing; how many.

    Parameters
    ----------
    study : StudyInput
    folder : Path
    window : Window, optional
        The same for all; none: by site.

    Returns
    -------
    int

    Raises
    ------
    OSError
        The folder or a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for image in quick_check(study, window):
        matplotlib.image.imsave(folder / f"{image.name}.png", image.pixels)
        count += 1
    return count


def around(
    lesion: Lesion, shape: tuple[int, ...], spacing: FloatArray, reach_mm: float
) -> tuple[slice, slice]:
    """Rows and columns of a square of at least `reach_mm` around a lesion, within the image.

    Parameters
    ----------
    lesion : Lesion
    shape : (slices, rows, columns)
        Of the image.
    spacing : float array (2,)
        Between rows, between columns, mm.
    reach_mm : float
        Side of the square.

    Returns
    -------
    rows, columns : slice
    """
    result = []
    for axis in (0, 1):
        start, size = lesion.mask.start[1 + axis], lesion.mask.values.shape[1 + axis]
        half = max(reach_mm / 2, 0.75 * size * spacing[axis]) / spacing[axis]
        middle = start + (size - 1) / 2
        low = max(0, int(middle - half))
        high = min(shape[1 + axis], int(middle + half) + 2)
        result.append(slice(low, high))
    return result[0], result[1]
