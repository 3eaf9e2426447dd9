"""Every engine's answers beside torch's on the same cutouts, simulated and real; for engines.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from gqs import labels
from gqs.cutouts.field import cut_field
from gqs.imaging import seeing
from gqs.imaging.frames import group_fields
from gqs.model.classifier import Classifier
from gqs.model.engines import graph, parity, quantize, select
from gqs.model.engines.backends import PRECISIONS, Choice, Graph, Torch, installed
from gqs.model.engines.probe_cutouts import ProbeCutouts
from gqs.surveys.sdss import BANDS


def choices() -> list[Choice]:
    """All engines and precisions that are installed."""
    return [
        Choice(engine, precision)
        for engine, precisions in PRECISIONS.items()
        if installed(engine)
        for precision in precisions
    ]


def model_of(classifier: Classifier) -> select.Model:
    """What engines need to know of a classifier."""
    return select.Model(
        classifier.network, classifier.preprocessing, classifier.hash, classifier.novelty
    )


def tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def rows_of(seen: ProbeCutouts, rows: Any) -> ProbeCutouts:
    return ProbeCutouts(*(value[rows] for value in vars(seen).values()))


def strays(model: select.Model, seen: ProbeCutouts) -> dict[str, Any]:
    """Every engine's verdict on the same cutouts."""
    plain = Torch(model.network, model.preprocessing)
    logits, embedding, _ = parity.answers(plain, seen)
    found: dict[str, Any] = {"torch accuracy": (logits.argmax(axis=1) == seen.truth).mean()}
    for choice in choices():
        engine = select.started(choice, model, None, tell)
        verdict = parity.compared(
            engine, choice.precision, seen, (logits, embedding), model.novelty
        )
        found[str(choice)] = verdict.as_dict()
    return found


def real_sources(classifier: Classifier) -> ProbeCutouts | None:
    """Sources of the real frames, where these are at hand; their classes are those of torch."""
    root = os.environ.get("GQS_REAL_DATA")
    if not root or classifier.form != "flux":
        return None
    fields, _ = group_fields(sorted((Path(root) / "frames").rglob("frame-*.fits.bz2")))
    images, widths = [], []
    for files in fields.values():
        if set(classifier.bands) <= files.keys():
            cutouts = cut_field(files, classifier.cutout_spec)
            images.append(cutouts.images)
            widths.append(seeing.seeing_columns(cutouts.objects, classifier.bands))
    every, told = np.concatenate(images), np.concatenate(widths)
    judged = np.isfinite(classifier.predict_cutouts(every, classifier.bands, seeing=told)[:, 0])
    every, told = every[judged], told[judged]
    plain = Torch(classifier.network, classifier.preprocessing)
    found = ProbeCutouts(every, told, np.zeros(len(every), np.int64))
    return ProbeCutouts(every, told, parity.answers(plain, found)[0].argmax(axis=1))


def real_quasars(classifier: Classifier) -> ProbeCutouts | None:
    """Cutouts of spectroscopic quasars, where these are at hand; their seeing is not known."""
    root = os.environ.get("GQS_REAL_DATA")
    if not root or classifier.form != "flux":
        return None
    with np.load(Path(root) / "cutouts" / "quasars_ugriz_50x50.npz") as opened:
        images = opened["images"].astype(np.float32)
    judged = np.isfinite(classifier.predict_cutouts(images, BANDS)[:, 0])
    images = classifier.preprocessing.arrange(images[judged], BANDS)
    unknown = np.full(images.shape[:2], np.nan)
    return ProbeCutouts(images, unknown, np.full(len(images), labels.index("QSO")))


def on_real(model: select.Model, real: ProbeCutouts) -> dict[str, Any]:
    """Verdicts on real sources, int8 calibrated on half of them too and tried on the rest."""
    ranges, tried = rows_of(real, np.s_[::2]), rows_of(real, np.s_[1::2])
    found = strays(model, tried)
    del found["torch accuracy"]
    if installed("onnx"):
        exact, learned = graph.split_graph(select.graph_of(model))
        eight = quantize.quantise(exact, learned, ranges)
        logits, embedding, _ = parity.answers(Torch(model.network, model.preprocessing), tried)
        for name in filter(installed, ("onnx", "openvino")):
            engine = Graph(Choice(name, "int8"), [exact, eight])
            verdict = parity.compared(engine, "int8", tried, (logits, embedding), model.novelty)
            found[f"{name}:int8, calibrated on real sources"] = verdict.as_dict()
    return found
