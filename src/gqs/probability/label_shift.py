"""Label shift: class fractions by magnitude, and Bayes' rule for other fractions.

The probabilities of a network are valid for the class fractions of its training set. On a sky where
class c has the fraction s_c(r) instead of l_c(r), they become p_c s_c / l_c, normalised to sum to 1
(Saerens, Latinne & Decaestecker 2002, Neural Computation 14, 21), provided that objects of a class
at the same magnitude look alike in both.
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
PSEUDO: Final = 3.0  # objects with the overall fractions that are added at every magnitude


@dataclass(frozen=True)
class ClassFractions:
    """Class fractions at some magnitudes, interpolated linearly in the logarithm."""

    r: Array  # (k,) magnitudes, rising
    share: Array  # (k, 3) positive; each row sums to 1

    @property
    def by_magnitude(self) -> bool:
        """Whether the fractions depend on magnitude."""
        return len(self.r) > 1

    def at(self, mag_r: Array) -> Array:
        """Fractions at magnitudes, (n, 3), constant beyond the ends; NaN for unknown magnitudes."""
        mag_r = np.asarray(mag_r, dtype=np.float64)
        if not self.by_magnitude:
            return np.repeat(self.share, len(mag_r), axis=0)
        logs = [np.interp(mag_r, self.r, column) for column in np.log(self.share).T]
        found = np.exp(np.stack(logs, axis=1))
        return np.asarray(found / found.sum(axis=1, keepdims=True))

    def to_json(self) -> dict[str, Any]:
        """The fractions as in model.json."""
        found: dict[str, Any] = {"r": [round(float(value), 3) for value in self.r]}
        for i, name in enumerate(labels.CLASSES):
            found[name] = [float(f"{value:.6g}") for value in self.share[:, i]]
        return found

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ClassFractions:
        """Parse the fractions from model.json."""
        try:
            r = np.array(values["r"], dtype=np.float64)
            share = np.array([values[name] for name in labels.CLASSES], dtype=np.float64).T
        except (KeyError, TypeError) as error:
            raise ValueError(f"it lacks {error}") from error
        if share.shape != (len(r), COUNT) or not len(r) or (np.diff(r) <= 0).any():
            raise ValueError(
                "its magnitudes do not increase, or differ in number from its fractions"
            )
        if not (np.isfinite(share).all() and (share > 0).all() and np.isfinite(r).all()):
            raise ValueError("a fraction is not positive")
        return cls(r, share / share.sum(axis=1, keepdims=True))


def training_fractions(
    truth: NDArray[np.int64], mag_r: Array, weights: Array | None = None
) -> ClassFractions:
    """Class fractions of a training set by magnitude, smoothed."""
    worth = np.ones(COUNT) if weights is None else np.asarray(weights, dtype=np.float64)
    counts = np.bincount(truth, minlength=COUNT) * worth
    overall = (counts + 1 / COUNT) / (counts + 1 / COUNT).sum()
    known = np.isfinite(mag_r)
    if not known.any():
        return ClassFractions(np.array([0.0]), overall[None])
    low, high = np.quantile(mag_r[known], [0.002, 0.998])
    r = np.arange(np.floor(low / STEP), np.ceil(high / STEP) + 1) * STEP
    cell = np.clip(np.rint((mag_r[known] - r[0]) / STEP).astype(int), 0, len(r) - 1)
    table = np.zeros((len(r), COUNT))
    np.add.at(table, (cell, truth[known]), worth[truth[known]])
    # A kernel of height 1, so that the sum is the number of neighbouring objects.
    height = SMOOTHING / STEP * np.sqrt(2 * np.pi)
    around = height * gaussian_filter1d(table, SMOOTHING / STEP, axis=0, mode="constant")
    found = around + PSEUDO * overall
    found /= found.sum(axis=1, keepdims=True)
    if len(r) < 2:
        return ClassFractions(r[:1], found[:1])
    return ClassFractions(r, found)


def matching_fractions(
    truth: NDArray[np.int64], mag_r: Array, learned: ClassFractions
) -> ClassFractions:
    """Class fractions of other objects, by magnitude if those of the training set are."""
    unknown = np.full(len(truth), np.nan)
    return training_fractions(truth, mag_r if learned.by_magnitude else unknown)


def reweight(probabilities: Array, wanted: Array, learned: Array) -> Array:
    """Probabilities for other class fractions than the training set's, (n, 3); NaN stays NaN.

    Saerens et al. 2002.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        odds = probabilities * (wanted / learned)
        total = odds.sum(axis=1, keepdims=True)
        found = odds / total
    usable = np.isfinite(found).all(axis=1) & (total[:, 0] > 0)
    return np.where(usable[:, None], found, probabilities)


def shift(wanted: ClassFractions, learned: ClassFractions, mag_r: Array) -> Array:
    """Shift of logits between two sets of fractions: the logarithm of their ratio, (n, 3)."""
    ratio = np.log(wanted.at(mag_r)) - np.log(learned.at(mag_r))
    return np.asarray(np.nan_to_num(ratio))
