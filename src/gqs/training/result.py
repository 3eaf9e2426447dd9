"""The result of a training: its model folder with the history, also for TensorBoard."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from astropy.table import Table

from gqs import tables
from gqs.errors import UsageError
from gqs.files import disk_errors, hash_of, sha256, write_bytes
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
from gqs.training import checkpoints, embeddings, validation_logits
from gqs.training.batches import TrainingData

HISTORY: Final = "history.csv"
HISTORY_FIGURE: Final = "history.svg"
SCALARS: Final = {  # columns of the history, and their names in TensorBoard
    "train_loss": "loss/train",
    "validation_loss": "loss/validation",
    "train_accuracy": "accuracy/train",
    "validation_accuracy": "accuracy/validation",
    "rate": "rate",
    "seconds": "seconds",
    "waiting": "waiting",
}
WriteScalars = Callable[[Any], None]


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training.

    Attributes
    ----------
    folder : Path
        The model folder. It holds weights.safetensors, model.json, history.csv and history.svg;
        learned.parquet, the objects of the training and validation sides; held_out.parquet, the
        validation logits; typical.safetensors, the distances from the classes beyond which an
        object is novel; and examples.safetensors, some training objects.
    model : str
        SHA-256 of the weights.
    history : Table
        One row an epoch: epoch, train_loss, train_accuracy, validation_loss, validation_accuracy,
        rate, seconds, waiting (fraction of the time spent waiting for batches).
    metrics : dict
        Of the best epoch on the validation side: epoch, objects, loss, accuracy, recall by class,
        confusion (rows true).
    """

    folder: Path
    model: str
    history: Table
    metrics: dict[str, Any]


def write_result(
    folder: Path,
    data: TrainingData,
    recipe: Recipe,
    history: list[dict[str, float]],
    best: dict[str, Any],
    facts: dict[str, Any],
) -> None:
    """Write the model folder from the best epoch, and remove the checkpoints.

    `facts` are recorded in model.json: identity, device, threads, processes.
    """
    weights = load_weights(folder / checkpoints.FOLDER / best["file"])
    table = Table(rows=history)
    tables.write(table, folder / HISTORY)
    _draw_history(folder, table)
    learned = tables.write(_learned_objects(data), folder / LEARNED)
    logits = validation_logits.held_out(data, recipe, weights, facts["device"])
    held_out = tables.write(table_of(logits), folder / HELD_OUT)
    unseen = logits.pop(data.preprocessing.bands).usable()
    embedded = embeddings.write(folder, data, recipe, weights, facts["device"], unseen.objid)
    class_mix = validation_logits.learned_mix(data, recipe)
    card = Card(
        network=recipe.network,
        arguments=recipe.arguments,
        bands=data.preprocessing.bands,
        form=data.preprocessing.form,
        stretch=data.preprocessing.stretch,
        edge=data.store.edge,
        star_shift=bool(data.store.manifest.get("made", {}).get("star_shift", False)),
        scale=data.store.manifest.get("made", {}).get("scale", {}),
        data_hash=data.store.hash,
        split_hash=data.split_hash,
        recipe=recipe.model_dump(),
        training={
            "identity": facts.pop("identity"),
            "objects": len(data.train),
            "learned_sha256": sha256(learned),
            "held_out_sha256": sha256(held_out),
            **{f"{name}_sha256": sha256(path) for name, path in embedded.items()},
            "epochs": len(history),
            "seconds": round(sum(row["seconds"] for row in history), 1),
            "torch": torch.__version__,
            **facts,
        },
        metrics={"validation": best["metrics"]},
        calibration=calibrate(unseen, class_mix, logits) if len(unseen) else None,
    )
    save_model(folder, weights, card)
    checkpoints.remove_all(folder / checkpoints.FOLDER)


def _draw_history(folder: Path, history: Table) -> None:
    write_bytes(folder / HISTORY_FIGURE, rendered(training_history(history), "svg"))


def _learned_objects(data: TrainingData) -> Table:
    """Objects that the model was fitted to or chosen on: objid, ra, dec (degrees) and side."""
    rows = np.concatenate([data.train, data.validation])
    table = Table({name: data.store.index[name][rows] for name in ("objid", "ra", "dec")})
    sides = ["train"] * len(data.train) + ["validation"] * len(data.validation)
    table["split"] = np.array(sides)
    return table


def finished_result(folder: Path, identity: dict[str, Any]) -> TrainingResult | None:
    """Result of the same training if the folder holds it; another training's is refused."""
    if not (folder / CARD).is_file():
        return None
    card = read_card(folder)
    checkpoints.require_same(folder, card.training.get("identity", {}), identity)
    history = tables.read(folder / HISTORY)
    if not (folder / HISTORY_FIGURE).is_file():  # a kill came before it was drawn
        _draw_history(folder, history)
    return TrainingResult(folder, card.weights_sha256, history, card.metrics["validation"])


def remove_result(folder: Path) -> None:
    """Remove the files of an earlier training from a folder, and nothing else."""
    with disk_errors(folder, "removing the earlier training"):
        checkpoints.remove_all(folder / checkpoints.FOLDER)
        for name in (
            CARD,
            WEIGHTS,
            HISTORY,
            HISTORY_FIGURE,
            LEARNED,
            HELD_OUT,
            TYPICAL,
            EXAMPLES,
        ):
            (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def tensorboard_writer(folder: Path | None, identity: dict[str, Any]) -> Iterator[WriteScalars]:
    """Give a function that writes new epochs of a history for TensorBoard; none without a folder.

    Files that the same training wrote before are replaced, so that no epoch appears twice, even if
    the training was killed in between.
    """
    if folder is None:
        yield lambda history: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "TensorBoard is not installed: pip install 'gqs[tensorboard]'. Without --tensorboard, "
            "history.csv and history.svg in the model folder show the same."
        ) from error
    ending = f".gqs-{hash_of(identity)[:12]}"
    with disk_errors(Path(folder), "writing for TensorBoard"):
        for path in Path(folder).glob(f"events.out.tfevents.*{ending}"):
            path.unlink()
        writer: Any = SummaryWriter(str(folder), filename_suffix=ending)
    written = 0

    def write(history: Any) -> None:
        nonlocal written
        for row in history[written:]:
            for name, tag in SCALARS.items():
                writer.add_scalar(tag, float(row[name]), int(row["epoch"]))
        written = len(history)
        with disk_errors(Path(folder), "writing for TensorBoard"):
            writer.flush()

    try:
        yield write
    finally:
        writer.close()
