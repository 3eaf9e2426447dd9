"""Which distance tells artefacts from galaxies, quasars and stars? And what does it flag on SDSS?

    gqs simulate --out cutouts --into-store --objects 9000 --seed 31
    python benchmarks/unlike.py cutouts
    python benchmarks/unlike.py cutouts --model model --sheet sheet.png

Objects that the model did not learn from are dealt into three: one to say where the classes lie,
one for the limit that 99.5 % of it keep, one to count what is flagged wrongly. Artefacts are drawn
onto cutouts of the third. Then the real fields of GQS_REAL_DATA, where they are at hand, with the
sheet of what is flagged there and what is not, to look at.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

import gqs
from artefacts import KINDS
from gqs import labels, tables
from gqs.cutouts.channels import to_channels
from gqs.cutouts.field import cut_field
from gqs.cutouts.store import CutoutStore
from gqs.imaging import seeing
from gqs.imaging.frames import group_fields
from gqs.model import novelty
from gqs.model.classify_field import flag_unlike
from gqs.networks.embedding import embed
from gqs.report.pictures import colours
from gqs.tables import Flag
from measured import cpu_seconds, real_folder, save

Seen = dict[str, np.ndarray]
DRAWN = 400  # artefacts of each kind
EDGES = (13.0, 16.0, 18.0, 19.0, 20.0, 21.0, 22.0, 23.0)
OTHER_FLAGS = int(Flag.EDGE | Flag.MASKED | Flag.SATURATED | Flag.BLENDED)
NEIGHBOURS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path, help="cutouts that the model did not learn from")
    parser.add_argument("--model", type=Path, help="model folder; by default the package's")
    parser.add_argument("--sheet", type=Path, help="picture of real sources, flagged and not")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--name", default="unlike", help="of the result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    classifier = gqs.load_classifier(options.model)
    store = CutoutStore.open(options.store)
    rng = np.random.default_rng(options.seed)
    fit, held, test = np.array_split(
        rng.permutation(len(store)), [len(store) // 2, -len(store) // 4]
    )
    classes = np.array([labels.index(str(name)) for name in store.index["class"]])
    told = seeing.seeing_columns(store.index, classifier.bands)
    seen = {name: look(classifier, store.images(rows), told[rows])
            for name, rows in (("fit", fit), ("held", held), ("test", test))}  # fmt: skip
    r = np.asarray(store.index["r"], dtype=float)[test]
    bases = {"any": test, "faint": test[r > 21.5], "bright": test[r < 20.5]}
    drawn = {}
    for name, (base, draw) in KINDS.items():
        some = bases[base][:DRAWN]
        images = draw(store.images(some), np.random.default_rng(options.seed))
        drawn[name] = look(classifier, images, told[some][: len(images)])
    results: dict[str, object] = {"model": classifier.hash, "store": store.hash}
    results["quantile"] = novelty.QUANTILE
    for name, method in methods(seen["fit"], classes[fit], seen["held"]):
        limit = np.quantile(method(seen["held"]), novelty.QUANTILE)
        usual = method(seen["test"])
        results[name] = {"flagged wrongly": (usual > limit).mean()} | {
            kind: {
                "flagged": (found > limit).mean(),
                "auc": roc_auc_score(np.arange(len(usual) + len(found)) >= len(usual),
                                     np.concatenate([usual, found])),
            }
            for kind, found in ((kind, method(cutouts)) for kind, cutouts in drawn.items())
        }  # fmt: skip
        print(name, results[name], flush=True)
    found = novelty.fit(seen["fit"]["decides"], classes[fit], seen["held"]["decides"])
    x = to_channels(classifier.preprocessing, store.images(test[:256]), told[test[:256]])
    with torch.inference_mode():
        whole = cpu_seconds(lambda: classifier.network(x), 3)
    embedding = seen["test"]["decides"][:256]
    results["share of inference"] = cpu_seconds(lambda: found.unlike(embedding), 3) / whole
    if os.environ.get("GQS_REAL_DATA"):
        judge = dataclasses.replace(classifier, novelty=classifier.novelty or found)
        results["real fields"] = real(judge, options.sheet)
    save(options.name, options.seed, results)


def look(classifier: gqs.Classifier, images: np.ndarray, told: np.ndarray) -> Seen:
    """Logits, and what enters the deciding layers, the last linear one, and is measured."""
    parts: dict[str, list[torch.Tensor]] = {}
    last = [part for part in classifier.network.modules() if isinstance(part, torch.nn.Linear)][-1]
    entered: list[torch.Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, given: entered.append(given[0]))
    with torch.inference_mode():
        for start in range(0, len(images), 256):
            some = slice(start, start + 256)
            x = to_channels(classifier.preprocessing, images[some], told[some])
            logits, embedding = embed(classifier.network, x)
            found = {"logits": logits, "decides": embedding, "last": entered.pop()}
            if (measure := getattr(classifier.network, "measure", None)) is not None:
                n = len(classifier.bands)
                found["measured"] = measure(x[:, :n], x[:, n : 2 * n])
            for name, value in found.items():
                parts.setdefault(name, []).append(value)
    hook.remove()
    return {name: torch.cat(values).double().numpy() for name, values in parts.items()}


Method = Callable[[Seen], np.ndarray]


def methods(fit: Seen, classes: np.ndarray, held: Seen) -> Iterator[tuple[str, Method]]:
    """Each way to say how unlike a cutout is; more is more unlike."""
    names = {"decides": "deciding layers", "last": "last layer", "measured": "measured features"}
    for key in [key for key in names if key in fit]:
        known = novelty.fit(fit[key], classes, held[key])
        yield f"Mahalanobis by class, {names[key]}", lambda s, k=key, t=known: t.unlike(s[k])
    for key in ("decides", "last"):
        yield f"Mahalanobis, one covariance, {names[key]}", shared(fit[key], classes, key)
    yield "nearest neighbours, last layer", neighbours(fit["last"], "last")
    # Liu et al. 2020 (arXiv:2010.03759); Hendrycks & Gimpel 2017 (arXiv:1610.02136).
    yield "energy of logits", lambda s: -np.logaddexp.reduce(s["logits"], axis=1)
    yield (
        "highest probability",
        lambda s: np.logaddexp.reduce(s["logits"], axis=1) - s["logits"].max(axis=1),
    )


def shared(values: np.ndarray, classes: np.ndarray, key: str) -> Method:
    """Lee et al. 2018 (arXiv:1807.03888): class means, and one covariance for all."""
    means = np.stack([values[classes == i].mean(axis=0) for i in range(len(labels.CLASSES))])
    root = np.linalg.cholesky(np.linalg.inv(ledoit_wolf(values - means[classes])[0]))

    def far(seen: Seen) -> np.ndarray:
        squares = [(((seen[key] - mean) @ root) ** 2).sum(axis=1) for mean in means]
        return np.stack(squares).min(axis=0)

    return far


def neighbours(values: np.ndarray, key: str) -> Method:
    """Sun et al. 2022 (arXiv:2204.06507): to the tenth neighbour among directions."""

    def direction(v: np.ndarray) -> np.ndarray:
        return v / np.linalg.norm(v, axis=1, keepdims=True)

    known = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(direction(values))
    return lambda seen: known.kneighbors(direction(seen[key]))[0][:, -1]


def real(classifier: gqs.Classifier, sheet: Path | None) -> dict[str, object]:
    """What is flagged on real fields, by magnitude, with other flags and without."""
    parts, images = [], []
    folders = sorted((real_folder() / "frames").iterdir())
    for folder in folders:
        fields, _ = group_fields(sorted(folder.glob("frame-*.fits.bz2")))
        (files,) = fields.values()
        cutouts = cut_field(files, classifier.cutout_spec)
        found = cutouts.objects
        told = seeing.seeing_columns(found, cutouts.bands)
        _, unlike = classifier.examine_cutouts(cutouts.images, cutouts.bands, seeing=told)
        found["unlike"], found["flags"] = unlike, flag_unlike(cutouts.flags, unlike)
        parts.append(found)
        images.append(cutouts.images)
    results: dict[str, object] = {}
    for folder, found in zip(folders, parts, strict=True):
        results[folder.name] = rates(found)
    if sheet is not None:
        draw(parts, images, classifier.bands, sheet)
    return results


def rates(found: tables.Table) -> dict[str, object]:
    """Shares flagged, of all and by r magnitude."""
    r, unlike = np.asarray(found["mag_r"]), np.asarray(found["unlike"])
    plain = (np.asarray(found["flags"]) & OTHER_FLAGS) == 0

    def share(rows: np.ndarray) -> dict[str, object]:
        rows = rows & np.isfinite(unlike)
        return {"of": int(rows.sum()), "flagged": (unlike[rows] > 1).mean() if rows.any() else None}

    every = np.ones(len(found), dtype=bool)
    answer: dict[str, object] = {"all": share(every), "without other flags": share(plain)}
    for low, high in itertools.pairwise(EDGES):
        answer[f"{low:g} <= r < {high:g}"] = share((r >= low) & (r < high))
    return answer


def draw(parts: list[tables.Table], images: list[np.ndarray], bands: str, path: Path) -> None:
    """For each field a row of flagged sources, one of the nearest unflagged, one of any."""
    columns, rng = 16, np.random.default_rng(7)
    figure = Figure(figsize=(columns * 0.95, len(parts) * 3 * 1.2), layout="constrained")
    panels = figure.subplots(len(parts) * 3, columns)
    for number, (found, cutouts) in enumerate(zip(parts, images, strict=True)):
        unlike = np.asarray(found["unlike"])
        over, under = np.flatnonzero(unlike > 1), np.flatnonzero(unlike <= 1)
        near = under[np.argsort(-unlike[under])][:columns]
        for line, rows in enumerate((rng.permutation(over), near, rng.permutation(under))):
            for ax, row in zip(panels[3 * number + line], rows[:columns], strict=False):
                ax.imshow(colours(cutouts[[row]], bands)[0], origin="lower")
                ax.set_title(f"{unlike[row]:.2f} r{found['mag_r'][row]:.1f}", size=7, pad=1)
            panels[3 * number + line, 0].set_ylabel(("flagged", "nearly", "not")[line], size=8)
    for ax in panels.ravel():
        ax.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
