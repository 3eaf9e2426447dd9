"""Tables 3 and 6 to 9 with the published values, and tables of how networks were trained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from gqs import labels
from gqs.evaluation.intervals import Estimate
from gqs.formatting import DASH, number, percent_interval
from gqs.recipes import published
from gqs.report.blocks import Cell, Grid
from gqs.reproduce import hypotheses
from gqs.reproduce.results import Results, Run, SplitResults, Spread

Row = list[str | Cell]
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


def measure_text(value: float, measure: str) -> str:
    """A measure as the paper prints it: in percent without the sign, F1 and AUC as fractions."""
    return number(100 * value, 2) if measure in PERCENT_HEADS else number(value, 4)


def accuracy_cell(accuracy: Estimate, digits: int = 2) -> Cell:
    """Accuracy in percent without the sign, with its interval."""
    ends = percent_interval(accuracy.low, min(1.0, accuracy.high), digits)
    return Cell(number(100 * accuracy.value, digits), ends)


def _over_seeds(spread: Spread, measure: str) -> str:
    text = measure_text(spread.mean, measure)
    if measure not in WITH_SPREAD or not math.isfinite(spread.deviation):
        return text
    return f"{text}{NBSP}±{NBSP}{measure_text(spread.deviation, measure)}"


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
            row.append(Cell(ours, measure_text(printed, measure)))
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
            row.append(
                Cell(measure_text(mean, measure), measure_text(getattr(theirs, measure), measure))
            )
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
                    measure_text(chosen["accuracy"], "accuracy"),
                    measure_text(run.metrics.accuracy.value, "accuracy"),
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
