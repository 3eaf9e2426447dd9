"""Is the package's model right on real SDSS pixels that it never learned from?

    for k in 0 1 2 3 4; do
        gqs train build/shipped --split build/shipped/fold-$k.parquet --out build/fold-$k \\
            --recipe shipped --epochs 12 --seed 1
    done
    python benchmarks/real_pixels.py build/shipped --fold build/fold-0 --fold build/fold-1 \\
        --fold build/fold-2 --fold build/fold-3 --fold build/fold-4

Quasars with spectra, 2.7 < z < 5: each judged by the one of five models, trained alike, that
learned from no quasar of its runs. Beside them, what was painted on the very sky that was held out
with them: a model that knew this sky for the quasars' would find quasars among the painted stars
and galaxies too, and one that told painted pixels from untouched ones would lose painted quasars.
Stars and galaxies of three real fields, by the model that
never saw the field; their classes are our own, by shape where it leaves no doubt. Field
003918-3-0213, which no model saw, at the positions that SDSS's photo typed. And the four objects
with spectra in the real fields, which count there alone. Photo's types are no truth: some of its
stars are knots of spiral arms, and below r = 21 it errs too.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack

import gqs
from gqs import labels, tables
from gqs.cutouts.store import CutoutStore
from gqs.evaluation.intervals import wilson
from gqs.report.appraise import predict_rows
from measured import real_folder, save
from real_field import FIELD, spectra

REDSHIFTS = ((2.7, 3.0), (3.0, 3.5), (3.5, 4.0), (4.0, 4.5), (4.5, 5.0))
MAGNITUDES = ((14.0, 18.0), (18.0, 19.0), (19.0, 20.0), (20.0, 21.0), (21.0, 22.0), (22.0, 23.0))
STARS_TO, GALAXIES_TO = 20.0, 21.0  # r magnitudes to which shapes can be trusted
SAME_ARCSEC = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path, help="as shipped/make.py wrote it")
    parser.add_argument("--fold", type=Path, action="append", default=[], help="model folder")
    parser.add_argument("--model", type=Path, action="append", help="by default the package's")
    options = parser.parse_args()
    store = CutoutStore.open(options.store)
    members = tables.read(options.store / "members.parquet")
    folds = [gqs.load_classifier(path) for path in options.fold]
    results: dict[str, Any] = {}
    if folds:
        judged = vstack([of_fold(one, store, members, k) for k, one in enumerate(folds)])
        drawn = vstack([painted(one, store, members, k) for k, one in enumerate(folds)])
        results["folds"] = {
            "models": [one.hash for one in folds],
            "epochs": [one.card["training"]["epochs"] for one in folds],
            "quasars": quasars(judged[judged["true"] == labels.QSO]),
            "painted_on_their_sky": recalls(drawn),
            "fields": shapes(judged[judged["true"] != labels.QSO]),
        }
    results["models"] = []
    for path in options.model or [None]:
        classifier = gqs.load_classifier(path)
        found, photo = photo_field(classifier)
        results["models"].append(
            {
                "model": classifier.hash,
                "other_runs": quasars(of_other_runs(classifier, store, members)),
                "field": FIELD,
                "photo": agreement(found, photo),
                "spectra": spectra(classifier, real_folder()),
            }
        )
    if folds:
        results["balanced"] = balanced(judged, [results["models"][0]["photo"]])
    save("real_pixels", None, results)


def of_fold(classifier: gqs.Classifier, store: CutoutStore, members: Table, fold: int) -> Table:
    """Judge the real pixels that a fold holds out; an object that comes twice is judged once."""
    mine = (np.asarray(members["fold"]) == fold) & (np.asarray(members["origin"]) == "real")
    return _judged(classifier, store, np.flatnonzero(mine))


def painted(classifier: gqs.Classifier, store: CutoutStore, members: Table, fold: int) -> Table:
    """Judge what was painted on the sky of the quasars that a fold holds out."""
    drawn = np.asarray(members["origin"]) == "painted"
    sky = (np.asarray(members["fold"]) == fold) & (np.asarray(members["object"]) >= 0)
    return _judged(classifier, store, np.flatnonzero(drawn & sky))


def recalls(judged: Table) -> dict[str, Any]:
    """Recall of each class, all and by magnitude; of quasars by redshift too."""
    true, named = np.asarray(judged["true"]), np.asarray(judged["class"])
    found: dict[str, Any] = {}
    for name in labels.CLASSES:
        here, right = judged[true == name], named[true == name] == name
        by_r = _ranges(np.asarray(here["mag_r"]), right, MAGNITUDES)
        found[name] = {"recall": share(right), "by_r": by_r}
        if name == labels.QSO:
            redshift = np.asarray(here["redshift"])
            found[name]["by_redshift"] = _ranges(redshift, right, REDSHIFTS)
    return found


def of_other_runs(classifier: gqs.Classifier, store: CutoutStore, members: Table) -> Table:
    """Judge the real quasars whose runs, or other entries, are not in training."""
    real = (np.asarray(members["fold"]) >= 0) & (np.asarray(members["origin"]) == "real")
    quasar = np.asarray(store.index["class"]) == labels.QSO
    aside = np.asarray(members["side"]) != "train"
    return _judged(classifier, store, np.flatnonzero(real & quasar & aside))


def _judged(classifier: gqs.Classifier, store: CutoutStore, rows: np.ndarray) -> Table:
    # An object that is in the store twice has the same place and light.
    columns = [store.index[name][rows] for name in ("ra", "dec", "r")]
    rows = rows[
        np.sort(np.unique(np.round(np.nan_to_num(columns), 6), axis=1, return_index=True)[1])
    ]
    found = predict_rows(classifier, store, rows)
    known = store.index[rows]
    found["true"], found["redshift"] = np.asarray(known["class"]), np.asarray(known["redshift"])
    return found


def quasars(judged: Table) -> dict[str, Any]:
    """Recall of quasars, by redshift and magnitude, and what the others are taken for."""
    named = np.asarray(judged["class"])
    right = named == labels.QSO
    return {
        "recall": share(right),
        "taken_for": {str(name): int((named == name).sum()) for name in np.unique(named)},
        "by_redshift": _ranges(np.asarray(judged["redshift"]), right, REDSHIFTS),
        "by_r": _ranges(np.asarray(judged["mag_r"]), right, MAGNITUDES),
    }


def shapes(judged: Table) -> dict[str, Any]:
    """Recall of stars and galaxies, in each field that its model had not seen."""
    fields = np.array([f"{a:06d}-{b}-{c:04d}" for a, b, c in judged["run", "camcol", "field"]])
    limits = {labels.STAR: STARS_TO, labels.GALAXY: GALAXIES_TO}
    return {
        str(name): {
            kind: share((here["class"] == kind)[(here["true"] == kind) & (here["mag_r"] < limit)])
            for kind, limit in limits.items()
        }
        for name in np.unique(fields)
        for here in [judged[fields == name]]
    }


def photo_field(classifier: gqs.Classifier) -> tuple[Table, np.ndarray]:
    """Judge the field that no model saw, at photo's positions but for those with spectra."""
    catalogs = real_folder() / "catalogs"
    positions = tables.read(catalogs / f"field_{FIELD}_photo_types.csv")
    known = tables.read(catalogs / "spectroscopic_in_frames.csv")
    here, there = (SkyCoord(one["ra"], one["dec"], unit="deg") for one in (positions, known))
    positions = positions[here.match_to_catalog_sky(there)[1].arcsec > SAME_ARCSEC]
    frames = sorted((real_folder() / "frames" / FIELD).glob("frame-*.fits.bz2"))
    found = classifier.classify_field(frames, positions, prior="training")
    return found, np.asarray(positions["class"]).astype(str)


def agreement(found: Table, photo: np.ndarray) -> dict[str, Any]:
    """Recall of photo's stars and galaxies, and each bright star that was not called one."""
    r, named = np.asarray(found["mag_r"]), np.asarray(found["class"])
    point = named != labels.GALAXY
    star, galaxy = photo == labels.STAR, photo == labels.GALAXY
    lost = found[star & (r < STARS_TO) & (named != labels.STAR)]
    return {
        f"stars r<{STARS_TO:g}": share((named == labels.STAR)[star & (r < STARS_TO)]),
        f"stars r<{STARS_TO:g}, as points": share(point[star & (r < STARS_TO)]),
        f"galaxies r<{GALAXIES_TO:g}": share((named == labels.GALAXY)[galaxy & (r < GALAXIES_TO)]),
        "stars, by r": _ranges(r[star], (named == labels.STAR)[star], MAGNITUDES),
        "galaxies, by r": _ranges(r[galaxy], (named == labels.GALAXY)[galaxy], MAGNITUDES),
        "stars_lost": [
            [round(float(row["x"])), round(float(row["y"])), float(row["mag_r"]), str(row["class"])]
            for row in lost
        ],
    }


def balanced(judged: Table, photo: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean of the three recalls over all that was held out: folds, and photo's field."""
    named, true = np.asarray(judged["class"]), np.asarray(judged["true"])
    r = np.asarray(judged["mag_r"])
    limits = {labels.GALAXY: GALAXIES_TO, labels.QSO: np.inf, labels.STAR: STARS_TO}
    names = {labels.GALAXY: f"galaxies r<{GALAXIES_TO:g}", labels.STAR: f"stars r<{STARS_TO:g}"}
    recalls = {}
    for kind, limit in limits.items():
        here = (true == kind) & ((r < limit) | np.isinf(limit))
        hits, count = int((named[here] == kind).sum()), int(here.sum())
        if kind in names:
            hits += sum(one[names[kind]]["right"] for one in photo)
            count += sum(one[names[kind]]["of"] for one in photo)
        recalls[kind] = wilson(hits, count).to_json() | {"of": count}
    return {"mean": float(np.mean([one["value"] for one in recalls.values()])), **recalls}


def share(right: np.ndarray) -> dict[str, Any]:
    """How many are right of how many, and Wilson's interval."""
    right = np.asarray(right)
    if not len(right):
        return {"of": 0, "right": 0}
    return {
        "of": len(right),
        "right": int(right.sum()),
        **wilson(int(right.sum()), len(right)).to_json(),
    }


def _ranges(
    values: np.ndarray, right: np.ndarray, ranges: tuple[tuple[float, float], ...]
) -> dict[str, Any]:
    return {f"{a:g}-{b:g}": share(right[(values >= a) & (values < b)]) for a, b in ranges}


if __name__ == "__main__":
    main()
