"""Geometry of overlapping fields: the row farthest from its field's edge is primary.

Rows of different fields within 1" are the same object. In the order of their distance to the edge
of their frame (the farthest first; for equal distances the lower field, then the lower objid), a
row is primary unless a primary row of another field is within 1". So no two primary rows of
different fields are that close, every other row has a primary one beside it, and two sources that
one field separates stay two. The result does not depend on the order in which fields finish.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Array = NDArray[np.float64]

SAME: Final = 1.0  # arcsec within which rows of different fields are the same object
# Whether a row is primary may depend on a chain of rows; none is longer than this times 1".
CHAIN: Final = 10.0


def edge_distance(x: Array, y: Array, shape: tuple[int, int]) -> Array:
    """Distance to the nearest edge of the frame, (n,) pixels; 0 at its rim."""
    ny, nx = shape
    return np.asarray(np.minimum.reduce([x + 0.5, y + 0.5, nx - 0.5 - x, ny - 0.5 - y]))


def overlapping(corners: Array) -> list[list[int]]:
    """Indices of the fields that may share objects, for each field; corners (n, 4, 2) degrees."""
    if not len(corners):
        return []
    points = unit_vectors(corners[..., 0], corners[..., 1])
    centres = points.mean(axis=1)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    reach = np.linalg.norm(points - centres[:, None], axis=2).max(axis=1) + chord(CHAIN * SAME)
    near = KDTree(centres).query_ball_point(centres, reach + reach.max())
    return [
        sorted(
            j
            for j in some
            if j != i and np.linalg.norm(centres[j] - centres[i]) < reach[i] + reach[j]
        )
        for i, some in enumerate(near)
    ]


def primary(
    ra: Array, dec: Array, distance: Array, field: NDArray[np.int64], objid: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """Whether each row is primary, (n,): one row of each object is."""
    chosen = np.ones(len(ra), dtype=bool)
    if not len(ra):
        return chosen
    pairs = KDTree(unit_vectors(ra, dec)).query_pairs(chord(SAME), output_type="ndarray")
    rivals: dict[int, list[int]] = defaultdict(list)
    for i, j in pairs[field[pairs[:, 0]] != field[pairs[:, 1]]]:
        rivals[i].append(j)
        rivals[j].append(i)
    rows = np.array(sorted(rivals), dtype=np.intp)
    chosen[rows] = False
    for row in rows[np.lexsort((objid[rows], field[rows], -distance[rows]))]:
        chosen[row] = not chosen[rivals[row]].any()
    return chosen


def unit_vectors(ra: Array, dec: Array) -> Array:
    """Unit vectors (n, 3) of positions in degrees."""
    a, d = np.deg2rad(ra), np.deg2rad(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)


def chord(arcsec: float) -> float:
    """Distance of two unit vectors at an angle in arcsec."""
    return float(2 * np.sin(np.deg2rad(arcsec / 3600) / 2))


def near_any(points: Array, others: Array, arcsec: float) -> NDArray[np.bool_]:
    """Whether each unit vector is within `arcsec` of any other, (n,) bool."""
    if not len(points) or not len(others):
        return np.zeros(len(points), dtype=bool)
    return np.asarray(KDTree(others).query(points, distance_upper_bound=chord(arcsec))[0] < np.inf)
