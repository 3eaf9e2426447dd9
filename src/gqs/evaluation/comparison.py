"""Two classifiers on the same objects: McNemar's test, and the difference of their accuracies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from gqs.errors import UsageError
from gqs.evaluation.intervals import RESAMPLES, Estimate, bootstrap
from gqs.evaluation.matched import MatchedPredictions


@dataclass(frozen=True)
class Comparison:
    """Two sets of predictions on the same objects."""

    objects: int  # classified by both
    only_first: int  # classified by one of them only, and left out here
    only_second: int
    first_right: int  # correct only with the first (the second)
    second_right: int
    difference: Estimate  # accuracy of the first minus that of the second, bootstrap interval
    p_value: float  # McNemar's exact two-sided test (McNemar 1947)

    def to_json(self) -> dict[str, Any]:
        """JSON form."""
        return {**self.__dict__, "difference": self.difference.to_json()}


def compare(
    first: MatchedPredictions,
    second: MatchedPredictions,
    *,
    group: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two sets of predictions on the objects that both classify."""
    both, in_first, in_second = np.intersect1d(first.objid, second.objid, return_indices=True)
    if not len(both) or (first.truth[in_first] != second.truth[in_second]).any():
        raise UsageError(
            "The two sets of predictions need the same objects with the same true classes."
        )
    a, b = first.correct[in_first], second.correct[in_second]
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    gain = a.astype(np.float64) - b
    groups = first.groups(group)
    if groups is not None:
        groups = np.unique(groups[in_first], return_inverse=True)[1]

    def difference(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return {"difference": weights @ gain / weights.sum(axis=1)}

    estimate = bootstrap(difference, len(both), groups, resamples, seed)["difference"]
    test = binomtest(only_a, only_a + only_b) if only_a + only_b else None
    return Comparison(
        objects=len(both),
        only_first=len(first) - len(both),
        only_second=len(second) - len(both),
        first_right=only_a,
        second_right=only_b,
        difference=estimate,
        p_value=float(test.pvalue) if test else 1.0,
    )
