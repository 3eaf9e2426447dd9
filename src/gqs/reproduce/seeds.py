"""What several trainings of one network say together: mean, spread, and honest differences.

Two things make a measured accuracy differ from the true one: which objects happen to be in the
test set, and which random numbers happened to train the network. The first is seen by a bootstrap
over test objects (whole fields where there are enough), the second by the spread between seeds.
Since two or three seeds show a spread badly, the variances of all networks are pooled. Both are
added up in quadrature, and intervals are 1.96 standard deviations to either side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gqs.evaluation.intervals import Estimate, bootstrap, finite
from gqs.evaluation.judged import Judged

Array = NDArray[np.float64]
WIDTH: Final = 1.96  # standard deviations that hold 95 % of a normal distribution


@dataclass(frozen=True)
class Spread:
    """Mean over seeds, their sample standard deviation (NaN for one seed), and their number."""

    mean: float
    deviation: float
    seeds: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON holds it.

        Returns
        -------
        dict
            What json.dumps takes.
        """
        return {
            "mean": finite(self.mean),
            "deviation": finite(self.deviation),
            "seeds": self.seeds,
        }


def spread(values: Sequence[float]) -> Spread:
    """Return mean and spread of one measure over seeds.

    Parameters
    ----------
    values : sequence of float
        One a seed.

    Returns
    -------
    Spread
        NaN where there are no values.
    """
    if not values:
        return Spread(float("nan"), float("nan"), 0)
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return Spread(float(np.mean(values)), deviation, len(values))


@dataclass(frozen=True)
class Pooled:
    """Variance between seeds, pooled over networks; `freedom` is seeds less networks."""

    variance: float
    freedom: int


def pool(several: Iterable[Sequence[float]]) -> Pooled:
    """Pool the variance between seeds over networks that were trained with two or more.

    Parameters
    ----------
    several : iterable of sequences of float
        A network's accuracies, one a seed.

    Returns
    -------
    Pooled
        Variance 0 with no degree of freedom where no network has a second seed.
    """
    groups = [np.asarray(values) for values in several if len(values) > 1]
    freedom = sum(len(values) - 1 for values in groups)
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in groups)
    return Pooled(squares / freedom if freedom else 0.0, freedom)


def accuracy(runs: Sequence[Judged], pooled: Pooled, group: str | None, seed: int = 0) -> Estimate:
    """Mean accuracy of a network's seeds, with both kinds of chance in its interval.

    Parameters
    ----------
    runs : sequence of Judged
        One a seed.
    pooled : Pooled
        Variance between seeds.
    group : {"field", "run", None}
        What is drawn together in the bootstrap.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Estimate
        Not clipped to 1.
    """
    right, first = _shares(runs)
    return _interval(right, first.groups(group), pooled.variance / len(runs), seed)


def difference(
    first: Sequence[Judged],
    second: Sequence[Judged],
    pooled: Pooled,
    group: str | None,
    seed: int = 0,
) -> Estimate:
    """Mean accuracy of one network's seeds minus another's, paired object by object.

    Parameters
    ----------
    first, second : sequence of Judged
        On the same test objects; one a seed.
    pooled : Pooled
        Variance between seeds.
    group : {"field", "run", None}
        What is drawn together in the bootstrap.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Estimate
        Over the objects that all of them judged.
    """
    every = _common([*first, *second])
    a, one = _shares(first, every)
    b, _ = _shares(second, every)
    variance = pooled.variance * (1 / len(first) + 1 / len(second))
    return _interval(a - b, one.groups(group), variance, seed)


def gap(first: Estimate, second: Estimate) -> Estimate:
    """Difference of two accuracies on different test objects.

    Parameters
    ----------
    first, second : Estimate
        With intervals of 1.96 standard deviations.

    Returns
    -------
    Estimate
        Their uncertainties in quadrature.
    """
    half = float(np.hypot(first.high - first.low, second.high - second.low)) / 2
    value = first.value - second.value
    return Estimate(value, value - half, value + half)


def _common(runs: Sequence[Judged]) -> NDArray[np.uint64]:
    objid = runs[0].objid
    for run in runs[1:]:
        objid = np.intersect1d(objid, run.objid)
    return np.sort(objid)


def _shares(
    runs: Sequence[Judged], objid: NDArray[np.uint64] | None = None
) -> tuple[Array, Judged]:
    """Share of the seeds that got each object right, and the first run, cut to these objects."""
    wanted = _common(runs) if objid is None else objid
    rows = [np.flatnonzero(np.isin(run.objid, wanted)) for run in runs]
    rows = [some[np.argsort(run.objid[some])] for some, run in zip(rows, runs, strict=True)]
    right = np.mean([run.correct[some] for some, run in zip(rows, runs, strict=True)], axis=0)
    first, some = runs[0], rows[0]
    names = ("objid", "truth", "decided", "probability", "r", "redshift", "place")
    return right, Judged(**{name: getattr(first, name)[some] for name in names})


def _interval(
    values: Array, groups: NDArray[np.int64] | None, variance: float, seed: int
) -> Estimate:
    def mean(weights: Array) -> dict[str, Array]:
        return {"mean": weights @ values / weights.sum(axis=1)}

    found = bootstrap(mean, len(values), groups, seed=seed)["mean"]
    objects = (found.high - found.low) / (2 * WIDTH)
    half = WIDTH * float(np.hypot(objects, np.sqrt(variance)))
    return Estimate(found.value, found.value - half, found.value + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests. Holm 1979.

    Parameters
    ----------
    p_values : sequence of float
        Of all tests that were made.

    Returns
    -------
    list of float
        In the same order, at most 1: the chance that any of them is below by luck.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(steps, 1.0)
    return [float(value) for value in corrected]
