"""Baseline: gradient-boosted trees on magnitudes, which a network must beat.

Classification without images (paper, section 1, refs. 7-10): the trees use aperture magnitudes,
colours and concentration from the same pixels as the network. They are fitted on the training
side; options and number of rounds are chosen on the validation side.
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
from gqs.executors import Progress, cpu_count, no_progress
from gqs.files import hash_of
from gqs.imaging.photometry import magnitude_features

Array = NDArray[np.float64]
Index = NDArray[np.int64]
CHUNK: Final = 2048  # cutouts measured together: 100 MB in five bands
STEP: Final = 20  # rounds of boosting between evaluations of the validation loss
PATIENCE: Final = 3  # evaluations without a better validation loss before fitting stops
MAX_ROUNDS: Final = 600
NOT_MEASURED: Final = 100.0  # mag, and above; SDSS has -9999 or 9999 without a measurement


class Options(NamedTuple):
    """Options that are chosen on the validation side."""

    learning_rate: float
    max_leaf_nodes: int
    l2: float


GRID: Final = (Options(0.1, 31, 0.0), Options(0.1, 8, 1.0), Options(0.05, 16, 1.0))


class Cutouts(Protocol):
    """The part of a CutoutStore that is used here."""

    @property
    def index(self) -> Table: ...
    @property
    def bands(self) -> str: ...
    @property
    def form(self) -> str: ...
    def images(self, rows: NDArray[np.int64]) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Trees:
    """Fitted boosted trees, and the number of rounds with the lowest validation loss."""

    model: HistGradientBoostingClassifier
    options: Options
    rounds: int
    validation_loss: float
    hash: str

    def probabilities(self, features: Array) -> Array:
        """Class probabilities (n, 3) of features (n, k); NaN in rows without any measurement."""
        probabilities = np.zeros((len(features), len(labels.CLASSES)))
        measured = np.isfinite(features).any(axis=1)
        if measured.any():
            stages = self.model.staged_predict_proba(features[measured])
            with _free_cores():
                best = next(p for i, p in enumerate(stages, 1) if i == self.rounds)
            probabilities[np.ix_(measured, self.model.classes_.astype(int))] = best
        probabilities[~measured] = np.nan
        return probabilities


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
    """Fit trees with the options and the number of rounds of the lowest validation loss."""
    truth, check = _indices(classes), _indices(validation_classes)
    if len(np.unique(truth)) < 2 or not len(check):
        raise UsageError(
            "Boosted trees need training objects of two classes and validation objects; there are "
            f"{len(truth)} training and {len(check)} validation objects."
        )
    known = np.isin(check, truth)  # not classes that the training side lacks
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
    """Limit OpenMP to cores without load, which can save minutes; the trees are the same.

    OpenMP's threads wait for each other in busy loops, so a thread that shares its core with
    another process delays all of them at each of the many small steps of a tree.
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
    """Add rounds until the validation loss no longer improves; the best round is kept."""
    model = HistGradientBoostingClassifier(
        learning_rate=options.learning_rate,
        max_leaf_nodes=options.max_leaf_nodes,
        l2_regularization=options.l2,
        early_stopping=False,  # would set aside a part of the training side
        warm_start=True,
        random_state=seed,
    )
    rounds, loss = 0, np.inf
    for count in range(STEP, MAX_ROUNDS + 1, STEP):
        model.set_params(max_iter=count).fit(features, truth)
        new_loss = log_loss(check, model.predict_proba(check_features), labels=model.classes_)
        if new_loss < loss:
            rounds, loss = count, new_loss
        elif count - rounds >= PATIENCE * STEP:
            break
    data = hashlib.sha256(features.tobytes() + truth.tobytes()).hexdigest()
    return Trees(model, options, rounds, float(loss), hash_of([options, rounds, seed, data]))


def cutout_features(
    store: Cutouts, rows: NDArray[np.int64], progress: Progress = no_progress
) -> Array:
    """Magnitudes, colours and concentration of cutouts, measured in chunks: (n, k)."""
    parts = []
    for first in range(0, len(rows), CHUNK):
        chunk = rows[first : first + CHUNK]
        parts.append(np.asarray(magnitude_features(store.images(chunk), store.bands)))
        progress(first + len(chunk), len(rows), "magnitudes from cutouts")
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
    """Fit trees on the training side of a store and predict another side from its cutouts."""
    if store.form != "flux":
        raise UsageError(
            "Magnitudes need cutouts of flux, but this store holds colour pictures. Build it with "
            "--form flux."
        )
    sides = _sides(store.index, split)
    rows = {name: np.flatnonzero(sides == name) for name in ("train", "validation", side)}
    for name, of_side in rows.items():
        if not len(of_side):
            raise UsageError(f"The split has no {name} objects in this store. Split it again.")
    features = {name: cutout_features(store, of_side, progress) for name, of_side in rows.items()}
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
    """Magnitudes of k bands and colours of neighbouring bands from a catalogue, (n, 2k - 1)."""
    columns = [tables.float_column(index, band) for band in bands]
    magnitudes = np.stack(
        [np.where(np.abs(mag) < NOT_MEASURED, mag, np.nan) for mag in columns], axis=1
    )
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
    """Fit trees on the magnitudes of a catalogue and predict another side of the split."""
    lacking = [band for band in bands if band not in index.colnames]
    if lacking:
        raise UsageError(f"The catalogue has no magnitude {lacking[0]!r}.")
    sides = _sides(index, split)
    classes = np.asarray(index["class"]).astype(str)
    features = catalogue_features(index, bands)
    train, check, wanted = (sides == name for name in ("train", "validation", side))
    trees = fit(
        features[train], classes[train], features[check], classes[check], seed=seed, grid=grid
    )
    flags = np.asarray(index["flags"], dtype=np.int32)[wanted]
    return tables.predictions(
        index[wanted], trees.probabilities(features[wanted]), flags, trees.hash
    )


def _sides(index: Table, split: Table) -> NDArray[np.str_]:
    """Side of the split that each row of an index is on, (n,); empty for none."""
    sides = dict(zip(split["objid"].tolist(), split["split"].tolist(), strict=True))
    return np.array([sides.get(objid, "") for objid in index["objid"].tolist()])


def _indices(classes: NDArray[np.str_]) -> NDArray[np.int64]:
    return np.array([labels.index(str(name)) for name in classes], dtype=np.int64)
