"""Calibration: whether objects with a probability of 0.8 are of that class in 80 % of cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gqs.evaluation.intervals import RESAMPLES, Estimate, bootstrap, wilson
from gqs.evaluation.matched import MatchedPredictions

Array = NDArray[np.float64]
BINS = 15  # of confidence, equal in width (Guo et al. 2017)


def log_losses(matched: MatchedPredictions) -> Array:
    """Log loss of each object, (n,) nats; a probability of 0 counts as the float64 epsilon."""
    of_truth = matched.probability[np.arange(len(matched)), matched.truth]
    return np.asarray(-np.log(np.maximum(of_truth, np.finfo(np.float64).eps)))


def brier_scores(matched: MatchedPredictions) -> Array:
    """Brier score of each object, summed over the three classes, (n,) 0 to 2 (Brier 1950)."""
    truth = np.eye(matched.probability.shape[1])[matched.truth]
    return np.asarray(((matched.probability - truth) ** 2).sum(axis=1))


@dataclass(frozen=True)
class ReliabilityBin:
    """Objects of similar confidence: its mean, and the fraction that is correct."""

    count: int
    confidence: float
    correct: Estimate


def reliability(score: Array, correct: NDArray[np.bool_], bins: int = BINS) -> list[ReliabilityBin]:
    """Fraction correct in bins of confidence of equal width; empty bins are left out."""
    number = np.minimum((score * bins).astype(int), bins - 1)
    filled = []
    for i in np.unique(number):
        inside = number == i
        count, hits = int(inside.sum()), int(correct[inside].sum())
        filled.append(ReliabilityBin(count, float(score[inside].mean()), wilson(hits, count)))
    return filled


def expected_calibration_error(matched: MatchedPredictions, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy, weighted by count (Guo et al. 2017, eq. 5)."""
    filled = reliability(matched.probability.max(axis=1), matched.correct, bins)
    gaps = [part.count * abs(part.correct.value - part.confidence) for part in filled]
    return float(sum(gaps) / len(matched)) if len(matched) else float("nan")


def calibration_gaps(matched: MatchedPredictions, bins: int = BINS) -> Array:
    """Correct (1 or 0) minus confidence of each object, in its bin of confidence: (n, bins).

    With weights w, the sum of |w @ gaps| over the sum of w is the calibration error.
    """
    confidence = matched.probability.max(axis=1)
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.zeros((len(matched), bins))
    gaps[np.arange(len(matched)), number] = matched.correct - confidence
    return gaps


def basic_interval(percentile: Estimate) -> Estimate:
    """The basic bootstrap interval of a calibration error, from its percentile interval.

    Resampling adds noise to every gap, so that resampled errors lie above the measured one as
    that lies above the true one. The basic bootstrap, 2 x - q, removes this (Davison & Hinkley
    1997, section 5.2); the interval is kept at or above 0 and around the value.
    """
    value = percentile.value
    if not np.isfinite(percentile.low):
        return percentile
    low, high = max(0.0, 2 * value - percentile.high), 2 * value - percentile.low
    return Estimate(value, min(low, value), max(high, value))


def calibration_measures(
    matched: MatchedPredictions,
    groups: NDArray[np.int64] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    weight: Array | None = None,
) -> dict[str, Estimate]:
    """Log loss, Brier score and calibration error with intervals; `weight` (n,) of the objects."""
    gaps, loss, brier = calibration_gaps(matched), log_losses(matched), brier_scores(matched)
    weight = np.ones(len(matched)) if weight is None else weight

    def statistics(drawn: Array) -> dict[str, Array]:
        weights = drawn * weight
        total = weights.sum(axis=1)
        return {
            "log_loss": weights @ loss / total,
            "brier": weights @ brier / total,
            "ece": np.abs(weights @ gaps).sum(axis=1) / total,
        }

    estimates = bootstrap(statistics, len(matched), groups, resamples, seed)
    return {**estimates, "ece": basic_interval(estimates["ece"])}
