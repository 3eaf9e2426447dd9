"""Stars and galaxies of another telescope: from labelled images to a report, on other fields.

    python benchmarks/own_images.py

2,308 cutouts in GQS_REAL_DATA/other (64 x 64 pixels, one band, 8 bits, 16 fields). First the four
commands of docs/own_images.md as a user types them, from a folder of PNG files and a CSV. Then
five-fold cross-validation that keeps fields whole: `gqs.SkyClassifier` beside boosted trees on
magnitude and concentration, measured on the same pixels and fitted on the same objects.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.model_selection import GroupKFold

import gqs
from gqs import labels, tables
from gqs.evaluation import baseline
from gqs.evaluation.comparison import compare
from gqs.evaluation.intervals import wilson
from gqs.evaluation.matched import match
from gqs.evaluation.metrics import measure
from gqs.training.estimator import training_sides
from measured import real_folder, save

FOLDS, SEED = 5, 1
COMMANDS = (
    "gqs import images --labels labels.csv --group field --form flux --out cutouts",
    "gqs split cutouts",
    "gqs train cutouts --out model --threads 1",
    "gqs evaluate model cutouts --out report",
)


def main() -> None:
    data = np.load(real_folder() / "other" / "star_galaxy_64px.npz")
    images, classes, fields = data["images"], data["label"], data["field"]
    with tempfile.TemporaryDirectory() as folder:
        commands = four_commands(Path(folder), images, classes, fields)
        folds = cross_validated(Path(folder), images, classes, fields)
    counts = {name: int((classes == name).sum()) for name in np.unique(classes)}
    fields_used = len(np.unique(fields))
    save(
        "own_images",
        SEED,
        {"objects": counts, "fields": fields_used, "commands": commands, "folds": folds},
    )


def four_commands(
    folder: Path, images: np.ndarray, classes: np.ndarray, fields: np.ndarray
) -> list[dict[str, object]]:
    """Run the commands in a folder with images and labels: output and seconds of each."""
    (folder / "images").mkdir()
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "class", "field"])
        for row, (image, name, field) in enumerate(zip(images, classes, fields, strict=True)):
            Image.fromarray(image).save(folder / "images" / f"{row:04d}.png")
            table.writerow([f"{row:04d}.png", name, field])
    results = []
    for command in COMMANDS:
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "gqs.cli", *command.split()[1:]],
            cwd=folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
        seconds = time.monotonic() - begin
        results.append({"command": command, "output": done.stdout.splitlines(), "seconds": seconds})
    return results


def cross_validated(
    folder: Path, images: np.ndarray, classes: np.ndarray, fields: np.ndarray
) -> dict[str, object]:
    """Predict every object by models that saw none of its field."""
    X = images.astype(np.float32)
    store = gqs.CutoutStore.from_arrays(folder / "all", X, classes, groups=fields)
    features = baseline.cutout_features(store, np.arange(len(store)))
    by_network = np.full((len(store), 3), np.nan)
    by_trees = by_network.copy()
    for train, test in GroupKFold(FOLDS).split(X, classes, fields):
        network = gqs.SkyClassifier(random_state=SEED)
        network.fit(X[train], classes[train], groups=fields[train])
        columns = [labels.index(str(name)) for name in network.classes_]
        by_network[test] = 0.0
        by_network[np.ix_(test, columns)] = network.predict_proba(X[test])
        sides = np.asarray(training_sides(store.index[train], True, SEED)["split"]).astype(str)
        fitted, checked = train[sides == "train"], train[sides == "validation"]
        trees = baseline.fit(
            features[fitted], classes[fitted], features[checked], classes[checked], seed=SEED
        )
        by_trees[test] = trees.probabilities(features[test])
    flags = np.asarray(store.index["flags"])
    matched = {
        name: match(tables.predictions(store.index, p, flags, name), store.index)
        for name, p in (("network", by_network), ("trees", by_trees))
    }
    found: dict[str, object] = {}
    for name, one in matched.items():
        metrics = measure(one, group="field", seed=SEED)
        recall = {
            kind: {
                "wilson": wilson(
                    int((one.correct & (one.truth == i)).sum()), int((one.truth == i).sum())
                ).to_json(),
                "by_field": metrics.classes[kind]["recall"].to_json(),
            }
            for i, kind in enumerate(labels.CLASSES)
            if (one.truth == i).any()
        }
        found[name] = {
            "accuracy": {
                "wilson": wilson(int(one.correct.sum()), len(one)).to_json(),
                "by_field": metrics.accuracy.to_json(),
            },
            "recall": recall,
            "auc": metrics.overall["auc"].to_json(),
            "log_loss": metrics.overall["log_loss"].to_json(),
        }
    comparison = compare(matched["network"], matched["trees"], group="field", seed=SEED)
    return {**found, "comparison": comparison.to_json()}


if __name__ == "__main__":
    main()
