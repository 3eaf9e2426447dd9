"""Accuracy, precision, recall, F1, ROC curves and AUC with intervals. Paper, section 4.1, eqs. 2-7.

Equation (7) is printed as FP / (TP + FP); the false positive rate is FP / (FP + TN), which is what
the paper's own Figure 15 shows and what is used here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import confusion_matrix, roc_curve

from gqs import labels
from gqs.errors import UsageError
from gqs.evaluation import reliability
from gqs.evaluation.binning import Bin, bins
from gqs.evaluation.intervals import RESAMPLES, Estimate, bootstrap, finite, wilson
from gqs.evaluation.matched import MatchedPredictions, match

Array = NDArray[np.float64]
COUNT: Final = len(labels.CLASSES)
MACRO: Final = "macro"  # name of the mean over the classes
MICRO: Final = "micro"  # name of the curve of all three decisions pooled
R_EDGES: Final = tuple(float(edge) for edge in range(13, 25))
REDSHIFT_EDGES: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 8.0)


@dataclass(frozen=True)
class Scores:
    """Scores of a confusion matrix, or of many: leading axes of the matrix are kept."""

    accuracy: Array
    precision: Array  # (..., 3)
    recall: Array
    f1: Array

    @property
    def macro(self) -> dict[str, Array]:
        """Means over the classes that occur in the truth, by name of the score."""
        present = np.isfinite(self.recall)
        with np.errstate(invalid="ignore"):
            return {
                name: np.where(present, values, 0).sum(-1) / present.sum(-1)
                for name, values in (
                    ("precision", self.precision),
                    ("recall", self.recall),
                    ("f1", self.f1),
                )
            }


def scores(confusion: ArrayLike) -> Scores:
    """Accuracy, precision, recall and F1 of confusion matrices (..., 3, 3). Paper, eqs. 2-5."""
    matrix = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    true, decided = matrix.sum(-1), matrix.sum(-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = hits.sum(-1) / true.sum(-1)  # eq. 2
        precision = np.where(decided > 0, hits / decided, 0.0)  # eq. 3
        recall = hits / true  # eq. 4
        f1 = 2 * hits / (true + decided)  # eq. 5: 2PR / (P + R) without its 0 / 0
    absent = true == 0
    return Scores(
        accuracy, np.where(absent, np.nan, precision), recall, np.where(absent, np.nan, f1)
    )


@dataclass(frozen=True)
class RocCurve:
    """False and true positive rate, each (k,), and the area. Paper, eqs. 6 and 7."""

    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]
    auc: float


def roc_curves(matched: MatchedPredictions) -> dict[str, RocCurve]:
    """Curve of each class against the rest, their mean (macro), and the pooled one (micro)."""
    curves = {}
    for i, name in enumerate(labels.CLASSES):
        positive = matched.truth == i
        if positive.any() and not positive.all():
            curves[name] = _roc_curve(positive, matched.probability[:, i])
    if not curves:
        return {}
    grid = np.unique(np.concatenate([curve.fpr for curve in curves.values()]))
    mean = np.mean([np.interp(grid, curve.fpr, curve.tpr) for curve in curves.values()], axis=0)
    area = float(np.mean([curve.auc for curve in curves.values()]))
    pooled = np.eye(len(labels.CLASSES), dtype=bool)[matched.truth].ravel()
    return curves | {
        MACRO: RocCurve(np.append(0, grid), np.append(0, mean), area),
        MICRO: _roc_curve(pooled, matched.probability.ravel()),
    }


def _roc_curve(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> RocCurve:
    fpr, tpr, _ = roc_curve(positive, score)
    return RocCurve(fpr, tpr, float(np.trapezoid(tpr, fpr)))


class RankedScores:
    """Scores sorted once, for the area under the ROC curve of many resamplings.

    The area is the probability that a positive has a higher score than a negative, ties counting
    half (Hanley & McNeil 1982), so a resampling needs only cumulative sums of its weights.
    """

    def __init__(self, positive: NDArray[np.bool_], score: NDArray[np.float64]) -> None:
        self._order = np.argsort(score, kind="stable")
        ranked = score[self._order]
        self._starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
        self._positive = positive[self._order]

    def area(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Area for each row of weights (k, n): (k,), NaN without positives or negatives."""
        ranked = weights[:, self._order]
        positive = np.add.reduceat(ranked * self._positive, self._starts, axis=1)
        negative = np.add.reduceat(ranked * ~self._positive, self._starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray((positive * below).sum(axis=1) / pairs)


@dataclass(frozen=True)
class Metrics:
    """One set of predictions measured against the truth.

    Attributes
    ----------
    objects : int
        Classified objects: every number but `accuracy_of_all` is over these.
    unclassified, unclassified_flags, without_truth, without_prediction
        Counts of the other objects, as in `matched.MatchedPredictions`.
    confusion : tuple
        Three rows (true class) of three counts (predicted class).
    overall : dict
        Estimates by name: accuracy, precision, recall, f1 and auc (means over the classes),
        auc_micro, log_loss, brier and ece.
    classes : dict
        Estimates by class and name: precision, recall, f1, auc.
    by_r, by_redshift : tuple of Bin
        All objects by r magnitude; quasars by redshift.
    unbinned : dict
        Objects (quasars) whose r (redshift) is unknown or outside the bins.
    bootstrap : dict
        Level, resamples, seed, group and number of units of the intervals.
    """

    objects: int
    unclassified: dict[str, int]
    unclassified_flags: dict[str, int]
    without_truth: int
    without_prediction: int
    confusion: tuple[tuple[int, ...], ...]
    overall: dict[str, Estimate]
    classes: dict[str, dict[str, Estimate]]
    by_r: tuple[Bin, ...]
    by_redshift: tuple[Bin, ...]
    unbinned: dict[str, int]
    bootstrap: dict[str, Any]

    @property
    def accuracy(self) -> Estimate:
        """Fraction of the classified objects that is correct."""
        return self.overall["accuracy"]

    @property
    def accuracy_of_all(self) -> float:
        """Accuracy if objects without a class count as wrong."""
        correct = sum(self.confusion[i][i] for i in range(COUNT))
        return correct / (self.objects + sum(self.unclassified.values()))

    @property
    def counts(self) -> dict[str, int]:
        """Classified objects of each true class."""
        return {name: sum(self.confusion[i]) for i, name in enumerate(labels.CLASSES)}

    def to_json(self) -> dict[str, Any]:
        """JSON form; what is not defined is null."""
        return {
            "objects": {
                "judged": self.objects,
                "by_class": self.counts,
                "not_judged": self.unclassified,
                "not_judged_flags": self.unclassified_flags,
                "without_truth": self.without_truth,
                "without_prediction": self.without_prediction,
            },
            "confusion": {"order": list(labels.CLASSES), "counts": [*map(list, self.confusion)]},
            "overall": {name: value.to_json() for name, value in self.overall.items()},
            "accuracy_of_all": finite(self.accuracy_of_all),
            "classes": {
                name: {key: value.to_json() for key, value in estimates.items()}
                for name, estimates in self.classes.items()
            },
            "by_r": [part.to_json() for part in self.by_r],
            "quasars_by_redshift": [part.to_json() for part in self.by_redshift],
            "unbinned": self.unbinned,
            "bootstrap": self.bootstrap,
        }


def evaluate(
    predictions: Table,
    truth: Table,
    *,
    group: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Metrics:
    """Match predictions with the truth and measure them.

    Parameters
    ----------
    predictions : Table
        A Predictions table.
    truth : Table
        With `objid` and `class`, and `r` (mag) and `redshift` where they are known.
    group : {"field", "run", None}
        Whether the bootstrap draws whole fields or runs.
    resamples, seed : int
        Samples and seed of the bootstrap.

    Returns
    -------
    Metrics
        Estimates with 95 % intervals.
    """
    return measure(match(predictions, truth), group=group, resamples=resamples, seed=seed)


def measure(
    matched: MatchedPredictions,
    *,
    group: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Metrics:
    """Measure predictions that are matched with the truth.

    Parameters
    ----------
    matched : MatchedPredictions
        Objects with a true and a predicted class.
    group : {"field", "run", None}
        Whether the bootstrap draws whole fields or runs; there must be two or more of them.
    resamples, seed : int
        Samples and seed of the bootstrap.

    Returns
    -------
    Metrics
        Estimates with 95 % intervals.

    Raises
    ------
    UsageError
        If no object is classified.
    """
    if not len(matched):
        raise UsageError("No object is classified, so there is nothing to measure.")
    groups = matched.groups(group)
    units = len(matched) if groups is None else int(groups.max()) + 1
    estimates = bootstrap(_Statistics(matched), len(matched), groups, resamples, seed)
    if units < 2:  # a single group has no spread between groups: no interval instead of zero
        estimates = {name: Estimate(value.value) for name, value in estimates.items()}
    estimates["ece"] = reliability.basic_interval(estimates["ece"])
    confusion = _confusion(matched)
    if groups is None or units > 1:
        _use_wilson_at_extremes(estimates, confusion)
    overall = {name: value for name, value in estimates.items() if "/" not in name}
    classes = {
        name: {key: estimates[f"{key}/{name}"] for key in ("precision", "recall", "f1", "auc")}
        for name in labels.CLASSES
    }
    quasars = matched.truth == labels.index(labels.QSO)
    by_r = bins(matched, matched.r, R_EDGES)
    by_redshift = bins(matched, np.where(quasars, matched.redshift, np.nan), REDSHIFT_EDGES)
    return Metrics(
        objects=len(matched),
        unclassified=matched.unclassified,
        unclassified_flags=matched.unclassified_flags,
        without_truth=matched.without_truth,
        without_prediction=matched.without_prediction,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        overall=overall,
        classes=classes,
        by_r=by_r,
        by_redshift=by_redshift,
        unbinned={
            "r": len(matched) - sum(part.count for part in by_r),
            "redshift": int(quasars.sum()) - sum(part.count for part in by_redshift),
        },
        bootstrap={"level": 0.95, "resamples": resamples, "seed": seed, "group": group}
        | {"units": units},
    )


def _confusion(matched: MatchedPredictions) -> NDArray[np.int64]:
    return np.asarray(confusion_matrix(matched.truth, matched.decided, labels=range(COUNT)))


class _Statistics:
    """All statistics that are bootstrapped, for many weightings (k, n) of the same objects."""

    def __init__(self, matched: MatchedPredictions) -> None:
        self._cell = np.eye(COUNT**2)[matched.truth * COUNT + matched.decided]  # (n, 9)
        self._loss = reliability.log_losses(matched)
        self._brier = reliability.brier_scores(matched)
        self._gaps = reliability.calibration_gaps(matched)
        truth = np.eye(COUNT, dtype=bool)[matched.truth]
        self._classes = [RankedScores(truth[:, i], matched.probability[:, i]) for i in range(COUNT)]
        self._pooled = RankedScores(truth.ravel(), matched.probability.ravel())

    def __call__(self, weights: Array) -> dict[str, Array]:
        total = weights.sum(axis=1)
        of_matrix = scores((weights @ self._cell).reshape(-1, COUNT, COUNT))
        areas = np.stack([ranking.area(weights) for ranking in self._classes], axis=-1)
        with np.errstate(invalid="ignore"):
            macro_area = np.nansum(areas, -1) / np.isfinite(areas).sum(-1)
        overall = {"accuracy": of_matrix.accuracy, **of_matrix.macro, "auc": macro_area}
        overall["auc_micro"] = self._pooled.area(np.repeat(weights, COUNT, axis=1))
        overall |= {"log_loss": weights @ self._loss / total}
        overall |= {"brier": weights @ self._brier / total}
        overall |= {"ece": np.abs(weights @ self._gaps).sum(axis=1) / total}
        each = {"precision": of_matrix.precision, "recall": of_matrix.recall, "f1": of_matrix.f1}
        each["auc"] = areas
        return overall | {
            f"{key}/{name}": values[:, i]
            for key, values in each.items()
            for i, name in enumerate(labels.CLASSES)
        }


def _use_wilson_at_extremes(estimates: dict[str, Estimate], confusion: NDArray[np.int64]) -> None:
    """Replace intervals of proportions of 0 and 1, where a bootstrap has no spread."""
    hits, true = np.diagonal(confusion), confusion.sum(axis=1)
    proportions = {"accuracy": (int(hits.sum()), int(true.sum()))}
    for i, name in enumerate(labels.CLASSES):
        proportions[f"recall/{name}"] = (int(hits[i]), int(true[i]))
    for name, (correct, count) in proportions.items():
        if correct in (0, count):
            estimates[name] = wilson(correct, count)
