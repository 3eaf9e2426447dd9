"""Predictions beside the truth, object by object: what every measure here starts from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import labels
from gqs.errors import BadInputError, IntegrityError, UsageError
from gqs.tables import FIELD_COLUMNS, Flag, exact_objid, require_columns, require_unique

SUM_TOLERANCE: Final = 1e-4  # a table may have passed through float32 and CSV


@dataclass(frozen=True)
class Judged:
    """Objects that have both a truth and a judgement, and a count of those that lack one."""

    objid: NDArray[np.uint64]  # (n,) uint64, in the order of the predictions
    truth: NDArray[np.int64]  # (n,) positions in `labels.CLASSES`
    decided: NDArray[np.int64]
    probability: NDArray[np.float64]  # (n, 3), each row sums to 1
    r: NDArray[np.float64]  # (n,) r magnitude of the catalogue; NaN where it has none
    redshift: NDArray[np.float64]  # (n,) NaN where the catalogue has none
    place: NDArray[np.int64]  # (n, 3) run, camcol, field
    # by class of the truth: objects whose row of probabilities is NaN
    not_judged: dict[str, int] = field(default_factory=dict)
    # by name of `tables.Flag`: how many of those carry it
    not_judged_flags: dict[str, int] = field(default_factory=dict)
    without_truth: int = 0  # rows of one table that the other does not have
    without_prediction: int = 0

    def __len__(self) -> int:
        return len(self.objid)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each object got its true class: (n,) bool."""
        return np.asarray(self.truth == self.decided)

    def some(self, rows: NDArray[np.bool_]) -> Judged:
        """Keep some of the objects; what is counted beside them stays."""
        columns = ("objid", "truth", "decided", "probability", "r", "redshift", "place")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    def with_probability(self, probability: NDArray[np.float64]) -> Judged:
        """Judge the same objects by other probabilities."""
        return replace(self, probability=probability, decided=probability.argmax(axis=1))

    def groups(self, by: str | None) -> NDArray[np.int64] | None:
        """Number the groups whose objects are drawn together in a grouped bootstrap: (n,) group of
        each object, 0 and up.
        """
        if by is None:
            return None
        if by not in ("field", "run"):
            raise UsageError(f"Groups by {by!r}: a group is a 'field' or a 'run'.")
        columns = self.place if by == "field" else self.place[:, :1]
        return np.asarray(np.unique(columns, axis=0, return_inverse=True)[1]).reshape(-1)


def judge(predictions: Table, truth: Table) -> Judged:
    """Join predictions and truth by objid. Nothing is dropped without being counted."""
    needed = ("objid", *labels.PROBABILITY_COLUMNS, "class", *FIELD_COLUMNS)
    require_columns(predictions, needed, "predictions")
    require_columns(truth, ("objid", "class"), "truth")
    objid = exact_objid(predictions["objid"], "predictions")
    known = exact_objid(truth["objid"], "truth")
    require_unique(objid, "predictions")
    require_unique(known, "truth")
    probability, decided = _judgement(predictions, objid)
    both, mine, theirs = np.intersect1d(objid, known, assume_unique=True, return_indices=True)
    if not len(both):
        raise UsageError(
            f"Predictions ({len(objid)} rows) and truth ({len(known)} rows) share no objid. "
            "Give the catalogue that the predictions were made from."
        )
    order = np.argsort(mine)
    mine, theirs = mine[order], theirs[order]
    true_class = _class_index(truth[theirs])
    judged = decided[mine] >= 0
    lost = true_class[~judged]
    rows, truths = mine[judged], theirs[judged]
    return Judged(
        objid=objid[rows],
        truth=true_class[judged],
        decided=decided[rows],
        probability=probability[rows],
        r=numbers(truth, "r")[truths],
        redshift=numbers(truth, "redshift")[truths],
        place=np.stack([np.asarray(predictions[c], dtype=np.int64) for c in FIELD_COLUMNS], 1)[
            rows
        ],
        not_judged={name: int((lost == i).sum()) for i, name in enumerate(labels.CLASSES)},
        not_judged_flags=_count_flags(predictions, mine[~judged]),
        without_truth=len(objid) - len(both),
        without_prediction=len(known) - len(both),
    )


def numbers(table: Table, name: str) -> NDArray[np.float64]:
    """Return a column as float64, NaN where it is masked or the table lacks it: (n,)."""
    if name not in table.colnames:
        return np.full(len(table), np.nan)
    values = np.asarray(table[name]).astype(np.float64)
    return np.where(np.ma.getmaskarray(table[name]), np.nan, values)


def _text(table: Table, name: str) -> NDArray[np.str_]:
    values = np.char.strip(np.asarray(table[name]).astype(str))
    return np.where(np.ma.getmaskarray(table[name]), "", values)


def _judgement(
    predictions: Table, objid: NDArray[np.uint64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities (n, 3) and decided class (n,), -1 where nothing was judged."""
    probability = np.stack([numbers(predictions, c) for c in labels.PROBABILITY_COLUMNS], axis=1)
    names = _text(predictions, "class")
    decided = np.full(len(names), -1)
    for i, name in enumerate(labels.CLASSES):
        decided[names == name] = i
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


def _class_index(truth: Table) -> NDArray[np.int64]:
    names = _text(truth, "class")
    index = np.full(len(names), -1)
    for i, name in enumerate(labels.CLASSES):
        index[names == name] = i
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
