"""Calibrate a trained model on other objects, which it was not trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from gqs import labels, tables
from gqs.cutouts.sky_groups import unknown_rows
from gqs.errors import UsageError
from gqs.files import check_hash, disk_errors, sha256, write_json
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
)
from gqs.probability.label_shift import ClassFractions
from gqs.recipes import Recipe
from gqs.training import validation_logits
from gqs.training.batches import Cutouts, TrainingData
from gqs.training.machine import device_of
from gqs.training.result import HISTORY

_KEPT = (WEIGHTS, TYPICAL, EXAMPLES, HISTORY)


def calibrate_model(
    model: Path,
    store: Cutouts,
    rows: NDArray[np.int64],
    out: Path,
    device: str | None = None,
) -> Card:
    """Write a copy of a model whose calibration is fitted to rows of another store.

    The weights stay the same. The objects should be like those to be classified, for example of
    another survey or deeper, or simply more than the validation side of the training.
    """
    card = read_card(model)
    if card.calibration is None or not (model / LEARNED).is_file():
        raise UsageError(
            f"{model}: was made by an earlier version and does not list its training objects. "
            "Train it again."
        )
    _require_other(out, model, card)
    classes = np.array([labels.index(str(name)) for name in store.index["class"]])
    known = np.asarray(tables.read(model / HELD_OUT)["class"]).astype(str)
    lacking = [
        name
        for i, name in enumerate(labels.CLASSES)
        if name in known and not (classes[rows] == i).any()
    ]
    if lacking:
        raise UsageError(f"There is no {' and no '.join(lacking)} to calibrate on. Add some.")
    missing = [band for band in card.bands if band not in store.bands]
    if missing or store.form != card.form:
        raise UsageError(
            f"The model takes {card.form} cutouts of {card.bands}, the store has {store.form} of "
            f"{store.bands}. Make the cutouts again from the same frames."
        )
    rows, learned = _leave_out_learned(model, card, store, rows)
    data = TrainingData(store, rows[:0], rows, classes, card.preprocessing(), card.split_hash)
    recipe = Recipe.model_validate(card.recipe)
    weights = load_weights(model / WEIGHTS)
    unseen = validation_logits.held_out(data, recipe, weights, str(device_of(device)))
    shares = ClassFractions.from_json(card.calibration["learned_shares"])
    own, *fewer = unseen
    if not len(unseen[own].usable()):
        raise UsageError("None of the objects can be classified: their centres are masked.")
    calibration = calibrate(unseen[own].usable(), shares, {name: unseen[name] for name in fewer})
    with disk_errors(out, "writing the model"):
        out.mkdir(parents=True, exist_ok=True)
        (out / CARD).unlink(missing_ok=True)  # written last: without it this is no model
        for name in _KEPT:
            if (model / name).is_file():
                shutil.copyfile(model / name, out / name)
    made = {
        "held_out_sha256": sha256(tables.write(table_of(unseen), out / HELD_OUT)),
        "learned_sha256": sha256(tables.write(learned, out / LEARNED)),
        "calibrated_on": {"store": store.hash, "objects": len(rows)},
    }
    card = card.model_copy(
        update={"calibration": calibration, "training": {**card.training, **made}}
    )
    write_json(out / CARD, card.model_dump())
    return card


def _require_other(out: Path, model: Path, card: Card) -> None:
    if out.resolve() == model.resolve():
        raise UsageError(f"{out}: is the model itself. Choose another folder (--out).")
    if (out / CARD).is_file() and read_card(out).weights_sha256 != card.weights_sha256:
        raise UsageError(f"{out}: holds another model. Choose another folder (--out).")


def _leave_out_learned(
    model: Path, card: Card, store: Cutouts, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Table]:
    """Rows that the model was not trained on; these and all that it has seen, as a table."""
    path = model / LEARNED
    check_hash(path, card.training["learned_sha256"])
    seen, objects = tables.read(path), store.index["objid", "ra", "dec"][rows]
    trained = seen[np.asarray(seen["split"]).astype(str) == "train"]
    keep = unknown_rows(
        trained,
        objects,
        "It is overconfident on these. Use a split without them (--split).",
    )
    objects = objects[keep]
    new = objects[~np.isin(np.asarray(objects["objid"]), np.asarray(seen["objid"]))]
    new = Table(new, copy=True)
    new["split"] = np.full(len(new), "validation")
    return rows[keep], vstack([seen, new], metadata_conflicts="silent")
