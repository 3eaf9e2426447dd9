"""One row an object where fields overlap: the row farthest from its field's edge is primary.

Rows of different fields within 1" of each other show one object. Of all rows, in the order of
their distance to the edge of their own frame (the farthest first; between equals the lower field,
then the lower objid), a row is primary unless a primary row of another field lies within 1". So no
two primary rows of different fields are that close, every other row has a primary one beside it,
and two sources that one field parts stay two. Which rows are primary depends on no order of work.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Array = NDArray[np.float64]

SAME: Final = 1.0  # arcsec within which rows of different fields show one object
# A row's rank may hang on a chain of rows; none is longer than this many times 1".
CHAIN: Final = 10.0


def edge_distance(x: Array, y: Array, shape: tuple[int, int]) -> Array:
    """Distance of positions to the nearest edge of their frame: (n,) pixels; 0 on the outer edge of
    the outermost pixels.
    """
    ny, nx = shape
    return np.asarray(np.minimum.reduce([x + 0.5, y + 0.5, nx - 0.5 - x, ny - 0.5 - y]))


def overlapping(corners: Array) -> list[list[int]]:
    """Tell which fields may share objects."""
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
    """Tell which rows stand for their object: (n,) True for one row of each object."""
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
    """Directions on the sky, in which neither poles nor right ascension's zero are special."""
    a, d = np.deg2rad(ra), np.deg2rad(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)


def chord(arcsec: float) -> float:
    """Straight distance of two directions that far apart."""
    return float(2 * np.sin(np.deg2rad(arcsec / 3600) / 2))


def near_any(points: Array, others: Array, arcsec: float) -> NDArray[np.bool_]:
    """Tell which directions lie near any of some others: (n,) bool."""
    if not len(points) or not len(others):
        return np.zeros(len(points), dtype=bool)
    return np.asarray(KDTree(others).query(points, distance_upper_bound=chord(arcsec))[0] < np.inf)
