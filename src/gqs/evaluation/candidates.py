"""Candidates of one class: the threshold that makes a list pure enough, and what it costs.

The held-out objects are weighed until they stand for the sky that a prior describes: in a bin of
magnitude, n objects of a class stand for the N of that class that the prior expects there. Purity
and completeness above a threshold are then shares of weights. They are counted on objects, so that
they hold even where probabilities do not.

What was never seen may still happen: each other class counts as if half an object more had passed
the threshold (Jeffreys' prior of a rate). Intervals are the central 95 % of purities and
completenesses drawn from the rates' posteriors, a beta distribution a class and bin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gqs import labels
from gqs.errors import UsageError
from gqs.evaluation.intervals import LEVEL, Estimate
from gqs.evaluation.strata import merged_edges, placed

Array = NDArray[np.float64]
Index = NDArray[np.int64]

EDGES: Final = tuple(13 + 0.5 * step for step in range(23))  # r magnitudes
ENOUGH: Final = 15  # objects of each class in a bin
DRAWS: Final = 4000
FINE: Final = 0.05  # magnitudes: step of the integral over a prior's counts
_HALF: Final = 0.5  # Jeffreys


@dataclass(frozen=True)
class Mix:
    """Objects of known class, weighed so that they stand for a sky.

    Attributes
    ----------
    truth : ndarray
        (n,) positions in `labels.CLASSES`.
    stratum : ndarray
        (n,) bin of magnitude.
    expected : ndarray
        (bin, 3) objects of each class that the sky holds there, in any unit.
    count : ndarray
        (bin, 3) objects that stand for them.
    low, high : float
        r magnitudes between which anything is known; infinite where magnitudes play no part.
    """

    truth: Index
    stratum: Index
    expected: Array
    count: Index
    low: float
    high: float

    @property
    def weight(self) -> Array:
        """Objects of the sky for which each object stands, (n,)."""
        each = self.expected / np.maximum(self.count, 1)
        return np.asarray(each[self.stratum, self.truth])


def mixed(
    truth: Index,
    mag_r: Array,
    density: Callable[[Array], Array] | None = None,
    absolute: bool = True,
) -> tuple[Mix, NDArray[np.bool_]]:
    """Weigh objects until they stand for the sky of a prior.

    Parameters
    ----------
    truth : ndarray
        (n,) positions in `labels.CLASSES`; some of each.
    mag_r : ndarray
        (n,) magnitudes; where none is known at all, all objects are one bin.
    density : callable, optional
        r magnitudes (k,) to densities (k, 3); by default the objects' own mix.
    absolute : bool
        Whether densities are sources a magnitude; else only their ratios at a magnitude count,
        and the objects' own magnitudes stay.

    Returns
    -------
    mix : Mix
        Of the objects that are used.
    used : ndarray
        (n,) bool: those with a magnitude.

    Raises
    ------
    UsageError
        If a class has no objects.
    """
    used = np.isfinite(mag_r)
    if not used.any():
        used = np.ones(len(truth), dtype=bool)
        mag_r = np.zeros(len(truth))
    truth, mag_r = truth[used], mag_r[used]
    missing = [n for i, n in enumerate(labels.CLASSES) if not (truth == i).any()]
    if missing:
        raise UsageError(
            f"No {missing[0]} was held out of training, so no threshold can be set. Train again "
            "with a larger validation side."
        )
    low, high = (float(value) for value in np.quantile(mag_r, [0.002, 0.998]))
    inner = merged_edges(mag_r, truth, EDGES, ENOUGH)
    inner = inner[(inner > low) & (inner < high)]
    stratum = placed(mag_r, inner)
    count = np.zeros((len(inner) + 1, len(labels.CLASSES)), dtype=np.int64)
    np.add.at(count, (stratum, truth), 1)
    expected = count.astype(np.float64)
    if density is not None:
        ends = np.array([low, *inner, high])
        whole = np.stack([_integral(density, *ends[i : i + 2]) for i in range(len(ends) - 1)])
        if not absolute:
            whole *= count.sum(axis=1, keepdims=True) / whole.sum(axis=1, keepdims=True)
        # A class of which a bin has no object stands in its nearest bin that has some.
        expected = _moved(whole, count)
    if low == high:
        low, high = -np.inf, np.inf
    return Mix(truth, stratum, expected, count, low, high), used


def _integral(density: Callable[[Array], Array], low: float, high: float) -> Array:
    grid = np.linspace(low, high, max(2, int(np.ceil((high - low) / FINE)) + 1))
    values = density(grid)
    if high <= low:
        return np.asarray(values[0])
    return np.asarray(np.trapezoid(values, grid, axis=0))


def _moved(whole: Array, count: Index) -> Array:
    found = np.where(count > 0, whole, 0.0)
    for i, k in np.argwhere((count == 0) & (whole > 0)):
        there = np.flatnonzero(count[:, k])
        found[there[np.abs(there - i).argmin()], k] += whole[i, k]
    return found


@dataclass(frozen=True)
class Curve:
    """Purity and completeness of a list against its threshold, falling thresholds first.

    Attributes
    ----------
    threshold, purity, completeness : ndarray
        (k,) the lowest probability in the list, and what the list then is. Purity counts the half
        objects that were not seen.
    """

    threshold: Array
    purity: Array
    completeness: Array


def curve(mix: Mix, score: Array, target: int) -> Curve:
    """Measure purity and completeness at every threshold.

    Parameters
    ----------
    mix : Mix
        Objects that stand for a sky.
    score : ndarray
        (n,) their probabilities of the class, for this sky.
    target : int
        Position of the class in `labels.CLASSES`.

    Returns
    -------
    Curve
        A point for each probability that occurs.
    """
    order = np.argsort(-score, kind="stable")
    weight, right = mix.weight[order], mix.truth[order] == target
    found, wrong = np.cumsum(weight * right), np.cumsum(weight * ~right)
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    per_class = mix.expected.sum(axis=0) / np.maximum(mix.count.sum(axis=0), 1)
    unseen = _HALF * np.delete(per_class, target).sum()
    with np.errstate(invalid="ignore"):
        purity = found[last] / (found[last] + wrong[last] + unseen)
    return Curve(score[order][last], purity, found[last] / mix.expected[:, target].sum())


@dataclass(frozen=True)
class Threshold:
    """Where a list of candidates begins, and how pure and complete it then is.

    Attributes
    ----------
    name : str
        The class.
    asked : float
        Purity that was asked for.
    reached : bool
        Whether any threshold reaches it; else this is the one of the highest purity.
    value : float
        Least probability of a candidate.
    purity, completeness : Estimate
        With 95 % intervals.
    low, high : float
        r magnitudes between which this was measured, and outside of which nothing is a candidate.
    objects : int
        Held-out objects behind it.
    """

    name: str
    asked: float
    reached: bool
    value: float
    purity: Estimate
    completeness: Estimate
    low: float
    high: float
    objects: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON holds it.

        Returns
        -------
        dict
            What json.dumps takes.
        """
        return {
            "class": self.name,
            "purity_asked": self.asked,
            "reached": self.reached,
            "threshold": self.value,
            "purity": self.purity.to_json(),
            "completeness": self.completeness.to_json(),
            "r": [self.low, self.high] if np.isfinite(self.low) else None,
            "held_out_objects": self.objects,
        }


def checked(name: str, purity: float) -> int:
    """Check what is asked of a list of candidates.

    Parameters
    ----------
    name : str
        A class.
    purity : float
        Wanted.

    Returns
    -------
    int
        Position of the class in `labels.CLASSES`.

    Raises
    ------
    UsageError
        If the class is unknown or the purity no share.
    """
    if not 0 < purity < 1:
        raise UsageError(f"A purity of {purity:g}: give a share above 0 and below 1.")
    if name not in labels.CLASSES:
        raise UsageError(f"Candidates {name!r}: the classes are {', '.join(labels.CLASSES)}.")
    return labels.index(name)


def threshold(mix: Mix, score: Array, name: str, purity: float, seed: int = 0) -> Threshold:
    """Find the lowest threshold whose list is pure enough.

    Parameters
    ----------
    mix : Mix
        Objects that stand for a sky.
    score : ndarray
        (n,) their probabilities of the class, for this sky.
    name : str
        The class.
    purity : float
        Wanted, above 0 and below 1.
    seed : int
        Of the draws behind the intervals.

    Returns
    -------
    Threshold
        The most complete list of this purity or, where there is none, the purest.

    Raises
    ------
    UsageError
        If the class is unknown or the purity no share.
    """
    target = checked(name, purity)
    found = curve(mix, score, target)
    good = np.flatnonzero(found.purity >= purity)
    at = int(good[-1]) if len(good) else int(found.purity.argmax())
    value = float(found.threshold[at])
    drawn = _drawn(mix, score >= value, target, np.random.default_rng(seed))
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    (purity_low, purity_high), (low, high) = (np.quantile(values, ends) for values in drawn)
    return Threshold(
        name,
        purity,
        bool(len(good)),
        value,
        Estimate(float(found.purity[at]), float(purity_low), float(purity_high)),
        Estimate(float(found.completeness[at]), float(low), float(high)),
        mix.low,
        mix.high,
        len(score),
    )


def _drawn(
    mix: Mix, passed: NDArray[np.bool_], target: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draw purity and completeness from the posteriors of the rates at which objects pass."""
    hits = np.zeros(mix.count.shape)
    np.add.at(hits, (mix.stratum[passed], mix.truth[passed]), 1)
    # Half an object a class, spread over its bins as its objects are.
    half = _HALF * mix.count / np.maximum(mix.count.sum(axis=0), 1)
    there = mix.count > 0
    above, below = (hits + half)[there], (mix.count - hits + half)[there]
    rate = rng.beta(above, below, size=(DRAWS, len(above)))
    sky = np.zeros((DRAWS, *mix.count.shape))
    sky[:, there] = rate * mix.expected[there]
    classes = sky.sum(axis=1)
    right = classes[:, target]
    with np.errstate(invalid="ignore"):
        pure = right / classes.sum(axis=1)
    return np.nan_to_num(pure), right / mix.expected[:, target].sum()
