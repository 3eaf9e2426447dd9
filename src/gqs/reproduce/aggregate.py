"""What several trainings of one network say together: mean, spread, and honest differences.

Two things make a measured accuracy differ from the true one: which objects happen to be in the
test set, and which random numbers happened to train the network. The first is seen by a bootstrap
over test objects (whole fields where there are enough), the second by the spread between seeds.
Since two or three seeds show a spread badly, the variances of all networks are pooled, and the few
degrees of freedom that even they have are paid for by Student's t. Both are added up in quadrature.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from gqs.evaluation.intervals import LEVEL, Estimate, bootstrap, finite
from gqs.evaluation.matched import Judged

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Mean over seeds, their sample standard deviation (NaN for one seed), and their number."""

    mean: float
    deviation: float
    seeds: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {
            "mean": finite(self.mean),
            "deviation": finite(self.deviation),
            "seeds": self.seeds,
        }


def spread(values: Sequence[float]) -> Spread:
    """Return mean and spread of one measure over seeds."""
    if not values:
        return Spread(float("nan"), float("nan"), 0)
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return Spread(float(np.mean(values)), deviation, len(values))


@dataclass(frozen=True)
class Pooled:
    """Variance between seeds, pooled over networks; `freedom` is seeds less networks."""

    variance: float
    freedom: int

    def half(self, share: float) -> float:
        """Return half of the 95 % interval of a mean whose variance is this share of one seed's."""
        if not self.freedom:
            return 0.0
        return float(t.ppf((1 + LEVEL) / 2, self.freedom) * np.sqrt(share * self.variance))


def pool(several: Iterable[Sequence[float]]) -> Pooled:
    """Pool the variance between seeds over networks that were trained with two or more."""
    groups = [np.asarray(values) for values in several if len(values) > 1]
    freedom = sum(len(values) - 1 for values in groups)
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in groups)
    return Pooled(squares / freedom if freedom else 0.0, freedom)


@dataclass(frozen=True)
class Chance:
    """What makes measured accuracies differ from the true ones, on one split."""

    pooled: Pooled  # variance between seeds
    group: str | None = None  # what is drawn together in the bootstrap over test objects
    seed: int = 0  # of the bootstrap

    def accuracy(self, runs: Sequence[Judged]) -> Estimate:
        """Mean accuracy of a network's seeds, with both kinds of chance in its interval."""
        right, one = _shares(runs, _common(runs))
        return self._interval(right, one, 1 / len(runs))

    def difference(
        self, first: Sequence[Judged], second: Sequence[Judged], fixed: bool = False
    ) -> Estimate:
        """Mean accuracy of one network's seeds minus another's, paired object by object."""
        common = _common([*first, *second])
        a, one = _shares(first, common)
        b, _ = _shares(second, common)
        return self._interval(a - b, one, 1 / len(first) + (0 if fixed else 1 / len(second)))

    def _interval(self, values: Array, judged: Judged, share: float) -> Estimate:
        def mean(weights: Array) -> dict[str, Array]:
            return {"mean": weights @ values / weights.sum(axis=1)}

        groups = judged.groups(self.group)
        found = bootstrap(mean, len(values), groups, seed=self.seed)["mean"]
        half = float(np.hypot((found.high - found.low) / 2, self.pooled.half(share)))
        return Estimate(found.value, found.value - half, found.value + half)


def gap(first: Estimate, second: Estimate) -> Estimate:
    """Difference of two accuracies on different test objects."""
    half = float(np.hypot(first.high - first.low, second.high - second.low)) / 2
    value = first.value - second.value
    return Estimate(value, value - half, value + half)


def _common(runs: Sequence[Judged]) -> NDArray[np.uint64]:
    objid = runs[0].objid
    for run in runs[1:]:
        objid = np.intersect1d(objid, run.objid)
    return np.sort(objid)


def _shares(runs: Sequence[Judged], objid: NDArray[np.uint64]) -> tuple[Array, Judged]:
    """Share of the seeds that got each object right, and the first run, cut to these objects."""
    rows = [np.flatnonzero(np.isin(run.objid, objid)) for run in runs]
    rows = [some[np.argsort(run.objid[some])] for some, run in zip(rows, runs, strict=True)]
    right = np.mean([run.correct[some] for some, run in zip(rows, runs, strict=True)], axis=0)
    first, some = runs[0], rows[0]
    names = ("objid", "truth", "decided", "probability", "r", "redshift", "place")
    return right, Judged(**{name: getattr(first, name)[some] for name in names})


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests. Holm 1979."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(steps, 1.0)
    return [float(value) for value in corrected]
