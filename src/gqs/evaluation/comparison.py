"""Whether one set of predictions is better than another, or only luckier: McNemar's test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from gqs.errors import UsageError
from gqs.evaluation.intervals import RESAMPLES, Estimate, bootstrap
from gqs.evaluation.judged import Judged


@dataclass(frozen=True)
class Comparison:
    """Two sets of predictions on the same objects.

    Attributes
    ----------
    objects : int
        Judged by both.
    only_first, only_second : int
        Judged by one of them only, and left out here.
    first_right, second_right : int
        Objects that only the first (only the second) got right.
    difference : Estimate
        Accuracy of the first minus that of the second, with its bootstrap interval.
    p_value : float
        McNemar's exact two-sided test. McNemar 1947.
    """

    objects: int
    only_first: int
    only_second: int
    first_right: int
    second_right: int
    difference: Estimate
    p_value: float

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON holds it.

        Returns
        -------
        dict
            What json.dumps takes.
        """
        return {**self.__dict__, "difference": self.difference.to_json()}


def compare(
    first: Judged,
    second: Judged,
    *,
    group: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Put two sets of predictions on the same objects to McNemar's test.

    Parameters
    ----------
    first, second : Judged
        Against the same truth.
    group : {"field", "run", None}
        Draw whole fields or runs for the interval of the difference; the test takes every
        object as independent.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    Comparison
        A p of 1 where neither got anything right that the other did not.

    Raises
    ------
    UsageError
        If no object was judged by both, or their truths differ.
    """
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
