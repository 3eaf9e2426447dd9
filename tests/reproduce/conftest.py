"""A small store of pictures, and finished trainings whose predictions are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.table import Table

from gqs import recipes, tables
from gqs.cutouts.split import split_hash
from gqs.cutouts.store import CutoutStore
from gqs.model.folder import Card, save_model
from gqs.reproduce.plan import model_folder
from gqs.reproduce.predictions import PREDICTIONS, rows_of_test_side
from reproduce.pictures import Made, pictures


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
        rows = store.index[rows_of_test_side(store, split)]
        found = tables.predictions(rows, probability, np.zeros(len(rows), np.int32), model)
        found.meta["made_of"] = {"weights": model, "split": split_hash(split)}
        tables.write(found, folder / PREDICTIONS)
        return folder

    return make
