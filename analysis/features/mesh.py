"""Surface, volume and diameters of a mask's mesh, without comparing every pair of vertices.

PyRadiomics walks the mesh of marching cubes and then measures the distance between all pairs of
its vertices, which for a large lesion is most of the whole extraction. Here the mesh is summed in
numpy, triangle by triangle in the same order, and of the vertices only those are compared that can
be an end of a longest distance. Values are equal to the last bit.

Which triangles fill a cube is PyRadiomics' choice; its table is read from its own compiled
library. Where that fails, or the sums do not come out equal (another compiler may fuse
operations), `trusted_table` says so and the caller keeps PyRadiomics' routine.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from mirv.analysis.model import BoolArray, FloatArray

Coefficients = tuple[float, float, tuple[float, float, float, float]]
"""Surface (mm2), volume (mm3), largest distances in mm with equal slice, row, column, and any."""

Measure = Callable[[BoolArray, FloatArray], Coefficients]
"""PyRadiomics' ``cShape.calculate_coefficients``: padded mask and spacing (slice, row, column)."""

Table = NDArray[np.int32]
"""Edges (128 configurations, 16): three to a triangle, -1 behind the last."""

ALIKE = 1e-9
"""Relative: distances this close to the longest are measured again in PyRadiomics' arithmetic."""

CORNERS = np.array(
    [
        *([0, 0, 0], [0, 0, 1], [0, 1, 1], [0, 1, 0]),
        *([1, 0, 0], [1, 0, 1], [1, 1, 1], [1, 1, 0]),
    ]
)
"""Corners of a cube (slice, row, column); corner n is bit n of a configuration."""

EDGES = [
    *((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6)),
    *((6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)),
]
"""Edges of a cube by the corners they join; a vertex lies in the middle of its edge."""

MIDDLES = np.array([(CORNERS[a] + CORNERS[b]) / 2.0 for a, b in EDGES])


def coefficients(mask: BoolArray, spacing: FloatArray, table: Table) -> Coefficients:
    """What ``cShape.calculate_coefficients`` returns, sooner.

    Parameters
    ----------
    mask : bool array [slice, row, column]
        Padded: no voxel of the lesion touches the border.
    spacing : float64 (3,) mm
    table : Table
        From `trusted_table`.
    """
    surface, volume = _surface_and_volume(mask, spacing, table)
    return surface, volume, _diameters(_vertices(mask), spacing)


def count_vertices(mask: BoolArray) -> int:
    """Vertices of the mesh: one wherever two face neighbours differ.

    Parameters
    ----------
    mask : bool [slice, row, column]
    """
    return sum(int(np.count_nonzero(np.diff(mask.view(np.int8), axis=axis))) for axis in range(3))


@cache
def trusted_table(library: Path, measure: Measure) -> Table | None:
    """PyRadiomics' triangle table, if sums over it equal PyRadiomics' own bit for bit.

    Parameters
    ----------
    library : Path
        The compiled ``radiomics._cshape``.
    measure : callable
        Its ``calculate_coefficients``.
    """
    begin = np.full(32, -1, np.int32)
    begin[16:19] = 0, 8, 3  # no corner inside: no triangle; corner 0: one, on edges 0, 8 and 3
    content = library.read_bytes()
    at = content.find(begin.tobytes())
    if at < 0 or len(content) < at + 128 * 16 * 4:
        return None
    table = np.frombuffer(content, np.int32, 128 * 16, at).reshape(128, 16)
    if table.min() < -1 or table.max() > 11:
        return None
    probe = np.random.default_rng(0).random((14, 15, 16)) > 0.5  # has all configurations
    probe = np.pad(probe, 1)
    spacing = np.array([2.3, 0.7, 0.9])
    same = coefficients(probe, spacing, table) == measure(probe, spacing)
    return table if same else None


def _surface_and_volume(mask: BoolArray, spacing: FloatArray, table: Table) -> tuple[float, float]:
    kinds = np.zeros([n - 1 for n in mask.shape], np.uint8)
    for bit, offset in enumerate(CORNERS):
        part = tuple(slice(o, o + n) for o, n in zip(offset, kinds.shape, strict=True))
        kinds |= mask[part].view(np.uint8) << np.uint8(bit)
    crossed = (kinds != 0) & (kinds != 255)
    kind = kinds[crossed]
    turned = kind >= 128  # the table holds one of each complementary pair
    edges = table[np.where(turned, ~kind, kind)][:, :15].reshape(-1, 5, 3)
    real = edges[..., 0] >= 0
    cube = np.nonzero(real)[0]
    # Positions count from the array's corner, as PyRadiomics': where faces are ambiguous its mesh
    # has small holes, and the volume depends on the origin.
    corner = np.argwhere(crossed)[cube].astype(float)
    a, b, c = ((corner + MIDDLES[edges[real][:, n]]) * spacing for n in range(3))
    sign = np.where(turned, -1.0, 1.0)[cube]
    ab = _cross(a, b)
    volumes = sign * (ab[0] * c[:, 0] + ab[1] * c[:, 1] + ab[2] * c[:, 2])
    ab = [part * part for part in _cross(a - c, b - c)]
    areas = 0.5 * np.sqrt(ab[0] + ab[1] + ab[2])
    # A running sum, because pairwise summation rounds otherwise than the loop in C.
    return float(np.cumsum(areas)[-1]), float(np.cumsum(volumes)[-1]) / 6


def _cross(a: FloatArray, b: FloatArray) -> list[FloatArray]:
    return [
        a[:, (n + 1) % 3] * b[:, (n + 2) % 3] - b[:, (n + 1) % 3] * a[:, (n + 2) % 3]
        for n in range(3)
    ]


def _vertices(mask: BoolArray) -> list[NDArray[np.float64]]:
    """Mesh vertices in voxels, by the axis their edge runs along: midway between neighbours."""
    found = []
    for axis in range(3):
        edge = np.diff(mask.view(np.int8), axis=axis) != 0
        at = np.argwhere(edge).astype(float)
        at[:, axis] += 0.5
        found.append(at)
    return found


def _diameters(
    vertices: list[NDArray[np.float64]], spacing: FloatArray
) -> tuple[float, float, float, float]:
    points = np.concatenate(vertices) * spacing
    planar = [_largest_in_planes(points, axis) for axis in range(3)]
    return planar[0], planar[1], planar[2], _largest(_outline(points))


def _largest_in_planes(points: FloatArray, axis: int) -> float:
    """Longest distance between points with the same coordinate along `axis`."""
    order = np.argsort(points[:, axis], kind="stable")
    points = points[order]
    starts = np.flatnonzero(np.r_[True, np.diff(points[:, axis]) != 0])
    low = np.minimum.reduceat(points, starts)
    high = np.maximum.reduceat(points, starts)
    bound = np.sqrt(((high - low) ** 2).sum(axis=1))
    stops = np.r_[starts[1:], len(points)]
    best = 0.0
    for plane in np.argsort(-bound, kind="stable"):
        if bound[plane] * (1 + ALIKE) <= best:
            break
        best = max(best, _largest(_outline(points[starts[plane] : stops[plane]])))
    return best


def _outline(points: FloatArray) -> FloatArray:
    """The points that can end a longest distance: on every grid line only the two outermost."""
    for axis in range(3):
        if len(points) <= 64:
            break
        others = [a for a in range(3) if a != axis]
        order = np.lexsort((points[:, axis], points[:, others[1]], points[:, others[0]]))
        points = points[order]
        new = (np.diff(points[:, others], axis=0) != 0).any(axis=1)
        points = points[np.r_[True, new] | np.r_[new, True]]
    return points


MANY = 3000
"""Points from which finding the convex hull first pays."""


def _largest(points: FloatArray) -> float:
    """Longest distance between any two points.

    Found roughly by matrix products, then measured in PyRadiomics' order of operations from every
    point that comes near the longest.
    """
    if len(points) < 2:
        return 0.0
    if len(points) > MANY:
        points = _hull(points)
    centred = points - (points.max(axis=0) + points.min(axis=0)) / 2
    norms = (centred**2).sum(axis=1)
    best = 0.0
    block = max(1, 4_000_000 // len(points))
    rough = np.empty(len(points))
    for start in range(0, len(points), block):
        part = slice(start, start + block)
        squares = norms[part, None] + norms[None, :] - 2.0 * (centred[part] @ centred.T)
        rough[part] = squares.max(axis=1)
    ends = np.flatnonzero(rough >= rough.max() * (1 - ALIKE))
    for end in ends:
        gaps = points - points[end]
        gaps *= gaps
        best = max(best, float((gaps[:, 0] + gaps[:, 1] + gaps[:, 2]).max()))
    return float(np.sqrt(best))


def _hull(points: FloatArray) -> FloatArray:
    """The corners of the convex hull; all points when they lie in a plane."""
    try:
        return points[ConvexHull(points).vertices]
    except QhullError:
        return points
