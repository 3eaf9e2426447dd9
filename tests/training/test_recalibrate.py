"""A model calibrated anew: the same weights, other objects behind its probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gqs import tables
from gqs.errors import IntegrityError, UsageError
from gqs.model.calibration import sets_of
from gqs.model.classifier import load_classifier
from gqs.training import train
from gqs.training.recalibrate import calibrate_model
from training.blobs import make_store, recipe


def test_other_objects_calibrate_and_learned_ones_are_refused(tmp_path: Path) -> None:
    store, split = make_store(tmp_path / "store", seed=4)
    model, out = tmp_path / "model", tmp_path / "again"
    train(store, split, model, recipe(epochs=2), threads=1, device="cpu")
    sides = dict(zip(split["objid"].tolist(), split["split"].tolist(), strict=True))
    side = np.array([sides[i] for i in store.index["objid"].tolist()])
    rows = np.flatnonzero(side != "train")
    assert (side[rows] == "test").any()

    before = load_classifier(model)
    card = calibrate_model(model, store, rows, out, "cpu")
    after = load_classifier(out)
    assert after.hash == before.hash and card.calibration["objects"] == len(rows)
    assert after.calibration != before.calibration
    known = sets_of(tables.read(out / "held_out.parquet"), "gri", out)["gri"]
    assert known.objid.tolist() == store.index["objid"][rows].tolist()
    # Its probabilities are those of the temperature that these objects ask for.
    images = store.images(rows)
    expected = after.calibration.temperature.probabilities(known.logits, known.mag_r)
    np.testing.assert_allclose(after.predict_cutouts(images, "gri"), expected, atol=1e-6)
    # What it was calibrated on is not unseen any more.
    learned = tables.read(out / "learned.parquet")
    assert sorted(learned["objid"].tolist()) == sorted(store.index["objid"].tolist())
    calibrate_model(model, store, rows, out, "cpu")  # a rerun replaces it

    trained = np.flatnonzero(side == "train")
    few = calibrate_model(model, store, np.append(rows, trained[0]), out)
    assert few.calibration == card.calibration  # one in over twenty is left out
    some = len(rows) // 10
    with pytest.raises(IntegrityError, match=f"learned from {some} of the"):
        calibrate_model(model, store, np.append(rows, trained[:some]), out)
    with pytest.raises(UsageError, match="is the model itself"):
        calibrate_model(model, store, rows, model)
    stars = rows[np.asarray(store.index["class"][rows]) == "STAR"]
    with pytest.raises(UsageError, match="no GALAXY and no QSO"):
        calibrate_model(model, store, stars, out)
