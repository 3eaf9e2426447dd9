"""Magnitude bins wide enough to say something: neighbours are merged until each holds enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def merged_edges(
    values: Array, member: NDArray[np.int64], edges: Sequence[float], enough: int
) -> Array:
    """Choose inner edges so that every bin holds enough of every group.

    Parameters
    ----------
    values : ndarray
        (n,) magnitudes; NaN count nowhere.
    member : ndarray
        (n,) group of each object, 0 and up.
    edges : sequence of float
        Rising candidates.
    enough : int
        Objects of each group in each bin.

    Returns
    -------
    ndarray
        (k,) some of the candidates: the first bin reaches from minus infinity to the first of
        them, the last from the last of them on. None where all objects are one bin.
    """
    groups = int(member.max()) + 1 if len(member) else 0
    known = np.isfinite(values)
    place = np.searchsorted(np.asarray(edges), values[known], side="right")
    table = np.zeros((len(edges) + 1, groups), dtype=np.int64)
    np.add.at(table, (place, member[known]), 1)
    kept: list[float] = []
    inside = np.zeros(groups, dtype=np.int64)
    left = table.sum(axis=0)
    for edge, counts in zip(edges, table, strict=False):
        inside, left = inside + counts, left - counts
        if (inside >= enough).all() and (left >= enough).all():
            kept.append(float(edge))
            inside = np.zeros(groups, dtype=np.int64)
    return np.array(kept)


def placed(values: Array, inner: Array) -> NDArray[np.int64]:
    """Return the bin of each object.

    Parameters
    ----------
    values : ndarray
        (n,) magnitudes.
    inner : ndarray
        (k,) inner edges; a bin holds its lower edge.

    Returns
    -------
    ndarray
        (n,) 0 to k; -1 where the value is NaN.
    """
    return np.where(np.isfinite(values), np.searchsorted(inner, values, side="right"), -1)
