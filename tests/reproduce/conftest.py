"""A small store of pictures, and finished trainings whose predictions are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.table import Table

from gqs import labels, recipes, tables
from gqs.cutouts.shards import write_shard
from gqs.cutouts.split import split_hash
from gqs.cutouts.store import CutoutStore
from gqs.cutouts.writer import StoreWriter
from gqs.model.folder import Card, save_model
from gqs.reproduce import predictions as judging
from gqs.reproduce.planning import model_folder

Made = Callable[..., Path]


def pictures(folder: Path, n: int, classes: np.ndarray | None = None) -> CutoutStore:
    """A paper-form store of n pictures, twelve a field, whose classes differ in size and colour."""
    rng = np.random.default_rng(1)
    kind = np.arange(n) % 3 if classes is None else classes
    y, x = np.mgrid[:50, :50]
    width = np.where(kind == 0, 3.5, 2.0)[:, None, None, None]
    colour = np.where(kind[:, None] == 1, [0.6, 0.8, 1.0], [1.0, 0.8, 0.6])[:, :, None, None]
    spot = np.exp(-((y - 24.5) ** 2 + (x - 24.5) ** 2) / (2 * width**2))
    light = 200 * rng.uniform(0.1, 1, (n, 1, 1, 1)) * colour * spot
    images = np.clip(light + rng.normal(20, 12, (n, 3, 50, 50)), 0, 255).astype(np.uint8)
    r = rng.uniform(15, 22, n)
    rows = Table(
        {
            "objid": np.arange(n, dtype=np.uint64) + np.uint64(100),
            "ra": 0.01 * np.arange(n) + 1,
            "dec": np.zeros(n),
            "x": np.zeros(n),
            "y": np.zeros(n),
            "run": np.full(n, 94),
            "camcol": np.ones(n, int),
            "field": np.arange(n) // 12,
            "class": np.array(labels.CLASSES)[kind],
            "flags": np.zeros(n, np.int32),
            **{b: r + rng.normal(0, 0.3, n) - 0.4 * i * (kind == 1) for i, b in enumerate("ugriz")},
        }
    )
    with StoreWriter(folder, "gri", "paper", "pad", {"seed": 1}) as writer:
        write_shard(folder, "all", images, rows, "toy")
        return writer.finish(["all"])


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> CutoutStore:
    return pictures(tmp_path_factory.mktemp("pictures") / "store", 600)


@pytest.fixture
def finished() -> Made:
    """Write the folder of a training that is finished, with the probabilities that are given."""

    def make(
        out: Path,
        store: CutoutStore,
        split: Table,
        scheme: str,
        network: str,
        seed: int,
        probability: np.ndarray,
    ) -> Path:
        folder = model_folder(out, scheme, network, seed)
        chosen = {"epoch": 2, "objects": 9, "loss": 0.5, "accuracy": 0.75, "recall": {}}
        card = Card(
            network=network,
            bands=store.bands,
            form=store.form,
            stretch="asinh",
            data_hash=store.hash,
            split_hash=split_hash(split),
            recipe=recipes.load("paper", network).changed(epochs=3).model_dump(),
            training={"objects": 9, "epochs": 3, "threads": 1, "device": "cpu"},
            metrics={"validation": {**chosen, "confusion": []}},
        )
        weights = {
            "conv.weight": torch.full((2, 3), float(seed)),
            "norm.running_mean": torch.ones(4),
        }
        model = save_model(folder, weights, card)
        epochs = np.arange(1.0, 4.0)
        history = {"epoch": epochs.astype(int), "train_loss": 1 / epochs}
        history |= {"validation_loss": 1 / epochs, "seconds": np.array([2.0, 3.0, 9.0])}
        tables.write(Table(history), folder / "history.csv")
        rows = store.index[judging.test_rows(store, split)]
        found = tables.predictions(rows, probability, np.zeros(len(rows), np.int32), model)
        found.meta["made_of"] = {"weights": model, "split": split_hash(split)}
        tables.write(found, folder / judging.PREDICTIONS)
        return folder

    return make
