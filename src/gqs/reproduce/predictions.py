"""Predictions of the test side, made once and kept: of each network, and of boosted trees."""

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
from gqs.cutouts.store import CutoutStore, Objects, read_json
from gqs.errors import GqsError, IntegrityError
from gqs.evaluation.baseline import catalogue_trees
from gqs.files import check_hash, write_json
from gqs.model.classifier import load_classifier
from gqs.model.folder import WEIGHTS, read_card
from gqs.report.appraise import predict_rows
from gqs.training.machine import device_of

PREDICTIONS: Final = "predictions.parquet"
BASELINES: Final = "baselines"  # folder of the boosted trees' predictions
COST: Final = "cost.json"  # times, apart from what is reproducible to the bit
TREES: Final = ("gri", "ugriz")  # catalogue magnitudes that boosted trees are given


def rows_of_test_side(store: Objects, split: Table) -> NDArray[np.int64]:
    """Rows of a split's test side, (n,), in the order of the store."""
    tested = np.asarray(split["objid"])[np.asarray(split["split"]).astype(str) == "test"]
    return np.flatnonzero(np.isin(np.asarray(store.index["objid"]), tested))


def predict_test_side(
    folder: Path, store: Objects, split: Table, device: str | None = None
) -> Table:
    """Predictions of the test side by the model of a folder; kept there by the first call.

    Without images and weights (`KeptResults`) they must be there.
    """
    card, rows = read_card(folder), rows_of_test_side(store, split)
    if isinstance(store, CutoutStore):
        check_hash(folder / WEIGHTS, card.weights_sha256)
    made_of = {"weights": card.weights_sha256, "split": split_hash(split)}
    if (kept := _read_kept(folder / PREDICTIONS, made_of)) is not None:
        return kept
    if not isinstance(store, CutoutStore):
        raise IntegrityError(
            f"{folder / PREDICTIONS}: is missing or of another model or split. Keep the results "
            "of this training again."
        )
    where = device_of(device or "cpu")
    threads_before = torch.get_num_threads()
    try:
        torch.set_num_threads(int(card.training.get("threads", threads_before)))
        classifier = load_classifier(folder, str(where))
        predict_rows(classifier, store, rows[: classifier.batch])  # the first prepares kernels
        begin = time.perf_counter()
        predictions = predict_rows(classifier, store, rows)
        seconds = time.perf_counter() - begin
        cost = {
            "images": len(rows),
            "seconds": round(seconds, 4),
            "device": _device_name(where),
            "threads": torch.get_num_threads(),
        }
    finally:
        torch.set_num_threads(threads_before)
    write_json(folder / COST, cost)
    return _keep(folder / PREDICTIONS, predictions, made_of)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def inference_cost(folder: Path) -> dict[str, Any] | None:
    """Images, seconds and device of predicting the test side, if it was timed."""
    path = folder / COST
    return read_json(path) if path.is_file() else None


def predict_with_trees(
    path: Path, store: Objects, split: Table, bands: str, seed: int
) -> Table | None:
    """Predictions by boosted trees on the catalogue's magnitudes; None without magnitudes."""
    if not set(bands) <= set(store.index.colnames):
        return None
    made_of = {"store": store.hash, "split": split_hash(split), "seed": seed}
    if (kept := _read_kept(path, made_of)) is not None:
        return kept
    return _keep(path, catalogue_trees(store.index, split, bands, seed=seed), made_of)


def _read_kept(path: Path, made_of: dict[str, Any]) -> Table | None:
    """Predictions that were made of the same model and split, if they can be read."""
    if not path.is_file():
        return None
    with contextlib.suppress(GqsError, OSError, ValueError):
        kept = tables.read(path)
        if kept.meta.get("made_of") == made_of:
            return kept
    return None


def _keep(path: Path, predictions: Table, made_of: dict[str, Any]) -> Table:
    predictions.meta["made_of"] = made_of
    tables.write(predictions, path)
    return tables.read(path)
