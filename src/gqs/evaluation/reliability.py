"""Whether a probability of 0.8 is right eight times in ten."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gqs.evaluation.intervals import RESAMPLES, Estimate, bootstrap, wilson
from gqs.evaluation.matched import Judged

BINS = 15  # of confidence, equal in width (Guo et al. 2017)


def log_losses(judged: Judged) -> NDArray[np.float64]:
    """Log loss of each object: minus the logarithm of its true class's probability: (n,) nats; a
    probability of 0 counts as the smallest step of float64 above it.
    """
    given = judged.probability[np.arange(len(judged)), judged.truth]
    return np.asarray(-np.log(np.maximum(given, np.finfo(np.float64).eps)))


def brier_scores(judged: Judged) -> NDArray[np.float64]:
    """Brier score of each object: squared distance of probabilities and truth. Brier 1950: (n,)
    from 0 to 2, summed over the three classes.
    """
    truth = np.eye(judged.probability.shape[1])[judged.truth]
    return np.asarray(((judged.probability - truth) ** 2).sum(axis=1))


@dataclass(frozen=True)
class ReliabilityBin:
    """Objects of like confidence: how sure the network was, and how often it was right."""

    count: int
    confidence: float
    right: Estimate


def reliability(
    score: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS
) -> list[ReliabilityBin]:
    """Sort objects into bins of confidence, equal in width, and count how often each was right."""
    which = np.minimum((score * bins).astype(int), bins - 1)
    found = []
    for i in np.unique(which):
        inside = which == i
        count, hits = int(inside.sum()), int(right[inside].sum())
        found.append(ReliabilityBin(count, float(score[inside].mean()), wilson(hits, count)))
    return found


def expected_calibration_error(judged: Judged, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy, weighted by count. Guo et al. 2017, eq. 5."""
    confidence = judged.probability.max(axis=1)
    found = reliability(confidence, judged.correct, bins)
    gaps = [part.count * abs(part.right.value - part.confidence) for part in found]
    return float(sum(gaps) / len(judged)) if len(judged) else float("nan")


def gaps(judged: Judged, bins: int = BINS) -> NDArray[np.float64]:
    """Put each object's right (1) or wrong (0) less its confidence into its bin of confidence: (n,
    bins): with weights w, |w @ gaps| summed and over the sum of w is the calibration error.
    """
    confidence = judged.probability.max(axis=1)
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    found = np.zeros((len(judged), bins))
    found[np.arange(len(judged)), which] = judged.correct - confidence
    return found


def turned(found: Estimate) -> Estimate:
    """Turn a percentile interval of a calibration error into a basic one.

    Drawing again adds chance to every gap, so that resampled errors lie above the measured one as
    this lies above the true one. The basic bootstrap, 2 x - q, takes that out (Davison & Hinkley
    1997, section 5.2); the interval is kept at or above 0 and around the value.
    """
    value = found.value
    if not np.isfinite(found.low):
        return found
    low, high = max(0.0, 2 * value - found.high), 2 * value - found.low
    return Estimate(value, min(low, value), max(high, value))


def measures(
    judged: Judged,
    groups: NDArray[np.int64] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    weight: NDArray[np.float64] | None = None,
) -> dict[str, Estimate]:
    """Measure how true probabilities are, with intervals."""
    table, loss, brier = gaps(judged), log_losses(judged), brier_scores(judged)
    worth = np.ones(len(judged)) if weight is None else weight

    def statistics(drawn: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        weights = drawn * worth
        total = weights.sum(axis=1)
        return {
            "log_loss": weights @ loss / total,
            "brier": weights @ brier / total,
            "ece": np.abs(weights @ table).sum(axis=1) / total,
        }

    found = bootstrap(statistics, len(judged), groups, resamples, seed)
    return {**found, "ece": turned(found["ece"])}
