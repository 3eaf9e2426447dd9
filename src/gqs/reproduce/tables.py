"""Tables 3 and 6 to 9, ours beside the published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from gqs import labels
from gqs.evaluation.intervals import Estimate
from gqs.recipes import published
from gqs.report.blocks import Cell, Grid
from gqs.reproduce import aggregate as seeds
from gqs.reproduce import hypotheses as claims
from gqs.reproduce.results import Results, Run, SplitResults

Row = list[str | Cell]
DASH: Final = "–"
HEADS: Final = {"accuracy": "Accuracy, %", "precision": "Precision, %", "recall": "Recall, %"}
HEADS_OF_NUMBERS: Final = {"f1": "F1", "auc": "AUC"}
WITH_SPREAD: Final = ("accuracy", "auc")  # the spread of the others is in results.json
SMALL: Final = "Small, or in brackets: as published."
SPLIT_NAMES: Final = {"grouped": "grouped", "paper": "random"}


def number(value: float, measure: str) -> str:
    """Write a measure as the paper does: shares in per cent, F1 and AUC as they are."""
    if not np.isfinite(value):
        return DASH
    return f"{100 * value:.2f}" if measure in HEADS else f"{value:.4f}"


def points(found: Estimate) -> Cell:
    """Write a difference of accuracies in percentage points, with its interval."""
    interval = f"{100 * found.low:+.2f} to {100 * found.high:+.2f}"
    value = f"{100 * found.value:+.2f}"
    return Cell(value.replace("-", "−"), interval.replace("-", "−"))


def share(found: Estimate) -> Cell:
    """Write an accuracy in per cent, with its interval."""
    if not np.isfinite(found.value):
        return Cell(DASH)
    low, high = 100 * found.low, min(100.0, 100 * found.high)
    return Cell(f"{100 * found.value:.2f}", f"{low:.2f} to {high:.2f}")


def _over_seeds(found: seeds.Spread, measure: str) -> str:
    text = number(found.mean, measure)
    if measure not in WITH_SPREAD or not np.isfinite(found.deviation):
        return text
    return f"{text}\u00a0±\u00a0{number(found.deviation, measure)}"


def table_3(results: SplitResults) -> Grid:
    """Objects of each class on each side. Paper, Table 3."""
    counts = results.split.meta["counts"]
    rows: list[Row] = []
    for name in labels.CLASSES:
        ours = [int(counts[side].get(name, 0)) for side in ("train", "validation", "test")]
        theirs = published.TABLE_3[name]
        pairs = zip([*ours, sum(ours)], [*theirs, sum(theirs)], strict=True)
        rows.append([name, *(Cell(f"{one:,}", f"{other:,}") for one, other in pairs)])
    how = f"{SPLIT_NAMES[results.name]} split by {results.split.meta['by']}"
    caption = f"Table 3. Objects on each side ({how}). {SMALL}"
    return Grid(caption, ["Class", "Training", "Validation", "Test", "Total"], rows)


def scores_table(results: Results, caption: str, networks: Iterable[str]) -> Grid:
    """Scores of networks on the test side. Paper, Tables 6 to 8."""
    first, *others = results.splits.values()
    others = [other for other in others if other.runs]
    measures = HEADS | HEADS_OF_NUMBERS
    rows: list[Row] = []
    for network in networks:
        runs = first.runs.get(network, ())
        row: Row = [claims.title(network), str(len(runs)) if runs else DASH]
        for measure in measures:
            ours = _over_seeds(first.spread(network, measure), measure) if runs else DASH
            row.append(Cell(ours, number(getattr(claims.PUBLISHED[network], measure), measure)))
            if measure == "accuracy":
                row += [
                    _over_seeds(other.spread(network, measure), measure)
                    if network in other.runs
                    else DASH
                    for other in others
                ]
        rows.append(row)
    heads = ["Model", "Seeds"]
    for measure, head in measures.items():
        heads.append(head)
        if measure == "accuracy":
            heads += [f"{SPLIT_NAMES[other.name]} split, %" for other in others]
    caption = f"{caption} Ours: {SPLIT_NAMES[first.name]} split, mean ± spread over seeds. {SMALL}"
    return Grid(caption, heads, rows)


def table_9(results: SplitResults) -> Grid:
    """Precision, recall and F1 of each class with ResNet50-GQS. Paper, Table 9."""
    runs = results.shown()
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
            mean = seeds.spread([value.value for value in values]).mean
            row.append(Cell(number(mean, measure), number(getattr(theirs, measure), measure)))
        rows.append(row)
    heads = [(HEADS | HEADS_OF_NUMBERS)[measure] for measure in measures]
    caption = f"Table 9. ResNet50-GQS class by class, {_seeds(runs)}. {SMALL}"
    return Grid(caption, ["Class", *heads], rows)


def _seeds(runs: Sequence[Run]) -> str:
    if not runs:
        return "not trained yet"
    return "one seed" if len(runs) == 1 else f"mean of {len(runs)} seeds"
