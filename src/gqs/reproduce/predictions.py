"""Judgements made once and kept: of each network beside its weights, and of the yardsticks."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from astropy.table import Table
from numpy.typing import NDArray

from gqs import tables
from gqs.cutouts.split import split_hash
from gqs.cutouts.store import CutoutStore, read_json
from gqs.errors import GqsError
from gqs.evaluation.baseline import catalogue_trees
from gqs.files import check_hash, write_json
from gqs.model.classifier import load_classifier
from gqs.model.folder import WEIGHTS, read_card
from gqs.report.appraise import predict_rows
from gqs.training.machine import device_of

PREDICTIONS: Final = "predictions.parquet"
COST: Final = "cost.json"  # what the clock said, apart from what repeats to the bit
TREES: Final = ("gri", "ugriz")  # catalogue magnitudes that boosted trees are given


def test_rows(store: CutoutStore, split: Table) -> NDArray[np.int64]:
    """Return the rows of a split's test side, in the order of the store: (n,)."""
    tested = np.asarray(split["objid"])[np.asarray(split["split"]).astype(str) == "test"]
    return np.flatnonzero(np.isin(np.asarray(store.index["objid"]), tested))


def keep_predictions(
    folder: Path, store: CutoutStore, split: Table, device: str | None = None
) -> Table:
    """Judge the test side with a trained network once; later calls return what is kept."""
    card, rows = read_card(folder), test_rows(store, split)
    check_hash(folder / WEIGHTS, card.weights_sha256)
    made_of = {"weights": card.weights_sha256, "split": split_hash(split)}
    if (kept := _kept(folder / PREDICTIONS, made_of)) is not None:
        return kept
    where = device_of(device or "cpu")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(int(card.training.get("threads", before)))
        classifier = load_classifier(folder, str(where))
        some = rows[: classifier.batch]
        predict_rows(classifier, store, some)  # the first batch prepares kernels
        begin = time.perf_counter()
        found = predict_rows(classifier, store, rows)
        seconds = time.perf_counter() - begin
        cost = {
            "images": len(rows),
            "seconds": round(seconds, 4),
            "device": _machine(where),
            "threads": torch.get_num_threads(),
        }
    finally:
        torch.set_num_threads(before)
    write_json(folder / COST, cost)
    return _keep(folder / PREDICTIONS, found, made_of)


def _machine(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def inference_cost(folder: Path) -> dict[str, Any] | None:
    """Return what judging the test side took."""
    path = folder / COST
    return read_json(path) if path.is_file() else None


def keep_trees(path: Path, store: CutoutStore, split: Table, bands: str, seed: int) -> Table | None:
    """Train boosted trees on the catalogue's magnitudes once, on the same split."""
    if not set(bands) <= set(store.index.colnames):
        return None
    made_of = {"store": store.hash, "split": split_hash(split), "seed": seed}
    if (kept := _kept(path, made_of)) is not None:
        return kept
    return _keep(path, catalogue_trees(store.index, split, bands, seed=seed), made_of)


def _kept(path: Path, made_of: dict[str, Any]) -> Table | None:
    """Return a table that was made of the same; what is damaged or of another is made again."""
    if not path.is_file():
        return None
    with contextlib.suppress(GqsError, OSError, ValueError):
        found = tables.read(path)
        if found.meta.get("made_of") == made_of:
            return found
    return None


def _keep(path: Path, found: Table, made_of: dict[str, Any]) -> Table:
    found.meta["made_of"] = made_of
    tables.write(found, path)
    return tables.read(path)
