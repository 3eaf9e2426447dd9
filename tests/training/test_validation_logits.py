"""What a training leaves of its validation side, and the calibration that a classifier takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from scipy.special import softmax

from gqs import tables
from gqs.cutouts.store import CutoutStore
from gqs.errors import ModelError
from gqs.files import sha256
from gqs.imaging.photometry import aperture_magnitudes
from gqs.model.calibration import sets_of
from gqs.model.classifier import Classifier, load_classifier
from gqs.training import train
from training.blobs import make_store, recipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[CutoutStore, Table, Classifier]:
    folder = tmp_path_factory.mktemp("held_out")
    store, split = make_store(folder / "store", seed=4)
    train(store, split, folder / "model", recipe(epochs=2), threads=1, device="cpu")
    return store, split, load_classifier(folder / "model")


def test_held_out_is_the_validation_side_as_the_classifier_sees_it(
    trained: tuple[CutoutStore, Table, Classifier],
) -> None:
    store, split, classifier = trained
    path = classifier.folder / "held_out.parquet"
    assert classifier.card["training"]["held_out_sha256"] == sha256(path)
    sets = sets_of(tables.read(path), "gri", path)
    assert list(sets) == ["gri", "r"]  # of the usual ones those that its three bands hold
    held_out = sets["gri"]
    sides = dict(zip(split["objid"].tolist(), split["split"].tolist(), strict=True))
    rows = np.flatnonzero([sides[i] == "validation" for i in store.index["objid"].tolist()])
    np.testing.assert_array_equal(held_out.objid, store.index["objid"][rows])
    images = store.images(rows)
    mag_r = aperture_magnitudes(images[:, [1]], "r")[0][:, 0]
    np.testing.assert_allclose(held_out.mag_r, mag_r, rtol=1e-6)
    assert classifier.calibration is not None
    expected = classifier.calibration.temperature.probabilities(held_out.logits, mag_r)
    np.testing.assert_allclose(classifier.predict_cutouts(images, "gri"), expected, atol=1e-6)
    plain = softmax(held_out.logits, axis=1)
    assert np.abs(plain - expected).max() > 1e-3  # it does something
    assert classifier.card["calibration"]["log_loss"]["after"] <= (
        classifier.card["calibration"]["log_loss"]["before"] + 1e-9
    )
    alone, softened = sets["r"], classifier.calibration.at("r")
    np.testing.assert_array_equal(alone.objid, held_out.objid)
    assert softened != classifier.calibration.temperature
    expected = softened.probabilities(alone.logits, mag_r)
    np.testing.assert_allclose(classifier.predict_cutouts(images[:, [1]], "r"), expected, atol=1e-6)


def test_a_model_without_a_calibration_stays_usable_and_a_broken_one_is_refused(
    trained: tuple[CutoutStore, Table, Classifier], tmp_path: Path
) -> None:
    store, _, classifier = trained
    card = json.loads((classifier.folder / "model.json").read_text())
    (tmp_path / "weights.safetensors").write_bytes(
        (classifier.folder / "weights.safetensors").read_bytes()
    )
    images = store.images(np.arange(10, 15))
    (tmp_path / "model.json").write_text(json.dumps({**card, "calibration": None}))
    plain = load_classifier(tmp_path).predict_cutouts(images, "gri")
    np.testing.assert_allclose(plain.sum(axis=1), 1)
    np.testing.assert_array_equal(
        plain.argmax(axis=1), classifier.predict_cutouts(images, "gri").argmax(axis=1)
    )
    for wrong in ({"method": "isotonic"}, {**card["calibration"], "temperature": {"overall": 0}}):
        (tmp_path / "model.json").write_text(json.dumps({**card, "calibration": wrong}))
        with pytest.raises(ModelError, match="calibration is invalid"):
            load_classifier(tmp_path)
