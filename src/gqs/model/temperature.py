"""Temperature scaling of logits, with a temperature that may depend on magnitude.

Guo et al. 2017 (ICML, section 4.2) divide all logits by one number. Networks are often
overconfident on faint objects and underconfident on bright ones, so here log T is piecewise linear
in magnitude, with a normal prior that pulls each knot towards the overall log T. The order of a
row's probabilities never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

Array = NDArray[np.float64]

KNOTS: Final = (15.0, 17.0, 18.0, 19.0, 20.0, 21.0, 22.0, 23.0)  # r magnitudes
SPREAD_OVERALL: Final = 1.0  # standard deviation of the prior on log T
SPREAD_KNOT: Final = 0.2  # standard deviation of the prior on a knot's offset
MOST: Final = 3.0  # |log T|: 0.05 to 20
FLOOR: Final = 1e-300  # smallest probability, so that its logarithm is finite


@dataclass(frozen=True)
class Temperature:
    """Temperature by magnitude, by which logits are divided."""

    overall: float = 1.0  # for objects without magnitude, and for models without magnitudes
    knots: tuple[float, ...] = ()  # r magnitudes, increasing; empty for a single temperature
    at_knots: tuple[float, ...] = ()  # temperature at each; constant beyond the first and last

    def __post_init__(self) -> None:
        values = np.array([self.overall, *self.at_knots])
        rising = np.diff(np.array(self.knots)) > 0
        if len(self.knots) != len(self.at_knots) or not rising.all():
            raise ValueError("its knots do not increase, or differ in number from its temperatures")
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise ValueError("a temperature is not positive")

    def at(self, mag_r: Array) -> Array:
        """Temperature of objects, (n,)."""
        mag_r = np.asarray(mag_r, dtype=np.float64)
        if not self.knots:
            return np.full(len(mag_r), self.overall)
        logs = np.interp(mag_r, self.knots, np.log(self.at_knots))
        return np.where(np.isfinite(mag_r), np.exp(logs), self.overall)

    def probabilities(self, logits: Array, mag_r: Array) -> Array:
        """Calibrated probabilities of logits, (n, 3); the order within a row is unchanged."""
        return np.asarray(softmax(logits / self.at(mag_r)[:, None], axis=1))

    def undone(self, probabilities: Array, mag_r: Array) -> Array:
        """Probabilities before calibration, (n, 3): the softmax of the logits."""
        logs = np.log(np.maximum(probabilities, FLOOR))
        return np.asarray(softmax(logs * self.at(mag_r)[:, None], axis=1))

    def to_json(self) -> dict[str, Any]:
        """The temperature as in model.json."""
        return {
            "overall": self.overall,
            "knots": list(self.knots),
            "at_knots": list(self.at_knots),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Temperature:
        """Parse the temperature from model.json."""
        try:
            knots = tuple(float(value) for value in values["knots"])
            at_knots = tuple(float(value) for value in values["at_knots"])
            return cls(float(values["overall"]), knots, at_knots)
        except (KeyError, TypeError) as error:
            raise ValueError(f"it lacks {error}") from error


def fit(
    logits: Array, truth: NDArray[np.int64], mag_r: Array, moved: Array | float = 0.0
) -> Temperature:
    """Fit the temperature to validation objects by log loss."""
    if not len(logits):
        return Temperature()
    moved = np.broadcast_to(moved, logits.shape)
    everyone = np.zeros((len(logits), 0))
    (overall,) = _fitted(logits, truth, moved, everyone, 0.0)
    known = np.isfinite(mag_r)
    if not known.any():
        return Temperature(float(np.exp(overall)))
    # (n, knot) interpolation weight of each knot at each object's magnitude
    hats = np.stack([np.interp(mag_r[known], KNOTS, row) for row in np.eye(len(KNOTS))], axis=1)
    centre, *steps = _fitted(logits[known], truth[known], moved[known], hats, overall)
    at_knots = np.exp(np.clip(centre + np.array(steps), -MOST, MOST))
    return Temperature(float(np.exp(overall)), KNOTS, tuple(at_knots.tolist()))


def _fitted(
    logits: Array, truth: NDArray[np.int64], moved: Array, hats: Array, start: float
) -> Array:
    """Overall log T and the offset of each knot that minimise log loss plus priors."""
    spreads = np.array([SPREAD_OVERALL, *[SPREAD_KNOT] * hats.shape[1]])
    basis = np.column_stack([np.ones(len(logits)), hats])
    own = np.arange(len(logits)), truth

    def loss(steps: Array) -> tuple[float, Array]:
        scaled = logits * np.exp(-basis @ steps)[:, None]
        logs = log_softmax(scaled + moved, axis=1)
        # d(-log p_y) / d(log T) = u_y - sum_c p_c u_c for scaled logits u
        slope = scaled[own] - (np.exp(logs) * scaled).sum(axis=1)
        value = -logs[own].sum() + 0.5 * ((steps / spreads) ** 2).sum()
        return float(value), slope @ basis + steps / spreads**2

    first = np.zeros(len(spreads))
    first[0] = start
    found = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=[(-MOST, MOST)] * len(first))
    return np.asarray(found.x, dtype=np.float64)
