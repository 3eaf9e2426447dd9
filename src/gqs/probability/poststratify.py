"""Post-stratification: weights with which objects of known class represent the sky of a prior.

In a magnitude bin, n objects of a class represent the N of that class that the prior expects there
(Holt & Smith 1979, J. R. Stat. Soc. A 142, 33).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gqs import labels
from gqs.errors import UsageError
from gqs.evaluation.binning import bin_number, merged_edges

Array = NDArray[np.float64]
Index = NDArray[np.int64]

EDGES: Final = tuple(13 + 0.5 * step for step in range(23))  # r magnitudes
ENOUGH: Final = 15  # objects of each class in a bin
FINE: Final = 0.05  # magnitudes, step of the integral over a prior's counts


@dataclass(frozen=True)
class Mix:
    """Objects of known class with weights that represent a sky."""

    truth: Index  # (n,) positions in `labels.CLASSES`
    stratum: Index  # (n,) bin of magnitude
    expected: Array  # (bin, 3) objects of each class in the sky, in any unit
    count: Index  # (bin, 3) objects that represent them
    # (bin + 1,) r magnitudes of the bin edges; nothing is known outside of them. From minus to
    # plus infinity if magnitudes are not used.
    ends: Array

    @property
    def weight(self) -> Array:
        """Number of objects of the sky that each object represents, (n,)."""
        each = self.expected / np.maximum(self.count, 1)
        return np.asarray(each[self.stratum, self.truth])


def mixed(
    truth: Index,
    mag_r: Array,
    density: Callable[[Array], Array] | None = None,
    absolute: bool = True,
) -> tuple[Mix, NDArray[np.bool_]]:
    """Weight objects to represent the sky of a prior; also which objects are used, (n,) bool."""
    used = np.isfinite(mag_r)
    if not used.any():
        used = np.ones(len(truth), dtype=bool)
        mag_r = np.zeros(len(truth))
    truth, mag_r = truth[used], mag_r[used]
    missing = [n for i, n in enumerate(labels.CLASSES) if not (truth == i).any()]
    if missing:
        raise UsageError(
            f"There is no {missing[0]} among the validation objects. Train again "
            "with a larger validation side."
        )
    low, high = (float(value) for value in np.quantile(mag_r, [0.002, 0.998]))
    inner = merged_edges(mag_r, truth, EDGES, ENOUGH)
    inner = inner[(inner > low) & (inner < high)]
    stratum = bin_number(mag_r, inner)
    count = np.zeros((len(inner) + 1, len(labels.CLASSES)), dtype=np.int64)
    np.add.at(count, (stratum, truth), 1)
    expected = count.astype(np.float64)
    ends = np.array([low, *inner, high])
    if density is not None:
        whole = _integrals(density, ends)
        if not absolute:
            whole *= count.sum(axis=1, keepdims=True) / whole.sum(axis=1, keepdims=True)
        # A class without objects in a bin is represented by its nearest bin that has some.
        expected = _moved(whole, count)
    if low == high:
        ends = np.array([-np.inf, np.inf])
    return Mix(truth, stratum, expected, count, ends), used


def _integrals(density: Callable[[Array], Array], ends: Array) -> Array:
    """Densities integrated over each bin, (bin, 3); evaluated once, since a prior may be slow."""
    grids = [
        np.linspace(low, high, max(2, int(np.ceil((high - low) / FINE)) + 1))
        for low, high in pairwise(ends.tolist())
    ]
    values = np.split(density(np.concatenate(grids)), np.cumsum([len(grid) for grid in grids])[:-1])
    return np.stack(
        [
            np.trapezoid(some, grid, axis=0) if grid[-1] > grid[0] else some[0]
            for some, grid in zip(values, grids, strict=True)
        ]
    )


def _moved(whole: Array, count: Index) -> Array:
    found = np.where(count > 0, whole, 0.0)
    for i, k in np.argwhere((count == 0) & (whole > 0)):
        there = np.flatnonzero(count[:, k])
        found[there[np.abs(there - i).argmin()], k] += whole[i, k]
    return found
