"""One band and two classes, from arrays to a report: an absent class breaks nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy import units

from gqs.cutouts.split import make_split
from gqs.cutouts.store import CutoutStore
from gqs.errors import UsageError
from gqs.model.classifier import load_classifier
from gqs.model.engines.probe_cutouts import specimens
from gqs.model.export import metadata
from gqs.report.appraise import AppraiseOptions, appraise
from gqs.training import train
from gqs.training.recalibrate import calibrate_model
from training import blobs


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_stars_and_galaxies_in_one_band(tmp_path: Path, dtype: type) -> None:
    images, classes = blobs.sky(300, "r", seed=4)
    classes = np.where(classes == "QSO", "STAR", classes)
    grey = np.clip(40 + 40 * images[:, 0], 0, 255).astype(dtype)
    store = CutoutStore.from_arrays(tmp_path / "store", grey, classes, groups=np.arange(300) // 15)
    split = make_split(store.index, "grouped", "field", seed=3)
    recipe = blobs.recipe(epochs=6, class_weights="balanced")
    if dtype is np.uint8:
        changes = {"network": "resnet18", "arguments": {}, "epochs": 1, "rate": 1e-3}
        recipe = recipe.changed(**changes, **{"augment.band_dropout": 0.0})
    model = tmp_path / "model"
    train(store, split, model, recipe, threads=1)
    classifier = load_classifier(model)
    appraisal = appraise(classifier, store, split, tmp_path / "report", AppraiseOptions(seed=1))
    assert appraisal.metrics.counts["QSO"] == 0
    assert appraisal.metrics.unclassified == {"GALAXY": 0, "QSO": 0, "STAR": 0}
    assert np.isfinite(appraisal.evaluation.predictions["unlike"]).all()
    if dtype is np.float32:
        assert appraisal.metrics.accuracy.value > 0.85
        assert np.asarray(appraisal.evaluation.predictions["p_qso"]).max() < 0.2
        assert appraisal.baseline is not None
        assert appraisal.baseline.accuracy.value > 0.85
    validation = np.isin(store.index["objid"], split["objid"][split["split"] == "validation"])
    calibrate_model(model, store, np.flatnonzero(validation), tmp_path / "again")


def test_a_model_of_own_bands_takes_raw_images_and_no_frames(tmp_path: Path) -> None:
    images, classes = blobs.sky(90, "gr", seed=6)
    counts = 500 + 70 * images
    store = CutoutStore.from_arrays(tmp_path / "store", counts, classes)
    split = make_split(store.index, "paper", seed=3)
    train(store, split, tmp_path / "model", blobs.recipe(epochs=1), threads=1)
    classifier = load_classifier(tmp_path / "model")
    of_store, _ = classifier.examine_cutouts(store.images(range(90)), "AB")
    of_counts = classifier.predict_cutouts(counts * units.adu, "AB")
    np.testing.assert_allclose(of_counts, of_store, atol=1e-6)
    assert set(json.loads(metadata(classifier)["scale"])) == {"A", "B"}
    assert specimens(classifier.preprocessing, 6).images.shape == (6, 2, 50, 50)
    with pytest.raises(UsageError, match="frames do not have"):
        classifier.classify_field(tmp_path / "frame.fits")
