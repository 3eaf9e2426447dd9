"""Whether one set of predictions is better than another, or only luckier: McNemar's test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from gqs.errors import UsageError
from gqs.evaluation.intervals import RESAMPLES, Estimate, bootstrap
from gqs.evaluation.matched import Judged


@dataclass(frozen=True)
class Comparison:
    """Two sets of predictions on the same objects."""

    objects: int  # judged by both
    only_first: int  # judged by one of them only, and left out here
    only_second: int
    first_right: int  # objects that only the first (only the second) got right
    second_right: int
    # accuracy of the first minus that of the second, with its bootstrap interval
    difference: Estimate
    p_value: float  # mcNemar's exact two-sided test. McNemar 1947.

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON holds it."""
        return {**self.__dict__, "difference": self.difference.to_json()}


def compare(
    first: Judged,
    second: Judged,
    *,
    group: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Put two sets of predictions on the same objects to McNemar's test."""
    both, mine, theirs = np.intersect1d(first.objid, second.objid, return_indices=True)
    if not len(both) or (first.truth[mine] != second.truth[theirs]).any():
        raise UsageError("Two sets of predictions are compared on the same objects and truth.")
    a, b = first.correct[mine], second.correct[theirs]
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    gain = a.astype(np.float64) - b
    groups = first.groups(group)
    if groups is not None:
        groups = np.unique(groups[mine], return_inverse=True)[1]

    def difference(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return {"difference": weights @ gain / weights.sum(axis=1)}

    found = bootstrap(difference, len(both), groups, resamples, seed)["difference"]
    test = binomtest(only_a, only_a + only_b) if only_a + only_b else None
    return Comparison(
        objects=len(both),
        only_first=len(first) - len(both),
        only_second=len(second) - len(both),
        first_right=only_a,
        second_right=only_b,
        difference=found,
        p_value=float(test.pvalue) if test else 1.0,
    )
