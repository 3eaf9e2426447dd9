"""What magnitudes alone can do: boosted trees on the same cutouts, which a network must beat.

The usual way to part galaxies, quasars and stars without images (paper, section 1, refs. 7-10).
The trees see aperture magnitudes, colours and concentration from the very pixels that the network
sees, learn on the training side, and are tuned and stopped on the validation side only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss
from threadpoolctl import ThreadpoolController

from gqs import labels, tables
from gqs.errors import UsageError
from gqs.evaluation.matched import numbers
from gqs.executors import Progress, cpu_count, no_progress
from gqs.files import hash_of
from gqs.imaging.photometry import magnitude_features

Array = NDArray[np.float64]
Index = NDArray[np.int64]
AT_ONCE: Final = 2048  # cutouts measured together: 100 MB in five bands
STEP: Final = 20  # rounds of boosting between looks at the validation side
PATIENCE: Final = 3  # looks without a better validation loss before it ends
MAX_ROUNDS: Final = 600
ABSURD: Final = 100.0  # mag; SDSS writes -9999 or 9999 for what it did not measure


class Options(NamedTuple):
    """What is tuned on the validation side."""

    learning_rate: float
    max_leaf_nodes: int
    l2: float


GRID: Final = (Options(0.1, 31, 0.0), Options(0.1, 8, 1.0), Options(0.05, 16, 1.0))


class Cutouts(Protocol):
    """What is asked of a CutoutStore: its index, its bands, and the cutouts of some rows."""

    @property
    def index(self) -> Table: ...
    @property
    def bands(self) -> str: ...
    @property
    def form(self) -> str: ...
    def images(self, rows: NDArray[np.int64]) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Trees:
    """Boosted trees, fitted; `rounds` were best on the validation side."""

    model: HistGradientBoostingClassifier
    options: Options
    rounds: int
    validation_loss: float
    hash: str

    def probabilities(self, features: Array) -> Array:
        """Judge by magnitudes: probabilities in the order of the labels: (n, 3); NaN in rows of
        which nothing at all was measured.
        """
        found = np.zeros((len(features), len(labels.CLASSES)))
        seen = np.isfinite(features).any(axis=1)
        if seen.any():
            stages = self.model.staged_predict_proba(features[seen])
            with _free_cores():
                best = next(p for i, p in enumerate(stages, 1) if i == self.rounds)
            found[np.ix_(seen, self.model.classes_.astype(int))] = best
        found[~seen] = np.nan
        return found


def fit(
    features: Array,
    classes: NDArray[np.str_],
    validation_features: Array,
    validation_classes: NDArray[np.str_],
    *,
    seed: int = 0,
    grid: Sequence[Options] = GRID,
    progress: Progress = no_progress,
) -> Trees:
    """Fit boosted trees; options and number of rounds are those best on the validation side."""
    truth, check = _indices(classes), _indices(validation_classes)
    if len(np.unique(truth)) < 2 or not len(check):
        raise UsageError(
            f"Boosted trees need two classes to learn and objects to validate on; there are "
            f"{len(truth)} training and {len(check)} validation objects."
        )
    known = np.isin(check, truth)  # a class that training lacks cannot be validated
    best: Trees | None = None
    for i, options in enumerate(grid):
        with _free_cores():
            tried = _boost(features, truth, validation_features[known], check[known], options, seed)
        if best is None or tried.validation_loss < best.validation_loss:
            best = tried
        progress(i + 1, len(grid), "boosted trees")
    assert best is not None
    return best


@contextlib.contextmanager
def _free_cores() -> Iterator[None]:
    """Leave busy cores alone: the same trees, in seconds where it could be many minutes.

    OpenMP's threads wait for each other by turning round and round, so one that shares its core
    with another process holds all of them up at each of a tree's many small steps.
    """
    pools = ThreadpoolController().select(user_api="openmp")
    free = cpu_count() - round(os.getloadavg()[0])
    allowed = min((pool["num_threads"] for pool in pools.info()), default=1)
    with pools.limit(limits=max(1, min(free, allowed))):
        yield


def _boost(
    features: Array,
    truth: Index,
    check_features: Array,
    check: Index,
    options: Options,
    seed: int,
) -> Trees:
    """Boost until the validation loss has not improved for a while, and keep the best round."""
    model = HistGradientBoostingClassifier(
        learning_rate=options.learning_rate,
        max_leaf_nodes=options.max_leaf_nodes,
        l2_regularization=options.l2,
        early_stopping=False,  # its own would look at a part of the training side
        warm_start=True,
        random_state=seed,
    )
    rounds, loss = 0, np.inf
    for count in range(STEP, MAX_ROUNDS + 1, STEP):
        model.set_params(max_iter=count).fit(features, truth)
        now = log_loss(check, model.predict_proba(check_features), labels=model.classes_)
        if now < loss:
            rounds, loss = count, now
        elif count - rounds >= PATIENCE * STEP:
            break
    data = hashlib.sha256(features.tobytes() + truth.tobytes()).hexdigest()
    return Trees(model, options, rounds, float(loss), hash_of([options, rounds, seed, data]))


def measured(
    store: Cutouts,
    rows: NDArray[np.int64],
    progress: Progress = no_progress,
) -> Array:
    """Measure magnitudes, colours and concentration on cutouts, some at a time: (n, k) features."""
    parts = []
    for first in range(0, len(rows), AT_ONCE):
        some = rows[first : first + AT_ONCE]
        parts.append(np.asarray(magnitude_features(store.images(some), store.bands)))
        progress(first + len(some), len(rows), "magnitudes from cutouts")
    return np.concatenate(parts).astype(np.float64)


def boosted_trees(
    store: Cutouts,
    split: Table,
    *,
    side: str = "test",
    seed: int = 0,
    grid: Sequence[Options] = GRID,
    progress: Progress = no_progress,
) -> Table:
    """Train trees on a store's training side and judge another side: the network's yardstick."""
    if store.form != "flux":
        raise UsageError(
            "Magnitudes are measured on flux, and this store holds colour pictures. "
            "Cut it with --form flux."
        )
    names = dict(zip(split["objid"].tolist(), split["split"].tolist(), strict=True))
    sides = np.array([names.get(objid, "") for objid in store.index["objid"].tolist()])
    rows = {name: np.flatnonzero(sides == name) for name in ("train", "validation", side)}
    empty = [name for name, found in rows.items() if not len(found)]
    if empty:
        raise UsageError(f"The split has no {empty[0]} objects in this store. Split it again.")
    features = {name: measured(store, found, progress) for name, found in rows.items()}
    classes = np.asarray(store.index["class"]).astype(str)
    trees = fit(
        features["train"],
        classes[rows["train"]],
        features["validation"],
        classes[rows["validation"]],
        seed=seed,
        grid=grid,
        progress=progress,
    )
    objects = store.index[rows[side]]
    flags = np.asarray(objects["flags"], dtype=np.int32)
    return tables.predictions(objects, trees.probabilities(features[side]), flags, trees.hash)


def catalogue_features(index: Table, bands: str) -> Array:
    """Take magnitudes and colours of neighbouring bands from a catalogue: (n, 2k - 1) for k bands;
    NaN where a magnitude is not one (SDSS writes -9999 or 9999).
    """
    columns = [numbers(index, band) for band in bands]
    magnitudes = np.stack([np.where(np.abs(mag) < ABSURD, mag, np.nan) for mag in columns], axis=1)
    return np.concatenate([magnitudes, magnitudes[:, :-1] - magnitudes[:, 1:]], axis=1)


def catalogue_trees(
    index: Table,
    split: Table,
    bands: str,
    *,
    side: str = "test",
    seed: int = 0,
    grid: Sequence[Options] = GRID,
) -> Table:
    """Train trees on a catalogue's own magnitudes, and judge another side."""
    lacking = [band for band in bands if band not in index.colnames]
    if lacking:
        raise UsageError(f"The catalogue has no magnitude {lacking[0]!r}.")
    names = dict(zip(split["objid"].tolist(), split["split"].tolist(), strict=True))
    sides = np.array([names.get(objid, "") for objid in index["objid"].tolist()])
    classes = np.asarray(index["class"]).astype(str)
    features = catalogue_features(index, bands)
    learn, check, judged = (sides == name for name in ("train", "validation", side))
    trees = fit(
        features[learn], classes[learn], features[check], classes[check], seed=seed, grid=grid
    )
    flags = np.asarray(index["flags"], dtype=np.int32)[judged]
    return tables.predictions(
        index[judged], trees.probabilities(features[judged]), flags, trees.hash
    )


def _indices(classes: NDArray[np.str_]) -> NDArray[np.int64]:
    return np.array([labels.index(str(name)) for name in classes], dtype=np.int64)
