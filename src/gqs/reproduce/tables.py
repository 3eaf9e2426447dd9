"""Tables 3 and 6 to 9 with the published values, and tables of how networks were trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from gqs import labels
from gqs.evaluation.intervals import Estimate
from gqs.recipes import published
from gqs.report.blocks import Cell, Grid
from gqs.reproduce import hypotheses
from gqs.reproduce.results import Results, Run, SplitResults, Spread

Row = list[str | Cell]
DASH: Final = "–"
NBSP: Final = "\u00a0"
PERCENT_HEADS: Final = {
    "accuracy": "Accuracy, %",
    "precision": "Precision, %",
    "recall": "Recall, %",
}
NUMBER_HEADS: Final = {"f1": "F1", "auc": "AUC"}
HEADS: Final = PERCENT_HEADS | NUMBER_HEADS
WITH_SPREAD: Final = ("accuracy", "auc")  # results.json has the spread of the others
SMALL: Final = "Small, or in brackets: as published."
SPLIT_NAMES: Final = {"grouped": "grouped", "paper": "random"}


def number(value: float, measure: str) -> str:
    """Write a measure as the paper does: in per cent, but F1 and AUC as fractions."""
    if not np.isfinite(value):
        return DASH
    return f"{100 * value:.2f}" if measure in PERCENT_HEADS else f"{value:.4f}"


def points(difference: Estimate) -> Cell:
    """Difference of accuracies in percentage points, with its interval."""
    interval = f"{100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
    value = f"{100 * difference.value:+.2f}"
    return Cell(value.replace("-", "−"), interval.replace("-", "−"))


def percent(accuracy: Estimate) -> Cell:
    """Accuracy in per cent, with its interval."""
    if not np.isfinite(accuracy.value):
        return Cell(DASH)
    low, high = 100 * accuracy.low, min(100.0, 100 * accuracy.high)
    return Cell(f"{100 * accuracy.value:.2f}", f"{low:.2f} to {high:.2f}")


def _over_seeds(spread: Spread, measure: str) -> str:
    text = number(spread.mean, measure)
    if measure not in WITH_SPREAD or not np.isfinite(spread.deviation):
        return text
    return f"{text}{NBSP}±{NBSP}{number(spread.deviation, measure)}"


def table_3(results: SplitResults) -> Grid:
    """Objects of each class on each side. Paper, Table 3."""
    counts = results.split.meta["counts"]
    rows: list[Row] = []
    for name in labels.CLASSES:
        ours = [int(counts[side].get(name, 0)) for side in ("train", "validation", "test")]
        theirs = published.TABLE_3[name]
        pairs = zip([*ours, sum(ours)], [*theirs, sum(theirs)], strict=True)
        rows.append([name, *(Cell(f"{count:,}", f"{printed:,}") for count, printed in pairs)])
    how = f"{SPLIT_NAMES[results.name]} split by {results.split.meta['by']}"
    caption = f"Table 3. Objects on each side ({how}). {SMALL}"
    return Grid(caption, ["Class", "Training", "Validation", "Test", "Total"], rows)


def scores_table(results: Results, caption: str, networks: Iterable[str]) -> Grid:
    """Scores of networks on the test side. Paper, Tables 6 to 8."""
    first, *others = results.splits.values()
    others = [other for other in others if other.runs]
    rows: list[Row] = []
    for network in networks:
        runs = first.runs.get(network, ())
        row: Row = [hypotheses.title(network), str(len(runs)) if runs else DASH]
        for measure in HEADS:
            ours = _over_seeds(first.spread(network, measure), measure) if runs else DASH
            printed = getattr(hypotheses.PUBLISHED[network], measure)
            row.append(Cell(ours, number(printed, measure)))
            if measure == "accuracy":
                row += [
                    _over_seeds(other.spread(network, measure), measure)
                    if network in other.runs
                    else DASH
                    for other in others
                ]
        rows.append(row)
    heads = ["Model", "Seeds"]
    for measure, head in HEADS.items():
        heads.append(head)
        if measure == "accuracy":
            heads += [f"{SPLIT_NAMES[other.name]} split, %" for other in others]
    caption = f"{caption} Ours: {SPLIT_NAMES[first.name]} split, mean ± spread over seeds. {SMALL}"
    return Grid(caption, heads, rows)


def table_9(results: SplitResults) -> Grid:
    """Precision, recall and F1 of each class with ResNet50-GQS. Paper, Table 9."""
    runs = results.gqs_runs()
    measures = ("precision", "recall", "f1")
    rows: list[Row] = []
    for name in (*labels.CLASSES, "Average"):
        theirs = published.TABLE_9.get(name, published.TABLE_9_AVERAGE)
        row: Row = [name]
        for measure in measures:
            values = [
                run.metrics.overall[measure] if name == "Average" else
                run.metrics.classes[name][measure]
                for run in runs
            ]  # fmt: skip
            mean = Spread.of([value.value for value in values]).mean
            row.append(Cell(number(mean, measure), number(getattr(theirs, measure), measure)))
        rows.append(row)
    heads = [HEADS[measure] for measure in measures]
    caption = f"Table 9. ResNet50-GQS class by class, {_seeds(runs)}. {SMALL}"
    return Grid(caption, ["Class", *heads], rows)


def _seeds(runs: Sequence[Run]) -> str:
    if not runs:
        return "not trained yet"
    return "one seed" if len(runs) == 1 else f"mean of {len(runs)} seeds"


def training_table(results: Results) -> Grid:
    """How every network was trained, and the epoch that was chosen."""
    rows: list[Row] = []
    for split in results.splits.values():
        for run in (run for runs in split.runs.values() for run in runs):
            recipe, chosen = run.card.recipe, run.card.metrics["validation"]
            how = f"{recipe['optimizer']}, {recipe['rate']:g}, {recipe['batch']}"
            rows.append(
                [
                    f"{hypotheses.title(run.network)}, seed {run.seed}",
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


def cost_table(costs: Sequence[dict[str, Any]]) -> Grid:
    """Size and speed of every network, as `timing.costs` gives them."""
    rows: list[Row] = [
        [
            f"{hypotheses.title(cost['network'])}, seed {cost['seed']}",
            SPLIT_NAMES[cost["split"]],
            _millions(cost["parameters"]),
            _millions(cost["multiply_adds"]),
            f"{cost['seconds_an_epoch']:.1f}",
            f"{cost['training_images_s']:,.0f}",
            f"{cost['judged_images_s']:,.0f}" if cost["judged_images_s"] else DASH,
            str(cost["judged_on"] or cost["device"]),
        ]
        for cost in costs
    ]
    heads = ["Network", "Split", "Parameters, million", "Multiply-adds, million"]
    heads += ["Seconds an epoch", "Training, images/s", "Inference, images/s", "On"]
    caption = "Medians over epochs, with augmentation, validation and checkpoints."
    return Grid(caption, heads, rows)


def _millions(count: int | None) -> str:
    return DASH if count is None else f"{count / 1e6:,.1f}"
