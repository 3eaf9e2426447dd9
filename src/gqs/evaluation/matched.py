"""Predictions matched with the truth, object by object: the input of every measure here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import labels
from gqs.errors import BadInputError, IntegrityError, UsageError
from gqs.tables import (
    FIELD_COLUMNS,
    Flag,
    exact_objid,
    float_column,
    require_columns,
    require_unique,
)

SUM_TOLERANCE: Final = 1e-4  # a table may have passed through float32 and CSV


@dataclass(frozen=True)
class MatchedPredictions:
    """Objects with a true and a predicted class, and counts of those that lack one of them."""

    objid: NDArray[np.uint64]  # (n,) in the order of the predictions
    truth: NDArray[np.int64]  # (n,) true class, as its position in `labels.CLASSES`
    decided: NDArray[np.int64]  # (n,) predicted class
    probability: NDArray[np.float64]  # (n, 3), each row sums to 1
    r: NDArray[np.float64]  # (n,) r magnitude of the catalogue; NaN where it has none
    redshift: NDArray[np.float64]  # (n,) NaN where the catalogue has none
    field_id: NDArray[np.int64]  # (n, 3) run, camcol, field
    # By true class: objects whose row of probabilities is NaN.
    unclassified: dict[str, int] = field(default_factory=dict)
    # By name of `tables.Flag`: how many of those have it set.
    unclassified_flags: dict[str, int] = field(default_factory=dict)
    without_truth: int = 0  # predictions of objects that the truth does not list
    without_prediction: int = 0

    def __len__(self) -> int:
        return len(self.objid)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each predicted class is the true one, (n,)."""
        return np.asarray(self.truth == self.decided)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Probability of the predicted class, (n,)."""
        return np.asarray(self.probability[np.arange(len(self)), self.decided])

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> MatchedPredictions:
        """Some of the objects; the counts of objects without a match stay as they are."""
        columns = ("objid", "truth", "decided", "probability", "r", "redshift", "field_id")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    def with_probabilities(self, probability: NDArray[np.float64]) -> MatchedPredictions:
        """The same objects with other probabilities, (n, 3)."""
        return replace(self, probability=probability, decided=probability.argmax(axis=1))

    def groups(self, by: str | None) -> NDArray[np.int64] | None:
        """Number of each object's field or run, (n,) from 0; None to draw single objects."""
        if by is None:
            return None
        if by not in ("field", "run"):
            raise UsageError(f"Groups by {by!r}: a group is a 'field' or a 'run'.")
        columns = self.field_id if by == "field" else self.field_id[:, :1]
        return np.asarray(np.unique(columns, axis=0, return_inverse=True)[1]).reshape(-1)


def match(predictions: Table, truth: Table) -> MatchedPredictions:
    """Join predictions and truth by objid; rows without a counterpart are counted."""
    needed = ("objid", *labels.PROBABILITY_COLUMNS, "class", *FIELD_COLUMNS)
    require_columns(predictions, needed, "predictions")
    require_columns(truth, ("objid", "class"), "truth")
    objid = exact_objid(predictions["objid"], "predictions")
    true_objid = exact_objid(truth["objid"], "truth")
    require_unique(objid, "predictions")
    require_unique(true_objid, "truth")
    probability, decided = _predicted(predictions, objid)
    both, rows, true_rows = np.intersect1d(
        objid, true_objid, assume_unique=True, return_indices=True
    )
    if not len(both):
        raise UsageError(
            f"Predictions ({len(objid)} rows) and truth ({len(true_objid)} rows) share no objid. "
            "Give the catalogue that the predictions were made from."
        )
    order = np.argsort(rows)
    rows, true_rows = rows[order], true_rows[order]
    true_class = _true_class(truth[true_rows])
    classified = decided[rows] >= 0
    lost = true_class[~classified]
    lost_flags = _count_flags(predictions, rows[~classified])
    rows, true_rows = rows[classified], true_rows[classified]
    fields = [np.asarray(predictions[name], dtype=np.int64)[rows] for name in FIELD_COLUMNS]
    return MatchedPredictions(
        objid=objid[rows],
        truth=true_class[classified],
        decided=decided[rows],
        probability=probability[rows],
        r=float_column(truth, "r")[true_rows],
        redshift=float_column(truth, "redshift")[true_rows],
        field_id=np.stack(fields, axis=1),
        unclassified={name: int((lost == i).sum()) for i, name in enumerate(labels.CLASSES)},
        unclassified_flags=lost_flags,
        without_truth=len(objid) - len(both),
        without_prediction=len(true_objid) - len(both),
    )


def _class_index(table: Table) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """Names of classes, empty where masked, and their positions, -1 for any other text: (n,)."""
    names = np.char.strip(np.asarray(table["class"]).astype(str))
    names = np.where(np.ma.getmaskarray(table["class"]), "", names)
    index = np.full(len(names), -1)
    for i, name in enumerate(labels.CLASSES):
        index[names == name] = i
    return names, index


def _predicted(
    predictions: Table, objid: NDArray[np.uint64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities (n, 3) and predicted class (n,), -1 where there is none."""
    columns = [float_column(predictions, name) for name in labels.PROBABILITY_COLUMNS]
    probability = np.stack(columns, axis=1)
    names, decided = _class_index(predictions)
    _refuse((decided < 0) & (names != ""), objid, "its class is none of the three")
    finite = np.isfinite(probability).all(axis=1)
    _refuse(finite != (decided >= 0), objid, "a class without probabilities, or the reverse")
    off = (np.abs(probability.sum(axis=1) - 1) > SUM_TOLERANCE) | (probability < 0).any(axis=1)
    _refuse(finite & off, objid, "its probabilities are negative or do not sum to 1")
    chosen = probability[np.arange(len(names)), np.maximum(decided, 0)]
    short = chosen < probability.max(axis=1, initial=0) - SUM_TOLERANCE
    _refuse(finite & short, objid, "its class is not the one with the highest probability")
    return probability, decided


def _refuse(bad: NDArray[np.bool_], objid: NDArray[np.uint64], why: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise IntegrityError(
            f"Predictions, row {row + 1} (objid {objid[row]}; {int(bad.sum())} such rows): {why}. "
            "Run `gqs classify` again."
        )


def _true_class(truth: Table) -> NDArray[np.int64]:
    names, index = _class_index(truth)
    if (index < 0).any():
        row = int(np.flatnonzero(index < 0)[0])
        raise BadInputError(
            f"Truth, objid {truth['objid'][row]}: class {str(names[row])!r} is none of "
            f"{', '.join(labels.CLASSES)}. Leave such rows out."
        )
    return index


def _count_flags(predictions: Table, rows: NDArray[np.int64]) -> dict[str, int]:
    if "flags" not in predictions.colnames:
        return {}
    flags = np.asarray(predictions["flags"], dtype=np.int64)[rows]
    counts = {str(flag.name): int(((flags & flag) > 0).sum()) for flag in Flag}
    return {name: count for name, count in counts.items() if count}
