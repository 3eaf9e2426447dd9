"""Tables beyond the paper's: its order tested, ablations, splits, magnitudes, other classifiers."""

from __future__ import annotations

from typing import Final

from gqs.formatting import DASH, p_value, signed
from gqs.report.blocks import Cell, Grid, Section, points_cell
from gqs.report.figures import FEW
from gqs.reproduce import comparison_figures, hypotheses
from gqs.reproduce.aggregate import unpaired_difference
from gqs.reproduce.results import Results, SplitResults
from gqs.reproduce.tables import Row, accuracy_cell, measure_text

VERDICTS: Final = {
    "holds": "yes",
    "open": "undecided",
    "level": "no difference seen",
    "reversed": "no, reversed",
    "differs": "no, they differ",
    "not run": "not trained yet",
}


def order_table(results: SplitResults) -> Grid:
    """The paper's hypotheses with their verdicts."""
    rows: list[Row] = []
    for verdict in results.verdicts:
        hypothesis, difference = verdict.hypothesis, verdict.difference
        theirs = signed(100 * hypothesis.published, 2) if hypothesis.published else "0.00"
        p = p_value(verdict.p_corrected)
        rows.append(
            [
                hypothesis.words,
                points_cell(difference) if difference else DASH,
                theirs,
                p,
                VERDICTS[verdict.word],
            ]
        )
    heads = ["The paper's order", "Ours, points", "published", "McNemar's p", "Holds here"]
    return Grid(
        "Differences of accuracy on the same test objects, mean over seeds. Small: 95 % intervals "
        "from test objects and seeds. p: McNemar's exact test at the first common seed, with "
        "Holm's correction for the rows of this table.",
        heads,
        rows,
    )


def ablation_sections(results: Results, first: SplitResults) -> list[Section]:
    """Sections beyond the paper: ablations, pairs, splits, magnitudes, other classifiers."""
    steps = sum(name in first.runs for name in hypotheses.STEPS) > 2
    both = {"grouped", "paper"} <= set(results.splits)
    return [
        Section(
            "From ResNet50-SE to ResNet50-GQS",
            _filled(_steps_table(first)) if steps else [],
        ),
        Section("Every pair on the same test objects", comparison_figures.pair_blocks(first)),
        Section("Random against grouped split", _filled(_splits_table(results)) if both else []),
        Section("By brightness", _filled(_magnitudes_table(first))),
        Section(
            "What magnitudes alone achieve",
            [
                *(_filled(_trees_table(first)) if first.trees else []),
                *_filled(_shapes_table(first)),
            ],
        ),
    ]


def _filled(table: Grid) -> list[Grid]:
    return [table] if table.rows else []


def _steps_table(results: SplitResults) -> Grid:
    """From ResNet50-SE to ResNet50-GQS, one change at a time (paper 2.3)."""
    rows: list[Row] = []
    for network, words in hypotheses.STEPS.items():
        runs = results.runs.get(network, ())
        scores: Row = [accuracy_cell(results.accuracies[network])] if runs else [DASH]
        for measure in ("f1", "auc"):
            scores.append(
                measure_text(results.spread(network, measure).mean, measure) if runs else DASH
            )
        rows.append([words, str(len(runs)) if runs else DASH, *scores])
    heads = ["Network", "Seeds", "Accuracy, %", "F1", "AUC"]
    return Grid("From ResNet50-SE to ResNet50-GQS, one change at a time.", heads, rows)


def _splits_table(results: Results) -> Grid:
    """Accuracy on the random and the grouped split of each network that was trained on both."""
    grouped, random = results.splits["grouped"], results.splits["paper"]
    rows: list[Row] = []
    for network in grouped.runs:
        if network in random.runs:
            a, b = random.accuracies[network], grouped.accuracies[network]
            rows.append(
                [
                    hypotheses.title(network),
                    accuracy_cell(a),
                    accuracy_cell(b),
                    points_cell(unpaired_difference(a, b)),
                ]
            )
    heads = ["Model", "Random, %", "Grouped, %", "Random minus grouped, points"]
    return Grid(
        "The paper's random split puts objects of one field on both sides; the grouped split "
        f"keeps every {grouped.split.meta['by']} on one side. Their test objects differ, so the "
        "intervals are unpaired.",
        heads,
        rows,
    )


def _magnitudes_table(results: SplitResults) -> Grid:
    """Accuracy by r magnitude of the networks in the paper's hypotheses, and of the trees."""
    shown = {
        hypotheses.title(name): results.runs[name][0].metrics
        for name in hypotheses.FIRST
        if name in results.runs
    } | dict(results.trees)
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
        cells = [accuracy_cell(part.accuracy, 1) if part else Cell(DASH) for part in parts]
        rows.append([f"{low:g} to {high:g}", f"{count:,}", *cells])
    caption = (
        "Accuracy (%) by r magnitude, first seed; small: Wilson's 95 % intervals. Ranges of fewer "
        f"than {FEW} objects are left out."
    )
    return Grid(caption, ["r (mag)", "Objects", *shown], rows)


def _trees_table(results: SplitResults) -> Grid:
    """Boosted trees on catalogue magnitudes, and the networks, on the same test objects."""
    rows: list[Row] = [
        [hypotheses.title(name), accuracy_cell(results.accuracies[name]),
         measure_text(results.spread(name, "auc").mean, "auc"), DASH]
        for name in hypotheses.FIRST
        if name in results.runs
    ]  # fmt: skip
    for name, metrics in results.trees.items():
        difference = results.against_trees.get(name)
        auc = measure_text(metrics.overall["auc"].value, "auc")
        behind = points_cell(difference) if difference else DASH
        rows.append([name, accuracy_cell(metrics.accuracy), auc, behind])
    best = hypotheses.title(hypotheses.GQS if results.gqs_runs() else next(iter(results.runs), ""))
    heads = ["Classifier", "Accuracy, %", "AUC", f"{best or 'Network'} minus it, points"]
    return Grid(
        "Gradient-boosted trees on the catalogue's magnitudes and colours, trained on the same "
        "split, tuned on its validation side.",
        heads,
        rows,
    )


def _shapes_table(results: SplitResults) -> Grid:
    """SDSS's photometric type, which only separates galaxies from point sources, and ours."""
    rows: list[Row] = [
        [name, accuracy_cell(fraction)] for name, fraction in results.galaxy_or_point.items()
    ]
    caption = "Galaxy or point source: quasars and stars count as one; objects of type 3 or 6."
    return Grid(caption, ["Classifier", "Correct, %"], rows)


def auc_note(first: SplitResults) -> str:
    """AUC of ResNet50-GQS and ResNet50: as published, accuracy rises and AUC falls."""
    published = hypotheses.PUBLISHED
    theirs = published[hypotheses.GQS].auc - published["resnet50"].auc
    if hypotheses.GQS not in first.runs or "resnet50" not in first.runs:
        return ""
    ours = first.spread(hypotheses.GQS, "auc").mean - first.spread("resnet50", "auc").mean
    return (
        f"The paper's AUC falls from ResNet50 ({published['resnet50'].auc:.4f}) to "
        f"ResNet50-GQS ({published[hypotheses.GQS].auc:.4f}) while its accuracy rises, a "
        f"difference of {signed(theirs, 4)}. Ours: {first.spread('resnet50', 'auc').mean:.4f} to "
        f"{first.spread(hypotheses.GQS, 'auc').mean:.4f}, a difference of "
        f"{signed(ours, 4)}."
    )
