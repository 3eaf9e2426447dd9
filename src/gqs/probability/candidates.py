"""Candidates of one class: the threshold of a list with a given purity, and its completeness.

Validation objects are weighted to represent the sky of a prior (`poststratify`). Purity and
completeness above a threshold are fractions of weights. They are counted on objects, so they are
valid even if probabilities are not calibrated.

Events that were not observed may still occur: each other class counts as if half an object more
had passed the threshold (Jeffreys prior of a rate). Intervals are the central 95 % of purities and
completenesses drawn from the posteriors of the rates, a beta distribution for each class and bin.
At least 30 validation objects of the class must be above the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gqs import labels
from gqs.errors import UsageError
from gqs.evaluation.intervals import LEVEL, Estimate
from gqs.probability.poststratify import Mix

Array = NDArray[np.float64]
Index = NDArray[np.int64]

DRAWS: Final = 4000
FEWEST: Final = 30  # validation objects of the class above a threshold
_HALF: Final = 0.5  # Jeffreys


@dataclass(frozen=True)
class Curve:
    """Purity and completeness of a list at every threshold, falling thresholds first."""

    # (k,) lowest probability in the list, and properties of the list. Purity includes the half
    # objects that were not observed.
    threshold: Array
    purity: Array
    completeness: Array
    count: Index  # (k,) validation objects of the class in the list


def curve(mix: Mix, score: Array, target: int) -> Curve:
    """Measure purity and completeness at every threshold."""
    order = np.argsort(-score, kind="stable")
    weight, right = mix.weight[order], mix.truth[order] == target
    found, wrong = np.cumsum(weight * right), np.cumsum(weight * ~right)
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    with np.errstate(invalid="ignore"):
        purity = found[last] / (found[last] + wrong[last] + _unseen(mix, target))
    completeness = found[last] / mix.expected[:, target].sum()
    return Curve(score[order][last], purity, completeness, np.cumsum(right)[last])


@dataclass(frozen=True)
class Threshold:
    """Threshold of a candidate list, with the purity and completeness of the list."""

    name: str  # the class
    asked: float  # requested purity
    # whether any threshold reaches it with enough objects; otherwise the one of the highest
    # purity
    reached: bool
    value: float  # lowest probability of a candidate
    purity: Estimate  # with 95 % intervals
    completeness: Estimate
    # range of r magnitudes in which this was measured; nothing outside is a candidate
    low: float
    high: float
    objects: int  # number of validation objects
    above: int  # number of those of the class above the threshold
    why: str = ""  # reason if the purity is not reached, as part of a sentence

    def to_json(self) -> dict[str, Any]:
        """The threshold as a JSON mapping."""
        return {
            "class": self.name,
            "purity_asked": self.asked,
            "reached": self.reached,
            "threshold": self.value,
            "purity": self.purity.to_json(),
            "completeness": self.completeness.to_json(),
            "r": [self.low, self.high] if np.isfinite(self.low) else None,
            "held_out_objects": self.objects,
            "held_out_above": self.above,
            "why_not": self.why or None,
        }


def checked(name: str, purity: float) -> int:
    """Check class and purity of a candidate list; returns the index of the class."""
    if not 0 < purity < 1:
        raise UsageError(f"Purity {purity:g}: must be a fraction above 0 and below 1.")
    if name not in labels.CLASSES:
        raise UsageError(f"Candidates {name!r}: the classes are {', '.join(labels.CLASSES)}.")
    return labels.index(name)


def threshold(mix: Mix, score: Array, name: str, purity: float, seed: int = 0) -> Threshold:
    """The lowest threshold whose list reaches the purity."""
    target = checked(name, purity)
    found = curve(mix, score, target)
    pure, enough = found.purity >= purity, found.count >= FEWEST
    good, why = np.flatnonzero(pure & enough), ""
    if len(good):
        at = int(good[-1])
    elif enough.any():
        at = int(np.where(enough, found.purity, -1).argmax())
        why = "no threshold reaches it"
        if pure.any():
            most = int(found.count[pure].max())
            why = f"only {most} held-out {name} lie above one that does, and {FEWEST} are needed"
    else:
        at = int(found.purity.argmax())
        why = f"only {int(found.count[-1])} {name} were held out, and {FEWEST} are needed"
    value = float(found.threshold[at])
    purity_found, completeness = worth(mix, score >= value, target, seed)
    return Threshold(
        name,
        purity,
        bool(len(good)),
        value,
        purity_found,
        completeness,
        float(mix.ends[0]),
        float(mix.ends[-1]),
        len(score),
        int(found.count[at]),
        why,
    )


def worth(
    mix: Mix, passed: NDArray[np.bool_], target: int, seed: int = 0
) -> tuple[Estimate, Estimate]:
    """Purity and completeness of a list on the sky that the weighted objects represent."""
    weight, right = mix.weight * passed, mix.truth == target
    found, wrong = weight[right].sum(), weight[~right].sum()
    drawn = _drawn(mix, passed, target, np.random.default_rng(seed))
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    pure, complete = (np.quantile(values, ends).tolist() for values in drawn)
    return (
        Estimate(float(found / (found + wrong + _unseen(mix, target))), *pure),
        Estimate(float(found / mix.expected[:, target].sum()), *complete),
    )


def by_magnitude(mix: Mix, decided: Index, target: int) -> tuple[Array, Array]:
    """Purity and completeness of a class by magnitude bin, (bin,) each; NaN without objects."""
    bins = len(mix.count)
    right = (decided == target) & (mix.truth == target)
    found, chosen = (
        np.bincount(mix.stratum, mix.weight * which, bins) for which in (right, decided == target)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return found / chosen, found / mix.expected[:, target]


def _unseen(mix: Mix, target: int) -> float:
    """Half an object of each other class, in units of objects of the sky."""
    each = mix.expected.sum(axis=0) / np.maximum(mix.count.sum(axis=0), 1)
    return float(_HALF * np.delete(each, target).sum())


def _drawn(
    mix: Mix, passed: NDArray[np.bool_], target: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draws of purity and completeness from the posteriors of the selection rates."""
    hits = np.zeros(mix.count.shape)
    np.add.at(hits, (mix.stratum[passed], mix.truth[passed]), 1)
    # Half an object per class, distributed over its bins like its objects.
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
