"""Class shares by magnitude, and Bayes' rule for a sky with other shares.

A network's probabilities hold for the mix of classes that it learned from. On a sky where class c
has the share s_c(r) in place of the learned l_c(r), they become p_c s_c / l_c, scaled to sum to 1
(Saerens, Latinne & Decaestecker 2002, Neural Computation 14, 21), provided that a class's
objects of one magnitude look alike on both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from gqs import labels

Array = NDArray[np.float64]

COUNT: Final = len(labels.CLASSES)
STEP: Final = 0.1  # magnitudes
SMOOTHING: Final = 0.3  # magnitudes: standard deviation of the kernel
PSEUDO: Final = 3.0  # objects of the overall mix that are added at every magnitude


@dataclass(frozen=True)
class Shares:
    """Shares of the classes at some magnitudes; between them, straight in the logarithm."""

    r: Array  # (k,) magnitudes, rising
    share: Array  # (k, 3) positive; each row sums to 1

    @property
    def by_magnitude(self) -> bool:
        """Whether they depend on magnitude at all."""
        return len(self.r) > 1

    def at(self, mag_r: Array) -> Array:
        """Return the shares at magnitudes; those of the ends beyond the ends: (n, 3), each row sums
        to 1; NaN where the magnitude is NaN and the shares depend on it.
        """
        mag_r = np.asarray(mag_r, dtype=np.float64)
        if not self.by_magnitude:
            return np.repeat(self.share, len(mag_r), axis=0)
        logs = [np.interp(mag_r, self.r, column) for column in np.log(self.share).T]
        found = np.exp(np.stack(logs, axis=1))
        return np.asarray(found / found.sum(axis=1, keepdims=True))

    def to_json(self) -> dict[str, Any]:
        """Return them as model.json holds them."""
        found: dict[str, Any] = {"r": [round(float(value), 3) for value in self.r]}
        for i, name in enumerate(labels.CLASSES):
            found[name] = [float(f"{value:.6g}") for value in self.share[:, i]]
        return found

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Shares:
        """Read them from model.json."""
        try:
            r = np.array(values["r"], dtype=np.float64)
            share = np.array([values[name] for name in labels.CLASSES], dtype=np.float64).T
        except (KeyError, TypeError) as error:
            raise ValueError(f"it lacks {error}") from error
        if share.shape != (len(r), COUNT) or not len(r) or (np.diff(r) <= 0).any():
            raise ValueError("its magnitudes do not rise, or are not as many as its shares")
        if not (np.isfinite(share).all() and (share > 0).all() and np.isfinite(r).all()):
            raise ValueError("a share is not positive")
        return cls(r, share / share.sum(axis=1, keepdims=True))


def learned_shares(truth: NDArray[np.int64], mag_r: Array, weights: Array | None = None) -> Shares:
    """Count the classes that a network learned from, by magnitude."""
    worth = np.ones(COUNT) if weights is None else np.asarray(weights, dtype=np.float64)
    counts = np.bincount(truth, minlength=COUNT) * worth
    overall = (counts + 1 / COUNT) / (counts + 1 / COUNT).sum()
    known = np.isfinite(mag_r)
    if not known.any():
        return Shares(np.array([0.0]), overall[None])
    low, high = np.quantile(mag_r[known], [0.002, 0.998])
    r = np.arange(np.floor(low / STEP), np.ceil(high / STEP) + 1) * STEP
    cell = np.clip(np.rint((mag_r[known] - r[0]) / STEP).astype(int), 0, len(r) - 1)
    table = np.zeros((len(r), COUNT))
    np.add.at(table, (cell, truth[known]), worth[truth[known]])
    # A kernel of height 1, so that the sum is the number of objects around.
    height = SMOOTHING / STEP * np.sqrt(2 * np.pi)
    around = height * gaussian_filter1d(table, SMOOTHING / STEP, axis=0, mode="constant")
    found = around + PSEUDO * overall
    found /= found.sum(axis=1, keepdims=True)
    if len(r) < 2:
        return Shares(r[:1], found[:1])
    return Shares(r, found)


def own_shares(truth: NDArray[np.int64], mag_r: Array, learned: Shares) -> Shares:
    """Count the classes of other objects as the learned ones were: by magnitude, or all at once."""
    unknown = np.full(len(truth), np.nan)
    return learned_shares(truth, mag_r if learned.by_magnitude else unknown)


def reweighed(probabilities: Array, wanted: Array, learned: Array) -> Array:
    """Give probabilities for other shares of the classes than were learned. Saerens et al. 2002:
    (n, 3), each row sums to 1; NaN where `probabilities` is.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        odds = probabilities * (wanted / learned)
        total = odds.sum(axis=1, keepdims=True)
        found = odds / total
    usable = np.isfinite(found).all(axis=1) & (total[:, 0] > 0)
    return np.where(usable[:, None], found, probabilities)


def shift(wanted: Shares, learned: Shares, mag_r: Array) -> Array:
    """Return what moves logits from the learned shares to others: the log of their ratio."""
    ratio = np.log(wanted.at(mag_r)) - np.log(learned.at(mag_r))
    return np.asarray(np.nan_to_num(ratio))
