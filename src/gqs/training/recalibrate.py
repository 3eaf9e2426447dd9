"""Calibrate a trained model anew, on other objects that it did not learn from."""

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
from gqs.probability.label_shift import Shares
from gqs.recipes import Recipe
from gqs.training import validation_logits as holding
from gqs.training.batches import Cutouts, Data
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
    """Write a copy of a model whose probabilities, sets and lists rest on other objects.

    The weights stay as they are. Give objects as they will be in use: another survey's, deeper
    ones, or only more of them than training could spare.
    """
    card = read_card(model)
    if card.calibration is None or not (model / LEARNED).is_file():
        raise UsageError(
            f"{model}: does not tell what it learned from (an earlier version made it). Train "
            "again with this version."
        )
    _require_other(out, model, card)
    classes = np.array([labels.index(str(name)) for name in store.index["class"]])
    lacking = [name for i, name in enumerate(labels.CLASSES) if not (classes[rows] == i).any()]
    if lacking:
        raise UsageError(f"There is no {' and no '.join(lacking)} to calibrate on. Add some.")
    missing = [band for band in card.bands if band not in store.bands]
    if missing or store.form != card.form:
        raise UsageError(
            f"The model takes {card.form} cutouts of {card.bands}, the store has {store.form} of "
            f"{store.bands}. Cut them anew from the same frames."
        )
    rows, learned = _learned(model, card, store, rows)
    data = Data(store, rows[:0], rows, classes, card.preprocessing(), card.split_hash)
    recipe = Recipe.model_validate(card.recipe)
    where = str(device_of(device))
    unseen = holding.held_out(data, recipe, load_weights(model / WEIGHTS), where)
    shares = Shares.from_json(card.calibration["learned_shares"])
    own, *fewer = unseen
    if not len(unseen[own].usable()):
        raise UsageError("None of the objects can be judged: their middles are masked.")
    calibration = calibrate(unseen[own].usable(), shares, {name: unseen[name] for name in fewer})
    with disk_errors(out, "writing the model"):
        out.mkdir(parents=True, exist_ok=True)
        (out / CARD).unlink(missing_ok=True)  # until all is there, it is no model
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
        raise UsageError(f"{out}: is the model itself. Name another folder (--out).")
    if (out / CARD).is_file() and read_card(out).weights_sha256 != card.weights_sha256:
        raise UsageError(f"{out}: holds another model. Name another folder (--out).")


def _learned(
    model: Path, card: Card, store: Cutouts, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Table]:
    """Leave out what was learned from; list the others with what the model has seen."""
    path = model / LEARNED
    check_hash(path, card.training["learned_sha256"])
    seen, mine = tables.read(path), store.index["objid", "ra", "dec"][rows]
    trained = seen[np.asarray(seen["split"]).astype(str) == "train"]
    keep = unknown_rows(
        trained,
        mine,
        "On these it is surer than on any other. Name a split without them (--split).",
    )
    mine = mine[keep]
    new = mine[~np.isin(np.asarray(mine["objid"]), np.asarray(seen["objid"]))]
    new = Table(new, copy=True)
    new["split"] = np.full(len(new), "validation")
    return rows[keep], vstack([seen, new], metadata_conflicts="silent")
