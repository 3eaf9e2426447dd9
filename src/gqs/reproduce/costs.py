"""What trainings gave and took: recipes and chosen epochs, and apart from them the clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from gqs.errors import GqsError
from gqs.networks import zoo
from gqs.report.blocks import Grid
from gqs.reproduce import hypotheses as claims
from gqs.reproduce import predictions as judging
from gqs.reproduce.results import Results, Run
from gqs.reproduce.tables import DASH, SPLIT_NAMES, Row, number

NBSP: Final = "\u00a0"


def training_table(results: Results) -> Grid:
    """Write how every network was trained and chosen: everything that repeats to the bit."""
    rows: list[Row] = []
    for split in results.splits.values():
        for run in (run for runs in split.runs.values() for run in runs):
            recipe, chosen = run.card.recipe, run.card.metrics["validation"]
            name = f"{claims.title(run.network)}, seed {run.seed}"
            how = f"{recipe['optimizer']}, {recipe['rate']:g}, {recipe['batch']}"
            rows.append(
                [
                    name,
                    SPLIT_NAMES[run.split],
                    how.replace(" ", NBSP),
                    str(recipe["precision"]),
                    f"{len(run.history)}/{recipe['epochs']}",
                    str(chosen["epoch"]),
                    number(chosen["accuracy"], "accuracy"),
                    number(run.metrics.accuracy.value, "accuracy"),
                ]
            )
    heads = ["Training", "Split", "Optimizer, rate, batch", "Precision", "Epochs", "Best epoch"]
    heads += ["Validation, %", "Test, %"]
    return Grid("Every training; its epoch was chosen on the validation side.", heads, rows)


def cost_table(found: Sequence[dict[str, Any]]) -> Grid:
    """Write what trainings and judgements took, by the clock."""
    rows: list[Row] = [
        [
            f"{claims.title(cost['network'])}, seed {cost['seed']}",
            SPLIT_NAMES[cost["split"]],
            _millions(cost["parameters"]),
            _millions(cost["multiply_adds"]),
            f"{cost['seconds_an_epoch']:.1f}",
            f"{cost['training_images_s']:,.0f}",
            f"{cost['judged_images_s']:,.0f}" if cost["judged_images_s"] else DASH,
            str(cost["judged_on"] or cost["device"]),
        ]
        for cost in found
    ]
    heads = ["Network", "Split", "Parameters, million", "Multiply-adds, million"]
    heads += ["Seconds an epoch", "Trained, images/s", "Judged, images/s", "On"]
    caption = "By the clock: medians over epochs, with augmentation, validation and checkpoints."
    return Grid(caption, heads, rows)


def costs(results: Results) -> list[dict[str, Any]]:
    """Return what trainings and judgements took."""
    facts: dict[str, zoo.Facts | None] = {}
    found = []
    for split in results.splits.values():
        for run in (run for runs in split.runs.values() for run in runs):
            epoch = float(np.median(np.asarray(run.history["seconds"], dtype=float)))
            judged = judging.inference_cost(run.folder)
            if run.network not in facts:
                facts[run.network] = _facts(run)
            known = facts[run.network]
            found.append(
                {
                    "split": run.split,
                    "network": run.network,
                    "seed": run.seed,
                    "parameters": known.parameters if known else None,
                    "multiply_adds": known.multiply_adds if known else None,
                    "seconds_an_epoch": round(epoch, 3),
                    "training_images_s": round(run.card.training["objects"] / max(epoch, 1e-9), 1),
                    "judged_images_s": round(judged["images"] / judged["seconds"], 1)
                    if judged
                    else None,
                    "device": run.card.training.get("device", "?"),
                    "threads": run.card.training.get("threads"),
                    "judged_on": judged["device"] if judged else None,
                }
            )
    return found


def _facts(run: Run) -> zoo.Facts | None:
    """What the zoo knows of a network; nothing where the library that has it is not installed."""
    try:
        channels = run.card.preprocessing().channels
        return zoo.describe(run.network, channels, **run.card.arguments)
    except (GqsError, ImportError):
        return None


def _millions(count: int | None) -> str:
    return DASH if count is None else f"{count / 1e6:,.1f}"
