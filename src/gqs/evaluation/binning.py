"""Objects sorted into ranges of magnitude or redshift, with accuracy and recall in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gqs import labels
from gqs.evaluation.intervals import Estimate, wilson
from gqs.evaluation.matched import MatchedPredictions

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """Objects of one range of magnitude or redshift; accuracy and recall have Wilson intervals."""

    low: float
    high: float
    count: int
    accuracy: Estimate
    recall: dict[str, Estimate]  # by class
    counts: dict[str, int]  # objects by true class

    def to_json(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "low": self.low,
            "high": self.high,
            "objects": self.count,
            "accuracy": self.accuracy.to_json(),
            "recall": {name: value.to_json() for name, value in self.recall.items()},
            "counts": self.counts,
        }


def bins(matched: MatchedPredictions, values: Array, edges: Sequence[float]) -> tuple[Bin, ...]:
    """Measure accuracy and recall in ranges of some value, (n,); empty ranges are left out."""
    measured = []
    for low, high in pairwise(edges):
        inside = (values >= low) & (values < high)
        if not inside.any():
            continue
        truth, correct = matched.truth[inside], matched.correct[inside]
        counts = {name: int((truth == i).sum()) for i, name in enumerate(labels.CLASSES)}
        recall = {
            name: wilson(int(correct[truth == i].sum()), counts[name])
            for i, name in enumerate(labels.CLASSES)
        }
        accuracy = wilson(int(correct.sum()), len(truth))
        measured.append(Bin(low, high, len(truth), accuracy, recall, counts))
    return tuple(measured)


def merged_bins(parts: Sequence[Bin], enough: int, only: str | None = None) -> tuple[Bin, ...]:
    """Neighbouring bins joined until each has `enough` objects, or objects of the class `only`."""

    def size(part: Bin) -> int:
        return part.count if only is None else part.counts[only]

    merged: list[Bin] = []
    for part in parts:
        if merged and size(merged[-1]) < enough:
            merged[-1] = _joined(merged[-1], part)
        else:
            merged.append(part)
    if len(merged) > 1 and size(merged[-1]) < enough:
        last = merged.pop()
        merged[-1] = _joined(merged[-1], last)
    return tuple(merged)


def _joined(first: Bin, second: Bin) -> Bin:
    def hits(part: Bin) -> dict[str, int]:
        return {
            name: round(part.recall[name].value * count) if count else 0
            for name, count in part.counts.items()
        }

    right = {name: hits(first)[name] + hits(second)[name] for name in labels.CLASSES}
    counts = {name: first.counts[name] + second.counts[name] for name in labels.CLASSES}
    count = first.count + second.count
    accuracy = wilson(sum(right.values()), count)
    recall = {name: wilson(right[name], counts[name]) for name in labels.CLASSES}
    return Bin(first.low, second.high, count, accuracy, recall, counts)


def merged_edges(
    values: Array, member: NDArray[np.int64], edges: Sequence[float], enough: int
) -> Array:
    """Inner edges, a subset of `edges`, between which every group has at least `enough` objects.

    `member` (n,) is the group of each object, such as its class.
    """
    groups = int(member.max()) + 1 if len(member) else 0
    known = np.isfinite(values)
    interval = np.searchsorted(np.asarray(edges), values[known], side="right")
    table = np.zeros((len(edges) + 1, groups), dtype=np.int64)
    np.add.at(table, (interval, member[known]), 1)
    kept: list[float] = []
    inside = np.zeros(groups, dtype=np.int64)
    left = table.sum(axis=0)
    for edge, counts in zip(edges, table, strict=False):
        inside, left = inside + counts, left - counts
        if (inside >= enough).all() and (left >= enough).all():
            kept.append(float(edge))
            inside = np.zeros(groups, dtype=np.int64)
    return np.array(kept)


def bin_number(values: Array, inner: Array) -> NDArray[np.int64]:
    """Bin of each object between inner edges, (n,) from 0; -1 where the value is NaN."""
    return np.where(np.isfinite(values), np.searchsorted(inner, values, side="right"), -1)
