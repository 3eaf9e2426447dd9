"""How the answer depends on brightness and redshift: counts, accuracy and recall by range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gqs import labels
from gqs.evaluation.intervals import Estimate, wilson
from gqs.evaluation.matched import Judged


@dataclass(frozen=True)
class Bin:
    """Objects of one range of magnitude or redshift; `right` and `recall` have Wilson intervals."""

    low: float
    high: float
    count: int
    right: Estimate
    recall: dict[str, Estimate]
    counts: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the bin as JSON holds it."""
        return {
            "low": self.low,
            "high": self.high,
            "objects": self.count,
            "accuracy": self.right.to_json(),
            "recall": {name: value.to_json() for name, value in self.recall.items()},
            "counts": self.counts,
        }


def bins(judged: Judged, values: NDArray[np.float64], edges: Sequence[float]) -> tuple[Bin, ...]:
    """Sort objects into ranges and measure each."""
    found = []
    for low, high in pairwise(edges):
        inside = (values >= low) & (values < high)
        if not inside.any():
            continue
        truth, correct = judged.truth[inside], judged.correct[inside]
        counts = {name: int((truth == i).sum()) for i, name in enumerate(labels.CLASSES)}
        recall = {
            name: wilson(int(correct[truth == i].sum()), counts[name])
            for i, name in enumerate(labels.CLASSES)
        }
        right = wilson(int(correct.sum()), len(truth))
        found.append(Bin(low, high, len(truth), right, recall, counts))
    return tuple(found)


Array = NDArray[np.float64]


def merged_edges(
    values: Array, member: NDArray[np.int64], edges: Sequence[float], enough: int
) -> Array:
    """Choose inner edges so that every bin holds enough of every group."""
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
    """Return the bin of each object: (n,) 0 to k; -1 where the value is NaN."""
    return np.where(np.isfinite(values), np.searchsorted(inner, values, side="right"), -1)
