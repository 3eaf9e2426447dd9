"""Put simulated fields beside real ones: what differs, and can boosted trees tell them apart?

Both are measured by `field_measurements`, in the same way from their files. The sky's colours and
galaxies' radii were fitted to three of the four real fields; 3918-3-213 was left out. Writes
results/simulated_beside_real.json and docs/_static/simulated_beside_real.png. Run as

    GQS_REAL_DATA=... python benchmarks/simulated_beside_real.py [--fields 8] [--seed 1]
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
import sklearn
from astropy.table import Table, vstack
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict

import gqs
from field_measurements import measure
from gqs.files import write_json
from gqs.simulation.fields import simulate
from side_by_side_figure import draw_figure

mpl.use("Agg")
HERE = Path(__file__).parent
# What the trees see. Sizes are against the field's own PSF: four real fields have four seeings.
MEASURES = {
    "magnitude": ["r_total"],
    "colours": ["u-g", "g-r", "r-i", "i-z"],
    "shapes": ["concentration", "r50", "r90/r50", "ellipticity"],
}
MEASURES["all"] = [*MEASURES["magnitude"], *MEASURES["colours"], *MEASURES["shapes"]]


def quantities(table: Table) -> dict[str, np.ndarray]:
    """The measurements by name, sizes relative to the field's stars."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "r_total": np.asarray(table["r_total"]),
            **{
                f"{a}-{b}": np.asarray(table[a] - table[b])
                for a, b in zip("ugri", "griz", strict=True)
            },
            "concentration": np.asarray(table["concentration"] - table["psf_concentration"]),
            "r50": np.asarray(table["r50"] / table["psf_r50"]),
            "r90/r50": np.asarray(table["r90"] / table["r50"]),
            "ellipticity": np.asarray(table["ellipticity"]),
        }


def discriminate(real: list[Table], simulated: list[Table], names: list[str], limit: float) -> dict:
    """AUC of trees that tell simulated from real sources, by five folds in two ways.

    Among all sources: what tells a source, and its field, from the other sky. In fields that the
    trees never saw (four folds, each without one real field): what tells any such field.
    """
    x, y, group = [], [], []
    for label, fields in ((1, real), (0, simulated)):
        for k, table in enumerate(fields):
            table = table[table["r_total"] < limit]
            values = quantities(table)
            x.append(np.stack([values[name] for name in names], axis=1))
            y.append(np.full(len(table), label))
            group.append(np.full(len(table), k % len(real)))
    x, y, group = np.concatenate(x), np.concatenate(y), np.concatenate(group)
    trees = HistGradientBoostingClassifier(
        max_iter=120, learning_rate=0.06, max_leaf_nodes=12, min_samples_leaf=25,
        class_weight="balanced", random_state=0,
    )  # fmt: skip
    folds = {
        "all_sources": StratifiedKFold(5, shuffle=True, random_state=0).split(x, y),
        "unseen_fields": GroupKFold(len(real)).split(x, y, group),
    }
    aucs = {}
    for name, splits in folds.items():
        scores = cross_val_predict(trees, x, y, cv=list(splits), method="predict_proba")[:, 1]
        aucs[name] = round(float(roc_auc_score(y, scores)), 4)
    # The last scores are those of unseen fields; nothing was fitted to the field 3918-3-213.
    aucs["unseen_fields_one_by_one"] = [
        round(float(roc_auc_score(y[group == k], scores[group == k])), 4) for k in range(len(real))
    ]
    return aucs | {"real": int((y == 1).sum()), "simulated": int((y == 0).sum())}


def quantiles(fields: list[Table], name: str, low: float, high: float, extended: bool) -> list:
    table = vstack(fields, metadata_conflicts="silent")
    values = quantities(table)
    inside = (values["r_total"] > low) & (values["r_total"] < high) & (table["flag"] == 0)
    inside &= (values["concentration"] > 0.12) == extended
    chosen = values[name][inside]
    chosen = chosen[np.isfinite(chosen)]
    if len(chosen) < 8:
        return []
    return [round(float(v), 3) for v in np.quantile(chosen, [0.1, 0.25, 0.5, 0.75, 0.9])]


def summary(fields: list[Table], conditions: list[dict]) -> dict:
    """Figures of one sky: sources a field, medians by magnitude, noise and FWHM by field."""
    per_field = {}
    every = vstack(list(fields), metadata_conflicts="silent")
    extended = np.asarray(every["concentration"] - every["psf_concentration"] > 0.12)
    for m in np.arange(15, 22.5, 0.5):
        inside = np.asarray((every["r_total"] >= m) & (every["r_total"] < m + 0.5))
        per_field[f"{m:.1f}"] = [
            round(float((inside & kind).sum() / len(fields)), 2) for kind in (~extended, extended)
        ]
    return {
        "points_and_extended_a_field_by_r": per_field,
        "noise": [{b: round(v, 4) for b, v in c["noise"].items()} for c in conditions],
        "sky_left_in_units_of_noise": [
            {b: round(v, 4) for b, v in c["sky_left"].items()} for c in conditions
        ],
        "fwhm": [{b: round(v, 3) for b, v in c["fwhm"].items()} for c in conditions],
        "quantiles_10_25_50_75_90": {
            f"{name}, {'extended' if extended else 'points'}, {low} < r < {high}": quantiles(
                fields, name, low, high, extended
            )
            for name in MEASURES["all"][1:]
            for extended in (True, False)
            for low, high in ((17, 19.5), (19.5, 20.5), (20.5, 21.5), (21.5, 22.2))
        },
    }


def simulated_folders(out: Path, n: int, seed: int) -> list[Path]:
    frames = out / "frames"
    if not frames.is_dir():
        simulate(out, n, seed, workers=2)
    return sorted(path for path in frames.iterdir() if path.is_dir())[:n]


def main() -> None:
    """Simulate, measure both, tell them apart, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fields", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="where simulated frames are kept, or are already")
    options = parser.parse_args()
    real_folders = sorted((Path(os.environ["GQS_REAL_DATA"]) / "frames").iterdir())
    with tempfile.TemporaryDirectory() as scratch:
        out = options.keep or Path(scratch)
        folders = simulated_folders(out, options.fields, options.seed)
        real, real_info = zip(*(measure(folder) for folder in real_folders), strict=True)
        simulated, simulated_info = zip(*(measure(folder) for folder in folders), strict=True)
        result = {
            "gqs": gqs.__version__,
            "versions": {"numpy": np.__version__, "scikit-learn": sklearn.__version__},
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "seed": options.seed,
            "fields": {"real": [f.name for f in real_folders], "simulated": len(folders)},
            "auc": {
                f"r < {limit}": {
                    name: discriminate(real, simulated, columns, limit)
                    for name, columns in MEASURES.items()
                }
                for limit in (20.5, 21.5, 22.2)
            },
            "real": summary(real, real_info),
            "simulated": summary(simulated, simulated_info),
        }
        write_json(HERE / "results/simulated_beside_real.json", result)
        for limit, aucs in result["auc"].items():
            print(limit, {k: list(v.values())[:3] for k, v in aucs.items()})
        draw_figure(
            HERE.parent / "docs/_static/simulated_beside_real.png",
            (real, real_info, real_folders),
            (simulated, simulated_info, folders),
            quantities,
        )


if __name__ == "__main__":
    main()
