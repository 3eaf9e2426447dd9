"""How true are the probabilities, and how far apart are models that differ by their seed alone?

    python benchmarks/probabilities.py build/shipped --model build/seed-1 --model build/seed-2 \\
        --model build/seed-3

On the test side of the package's store, which is balanced, for each model: accuracy with each
usual set of bands; calibration error with the probabilities weighed for the mix of classes of these
very objects, magnitude by magnitude, at all magnitudes and in ranges; how often the sets of a
coverage hold the true class, by class and magnitude; and the same objects weighed until they stand
for another sky, judged with that sky's prior and without it. All with 95 % intervals; those of
calibration errors are the basic bootstrap's of whole fields, which takes out what chance adds. The
objects are isolated and rendered: of a real sky this says what its isolated objects would do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import gqs
from gqs import labels, tables
from gqs.cutouts.store import CutoutStore
from gqs.evaluation import reliability
from gqs.evaluation.matched import MatchedPredictions, match
from gqs.evaluation.metrics import measure
from gqs.model.held_out import calibration_of, validation_logits_of, with_bands
from gqs.probability import conformal
from gqs.probability.label_shift import matching_fractions, reweight
from gqs.probability.poststratify import mixed
from gqs.probability.priors import find_prior
from gqs.report.appraise import predict_rows
from gqs.tables import float_column
from ladder import SEED, Narrowed
from measured import save

EDGES = np.array([13.0, 17.0, 18.0, 19.0, 20.0, 21.0, 22.0, 23.5])
COVERAGES = (0.90, 0.95)
# Where the sky's prior is tried: the north galactic pole, and 30 degrees from the plane.
PLACES = {"pole": (192.86, 27.13), "30 degrees": (266.0, 30.0)}
RARE = np.array([0.55, 0.02, 0.43])  # galaxies, quasars, stars: as a bright sky may hold


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path, help="as shipped/make.py wrote it")
    parser.add_argument("--model", type=Path, action="append", help="by default the package's")
    options = parser.parse_args()
    store = CutoutStore.open(options.store)
    members = tables.read(options.store / "members.parquet")
    rows = np.flatnonzero(np.asarray(members["side"]) == "test")
    models = [examined(path, store, rows) for path in options.model or [None]]
    accuracy = [one["bands"]["ugriz"]["accuracy"]["value"] for one in models]
    spread = {"median": np.median(accuracy), "range": [min(accuracy), max(accuracy)]}
    save("probabilities", SEED, {"objects": len(rows), "ugriz": spread, "models": models})


def examined(path: Path | None, store: CutoutStore, rows: np.ndarray) -> dict[str, Any]:
    """Measure one model with each set of bands that it was tried with; other skies with all."""
    classifier = gqs.load_classifier(path)
    truth = store.index[rows]
    found: dict[str, Any] = {"model": classifier.hash, "bands": {}}
    for bands in validation_logits_of(classifier, "sets"):
        predictions = predict_rows(classifier, Narrowed(store, bands), rows)
        judged = match(predictions, truth)
        metrics = measure(judged, group="field", seed=SEED)
        place = {objid: row for row, objid in enumerate(predictions["objid"].tolist())}
        mag_r = float_column(predictions, "mag_r")[
            [place[objid] for objid in judged.objid.tolist()]
        ]
        found["bands"][bands] = {
            "accuracy": metrics.overall["accuracy"].to_json(),
            "as_learned": {name: metrics.overall[name].to_json() for name in ("log_loss", "ece")},
            "at_own_mix": at_own_mix(classifier, judged, mag_r),
            "sets": coverage(classifier, judged, mag_r, bands),
        }
        if bands == classifier.bands:
            found["skies"] = {
                name: shifted(classifier, judged, mag_r, sky) for name, sky in skies().items()
            }
    return found


def held_to_truth(judged: MatchedPredictions, weight: np.ndarray | None = None) -> dict[str, Any]:
    """Log loss and calibration error, whole fields drawn again."""
    found = reliability.calibration_measures(
        judged, judged.groups("field"), seed=SEED, weight=weight
    )
    return {name: found[name].to_json() for name in ("log_loss", "ece")}


def at_own_mix(
    classifier: gqs.Classifier, judged: MatchedPredictions, mag_r: np.ndarray
) -> dict[str, Any]:
    """Hold probabilities against the truth for the mix of classes that the objects are of."""
    learned = calibration_of(classifier, "a calibration error").learned
    own = matching_fractions(judged.truth, mag_r, learned)
    here = judged.with_probabilities(reweight(judged.probability, own.at(mag_r), learned.at(mag_r)))
    ranges = []
    for low, high in pairwise(EDGES.tolist()):
        inside = (mag_r >= low) & (mag_r < high)
        if inside.any():
            of = {"r": [low, high], "of": int(inside.sum())}
            ranges.append(of | held_to_truth(here.select(inside)))
    return {**held_to_truth(here), "by_magnitude": ranges}


def coverage(
    classifier: gqs.Classifier, judged: MatchedPredictions, mag_r: np.ndarray, bands: str
) -> dict[str, Any]:
    """Count how often sets hold the true class, by class and by range of magnitude."""
    held_out = with_bands(validation_logits_of(classifier, "sets"), bands, classifier, "sets")
    temperature = calibration_of(classifier, "sets").at(bands)
    known = temperature.probabilities(held_out.logits, held_out.mag_r)
    found = {}
    for asked in COVERAGES:
        made = conformal.fit(known, held_out.truth, held_out.mag_r, asked)
        sets = made.sets(judged.probability, mag_r, judged.decided)
        found[f"{asked:g}"] = [
            {
                "class": part.name,
                "r": [part.low, part.high] if np.isfinite(part.low) else "all",
                "of": part.count,
                **part.coverage.to_json(),
                "mean_size": part.size,
            }
            for part in conformal.covered(sets, judged.truth, mag_r, EDGES)
        ]
    return found


def skies() -> dict[str, tuple[Callable[[np.ndarray], np.ndarray], bool]]:
    """Densities by r magnitude, and whether they are counts."""
    sky = find_prior("sky")

    def at(place: tuple[float, float]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda r: sky.density(r, *(np.full(len(r), value) for value in place))

    found = {f"sky, {name}": (at(place), True) for name, place in PLACES.items()}
    return found | {"2 % quasars": (lambda r: np.tile(RARE, (len(r), 1)), False)}


def shifted(
    classifier: gqs.Classifier,
    judged: MatchedPredictions,
    mag_r: np.ndarray,
    sky: tuple[Callable[[np.ndarray], np.ndarray], bool],
) -> dict[str, Any]:
    """Weigh objects until they stand for a sky; judge with its prior, and without."""
    density, counts = sky
    mix, used = mixed(judged.truth, mag_r, density, counts)
    learned = calibration_of(classifier, "a prior").learned.at(mag_r[used])
    plain = judged.probability[used]
    told = reweight(plain, density(mag_r[used]), learned)
    weight = mix.weight
    quasar = labels.index(labels.QSO)
    found = {
        "effective_objects": weight.sum() ** 2 / (weight**2).sum(),
        "quasars_in_sky": weight[mix.truth == quasar].sum() / weight.sum(),
    }
    for name, p in (("without_prior", plain), ("with_prior", told)):
        here = judged.select(used).with_probabilities(p)
        found[name] = {
            "accuracy": np.average(here.correct, weights=weight),
            **held_to_truth(here, weight),
            "mean_p_qso": np.average(p[:, quasar], weights=weight),
        }
    return found


if __name__ == "__main__":
    main()
