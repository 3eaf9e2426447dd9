"""What a training leaves: a model folder with its history, found again by the same call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.table import Table

from gqs import tables
from gqs.files import disk_errors, sha256, write_bytes
from gqs.model.calibration import calibrate, table_of
from gqs.model.folder import (
    CARD,
    EXAMPLES,
    HELD_OUT,
    LEARNED,
    TYPICAL,
    WEIGHTS,
    Card,
    load_weights,
    read_card,
    save_model,
)
from gqs.recipes import Recipe
from gqs.report.figures import training_history
from gqs.report.palette import rendered
from gqs.training import checkpoints
from gqs.training import embeddings as knowing
from gqs.training import validation_logits as holding
from gqs.training.batches import Data

HISTORY = "history.csv"
CURVES = "history.svg"


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave.

    Attributes
    ----------
    folder : Path
        The model folder, with weights.safetensors, model.json, history.csv, history.svg,
        learned.parquet, the objects of its training and validation sides, held_out.parquet, the
        logits of the latter, typical.safetensors, how far from its classes is too far, and
        examples.safetensors, some of its objects.
    model : str
        SHA-256 of the weights.
    history : Table
        A row an epoch: epoch, train_loss, train_accuracy, validation_loss, validation_accuracy,
        rate, seconds, waiting (share of the time in which no batch was ready).
    metrics : dict
        Of the best epoch on the validation side: epoch, objects, loss, accuracy, recall by class,
        confusion (rows true).
    """

    folder: Path
    model: str
    history: Table
    metrics: dict[str, Any]


def write(
    folder: Path,
    data: Data,
    recipe: Recipe,
    identity: dict[str, Any],
    history: list[dict[str, float]],
    best: dict[str, Any],
    machine: dict[str, Any],
) -> TrainingResult:
    """Write the model folder from the best epoch, and drop the checkpoints."""
    weights = load_weights(folder / "checkpoints" / best["file"])
    table = Table(rows=history)
    tables.write(table, folder / HISTORY)
    _draw(folder, table)
    learned = tables.write(_learned(data), folder / LEARNED)
    sets = holding.held_out(data, recipe, weights, machine["device"])
    held_out = tables.write(table_of(sets), folder / HELD_OUT)
    unseen = sets.pop(data.preprocessing.bands).usable()
    known = knowing.write(folder, data, recipe, weights, machine["device"], unseen.objid)
    learned_mix = holding.learned_mix(data, recipe)
    card = Card(
        network=recipe.network,
        arguments=recipe.arguments,
        bands=data.preprocessing.bands,
        form=data.preprocessing.form,
        stretch=data.preprocessing.stretch,
        edge=data.store.edge,
        star_shift=bool(data.store.manifest.get("made", {}).get("star_shift", False)),
        data_hash=data.store.hash,
        split_hash=data.split_hash,
        recipe=recipe.model_dump(),
        training={
            "identity": identity,
            "objects": len(data.train),
            "learned_sha256": sha256(learned),
            "held_out_sha256": sha256(held_out),
            **{f"{name}_sha256": sha256(path) for name, path in known.items()},
            "epochs": len(history),
            "seconds": round(sum(row["seconds"] for row in history), 1),
            "torch": torch.__version__,
            **machine,
        },
        metrics={"validation": best["metrics"]},
        calibration=calibrate(unseen, learned_mix, sets) if len(unseen) else None,
    )
    model = save_model(folder, weights, card)
    checkpoints.remove_all(folder / "checkpoints")
    return TrainingResult(folder, model, table, best["metrics"])


def _draw(folder: Path, history: Table) -> None:
    write_bytes(folder / CURVES, rendered(training_history(history), "svg"))


def _learned(data: Data) -> Table:
    """List what the model has seen, so that nothing of it is ever taken for unseen."""
    rows = np.concatenate([data.train, data.validation])
    table = Table({name: data.store.index[name][rows] for name in ("objid", "ra", "dec")})
    sides = ["train"] * len(data.train) + ["validation"] * len(data.validation)
    table["split"] = np.array(sides)
    return table


def finished(folder: Path, identity: dict[str, Any]) -> TrainingResult | None:
    """Return the model that this very training gave before, or refuse another one's folder."""
    if not (folder / CARD).is_file():
        return None
    card = read_card(folder)
    checkpoints.require_same(folder, card.training.get("identity", {}), identity)
    history = tables.read(folder / HISTORY)
    if not (folder / CURVES).is_file():  # a kill came before it, or it was made without one
        _draw(folder, history)
    return TrainingResult(folder, card.weights_sha256, history, card.metrics["validation"])


def clear(folder: Path) -> None:
    """Remove what an earlier training left in a folder, and nothing else."""
    with disk_errors(folder, "removing the earlier training"):
        checkpoints.remove_all(folder / "checkpoints")
        for name in (CARD, WEIGHTS, HISTORY, CURVES, LEARNED, HELD_OUT, TYPICAL, EXAMPLES):
            (folder / name).unlink(missing_ok=True)
