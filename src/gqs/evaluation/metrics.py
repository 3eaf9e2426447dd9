"""Accuracy, precision, recall, F1, AUC, with intervals. Paper 4.1, eqs. 2-7, and what it omits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import confusion_matrix

from gqs import labels
from gqs.errors import UsageError
from gqs.evaluation import reliability, roc
from gqs.evaluation.binning import Bin, bins
from gqs.evaluation.comparison import Comparison, compare
from gqs.evaluation.intervals import RESAMPLES, Estimate, bootstrap, finite, wilson
from gqs.evaluation.matched import Judged, judge

__all__ = ["Bin", "Comparison", "Metrics", "Scores", "bins", "compare", "evaluate", "judge"]
__all__ += ["measure", "scores"]

Array = NDArray[np.float64]
COUNT: Final = len(labels.CLASSES)
R_EDGES: Final = tuple(float(edge) for edge in range(13, 25))
REDSHIFT_EDGES: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 8.0)


@dataclass(frozen=True)
class Scores:
    """What follows from a confusion matrix alone; leading axes of the matrix are kept."""

    accuracy: Array
    precision: Array  # (..., 3)
    recall: Array
    f1: Array

    @property
    def macro(self) -> dict[str, Array]:
        """Mean over the classes that occur in the truth."""
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
    """Accuracy, precision, recall and F1 of a confusion matrix. Paper eqs. 2-5."""
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
class Metrics:
    """One set of predictions measured against the truth.

    Attributes
    ----------
    objects : int
        Objects judged: every number but `accuracy_of_all` is over these.
    not_judged, not_judged_flags, without_truth, without_prediction
        What could not be measured, as in `judged.Judged`.
    confusion : tuple
        3 rows (truth) of 3 counts (decision).
    overall : dict
        accuracy, precision, recall, f1 (macro), auc (macro), auc_micro, log_loss, brier, ece.
    classes : dict
        By class: precision, recall, f1, auc.
    by_r, by_redshift : tuple of Bin
        All objects by r magnitude; quasars by redshift.
    unbinned : dict
        Objects (quasars) whose r (redshift) is unknown or outside the bins.
    """

    objects: int
    not_judged: dict[str, int]
    not_judged_flags: dict[str, int]
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
        """Share of the judged objects that got their class."""
        return self.overall["accuracy"]

    @property
    def accuracy_of_all(self) -> float:
        """Accuracy where an object that was not judged counts as wrong."""
        hits = sum(self.confusion[i][i] for i in range(COUNT))
        return hits / (self.objects + sum(self.not_judged.values()))

    @property
    def counts(self) -> dict[str, int]:
        """Judged objects of each true class."""
        return {name: sum(self.confusion[i]) for i, name in enumerate(labels.CLASSES)}

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON holds it: what is not defined is null."""
        return {
            "objects": {
                "judged": self.objects,
                "by_class": self.counts,
                "not_judged": self.not_judged,
                "not_judged_flags": self.not_judged_flags,
                "without_truth": self.without_truth,
                "without_prediction": self.without_prediction,
            },
            "confusion": {"order": list(labels.CLASSES), "counts": [*map(list, self.confusion)]},
            "overall": {name: value.to_json() for name, value in self.overall.items()},
            "accuracy_of_all": finite(self.accuracy_of_all),
            "classes": {
                name: {key: value.to_json() for key, value in found.items()}
                for name, found in self.classes.items()
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
    """Measure predictions against the truth: `measure` of `judged.judge`.

    Parameters
    ----------
    predictions : Table
        A Predictions table.
    truth : Table
        With `objid` and `class`, and where they are known `r` (mag) and `redshift`.
    group : {"field", "run", None}
        Draw whole fields or runs in the bootstrap.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    Metrics
        Everything that the report shows.
    """
    return measure(judge(predictions, truth), group=group, resamples=resamples, seed=seed)


def measure(
    judged: Judged, *, group: str | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Metrics:
    """Measure judged objects.

    Parameters
    ----------
    judged : Judged
        Predictions beside the truth.
    group : {"field", "run", None}
        Draw whole fields or runs in the bootstrap; needs two or more of them.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    Metrics
        Everything that the report shows.

    Raises
    ------
    UsageError
        If not one object was judged.
    """
    if not len(judged):
        raise UsageError("Not one object was judged, so there is nothing to measure.")
    groups = judged.groups(group)
    units = len(judged) if groups is None else int(groups.max()) + 1
    found = bootstrap(_Statistics(judged), len(judged), groups, resamples, seed)
    if units < 2:  # one group drawn again and again has no spread: say nothing, not zero
        found = {name: Estimate(value.value) for name, value in found.items()}
    found["ece"] = reliability.turned(found["ece"])
    confusion = _confusion(judged)
    if groups is None:
        _widen(found, confusion)
    overall = {name: value for name, value in found.items() if "/" not in name}
    classes = {
        name: {key: found[f"{key}/{name}"] for key in ("precision", "recall", "f1", "auc")}
        for name in labels.CLASSES
    }
    quasars = judged.truth == labels.index(labels.QSO)
    by_r = bins(judged, judged.r, R_EDGES)
    by_redshift = bins(judged, np.where(quasars, judged.redshift, np.nan), REDSHIFT_EDGES)
    return Metrics(
        objects=len(judged),
        not_judged=judged.not_judged,
        not_judged_flags=judged.not_judged_flags,
        without_truth=judged.without_truth,
        without_prediction=judged.without_prediction,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        overall=overall,
        classes=classes,
        by_r=by_r,
        by_redshift=by_redshift,
        unbinned={
            "r": len(judged) - sum(part.count for part in by_r),
            "redshift": int(quasars.sum()) - sum(part.count for part in by_redshift),
        },
        bootstrap={"level": 0.95, "resamples": resamples, "seed": seed, "group": group}
        | {"units": units},
    )


def _confusion(judged: Judged) -> NDArray[np.int64]:
    return np.asarray(confusion_matrix(judged.truth, judged.decided, labels=range(COUNT)))


class _Statistics:
    """Everything that is bootstrapped, for many weightings of the same objects at once."""

    def __init__(self, judged: Judged) -> None:
        self._cell = np.eye(COUNT**2)[judged.truth * COUNT + judged.decided]  # (n, 9)
        self._loss = reliability.log_losses(judged)
        self._brier = reliability.brier_scores(judged)
        self._gaps = reliability.gaps(judged)
        truth = np.eye(COUNT, dtype=bool)[judged.truth]
        self._classes = [roc.Ranking(truth[:, i], judged.probability[:, i]) for i in range(COUNT)]
        self._pooled = roc.Ranking(truth.ravel(), judged.probability.ravel())

    def __call__(self, weights: Array) -> dict[str, Array]:
        total = weights.sum(axis=1)
        found = scores((weights @ self._cell).reshape(-1, COUNT, COUNT))
        areas = np.stack([ranking.area(weights) for ranking in self._classes], axis=-1)
        with np.errstate(invalid="ignore"):
            macro_area = np.nansum(areas, -1) / np.isfinite(areas).sum(-1)
        overall = {"accuracy": found.accuracy, **found.macro, "auc": macro_area}
        overall["auc_micro"] = self._pooled.area(np.repeat(weights, COUNT, axis=1))
        overall |= {"log_loss": weights @ self._loss / total}
        overall |= {"brier": weights @ self._brier / total}
        overall |= {"ece": np.abs(weights @ self._gaps).sum(axis=1) / total}
        each = {"precision": found.precision, "recall": found.recall, "f1": found.f1}
        each["auc"] = areas
        return overall | {
            f"{key}/{name}": values[:, i]
            for key, values in each.items()
            for i, name in enumerate(labels.CLASSES)
        }


def _widen(found: dict[str, Estimate], confusion: NDArray[np.int64]) -> None:
    """Where all or none are right a bootstrap sees no spread: take Wilson's interval there."""
    hits, true = np.diagonal(confusion), confusion.sum(axis=1)
    found_proportions = {"accuracy": (int(hits.sum()), int(true.sum()))}
    for i, name in enumerate(labels.CLASSES):
        found_proportions[f"recall/{name}"] = (int(hits[i]), int(true[i]))
    for name, (right, count) in found_proportions.items():
        if right in (0, count):
            found[name] = wilson(right, count)
