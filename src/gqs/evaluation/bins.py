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
from gqs.evaluation.judged import Judged


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
        """Return the bin as JSON holds it.

        Returns
        -------
        dict
            What json.dumps takes.
        """
        return {
            "low": self.low,
            "high": self.high,
            "objects": self.count,
            "accuracy": self.right.to_json(),
            "recall": {name: value.to_json() for name, value in self.recall.items()},
            "counts": self.counts,
        }


def bins(judged: Judged, values: NDArray[np.float64], edges: Sequence[float]) -> tuple[Bin, ...]:
    """Sort objects into ranges and measure each.

    Parameters
    ----------
    judged : Judged
        Objects with truth and decision.
    values : ndarray
        (n,) what to sort by; NaN lies in no bin.
    edges : sequence of float
        Rising; a bin holds its lower edge.

    Returns
    -------
    tuple of Bin
        The bins that hold objects.
    """
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
