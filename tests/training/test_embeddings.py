"""What a training leaves of its objects' places, and the flag that a classifier makes of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from gqs.cutouts.shards import write_shard
from gqs.cutouts.store import CutoutStore, StoreWriter
from gqs.errors import ModelError
from gqs.files import sha256
from gqs.model.classifier import Classifier, load_classifier
from gqs.model.classify_field import flag_unlike
from gqs.model.examples import Examples
from gqs.model.folder import EXAMPLES, TYPICAL
from gqs.tables import Flag
from gqs.training import train
from training.blobs import make_store, recipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[CutoutStore, Table, Classifier]:
    folder = tmp_path_factory.mktemp("knowing")
    store, split = make_store(folder / "store", seed=5)
    train(store, split, folder / "model", recipe(epochs=2), threads=1, device="cpu")
    return store, split, load_classifier(folder / "model")


def side(store: CutoutStore, split: Table, name: str) -> np.ndarray:
    sides = dict(zip(split["objid"].tolist(), split["split"].tolist(), strict=True))
    return np.flatnonzero([sides[i] == name for i in store.index["objid"].tolist()])


def test_the_validation_side_lies_within_the_limit_and_a_trail_beyond(
    trained: tuple[CutoutStore, Table, Classifier],
) -> None:
    store, split, classifier = trained
    folder = classifier.folder
    assert classifier.card["training"]["typical_sha256"] == sha256(folder / TYPICAL)
    images = store.images(side(store, split, "validation"))
    probabilities, unlike = classifier.examine_cutouts(images, "gri")
    np.testing.assert_array_equal(probabilities, classifier.predict_cutouts(images, "gri"))
    seen = np.isfinite(unlike)
    assert (np.isfinite(images).any(axis=(2, 3)).all(axis=1) == seen).all()
    # All but the one object or less that the quantile leaves out.
    assert (unlike[seen] > 1).sum() <= 1 and unlike[seen].max() > 0.9
    images[:, 1, 20:24] += 8.0
    _, trail = classifier.examine_cutouts(images, "gri")
    assert (trail[seen] > 1).mean() > 0.9


def test_a_missing_band_is_no_odd_source(trained: tuple[CutoutStore, Table, Classifier]) -> None:
    store, split, classifier = trained
    images = store.images(side(store, split, "test"))
    probabilities, unlike = classifier.examine_cutouts(images[:, 1:], "ri")
    assert np.isfinite(probabilities).all() and np.isnan(unlike).all()
    flags = flag_unlike(np.full(3, 1, dtype=np.int32), np.array([0.9, 1.1, np.nan]))
    assert flags.tolist() == [1, 1 | int(Flag.UNLIKE), 1]


def test_examples_are_of_the_training_side(trained: tuple[CutoutStore, Table, Classifier]) -> None:
    store, split, classifier = trained
    examples = Examples.load(classifier.folder / EXAMPLES)
    rows = side(store, split, "train")
    objid = np.asarray(store.index["objid"])
    assert np.isin(examples.objid, objid[rows]).all()
    names = np.array(["GALAXY", "QSO", "STAR"])[examples.classes]
    of = dict(zip(objid.tolist(), np.asarray(store.index["class"]).astype(str), strict=True))
    assert [of[i] for i in examples.objid.tolist()] == names.tolist()
    assert examples.pictures.shape[1:] == (50, 50, 3)
    assert (classifier.folder / EXAMPLES).stat().st_size < 3e6


def test_a_model_without_these_files_stays_usable_and_another_models_are_refused(
    trained: tuple[CutoutStore, Table, Classifier], tmp_path: Path
) -> None:
    store, split, classifier = trained
    images = store.images(side(store, split, "test"))
    shutil.copytree(classifier.folder, tmp_path / "model")
    changed = tmp_path / "model" / TYPICAL
    changed.write_bytes(changed.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(ModelError, match="does not match model"):
        load_classifier(tmp_path / "model")
    changed.unlink()
    bare = load_classifier(tmp_path / "model")
    probabilities, unlike = bare.examine_cutouts(images, "gri")
    np.testing.assert_array_equal(probabilities, classifier.predict_cutouts(images, "gri"))
    assert np.isnan(unlike).all()


def test_a_model_carries_no_survey_pixels_about(tmp_path: Path) -> None:
    """A store of two shards, one of real pixels: examples come from the other alone."""
    store, split = make_store(tmp_path / "all", seed=6)
    rows = store.index.copy()
    rows.remove_columns(["shard", "row"])
    real = np.asarray(rows["field"]) % 2 == 1
    with StoreWriter(tmp_path / "mixed", store.bands, "flux", "pad", {"seed": 6}) as writer:
        for name, part in (("real", real), ("rendered", ~real)):
            some = rows[part]
            if name == "real":
                some["origin"] = "real"
            write_shard(tmp_path / "mixed", name, store.images(np.flatnonzero(part)), some, name)
        mixed = writer.finish(["real", "rendered"])
    assert set(mixed.index["origin"]) == {"real", "simulated"}
    train(mixed, split, tmp_path / "model", recipe(epochs=1), threads=1, device="cpu")
    examples = Examples.load(tmp_path / "model" / EXAMPLES)
    assert len(examples.objid) and set(examples.objid.tolist()) <= set(rows["objid"][~real])
