"""Boosted trees: correct where the answer is known, tuned on the validation side alone."""

import os
from dataclasses import dataclass

import numpy as np
import pytest
from astropy.table import Table
from sklearn.metrics import log_loss
from threadpoolctl import ThreadpoolController, threadpool_limits

from gqs import labels
from gqs.errors import UsageError
from gqs.evaluation.baseline import Options, _free_cores, boosted_trees, cutout_features, fit
from gqs.evaluation.matched import match
from gqs.tables import read

NAMES = np.array(labels.CLASSES)
QUICK = (Options(0.3, 8, 0.0),)


def blobs(n: int, seed: int, spread: float = 1.0):
    rng = np.random.default_rng(seed)
    index = rng.integers(0, 3, n)
    centres = np.array([[0, 0, 4.0, 0], [4.0, 0, 0, 0], [0, 4.0, 0, 0]])
    return centres[index] + rng.normal(size=(n, 4)) * spread, NAMES[index], index


def test_near_the_best_that_can_be():
    """Gaussian blobs: Bayes' rule is the nearest centre, accuracy Phi(sqrt(8)) and more."""
    features, classes, _ = blobs(1500, 0, 1.6)
    check, check_classes, _ = blobs(500, 1, 1.6)
    new, _, truth = blobs(2000, 2, 1.6)
    found = fit(features, classes, check, check_classes, grid=QUICK).probabilities(new)
    centres = np.array([[0, 0, 4.0, 0], [4.0, 0, 0, 0], [0, 4.0, 0, 0]])
    bayes = np.linalg.norm(new[:, None] - centres, axis=2).argmin(axis=1)
    accuracy, ceiling = (found.argmax(axis=1) == truth).mean(), (bayes == truth).mean()
    assert ceiling - 0.035 < accuracy <= ceiling + 0.01
    assert found.sum(axis=1) == pytest.approx(np.ones(2000))


@pytest.mark.parametrize(("load", "threads"), [(0.2, 3), (1.1, 2), (9.0, 1)])
def test_busy_cores_are_left_alone(load, threads, monkeypatch):
    """Of three cores, with what the system says of its load; what ran before is then restored."""
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})

    def running():
        pools = ThreadpoolController().select(user_api="openmp").info()
        return {pool["num_threads"] for pool in pools}

    with threadpool_limits(3, user_api="openmp"):
        with _free_cores():
            assert running() == {threads}
        assert running() == {3}
    with threadpool_limits(1, user_api="openmp"), _free_cores():  # as OMP_NUM_THREADS=1 would
        assert running() == {1}


def test_rounds_are_those_best_on_the_validation_side():
    features, classes, _ = blobs(300, 0, 3.0)  # noisy: boosting on and on would overfit
    check, check_classes, index = blobs(400, 1, 3.0)
    trees = fit(features, classes, check, check_classes, grid=QUICK)
    losses = [log_loss(index, p) for p in trees.model.staged_predict_proba(check)]
    assert trees.rounds < len(losses)
    assert trees.validation_loss == pytest.approx(losses[trees.rounds - 1])
    assert trees.validation_loss == pytest.approx(min(losses[19::20]))
    assert log_loss(index, trees.probabilities(check)) == pytest.approx(trees.validation_loss)


def test_same_seed_same_trees_other_data_other_hash():
    features, classes, _ = blobs(200, 0)
    check, check_classes, _ = blobs(60, 1)
    first, second = (fit(features, classes, check, check_classes, grid=QUICK) for _ in "ab")
    assert (first.probabilities(check) == second.probabilities(check)).all()
    assert first.hash == second.hash
    assert fit(features + 1, classes, check + 1, check_classes, grid=QUICK).hash != first.hash


def test_missing_measurements():
    features, classes, _ = blobs(400, 0)
    features[::7, 1] = np.nan
    check, check_classes, _ = blobs(90, 1)
    new = check[:5].copy()
    new[0, 2] = np.nan
    new[3] = np.nan
    found = fit(features, classes, check, check_classes, grid=QUICK).probabilities(new)
    assert np.isnan(found[3]).all()
    assert np.isfinite(np.delete(found, 3, axis=0)).all()


def test_class_that_training_lacks_gets_no_probability():
    features, classes, index = blobs(400, 0)
    check, check_classes, _ = blobs(100, 1)
    kept = index != 1
    trees = fit(features[kept], classes[kept], check, check_classes, grid=QUICK)
    assert (trees.probabilities(check)[:, 1] == 0).all()


def test_one_class_is_refused():
    features, _, _ = blobs(20, 0)
    with pytest.raises(UsageError, match="two classes"):
        fit(features, np.full(20, "STAR"), features, np.full(20, "STAR"))


@dataclass
class Rendered:
    """Gaussian sources in memory."""

    index: Table
    pixels: np.ndarray
    bands: str = "gri"
    form: str = "flux"

    def images(self, rows):
        return self.pixels[rows]


def rendered(n: int = 360) -> Rendered:
    """Galaxies are wide, quasars blue points, stars red points; noise as in SDSS."""
    rng = np.random.default_rng(5)
    index = rng.integers(0, 3, n)
    width = np.where(index == 0, rng.uniform(2.4, 4.5, n), 1.4)
    y, x = np.mgrid[:50, :50] - 25.0
    shape = np.exp(-(x**2 + y**2) / (2 * width[:, None, None] ** 2))
    shape /= shape.sum(axis=(1, 2), keepdims=True)
    flux = rng.uniform(8, 60, n)
    colours = np.array([[0.5, 1, 1.4], [1.1, 1, 0.9], [0.5, 1, 1.3]])[index]
    pixels = flux[:, None, None, None] * colours[:, :, None, None] * shape[:, None]
    pixels = (pixels + rng.normal(size=pixels.shape) * 0.03).astype(np.float32)
    objects = Table({"objid": np.arange(n, dtype=np.uint64), "class": NAMES[index]})
    for name in ("ra", "dec", "x", "y"):
        objects[name] = rng.uniform(1, 50, n)
    objects["run"], objects["camcol"], objects["field"] = 3918, 3, np.arange(n) % 9
    objects["flags"] = np.zeros(n, dtype=np.int32)
    return Rendered(objects, pixels)


def split_of(store: Rendered) -> Table:
    sides = np.array(["train", "train", "train", "validation", "test"])
    n = len(store.index)
    return Table({"objid": store.index["objid"], "split": sides[np.arange(n) % 5]})


def test_from_cutouts_to_predictions():
    store = rendered()
    split = split_of(store)
    notes = []
    found = boosted_trees(store, split, grid=QUICK, progress=lambda *note: notes.append(note))
    test = np.asarray(split["split"]) == "test"
    assert found["objid"].tolist() == store.index["objid"][test].tolist()
    assert match(found, store.index).correct.mean() > 0.93
    assert notes[-1][:2] == (1, 1)


def test_labels_of_the_test_side_have_no_influence():
    """With shuffled labels on the test side the probabilities are the same."""
    store, other = rendered(), rendered()
    split = split_of(store)
    test = np.flatnonzero(np.asarray(split["split"]) == "test")
    other.index["class"][test] = np.roll(np.asarray(other.index["class"][test]), 1)
    first, second = boosted_trees(store, split, grid=QUICK), boosted_trees(other, split, grid=QUICK)
    assert first["p_qso"].tolist() == second["p_qso"].tolist()


def test_pieces_join_in_order(monkeypatch):
    store = rendered(40)
    whole = cutout_features(store, np.arange(40))
    monkeypatch.setattr("gqs.evaluation.baseline.CHUNK", 7)
    np.testing.assert_array_equal(cutout_features(store, np.arange(40)), whole)


def test_masked_cutout_has_no_class():
    store = rendered()
    split = split_of(store)
    row = int(np.flatnonzero(np.asarray(split["split"]) == "test")[2])
    store.pixels[row] = np.nan
    found = boosted_trees(store, split, grid=QUICK)
    assert found["class"][2] == ""
    assert (found["class"] != "").sum() == len(found) - 1


def test_colour_pictures_are_refused():
    store = rendered(30)
    store.form = "paper"
    with pytest.raises(UsageError, match="colour pictures"):
        boosted_trees(store, split_of(store))


def test_split_without_a_side_is_refused():
    store = rendered(30)
    split = split_of(store)
    split["split"] = np.where(split["split"] == "validation", "train", split["split"])
    with pytest.raises(UsageError, match="no validation objects"):
        boosted_trees(store, split, grid=QUICK)


def test_real_photometry_split_by_run(real_data):
    """SDSS's own magnitudes and colours: about 91 % on runs that the trees never saw."""
    table = read(real_data / "catalogs" / "sdss_spectro_photometry.csv.gz")
    rng = np.random.default_rng(0)
    classes = np.asarray(table["class"]).astype(str)
    r = np.asarray(table["r"])
    rows = np.concatenate(
        [
            rng.choice(np.flatnonzero((classes == name) & (r > 13.1) & (r < 23.2)), 4000, False)
            for name in labels.CLASSES
        ]
    )
    magnitudes = np.array([table[band][rows] for band in "ugriz"]).T
    features = np.concatenate([magnitudes, -np.diff(magnitudes, axis=1)], axis=1)
    names = classes[rows]
    runs, run = np.unique(np.asarray(table["run"])[rows], return_inverse=True)
    side = rng.permutation(len(runs))[run] % 5
    train, check, test = side > 1, side == 1, side == 0
    trees = fit(features[train], names[train], features[check], names[check], grid=QUICK)
    decided = NAMES[trees.probabilities(features[test]).argmax(axis=1)]
    assert 0.89 < (decided == names[test]).mean() < 0.94
