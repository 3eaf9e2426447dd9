"""ROC curves and the area under them, one class against the rest. Paper eqs. 6 and 7.

Equation (7) is printed as FP / (TP + FP); the false positive rate is FP / (FP + TN), and that is
what is drawn here, in the paper's own Figure 15 and in every library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from gqs import labels
from gqs.evaluation.matched import Judged

MACRO: Final = "macro"
MICRO: Final = "micro"


@dataclass(frozen=True)
class Curve:
    """One ROC curve: false and true positive rate, each (k,), and the area under it."""

    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]
    auc: float


def curves(judged: Judged) -> dict[str, Curve]:
    """ROC curves of each class against the rest, their macro mean, and the micro curve."""
    found = {}
    for i, name in enumerate(labels.CLASSES):
        positive = judged.truth == i
        if positive.any() and not positive.all():
            found[name] = _curve(positive, judged.probability[:, i])
    if not found:
        return {}
    grid = np.unique(np.concatenate([curve.fpr for curve in found.values()]))
    mean = np.mean([np.interp(grid, curve.fpr, curve.tpr) for curve in found.values()], axis=0)
    area = float(np.mean([curve.auc for curve in found.values()]))
    pooled = np.eye(len(labels.CLASSES), dtype=bool)[judged.truth].ravel()
    return found | {
        MACRO: Curve(np.append(0, grid), np.append(0, mean), area),
        MICRO: _curve(pooled, judged.probability.ravel()),
    }


def _curve(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> Curve:
    fpr, tpr, _ = roc_curve(positive, score)
    return Curve(fpr, tpr, float(np.trapezoid(tpr, fpr)))


class Ranking:
    """Scores ranked once, for the area under the curve of many resamplings of the same objects.

    The area is the chance that a positive outranks a negative, ties counting half (Hanley & McNeil
    1982), so that a resampling needs only cumulative sums of its weights.
    """

    def __init__(self, positive: NDArray[np.bool_], score: NDArray[np.float64]) -> None:
        self._order = np.argsort(score, kind="stable")
        ranked = score[self._order]
        self._starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
        self._positive = positive[self._order]

    def area(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Area under the curve for each row of weights: (b,), NaN where positives or negatives are
        lacking.
        """
        ranked = weights[:, self._order]
        positive = np.add.reduceat(ranked * self._positive, self._starts, axis=1)
        negative = np.add.reduceat(ranked * ~self._positive, self._starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray((positive * below).sum(axis=1) / pairs)
