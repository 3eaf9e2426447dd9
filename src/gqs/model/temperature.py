"""Temperature scaling: logits softened or sharpened until probabilities come true.

Guo et al. 2017 (ICML, section 4.2) divide all logits by one number. A network is often too sure
of faint objects and not sure enough of bright ones, so here the number may follow the magnitude:
log T is piecewise linear between knots, and each knot is drawn to the overall log T as by a normal
prior, so that few objects cannot make it wild. The order of a row's probabilities never changes.
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
SPREAD_OVERALL: Final = 1.0  # of the prior on log T: a factor of e
SPREAD_KNOT: Final = 0.2  # of the prior on a knot's distance from the overall log T
MOST: Final = 3.0  # |log T|: 0.05 to 20
FLOOR: Final = 1e-300  # probabilities under it count as it, so that their logarithm is finite


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by, at each magnitude."""

    overall: float = 1.0  # for objects without a magnitude, and for models that measure none
    knots: tuple[float, ...] = ()  # r magnitudes, rising; empty where one temperature serves all
    at_knots: tuple[float, ...] = ()  # temperature at each; constant beyond the first and last

    def __post_init__(self) -> None:
        values = np.array([self.overall, *self.at_knots])
        rising = np.diff(np.array(self.knots)) > 0
        if len(self.knots) != len(self.at_knots) or not rising.all():
            raise ValueError("its knots do not rise, or are not as many as its temperatures")
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise ValueError("a temperature is not positive")

    def at(self, mag_r: Array) -> Array:
        """Return the temperature of objects: (n,)."""
        mag_r = np.asarray(mag_r, dtype=np.float64)
        if not self.knots:
            return np.full(len(mag_r), self.overall)
        logs = np.interp(mag_r, self.knots, np.log(self.at_knots))
        return np.where(np.isfinite(mag_r), np.exp(logs), self.overall)

    def probabilities(self, logits: Array, mag_r: Array) -> Array:
        """Turn logits into calibrated probabilities: (n, 3), each row sums to 1; the largest stays
        where it was.
        """
        return np.asarray(softmax(logits / self.at(mag_r)[:, None], axis=1))

    def undone(self, probabilities: Array, mag_r: Array) -> Array:
        """Return what the probabilities were before calibration: (n, 3), the plain softmax of the
        logits.
        """
        logs = np.log(np.maximum(probabilities, FLOOR))
        return np.asarray(softmax(logs * self.at(mag_r)[:, None], axis=1))

    def to_json(self) -> dict[str, Any]:
        """Return it as model.json holds it."""
        return {
            "overall": self.overall,
            "knots": list(self.knots),
            "at_knots": list(self.at_knots),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Temperature:
        """Read it from model.json."""
        try:
            knots = tuple(float(value) for value in values["knots"])
            at_knots = tuple(float(value) for value in values["at_knots"])
            return cls(float(values["overall"]), knots, at_knots)
        except (KeyError, TypeError) as error:
            raise ValueError(f"it lacks {error}") from error


def fit(
    logits: Array, truth: NDArray[np.int64], mag_r: Array, moved: Array | float = 0.0
) -> Temperature:
    """Fit the temperature on objects that the network did not learn from, by log loss."""
    if not len(logits):
        return Temperature()
    moved = np.broadcast_to(moved, logits.shape)
    everyone = np.zeros((len(logits), 0))
    (overall,) = _fitted(logits, truth, moved, everyone, 0.0)
    known = np.isfinite(mag_r)
    if not known.any():
        return Temperature(float(np.exp(overall)))
    # (n, knot): how much each knot has to say at each object's magnitude
    hats = np.stack([np.interp(mag_r[known], KNOTS, row) for row in np.eye(len(KNOTS))], axis=1)
    centre, *steps = _fitted(logits[known], truth[known], moved[known], hats, overall)
    at_knots = np.exp(np.clip(centre + np.array(steps), -MOST, MOST))
    return Temperature(float(np.exp(overall)), KNOTS, tuple(at_knots.tolist()))


def _fitted(
    logits: Array, truth: NDArray[np.int64], moved: Array, hats: Array, start: float
) -> Array:
    """Overall log T and each knot's distance from it, where log loss and priors are least."""
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
