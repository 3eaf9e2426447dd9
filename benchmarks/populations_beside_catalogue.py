"""Are drawn sources like SDSS's spectroscopic ones, and as hard to classify?

Drawn magnitudes get SDSS's photometric errors. Boosted trees then try to tell them from the
catalogue's rows, class by class; and trees classify the one and the other, balanced, with test
rows from other runs than the training's. Writes results/populations_beside_catalogue.json. Run as

    GQS_REAL_DATA=... python benchmarks/populations_beside_catalogue.py
"""

from __future__ import annotations

import os
import platform
from itertools import combinations
from pathlib import Path

import numpy as np
import sklearn
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import cross_val_predict

from fit_populations import EXTENDED_SKY, OUT, flux_errors, magnitudes, usable
from gqs import tables
from gqs.files import write_json
from gqs.labels import CLASSES
from gqs.simulation import population
from gqs.surveys import sdss

SEED, PER_CLASS = 1, 9000


def observed(sources, rng) -> np.ndarray:
    """(n, 5) asinh magnitudes with SDSS's errors."""
    errors = tables.read(OUT / "photometric_errors.ecsv")
    flux = 10 ** (-0.4 * (magnitudes(sources) - sdss.ZERO_POINT))
    for name in CLASSES:
        rows = np.asarray(sources["class"]) == name
        sigma = flux_errors(flux[rows], errors, EXTENDED_SKY[name])
        flux[rows] += sigma * rng.standard_normal(sigma.shape)
    return np.stack(
        [sdss.asinh_magnitude(flux[:, k], band) for k, band in enumerate(sdss.BANDS)], axis=1
    )


def features(mag: np.ndarray, bands: str = sdss.BANDS) -> np.ndarray:
    mag = mag[:, [sdss.BANDS.index(band) for band in bands]]
    pairs = combinations(range(mag.shape[1]), 2)
    return np.column_stack([mag] + [mag[:, a] - mag[:, b] for a, b in pairs])


def auc(real: np.ndarray, drawn: np.ndarray) -> float:
    x = features(np.concatenate([real, drawn]))
    y = np.repeat([1, 0], [len(real), len(drawn)])
    trees = HistGradientBoostingClassifier(max_iter=150, learning_rate=0.06, random_state=0)
    scores = cross_val_predict(trees, x, y, cv=4, method="predict_proba")[:, 1]
    return round(float(roc_auc_score(y, scores)), 4)


def accuracy(train: tuple, test: tuple, bands: str) -> float:
    trees = HistGradientBoostingClassifier(max_iter=250, learning_rate=0.08, random_state=0)
    trees.set_params(class_weight="balanced").fit(features(train[0], bands), train[1])
    guess = trees.predict(features(test[0], bands))
    return round(float(balanced_accuracy_score(test[1], guess)), 4)


def main() -> None:
    """Measure both and write the figures."""
    rng = np.random.default_rng(SEED)
    real = Path(os.environ["GQS_REAL_DATA"])
    table = tables.read(real / "catalogs/sdss_spectro_photometry.csv.gz")
    mag, names = magnitudes(table), np.asarray(table["class"]).astype(str)
    run, good = np.asarray(table["run"]), usable(mag)
    chosen = [rng.permutation(np.flatnonzero(good & (names == c)))[:PER_CLASS] for c in CLASSES]
    rows = np.concatenate(chosen)
    counts = dict.fromkeys(CLASSES, PER_CLASS)
    as_targets = population.draw(counts, rng, faint_alike=False)
    drawn, drawn_names = observed(as_targets, rng), np.asarray(as_targets["class"]).astype(str)
    alike = population.draw(counts, rng)
    alike_mag, alike_names = observed(alike, rng), np.asarray(alike["class"]).astype(str)
    held = np.isin(run[rows], rng.permutation(np.unique(run[rows]))[: len(np.unique(run)) // 3])
    catalogue = (mag[rows[~held]], names[rows[~held]]), (mag[rows[held]], names[rows[held]])
    part = np.arange(len(drawn)) < 2 * len(drawn) // 3
    ours = (drawn[part], drawn_names[part]), (drawn[~part], drawn_names[~part])
    other = (alike_mag[part], alike_names[part]), (alike_mag[~part], alike_names[~part])
    accuracies = {
        bands: {
            "catalogue": accuracy(*catalogue, bands),
            "drawn": accuracy(*ours, bands),
            "trained on drawn, tested on catalogue": accuracy(ours[0], catalogue[1], bands),
            "trained on catalogue, tested on drawn": accuracy(catalogue[0], ours[1], bands),
            "drawn, faint stars and galaxies as common as faint quasars": accuracy(*other, bands),
        }
        for bands in ("gri", sdss.BANDS)
    }
    result = {
        "question": __doc__.splitlines()[0],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"numpy": np.__version__, "scikit-learn": sklearn.__version__},
        "seed": SEED,
        "objects_a_class": PER_CLASS,
        "auc_real_against_drawn": {
            name: auc(mag[which], drawn[drawn_names == name])
            for name, which in zip(CLASSES, chosen, strict=True)
        },
        "balanced_accuracy_of_trees_on_magnitudes": accuracies,
    }
    write_json(Path(__file__).parent / "results/populations_beside_catalogue.json", result)
    print(result)


if __name__ == "__main__":
    main()
