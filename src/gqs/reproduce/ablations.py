"""Tables that the paper leaves out: its order tested, its steps, its split, its yardsticks."""

from __future__ import annotations

from typing import Final

import numpy as np

from gqs.evaluation.intervals import Estimate
from gqs.report.blocks import Cell, Grid, Section
from gqs.report.figures import FEW
from gqs.reproduce import aggregate as seeds
from gqs.reproduce import figures as plates
from gqs.reproduce import hypotheses as claims
from gqs.reproduce.results import Results, SplitResults
from gqs.reproduce.tables import DASH, Row, number, points, share

VERDICTS: Final = {
    "holds": "yes",
    "open": "cannot be told",
    "level": "no difference seen",
    "reversed": "no, the other way round",
    "differs": "no, they differ",
    "not run": "not trained yet",
}


def order_table(results: SplitResults) -> Grid:
    """Write each of the paper's claims with its verdict."""
    rows: list[Row] = []
    for verdict in results.verdicts:
        claim, found = verdict.claim, verdict.found
        theirs = f"{100 * claim.published:+.2f}" if claim.published else "0.00"
        p = _p_value(verdict.p_corrected)
        rows.append(
            [claim.words, points(found) if found else DASH, theirs, p, VERDICTS[verdict.word]]
        )
    heads = ["The paper's order", "Ours, points", "published", "McNemar's p", "Holds here"]
    return Grid(
        "Differences of accuracy on the same test objects, mean over seeds. Small: 95 % intervals "
        "from test objects and seeds. p: McNemar's exact test at the first common seed, Holm's "
        "correction for the claims of this table.",
        heads,
        rows,
    )


def _p_value(p: float) -> str:
    if not np.isfinite(p):
        return DASH
    return f"{p:.2g}" if p >= 1e-4 else "< 0.0001"


def left_out(results: Results, first: SplitResults) -> list[Section]:
    """Write what the paper leaves out: steps, pairs, splits, magnitudes and yardsticks."""
    steps = sum(name in first.runs for name in claims.STEPS) > 2
    both = {"grouped", "paper"} <= set(results.splits)
    return [
        Section(
            "From ResNet50-SE to ResNet50-GQS",
            _filled(_steps_table(first)) if steps else [],
        ),
        Section("Every pair on the same test objects", plates.pair_plates(first)),
        Section("Random against grouped split", _filled(_splits_table(results)) if both else []),
        Section("By brightness", _filled(_magnitudes_table(first))),
        Section(
            "What magnitudes alone can do",
            [
                *(_filled(_trees_table(first)) if first.yardsticks else []),
                *_filled(_shapes_table(first)),
            ],
        ),
    ]


def _filled(table: Grid) -> list[Grid]:
    return [table] if table.rows else []


def _steps_table(results: SplitResults) -> Grid:
    """The way from ResNet50-SE to ResNet50-GQS, one change at a time."""
    rows: list[Row] = []
    for network, words in claims.STEPS.items():
        runs = results.runs.get(network, ())
        found: Row = [share(results.accuracies[network])] if runs else [DASH]
        for measure in ("f1", "auc"):
            found.append(number(results.spread(network, measure).mean, measure) if runs else DASH)
        rows.append([words, str(len(runs)) if runs else DASH, *found])
    heads = ["Network", "Seeds", "Accuracy, %", "F1", "AUC"]
    return Grid("From ResNet50-SE to ResNet50-GQS, one change at a time.", heads, rows)


def _splits_table(results: Results) -> Grid:
    """The random split beside the grouped one: a row for each network that was trained on both."""
    grouped, random = results.splits["grouped"], results.splits["paper"]
    rows: list[Row] = []
    for network in grouped.runs:
        if network in random.runs:
            a, b = random.accuracies[network], grouped.accuracies[network]
            rows.append([claims.title(network), share(a), share(b), points(seeds.gap(a, b))])
    heads = ["Model", "Random, %", "Grouped, %", "Random minus grouped, points"]
    return Grid(
        "The paper's random split lets objects of one field fall on both sides; the grouped split "
        f"keeps a {grouped.split.meta['by']} whole. Other test objects in each, so the intervals "
        "are unpaired.",
        heads,
        rows,
    )


def _magnitudes_table(results: SplitResults) -> Grid:
    """Accuracy by r magnitude of the networks that settle the paper's claims, and of the trees."""
    shown = {
        claims.title(name): results.runs[name][0].metrics
        for name in claims.FIRST
        if name in results.runs
    } | dict(results.yardsticks)
    lows = sorted({(part.low, part.high) for metrics in shown.values() for part in metrics.by_r})
    rows: list[Row] = []
    for low, high in lows:
        parts = [
            next((part for part in metrics.by_r if part.low == low), None)
            for metrics in shown.values()
        ]
        count = max(part.count for part in parts if part)
        if count < FEW:
            continue
        cells = [_roughly(part.right) if part else Cell(DASH) for part in parts]
        rows.append([f"{low:g} to {high:g}", f"{count:,}", *cells])
    caption = (
        "Accuracy (%) by r magnitude, first seed; small: Wilson's 95 % intervals. Ranges of fewer "
        f"than {FEW} objects are left out."
    )
    return Grid(caption, ["r (mag)", "Objects", *shown], rows)


def _roughly(found: Estimate) -> Cell:
    low, high = 100 * found.low, 100 * found.high
    return Cell(f"{100 * found.value:.1f}", f"{low:.1f} to {high:.1f}")


def _trees_table(results: SplitResults) -> Grid:
    """What magnitudes alone can do, on the same test objects."""
    rows: list[Row] = [
        [claims.title(name), share(results.accuracies[name]),
         number(results.spread(name, "auc").mean, "auc"), DASH]
        for name in claims.FIRST
        if name in results.runs
    ]  # fmt: skip
    for name, metrics in results.yardsticks.items():
        behind = results.against_trees.get(name)
        area = number(metrics.overall["auc"].value, "auc")
        rows.append([name, share(metrics.accuracy), area, points(behind) if behind else DASH])
    best = claims.title(claims.GQS if results.shown() else next(iter(results.runs), ""))
    heads = ["Classifier", "Accuracy, %", "AUC", f"{best or 'Network'} minus it, points"]
    return Grid(
        "Gradient-boosted trees on the catalogue's magnitudes and colours, trained on the same "
        "split, tuned on its validation side.",
        heads,
        rows,
    )


def _shapes_table(results: SplitResults) -> Grid:
    """SDSS's photometric type, which tells galaxies from point sources only, beside classifiers."""
    rows: list[Row] = [[name, share(found)] for name, found in results.galaxy_or_point.items()]
    caption = "Galaxy or point source: quasars and stars count as one; objects of type 3 or 6."
    return Grid(caption, ["Classifier", "Right, %"], rows)


def areas(first: SplitResults) -> str:
    """Set ResNet50-GQS's AUC beside ResNet50's: as published, accuracy rises and AUC falls."""
    theirs = claims.PUBLISHED[claims.GQS].auc - claims.PUBLISHED["resnet50"].auc
    if claims.GQS not in first.runs or "resnet50" not in first.runs:
        return ""
    ours = first.spread(claims.GQS, "auc").mean - first.spread("resnet50", "auc").mean
    text = (
        f"The paper's AUC falls from ResNet50 ({claims.PUBLISHED['resnet50'].auc:.4f}) to "
        f"ResNet50-GQS ({claims.PUBLISHED[claims.GQS].auc:.4f}) while its accuracy rises, a "
        f"difference of {theirs:+.4f}. Ours: {first.spread('resnet50', 'auc').mean:.4f} to "
        f"{first.spread(claims.GQS, 'auc').mean:.4f}, a difference of {ours:+.4f}."
    )
    return text.replace(" -", " −")
