"""Figures 12-15 of the paper in our own form, and those it lacks: history, magnitude, reliability.

Every function returns a matplotlib Figure and touches no global state. Titles say what was found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from gqs import labels
from gqs.evaluation import metrics as roc
from gqs.evaluation.binning import Bin
from gqs.evaluation.intervals import Estimate
from gqs.evaluation.matched import MatchedPredictions
from gqs.evaluation.reliability import expected_calibration_error, reliability
from gqs.report.palette import FAINT, INK, LINES, MARKERS, RULE, axes, percent, styled, thousands

FEW = 10  # objects under which a point is drawn faintly
ENOUGH = 20  # objects that a bin needs before a title speaks of it
COLOURS = [labels.COLOURS[name] for name in labels.CLASSES]


@styled
def class_histogram(counts: Mapping[str, int]) -> Figure:
    """Draw the number of galaxies, quasars and stars. Paper, Figure 12."""
    figure, (ax,) = axes(5.4, 3.6)
    values = [int(counts.get(name, 0)) for name in labels.CLASSES]
    bars = ax.bar(labels.CLASSES, values, color=COLOURS, width=0.62)
    ax.bar_label(bars, [f"{value:,}" for value in values], padding=3)
    ax.set(ylabel="objects", title=f"{sum(values):,} objects by class")
    ax.margins(y=0.1)
    thousands(ax.yaxis)
    ax.grid(axis="y")
    ax.tick_params(axis="x", length=0)
    return figure


@styled
def split_distribution(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draw how many objects of each class lie on each side of the split. Paper, Figure 13."""
    figure, (ax,) = axes(7.0, 3.8)
    sides = list(counts)
    for i, name in enumerate(labels.CLASSES):
        values = [int(counts[side].get(name, 0)) for side in sides]
        places = np.arange(len(sides)) + (i - 1) * 0.27
        bars = ax.bar(places, values, width=0.25, color=COLOURS[i], label=name)
        ax.bar_label(bars, [f"{value:,}" for value in values], padding=2, fontsize=8)
    totals = [sum(counts[side].values()) for side in sides]
    ticks = [f"{side}\n{total:,}" for side, total in zip(sides, totals, strict=True)]
    ax.set_xticks(range(len(sides)), ticks)
    shares = ", ".join(
        f"{100 * total / max(sum(totals), 1):.0f} % {side}"
        for side, total in zip(sides, totals, strict=True)
    )
    ax.set(ylabel="objects", title=f"How the objects are split: {shares}")
    ax.tick_params(axis="x", length=0)
    ax.margins(y=0.08)
    thousands(ax.yaxis)
    ax.grid(axis="y")
    ax.legend(loc="upper right")
    return figure


@styled
def confusion_matrix(confusion: ArrayLike) -> Figure:
    """Draw the confusion matrix: counts and shares of each true class. Paper, Figure 14."""
    matrix = np.asarray(confusion, dtype=np.int64)
    totals = matrix.sum(axis=1, keepdims=True)
    share = matrix / np.maximum(totals, 1)
    figure, (ax,) = axes(5.6, 4.9)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1.15)
    for i, j in np.ndindex(*matrix.shape):
        colour = "white" if share[i, j] > 0.6 else INK
        ax.text(j, i - 0.08, f"{matrix[i, j]:,}", ha="center", va="center", color=colour, size=15)
        words = f"{100 * share[i, j]:.1f} %" if totals[i, 0] else "none"
        ax.text(j, i + 0.22, words, ha="center", va="center", color=colour, size=9.5)
    ticks = range(len(labels.CLASSES))
    ax.set_xticks(ticks, labels.CLASSES)
    names = [f"{name}\n{int(n):,}" for name, n in zip(labels.CLASSES, totals[:, 0], strict=True)]
    ax.set_yticks(ticks, names)
    ax.set(xlabel="decided", ylabel="true class", title=_commonest_mistake(matrix))
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    ax.set_xticks(np.arange(2) + 0.5, minor=True)
    ax.set_yticks(np.arange(2) + 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=3)
    return figure


def _commonest_mistake(matrix: Any) -> str:
    wrong = np.where(np.eye(len(matrix), dtype=bool), 0, matrix)
    if not wrong.any():
        return "No object was mistaken"
    i, j = np.unravel_index(wrong.argmax(), wrong.shape)
    first, second = labels.CLASSES[int(i)], labels.CLASSES[int(j)]
    return f"Commonest mistake: {first} taken for {second} ({wrong[i, j]:,})"


@styled
def roc_curves(judged: MatchedPredictions) -> Figure:
    """Draw one curve a class, against the rest, and their mean. Paper, Figure 15."""
    found = roc.roc_curves(judged)
    figure, (ax,) = axes(5.8, 5.2)
    inset = ax.inset_axes((0.40, 0.34, 0.57, 0.42))
    for each in (ax, inset):
        each.plot([0, 1], [0, 1], color=RULE, linewidth=1)
        for name, curve in found.items():
            known = name in labels.CLASSES
            each.plot(
                curve.fpr,
                curve.tpr,
                color=labels.COLOURS[name] if known else INK if name == roc.MACRO else FAINT,
                linestyle=LINES[name] if known else ":" if name == roc.MACRO else (0, (1, 4)),
                linewidth=1.8 if known else 1.2,
                label=f"{name}  {curve.auc:.4f}",
            )
    inset.set(xlim=(-0.003, 0.2), ylim=(0.8, 1.003))
    inset.tick_params(labelsize=8)
    inset.grid()
    ax.set(xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal", title=_roc_title(found))
    ax.set(xlabel="false positive rate", ylabel="true positive rate")
    ax.grid()
    if found:
        ax.legend(loc="lower right", title="area under the curve", alignment="left")
    return figure


def _roc_title(found: Mapping[str, roc.RocCurve]) -> str:
    areas = {name: found[name].auc for name in labels.CLASSES if name in found}
    if not areas:
        return "One class only: there is no curve"
    worst = min(areas, key=lambda name: areas[name])
    return f"Mean AUC {found[roc.MACRO].auc:.4f}; hardest to tell: {worst}"


@styled
def training_history(history: Mapping[str, ArrayLike]) -> Figure:
    """Draw loss and accuracy by epoch."""
    columns = getattr(history, "colnames", None) or list(history)
    epoch = np.asarray(history["epoch"])
    figure, panels = axes(8.4, 3.6, 2)
    lowest = np.asarray(history["validation_loss"], dtype=float)
    best = int(np.nanargmin(lowest)) if np.isfinite(lowest).any() else 0
    for ax, what in zip(panels, ("loss", "accuracy"), strict=True):
        for side, colour, style in (("train", FAINT, "--"), ("validation", COLOURS[1], "-")):
            if f"{side}_{what}" in columns:
                values = np.asarray(history[f"{side}_{what}"], dtype=float)
                few = "o" if len(values) < 25 else ""
                ax.plot(epoch, values, style, color=colour, label=side, marker=few, markersize=4)
        ax.axvline(epoch[best], color=RULE, zorder=0)
        ax.set(xlabel="epoch", ylabel="cross-entropy loss (nats)" if what == "loss" else what)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y")
    panels[0].set_title(f"Best validation loss {lowest[best]:.3f}, epoch {epoch[best]}")
    percent(panels[1].yaxis)
    panels[0].legend()
    return figure


@styled
def by_magnitude(
    parts: Sequence[Bin], quantity: str = "r magnitude", only: str | None = None
) -> Figure:
    """Draw accuracy and recall by brightness, with intervals, above the counts."""
    if not parts:
        figure, (ax,) = axes(6.0, 1.2)
        ax.set_axis_off()
        ax.text(0, 0.5, f"No object has a known {quantity} inside the bins.", va="center", size=11)
        return figure
    figure = Figure(figsize=(7.4, 4.8), layout="constrained")
    ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    names = labels.CLASSES if only is None else (only,)
    middles = np.array([(part.low + part.high) / 2 for part in parts])
    widths = np.array([part.high - part.low for part in parts])
    if only is None:
        many = np.array([part.count >= FEW for part in parts])
        _with_intervals(ax, middles, [part.accuracy for part in parts], INK, "s", "-", "all", many)
    base = np.zeros(len(parts))
    for i, name in enumerate(names):
        shift = (i - 1) * 0.09 * widths if only is None else 0 * widths
        values = [part.recall[name] for part in parts]
        colour, line = labels.COLOURS[name], "none" if only is None else LINES[name]
        counts = np.array([part.counts[name] for part in parts], dtype=float)
        many = counts >= FEW
        _with_intervals(ax, middles + shift, values, colour, MARKERS[name], line, name, many)
        below.bar(middles, counts, widths * 0.92, bottom=base, color=colour)
        base += counts
    for x, total in zip(middles, base, strict=True):
        below.annotate(
            f"{total:,.0f}", (x, total), (0, 2), textcoords="offset points", ha="center", size=8
        )
    percent(ax.yaxis)
    thousands(below.yaxis)
    ax.set(ylabel="accuracy; recall of a class" if only is None else f"recall of {only}")
    ax.set_title(_trend(parts, quantity, only))
    ax.set_ylim(top=1.02)
    below.set(xlabel=quantity, ylabel="objects")
    below.margins(y=0.22)
    for each in (ax, below):
        each.grid(axis="y")
    if only is None:
        ax.legend(ncols=4, loc="lower left")
    return figure


def _with_intervals(
    ax: Axes,
    x: Any,
    values: Sequence[Estimate],
    colour: str,
    marker: str,
    line: str,
    label: str,
    many: NDArray[np.bool_] | None = None,
) -> None:
    """Draw points with their intervals, faintly where few objects stand behind them."""
    y = np.array([value.value for value in values])
    reach = np.array([[v.value - v.low, v.high - v.value] for v in values]).reshape(-1, 2)
    reach = np.maximum(reach, 0)  # rounding at 0 and 1
    many = np.ones(len(y), dtype=bool) if many is None else many
    ax.plot(x[many], y[many], color=colour, marker="none", linestyle=line)
    style: Any = {"color": colour, "marker": marker, "linestyle": "none", "elinewidth": 1.1}
    ax.errorbar(x[many], y[many], reach[many].T, label=label, **style)
    if not many.all():
        ax.errorbar(x[~many], y[~many], reach[~many].T, alpha=0.25, **style)


def _trend(parts: Sequence[Bin], quantity: str, only: str | None) -> str:
    """Name what the first and the last bin with enough objects say."""

    def size(part: Bin) -> int:
        return part.count if only is None else part.counts[only]

    told = [part for part in parts if size(part) >= ENOUGH]
    what = "Accuracy" if only is None else f"Recall of {only}"
    if len(told) < 2:
        return f"{what} by {quantity}"
    shown = []
    for part in (told[0], told[-1]):
        value = part.accuracy.value if only is None else part.recall[only].value
        shown.append(f"{100 * value:.0f} % at {part.low:g} to {part.high:g}")
    return f"{what} by {quantity}: {shown[0]}, {shown[1]}"


@styled
def reliability_diagram(judged: MatchedPredictions, bins: int = 10) -> Figure:
    """Draw how often what was said with a confidence was true, class by class."""
    figure = Figure(figsize=(5.8, 6.0), layout="constrained")
    ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    ax.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    for i, name in enumerate(labels.CLASSES):
        score = judged.probability[:, i]
        parts = reliability(score, judged.truth == i, bins)
        x = np.array([part.confidence for part in parts])
        right = [part.correct for part in parts]
        _with_intervals(ax, x, right, labels.COLOURS[name], MARKERS[name], LINES[name], name)
        edges = np.linspace(0, 1, bins + 1)
        heights = np.histogram(score, edges)[0]
        below.stairs(heights, edges, color=labels.COLOURS[name], linestyle=LINES[name])
    below.set_yscale("log")
    thousands(below.yaxis)
    below.yaxis.set_minor_formatter("")
    below.set(xlabel="probability that was given", ylabel="objects")
    gap = expected_calibration_error(judged)
    ax.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is of the class")
    ax.set_title(f"Confidence is {100 * gap:.1f} points off on average")
    for each in (ax, below):
        each.grid()
    ax.legend(loc="upper left")
    return figure


@styled
def accuracies(found: Mapping[str, Estimate], published: float | None = None) -> Figure:
    """Draw the accuracy of several classifiers on the same objects, with their intervals."""
    names = sorted(found, key=lambda name: found[name].value)
    figure, (ax,) = axes(7.0, 1.3 + 0.42 * len(names))
    for y, name in enumerate(names):
        value = found[name]
        ax.plot([value.low, value.high], [y, y], color=COLOURS[1], linewidth=2.4, alpha=0.5)
        ax.plot(value.value, y, "o", color=COLOURS[1], markersize=7)
    if published is not None:
        ax.axvline(published, color=FAINT, linestyle="--", linewidth=1)
        ax.annotate("published", (published, len(names) - 0.5), ha="center", va="bottom", size=8.5)
    title = "Accuracy"
    if len(names) > 1:
        gap = 100 * (found[names[-1]].value - found[names[-2]].value)
        title = f"{names[-1]} leads by {gap:.1f} points"
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(-0.6, len(names) - 0.4)
    percent(ax.xaxis)
    ax.set(xlabel="accuracy, with 95 % interval", title=title)
    ax.grid(axis="x")
    return figure
