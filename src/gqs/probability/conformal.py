"""Conformal sets: sets of classes that contain the true one with a given coverage, class by class.

Split conformal prediction (Vovk, Gammerman & Shafer 2005; Angelopoulos & Bates 2023, section 2)
with the score 1 - p of the true class (Sadinle, Lei & Wasserman 2019, least ambiguous sets) and a
separate threshold for each class and magnitude range (Mondrian: Vovk 2012). The threshold of a
cell with n validation objects is the ceil((n + 1) coverage)-th smallest score; for exchangeable
new objects of this class and range, about this fraction has its class in its set. The theorem that
makes it "at least" needs objects that were not used otherwise. The validation objects also select
the epoch and the temperature, so the coverage must be measured on other objects. Objects are not
exchangeable if seeing, selection or bands differ; class fractions may differ, since each class has
its own thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gqs import labels
from gqs.errors import UsageError
from gqs.evaluation.binning import bin_number, merged_edges
from gqs.evaluation.intervals import Estimate, wilson

Array = NDArray[np.float64]

EDGES: Final = tuple(
    14 + 0.5 * step for step in range(21)
)  # r magnitudes, if there are enough objects
ENOUGH: Final = 100  # validation objects of a class in a cell


@dataclass(frozen=True)
class Cells:
    """Magnitude ranges of a class and their thresholds."""

    inner: Array  # (k,) inner edges of the ranges, r magnitudes
    # (k + 1,) largest score, 1 - p, with which the class is in a set; infinite if the objects
    # are too few to leave any out
    threshold: Array
    unknown: float  # the same for objects without magnitude, from all objects of the class
    count: NDArray[np.int64]  # (k + 1,) number of validation objects of each threshold

    def at(self, mag_r: Array) -> Array:
        """Threshold at magnitudes, (n,)."""
        place = bin_number(mag_r, self.inner)
        return np.where(place < 0, self.unknown, self.threshold[np.maximum(place, 0)])


@dataclass(frozen=True)
class Conformal:
    """Thresholds of all classes."""

    coverage: float
    cells: tuple[Cells, ...]

    def sets(
        self, probability: Array, mag_r: Array, decided: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether each class is in an object's set, (n, 3) bool; empty sets for NaN."""
        limits = np.stack([cell.at(mag_r) for cell in self.cells], axis=1)
        found = np.asarray(1 - probability <= limits)
        given = np.flatnonzero(decided >= 0)
        found[given, decided[given]] = True
        found[~np.isfinite(probability).all(axis=1)] = False
        return found


def fit(probability: Array, truth: NDArray[np.int64], mag_r: Array, coverage: float) -> Conformal:
    """Fit the thresholds to validation objects."""
    if not 0 < coverage < 1:
        raise UsageError(f"Coverage {coverage:g}: must be a fraction above 0 and below 1.")
    cells = []
    for i in range(len(labels.CLASSES)):
        own = truth == i
        score, mag = 1 - probability[own, i], mag_r[own]
        enough = max(ENOUGH, int(np.ceil(2 / (1 - coverage))))
        inner = merged_edges(mag, np.zeros(len(mag), dtype=np.int64), EDGES, enough)
        place = bin_number(mag, inner)
        groups = [score[place == k] for k in range(len(inner) + 1)]
        cells.append(
            Cells(
                inner,
                np.array([_threshold(group, coverage) for group in groups]),
                _threshold(score, coverage),
                np.array([len(group) for group in groups]),
            )
        )
    return Conformal(coverage, tuple(cells))


def _threshold(score: Array, coverage: float) -> float:
    rank = int(np.ceil((len(score) + 1) * coverage))
    return float(np.sort(score)[rank - 1]) if rank <= len(score) else float("inf")


def written(sets: NDArray[np.bool_]) -> NDArray[np.str_]:
    """Sets as text, (n,) such as "QSO STAR", in the order of `labels.CLASSES`; blank if empty."""
    names = np.array(labels.CLASSES)
    text = [" ".join(names[row]) for row in sets]
    return np.array(text, dtype=f"U{len(' '.join(labels.CLASSES))}")


@dataclass(frozen=True)
class Covered:
    """Coverage and mean size of the sets of one class in one magnitude range."""

    name: str
    low: float
    high: float
    count: int
    coverage: Estimate
    size: float


def covered(
    sets: NDArray[np.bool_], truth: NDArray[np.int64], r: Array, edges: Array
) -> list[Covered]:
    """Measure the coverage of sets on objects of known class."""
    holds = sets[np.arange(len(truth)), truth]
    size = sets.sum(axis=1)
    found = []
    for i, name in enumerate(labels.CLASSES):
        for low, high in [(-np.inf, np.inf), *pairwise(np.asarray(edges).tolist())]:
            inside = truth == i
            if np.isfinite(low):
                inside = inside & (r >= low) & (r < high)
            if count := int(inside.sum()):
                share = wilson(int(holds[inside].sum()), count)
                found.append(Covered(name, low, high, count, share, float(size[inside].mean())))
    return found
