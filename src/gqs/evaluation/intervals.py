"""Confidence intervals: percentile bootstrap over objects or groups of them, and Wilson's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

LEVEL: Final = 0.95
RESAMPLES: Final = 1000
_CHUNK: Final = 2_000_000  # weights in memory at a time


@dataclass(frozen=True)
class Estimate:
    """A measured value and its 95 % interval; NaN where something is not defined."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    def to_json(self) -> dict[str, float | None]:
        """JSON form; None for what is not defined."""
        return {"value": finite(self.value), "low": finite(self.low), "high": finite(self.high)}


def finite(value: float) -> float | None:
    """The value, or None where it is NaN or infinite, which JSON lacks."""
    return float(value) if np.isfinite(value) else None


def wilson(hits: int, count: int, level: float = LEVEL) -> Estimate:
    """A proportion with its Wilson interval (Wilson 1927).

    It holds for few objects, and for none or all of them, where a bootstrap has no spread.
    """
    if count == 0:
        return Estimate(float("nan"))
    share, z = hits / count, float(norm.ppf((1 + level) / 2))
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return Estimate(share, float(max(0.0, middle - half)), float(min(1.0, middle + half)))


def resamplings(
    n: int, groups: NDArray[np.int64] | None, resamples: int, seed: int
) -> Iterator[NDArray[np.float64]]:
    """Bootstrap samples in chunks of (k, n): how often each object was drawn.

    `groups` (n,) numbers the groups that are drawn as a whole; None draws single objects.
    """
    rng = np.random.default_rng(seed)
    member = np.arange(n) if groups is None else groups
    units = int(member.max()) + 1 if n else 0
    step = max(1, _CHUNK // max(n, 1))
    for first in range(0, resamples, step):
        rows = min(step, resamples - first)
        drawn = rng.integers(0, units, size=(rows, units))
        times = np.stack([np.bincount(row, minlength=units) for row in drawn])
        yield times[:, member].astype(np.float64)


def bootstrap(
    statistics: Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]],
    n: int,
    groups: NDArray[np.int64] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Estimate]:
    """Percentile bootstrap of several statistics at once (Efron 1979).

    `statistics` maps weights of the objects (k, n) to (k,) values by name.
    """
    values = statistics(np.ones((1, n)))
    parts = [statistics(weights) for weights in resamplings(n, groups, resamples, seed)]
    estimates = {}
    for name, value in values.items():
        drawn = np.concatenate([part[name] for part in parts])
        drawn = drawn[np.isfinite(drawn)]
        ends = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.quantile(drawn, ends) if len(drawn) else (np.nan, np.nan)
        estimates[name] = Estimate(float(value[0]), float(low), float(high))
    return estimates
