"""Texture matrices in one pass each, in place of PyRadiomics' routines in C.

PyRadiomics' routines look up every neighbour's place by division and check every bound; these walk
a copy of the grey levels with a rim around it (`_texture.c`). Both count the same voxels, so the
matrices are the same numbers, and PyRadiomics' own feature classes do the rest.

`Matrices` stands where a feature module has imported ``cMatrices``. It takes for granted that
levels are 0 outside the mask, as `analysis.features.compute` makes them.
"""

import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from radiomics import cMatrices

from mirv.analysis.model import BoolArray

try:
    from mirv.analysis.features import _texture
except ImportError:  # sources without a build: PyRadiomics' routines count the same, only later
    _texture = None  # type: ignore[assignment]

COMPILED = _texture is not None
"""Whether the kernels are there. Installing the project builds them."""

Levels = NDArray[np.int32]


class Matrices:
    """PyRadiomics' ``cMatrices``; what it does not replace is PyRadiomics' own."""

    def calculate_glcm(
        self,
        levels: Levels,
        _mask: BoolArray,
        distances: NDArray[np.int_],
        ng: int,
        flat: bool,
        flat_axis: int,
    ) -> tuple[NDArray[np.float64], Any]:
        """Pairs (1, ng, ng, directions), and the directions."""
        angles = directions(levels.shape, distances, flat, flat_axis)
        found = _room(1, ng, ng, len(angles))
        _texture.pairs(levels, angles, ng, found)
        return found, angles.copy()

    def calculate_glrlm(
        self, levels: Levels, _mask: BoolArray, ng: int, nr: int, flat: bool, flat_axis: int
    ) -> tuple[NDArray[np.float64], Any]:
        """Runs (1, ng, length, directions), and the directions."""
        angles = directions(levels.shape, (1,), flat, flat_axis)
        found = _room(1, ng, int(nr), len(angles))
        _texture.runs(levels, angles, ng, int(nr), found)
        return found, angles.copy()

    # As PyRadiomics calls its own.
    def calculate_gldm(
        self,
        levels: Levels,
        _mask: BoolArray,
        distances: NDArray[np.int_],
        ng: int,
        alpha: int,
        flat: bool,
        flat_axis: int,
    ) -> NDArray[np.float64]:
        """Dependences (1, ng, dependent neighbours)."""
        both = _both_ways(directions(levels.shape, distances, flat, flat_axis))
        counted = _room(ng, len(both) + 1)
        _texture.dependences(levels, both, ng, alpha, counted)
        # PyRadiomics makes room for twice as many neighbours; why it matters: `zone_matrix`.
        found = _room(1, ng, 2 * len(both) + 1)
        found[0, :, : len(both) + 1] = counted
        return found

    def calculate_ngtdm(
        self,
        levels: Levels,
        _mask: BoolArray,
        distances: NDArray[np.int_],
        ng: int,
        flat: bool,
        flat_axis: int,
    ) -> NDArray[np.float64]:
        """Voxels, summed differences and level (1, ng, 3)."""
        both = _both_ways(directions(levels.shape, distances, flat, flat_axis))
        found = _room(ng, 2)
        _texture.differences(levels, both, ng, found)
        return np.concatenate([found, np.arange(1.0, ng + 1)[:, None]], axis=1)[None]

    def __getattr__(self, name: str) -> Any:
        return getattr(cMatrices, name)


def zone_matrix(
    levels: Levels, n_voxels: int, ng: int, flat: bool, flat_axis: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Zones (1, ng, sizes), and what size each column stands for.

    PyRadiomics' matrix has a column for every size up to the largest, many gigabytes for a large
    lesion of few levels, and then deletes the empty ones. Here only one or two of those are left.

    Parameters
    ----------
    levels : int32 [slice, row, column]
    n_voxels : int
        Of the lesion.
    ng : int
        Highest grey level.
    flat, flat_axis : bool, int
        PyRadiomics' ``force2D`` and ``force2Ddimension``.

    Returns
    -------
    found : float64 (1, ng, sizes)
    sizes : float64 (sizes,)
    """
    both = _both_ways(directions(levels.shape, (1,), flat, flat_axis))
    of_level, of_size = np.empty(n_voxels, np.int32), np.empty(n_voxels, np.int64)
    n = _texture.zones(levels, both, ng, of_level, of_size)
    sizes, column = np.unique(of_size[:n], return_inverse=True)
    # How an array lies in memory after numpy has deleted from it, and so the last bit of sums over
    # it, depends on whether none, one or more columns go.
    spare = min(int(sizes[-1]) - len(sizes), 2)
    width = len(sizes) + spare
    found = _room(ng * width)
    found += np.bincount((of_level[:n] - np.int64(1)) * width + column, minlength=ng * width)
    return found.reshape(1, ng, width), np.append(sizes, np.zeros(spare)).astype(float)


def directions(shape: tuple[int, ...], distances: Any, flat: bool, flat_axis: int) -> Any:
    """PyRadiomics' directions (n, 3) in its order, one of each opposite pair.

    It leaves out those that lead out of an array of that shape.
    """
    asked = tuple(int(distance) for distance in np.atleast_1d(distances))
    enough = max(asked, default=1) + 1
    small = tuple(min(int(n), max(enough, 1)) for n in shape)
    return _directions(small, asked, bool(flat), int(flat_axis))


@cache
def _directions(
    shape: tuple[int, ...], distances: tuple[int, ...], flat: bool, flat_axis: int
) -> Any:
    # Asked by counting in an empty mask: what PyRadiomics offers for the purpose writes an int
    # over a char.
    _, angles = cMatrices.calculate_glcm(
        np.zeros(shape, np.intc), np.zeros(shape, bool), np.array(distances), 1, flat, flat_axis
    )
    made = np.ascontiguousarray(angles, np.int32)
    made.setflags(write=False)
    return made


def _both_ways(angles: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.concatenate([angles, -angles])


def _room(*shape: int) -> NDArray[np.float64]:
    """Zeros, or MemoryError also where numpy would say that the shape is not a shape."""
    wanted = 8
    for n in shape:
        wanted *= int(n)
    if wanted > sys.maxsize:
        raise MemoryError(f"wanted a matrix of {wanted} bytes")
    return np.zeros(shape)
