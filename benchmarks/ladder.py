"""How far does each step go, on the same objects? From counts by magnitude to our own model.

    python shipped/make.py build/shipped --data "$GQS_REAL_DATA"
    python shipped/pictures.py build/shipped build/pictures
    python benchmarks/ladder.py build/shipped --pictures build/pictures \\
        --planes build/planes --paper build/resnet50 --paper build/resnet50_gqs

The objects are the test side of the store: real photometry of runs that no model learned from,
rendered, as many of each class. Counts and trees learn from the training side's objects of the
same catalogue, and get its own magnitudes, with their errors but without the noise that a
rendering adds once more. "Told" is the true type, galaxy or point source, which nobody has who
looks at pictures: photo's `type` errs, and is not in this catalogue. `--planes` is the package's
network trained on 8-bit pictures of the same objects, a `--paper` one of the paper's trained on
them. Writes ladder.json and the table, ladder.md.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

import gqs
from gqs import labels, tables
from gqs.cutouts.store import CutoutStore
from gqs.evaluation import baseline
from gqs.evaluation.comparison import compare
from gqs.evaluation.matched import MatchedPredictions, match
from gqs.evaluation.metrics import measure
from gqs.files import write_bytes
from gqs.report.appraise import predict_rows
from measured import RESULTS, save

EDGES = np.arange(13.0, 24.0, 0.5)  # for counting by magnitude
STEPS = ((13.0, 18.0), (18.0, 19.0), (19.0, 20.0), (20.0, 21.0), (21.0, 22.0), (22.0, 23.5))
SEED = 1
Q, S = labels.index(labels.QSO), labels.index(labels.STAR)


@dataclasses.dataclass(frozen=True)
class Rung:
    """One step: who judges, what it sees, what it cost, and its answers."""

    name: str
    sees: str
    predictions: Table
    cost: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Narrowed:
    """A store seen through some of its bands."""

    store: CutoutStore
    bands: str

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Return the images of these bands alone."""
        return self.store.images(rows)[:, [self.store.bands.index(band) for band in self.bands]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path, help="as shipped/make.py wrote it")
    parser.add_argument("--model", type=Path, help="model folder; by default the package's")
    parser.add_argument("--pictures", type=Path, help="as shipped/pictures.py wrote them")
    parser.add_argument("--planes", type=Path, help="model folder")
    parser.add_argument("--paper", type=Path, action="append", default=[], help="model folder")
    options = parser.parse_args()
    store = CutoutStore.open(options.store)
    members = tables.read(options.store / "members.parquet")
    rows = np.flatnonzero(np.asarray(members["side"]) == "test")
    truth = store.index[rows]
    rungs = [*without_pixels(store, members, rows)]
    if options.pictures:
        paper = CutoutStore.open(options.pictures / "paper")
        rungs += [network(path, paper, rows) for path in options.paper]
        if options.planes:
            planes = CutoutStore.open(options.pictures / "planes")
            rungs.append(network(options.planes, planes, rows, "8-bit picture and seeing"))
    for bands in ("gri", "ugriz"):
        seen = f"flux in {' '.join(bands)}, and seeing"
        rungs.append(network(options.model, Narrowed(store, bands), rows, seen))
    ours = match(rungs[-1].predictions, truth)
    results = [measured(rung, truth, ours) for rung in rungs]
    save("ladder", SEED, {"objects": len(rows), "store": store.hash, "rungs": results})
    write_bytes(RESULTS / "ladder.md", markdown(results).encode())


def without_pixels(store: CutoutStore, members: Table, test: np.ndarray) -> list[Rung]:
    """Count by magnitude, and grow trees on the catalogue's magnitudes."""
    catalogue, side = (np.asarray(members[name]).astype(str) for name in ("catalogue", "side"))
    rows = {
        name: np.flatnonzero((catalogue == "spectroscopic") & (side == name))
        for name in ("train", "validation")
    }
    rows["test"] = test
    classes = np.asarray(store.index["class"]).astype(str)
    number = np.array([labels.index(name) for name in classes])
    r = np.asarray(store.index["r"])
    objects = store.index[test]

    def told(where: np.ndarray, bands: str, kind: bool) -> np.ndarray:
        features = baseline.catalogue_features(store.index[where], bands)
        extended = (classes[where] == labels.GALAXY).astype(np.float64)
        return np.column_stack([features, extended]) if kind else features

    counts = counted(r[rows["train"]], number[rows["train"]])
    points = counts.copy()
    points[:, labels.index(labels.GALAXY)] = 0
    guess = shares(counts, r[test])
    best = shares(points, r[test])
    best[classes[test] == labels.GALAXY] = np.eye(3)[labels.index(labels.GALAXY)]
    flags = np.asarray(objects["flags"], dtype=np.int32)
    found = [
        Rung("most common class at its r", "r", tables.predictions(objects, guess, flags, "")),
        Rung(
            "as before, and told galaxy or point source without fail",
            "r and the type",
            tables.predictions(objects, best, flags, ""),
        ),
    ]
    for kind in (False, True):
        for bands in ("gri", "ugriz"):
            features = {name: told(where, bands, kind) for name, where in rows.items()}
            trees = baseline.fit(
                *(features["train"], classes[rows["train"]]),
                *(features["validation"], classes[rows["validation"]]),
                seed=SEED,
            )
            answer = tables.predictions(
                objects, trees.probabilities(features["test"]), flags, trees.hash
            )
            sees = f"catalogue magnitudes {' '.join(bands)}"
            name = "boosted trees" + (", told galaxy or point source without fail" * kind)
            found.append(Rung(name, sees, answer, {"trained_on": len(rows["train"])}))
    return found


def counted(r: np.ndarray, number: np.ndarray) -> np.ndarray:
    """(bin, 3) objects of each class by magnitude."""
    counts = np.zeros((len(EDGES) + 1, len(labels.CLASSES)))
    np.add.at(counts, (np.digitize(r, EDGES), number), 1)
    return counts + 0.01  # a bin without objects says nothing


def shares(counts: np.ndarray, r: np.ndarray) -> np.ndarray:
    """(n, 3) shares of the classes at each magnitude."""
    here = counts[np.digitize(r, EDGES)]
    return here / here.sum(axis=1, keepdims=True)


def network(
    path: Path | None, store: CutoutStore | Narrowed, rows: np.ndarray, sees: str = "8-bit picture"
) -> Rung:
    """Judge the rows with a trained network."""
    classifier = gqs.load_classifier(path)
    found = predict_rows(classifier, store, rows)
    training = classifier.card["training"]
    # A paper's network learns from fewer objects or for fewer epochs than it should: say so.
    cost = {
        "weights": sum(p.numel() for p in classifier.network.parameters()),
        "epochs": training["epochs"],
        "trained_on": training["objects"],
        "model": classifier.hash,
    }
    return Rung(classifier.card["network"], sees, found, cost)


def measured(rung: Rung, truth: Table, ours: MatchedPredictions) -> dict[str, Any]:
    """Measure one rung, and how far the package's model is ahead."""
    judged = match(rung.predictions, truth)
    metrics = measure(judged, group="field", seed=SEED)
    confusion = np.array(metrics.confusion)
    r = judged.r
    steps = {}
    for low, high in STEPS:
        here = (r >= low) & (r < high)
        steps[f"{low:g}-{high:g}"] = {"of": int(here.sum()), "right": judged.correct[here].mean()}
    ahead = compare(ours, judged, group="field", seed=SEED)
    return {
        "who": rung.name,
        "sees": rung.sees,
        **rung.cost,
        "accuracy": metrics.accuracy.to_json(),
        "recall": {name: found["recall"].to_json() for name, found in metrics.classes.items()},
        "ece": metrics.overall["ece"].to_json(),
        "confusion": confusion.tolist(),
        "quasars_and_stars_confused": int(confusion[Q, S] + confusion[S, Q]),
        "by_r": steps,
        "quasars_by_redshift": [part.to_json() for part in metrics.by_redshift],
        "ours_ahead": ahead.difference.to_json(),
        "mcnemar_p": ahead.p_value,
    }


def markdown(rungs: list[dict[str, Any]]) -> str:
    """Write the ladder as a table."""
    heads = ["Who", "sees", "accuracy, %", "95 %", "QSO-star mix-ups"]
    heads += [f"r {name}" for name in rungs[0]["by_r"]]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for rung in rungs:
        found = rung["accuracy"]
        who = rung["who"]
        if "epochs" in rung:
            who += f" ({rung['weights'] / 1e6:.1f} M, {rung['epochs']} epochs)"
        cells = [who, rung["sees"], f"{100 * found['value']:.1f}"]
        cells.append(f"{100 * found['low']:.1f}-{100 * found['high']:.1f}")
        cells.append(str(rung["quasars_and_stars_confused"]))
        cells += [f"{100 * part['right']:.1f}" for part in rung["by_r"].values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
