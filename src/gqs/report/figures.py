"""Figures of reports with their captions: Figures 12-15 of the paper, and others.

Functions that draw return a matplotlib Figure and change no global state; functions that end in
`_figures` add captions and the content in words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from gqs import labels
from gqs.evaluation.binning import Bin, merged_bins
from gqs.evaluation.intervals import Estimate
from gqs.evaluation.matched import MatchedPredictions
from gqs.evaluation.metrics import MACRO, Metrics, RocCurve
from gqs.evaluation.metrics import roc_curves as measure_roc_curves
from gqs.evaluation.reliability import expected_calibration_error, reliability
from gqs.formatting import number, percent
from gqs.probability.candidates import by_magnitude as candidates_by_bin
from gqs.probability.candidates import curve
from gqs.probability.poststratify import Mix
from gqs.report.blocks import CaptionedFigure
from gqs.report.palette import (
    ACCENT,
    BRIGHT,
    DEEP,
    FAINT,
    INK,
    LINES,
    MARKERS,
    ON_LIGHT,
    PAPER,
    RULE,
    axes,
    percent_axis,
    styled,
    thousands_axis,
)

FEW: Final = 10  # objects below which a point is drawn faintly
ENOUGH: Final = 20  # objects that a bin needs; smaller ones are merged with their neighbours
LIMIT: Final = 1e-3  # thresholds nearer to 0 or 1 are not drawn

# Weighted objects of a sky by the name of its prior, and their probabilities (n, 3) for it.
Skies = Mapping[str, tuple[Mix, NDArray[np.float64]]]


@styled
def class_histogram(counts: Mapping[str, int]) -> Figure:
    """Number of galaxies, quasars and stars. Paper, Figure 12."""
    figure, (ax,) = axes(5.4, 3.6)
    values = [int(counts.get(name, 0)) for name in labels.CLASSES]
    bars = ax.bar(labels.CLASSES, values, color=list(ON_LIGHT.values()), width=0.62)
    ax.bar_label(bars, [f"{value:,}" for value in values], padding=3)
    ax.set(ylabel="objects", title=f"{sum(values):,} objects by class")
    ax.margins(y=0.1)
    thousands_axis(ax.yaxis)
    ax.grid(axis="y")
    ax.tick_params(axis="x", length=0)
    return figure


@styled
def split_distribution(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Objects of each class on each side of the split. Paper, Figure 13."""
    figure, (ax,) = axes(7.0, 3.8)
    sides = list(counts)
    for i, name in enumerate(labels.CLASSES):
        values = [int(counts[side].get(name, 0)) for side in sides]
        places = np.arange(len(sides)) + (i - 1) * 0.27
        bars = ax.bar(places, values, width=0.25, color=ON_LIGHT[name], label=name)
        ax.bar_label(bars, [f"{value:,}" for value in values], padding=2, fontsize=8)
    totals = [sum(counts[side].values()) for side in sides]
    ticks = [f"{side}\n{total:,}" for side, total in zip(sides, totals, strict=True)]
    ax.set_xticks(range(len(sides)), ticks)
    shares = ", ".join(
        f"{percent(total / max(sum(totals), 1), 0)} {side}"
        for side, total in zip(sides, totals, strict=True)
    )
    ax.set(ylabel="objects", title=f"How the objects are split: {shares}")
    ax.tick_params(axis="x", length=0)
    ax.margins(y=0.08)
    thousands_axis(ax.yaxis)
    ax.grid(axis="y")
    ax.legend(loc="upper right")
    return figure


@styled
def confusion_matrix(confusion: ArrayLike) -> Figure:
    """Confusion matrix: counts, and fractions of each true class. Paper, Figure 14."""
    matrix = np.asarray(confusion, dtype=np.int64)
    totals = matrix.sum(axis=1, keepdims=True)
    fraction = matrix / np.maximum(totals, 1)
    figure, (ax,) = axes(5.6, 4.9)
    ax.imshow(fraction, cmap="Blues", vmin=0, vmax=1.15)
    for i, j in np.ndindex(*matrix.shape):
        colour = BRIGHT if fraction[i, j] > 0.8 else DEEP
        ax.text(j, i - 0.08, f"{matrix[i, j]:,}", ha="center", va="center", color=colour, size=15)
        words = percent(fraction[i, j]) if totals[i, 0] else "none"
        ax.text(j, i + 0.22, words, ha="center", va="center", color=colour, size=9.5)
    ticks = range(len(labels.CLASSES))
    ax.set_xticks(ticks, labels.CLASSES)
    names = [f"{name}\n{int(n):,}" for name, n in zip(labels.CLASSES, totals[:, 0], strict=True)]
    ax.set_yticks(ticks, names)
    ax.set(xlabel="predicted class", ylabel="true class", title=_commonest_error(matrix))
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    ax.set_xticks(np.arange(2) + 0.5, minor=True)
    ax.set_yticks(np.arange(2) + 0.5, minor=True)
    ax.grid(which="minor", color=PAPER, linewidth=3)
    return figure


def _commonest_error(matrix: NDArray[np.int64]) -> str:
    wrong = np.where(np.eye(len(matrix), dtype=bool), 0, matrix)
    if not wrong.any():
        return "All objects are classified correctly"
    i, j = np.unravel_index(wrong.argmax(), wrong.shape)
    first, second = labels.CLASSES[int(i)], labels.CLASSES[int(j)]
    return f"Commonest error: {first} classified as {second} ({wrong[i, j]:,})"


@styled
def roc_curves(matched: MatchedPredictions) -> Figure:
    """ROC curve of each class against the rest, and their mean. Paper, Figure 15."""
    curves = measure_roc_curves(matched)
    figure, (ax,) = axes(5.8, 5.2)
    inset = ax.inset_axes((0.40, 0.34, 0.57, 0.42))
    for each in (ax, inset):
        each.plot([0, 1], [0, 1], color=RULE, linewidth=1)
        for name, roc in curves.items():
            label, style = f"{name}  {roc.auc:.4f}", _roc_style(name)
            each.plot(roc.fpr, roc.tpr, label=label, **style)
    inset.set(xlim=(-0.003, 0.2), ylim=(0.8, 1.003))
    inset.tick_params(labelsize=8)
    inset.grid()
    ax.set(xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal", title=_roc_title(curves))
    ax.set(xlabel="false positive rate", ylabel="true positive rate")
    ax.grid()
    if curves:
        ax.legend(loc="lower right", title="area under the curve", alignment="left")
    return figure


def _roc_style(name: str) -> dict[str, Any]:
    if name in labels.CLASSES:
        return {"color": ON_LIGHT[name], "linestyle": LINES[name], "linewidth": 1.8}
    if name == MACRO:
        return {"color": INK, "linestyle": ":", "linewidth": 1.2}
    return {"color": FAINT, "linestyle": (0, (1, 4)), "linewidth": 1.2}


def _roc_title(curves: Mapping[str, RocCurve]) -> str:
    areas = {name: curves[name].auc for name in labels.CLASSES if name in curves}
    if not areas:
        return "One class only: there is no curve"
    worst = min(areas, key=lambda name: areas[name])
    return f"Mean AUC {curves[MACRO].auc:.4f}; lowest: {worst}"


@styled
def training_history(history: Mapping[str, ArrayLike]) -> Figure:
    """Loss and accuracy by epoch."""
    columns = getattr(history, "colnames", None) or list(history)
    epoch = np.asarray(history["epoch"])
    figure, panels = axes(8.4, 3.6, 2)
    lowest = np.asarray(history["validation_loss"], dtype=float)
    best = int(np.nanargmin(lowest)) if np.isfinite(lowest).any() else 0
    for ax, measure in zip(panels, ("loss", "accuracy"), strict=True):
        for side, colour, style in (
            ("train", FAINT, "--"),
            ("validation", ACCENT, "-"),
        ):
            if f"{side}_{measure}" in columns:
                values = np.asarray(history[f"{side}_{measure}"], dtype=float)
                marker = "o" if len(values) < 25 else ""
                ax.plot(epoch, values, style, color=colour, label=side, marker=marker, markersize=4)
        ax.axvline(epoch[best], color=RULE, zorder=0)
        ax.set(xlabel="epoch", ylabel="cross-entropy loss (nats)" if measure == "loss" else measure)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y")
    panels[0].set_title(f"Best validation loss {lowest[best]:.3f}, epoch {epoch[best]}")
    percent_axis(panels[1].yaxis)
    panels[0].legend()
    return figure


@styled
def by_magnitude(
    parts: Sequence[Bin], quantity: str = "r magnitude", only: str | None = None
) -> Figure:
    """Accuracy and recall by magnitude or redshift with intervals, above the counts.

    With `only` the recall of one class is drawn.
    """
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
        accuracies = [part.accuracy for part in parts]
        _plot_estimates(ax, middles, accuracies, _Series(INK, "s", "-", "all"), many)
    base = np.zeros(len(parts))
    for i, name in enumerate(names):
        shift = (i - 1) * 0.09 * widths if only is None else 0 * widths
        values = [part.recall[name] for part in parts]
        colour, line = ON_LIGHT[name], "none" if only is None else LINES[name]
        counts = np.array([part.counts[name] for part in parts], dtype=float)
        many = counts >= FEW
        series = _Series(colour, MARKERS[name], line, name)
        _plot_estimates(ax, middles + shift, values, series, many)
        below.bar(middles, counts, widths * 0.92, bottom=base, color=colour)
        base += counts
    for x, total in zip(middles, base, strict=True):
        below.annotate(
            f"{total:,.0f}", (x, total), (0, 2), textcoords="offset points", ha="center", size=8
        )
    percent_axis(ax.yaxis)
    thousands_axis(below.yaxis)
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


@dataclass(frozen=True)
class _Series:
    """How points with intervals are drawn: colour, marker, line and label."""

    colour: str
    marker: str
    line: str
    label: str


def _plot_estimates(
    ax: Axes,
    x: NDArray[np.float64],
    values: Sequence[Estimate],
    series: _Series,
    many: NDArray[np.bool_] | None = None,
) -> None:
    """Draw points with their intervals, faintly where they are of few objects."""
    y = np.array([value.value for value in values])
    reach = np.array([[v.value - v.low, v.high - v.value] for v in values]).reshape(-1, 2)
    reach = np.maximum(reach, 0)  # rounding at 0 and 1
    many = np.ones(len(y), dtype=bool) if many is None else many
    ax.plot(x[many], y[many], color=series.colour, marker="none", linestyle=series.line)
    style: Any = {"color": series.colour, "marker": series.marker, "linestyle": "none"}
    style["elinewidth"] = 1.1
    ax.errorbar(x[many], y[many], reach[many].T, label=series.label, **style)
    if not many.all():
        ax.errorbar(x[~many], y[~many], reach[~many].T, alpha=0.25, **style)


def _trend(parts: Sequence[Bin], quantity: str, only: str | None) -> str:
    """A title with the values of the first and the last bin with enough objects."""
    counts = [part.count if only is None else part.counts[only] for part in parts]
    large = [part for part, count in zip(parts, counts, strict=True) if count >= ENOUGH]
    measure = "Accuracy" if only is None else f"Recall of {only}"
    if len(large) < 2:
        return f"{measure} by {quantity}"
    ends = []
    for part in (large[0], large[-1]):
        estimate = part.accuracy if only is None else part.recall[only]
        ends.append(f"{percent(estimate.value, 0)} at {part.low:g} to {part.high:g}")
    return f"{measure} by {quantity}: {ends[0]}, {ends[1]}"


@styled
def reliability_diagram(matched: MatchedPredictions, bins: int = 10) -> Figure:
    """Fraction of objects that are of a class against their probability of it."""
    figure = Figure(figsize=(5.8, 6.0), layout="constrained")
    ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    ax.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    for i, name in enumerate(labels.CLASSES):
        score = matched.probability[:, i]
        parts = reliability(score, matched.truth == i, bins)
        x = np.array([part.confidence for part in parts])
        series = _Series(ON_LIGHT[name], MARKERS[name], LINES[name], name)
        _plot_estimates(ax, x, [part.correct for part in parts], series)
        edges = np.linspace(0, 1, bins + 1)
        heights = np.histogram(score, edges)[0]
        below.stairs(heights, edges, color=ON_LIGHT[name], linestyle=LINES[name])
    below.set_yscale("log")
    thousands_axis(below.yaxis)
    below.yaxis.set_minor_formatter("")
    below.set(xlabel="probability of the class", ylabel="objects")
    gap = expected_calibration_error(matched)
    ax.set(xlim=(0, 1), ylim=(0, 1), ylabel="fraction that is of the class")
    ax.set_title(f"Calibration error: {number(100 * gap, 1)} points")
    for each in (ax, below):
        each.grid()
    ax.legend(loc="upper left")
    return figure


@styled
def candidates_by_threshold(skies: Skies) -> Figure:
    """Purity and completeness of each class against the threshold, a panel for each prior."""
    return _prior_panels(skies, _against_threshold, markers=False)


@styled
def candidates_by_magnitude(skies: Skies) -> Figure:
    """Purity and completeness of each predicted class by magnitude, a panel for each prior."""
    return _prior_panels(skies, _against_magnitude, markers=True)


def _prior_panels(
    skies: Skies, draw: Callable[[Axes, Mix, NDArray[np.float64]], None], markers: bool
) -> Figure:
    figure, panels = axes(4.4 * len(skies) + 0.6, 4.2, len(skies))
    for ax, (name, (mix, probability)) in zip(panels, skies.items(), strict=True):
        draw(ax, mix, probability)
        ax.set(title=f"Prior: {name}", ylim=(0, 1.02))
        percent_axis(ax.yaxis)
        ax.grid()
    _purity_legend(panels[0], markers)
    return figure


def _against_threshold(ax: Axes, mix: Mix, probability: NDArray[np.float64]) -> None:
    for i, label in enumerate(labels.CLASSES):
        of_class = curve(mix, probability[:, i], i)
        inside = (of_class.threshold > LIMIT) & (of_class.threshold < 1 - LIMIT)
        x = np.log10(of_class.threshold[inside] / (1 - of_class.threshold[inside]))
        ax.plot(x, of_class.purity[inside], "-", color=ON_LIGHT[label])
        ax.plot(x, of_class.completeness[inside], "--", color=ON_LIGHT[label])
    marks = np.array([0.01, 0.1, 0.5, 0.9, 0.99])
    ax.set_xticks(np.log10(marks / (1 - marks)), [f"{mark:g}" for mark in marks])
    ax.set(xlabel="threshold of probability")


def _against_magnitude(ax: Axes, mix: Mix, probability: NDArray[np.float64]) -> None:
    middle = (mix.ends[:-1] + mix.ends[1:]) / 2
    for i, label in enumerate(labels.CLASSES):
        purity, completeness = candidates_by_bin(mix, probability.argmax(axis=1), i)
        colour, shape = ON_LIGHT[label], MARKERS[label]
        ax.plot(middle, purity, "-", color=colour, marker=shape)
        ax.plot(middle, completeness, "--", color=colour, marker=shape, markerfacecolor=PAPER)
    ax.set(xlabel="r (mag)")


def _purity_legend(ax: Axes, markers: bool) -> None:
    lines = [
        Line2D([], [], color=ON_LIGHT[name], label=name, marker=MARKERS[name] if markers else "")
        for name in labels.CLASSES
    ]
    lines.append(Line2D([], [], color=INK, linestyle="-", label="purity"))
    lines.append(Line2D([], [], color=INK, linestyle="--", label="completeness"))
    ax.legend(handles=lines, loc="lower left", framealpha=0.85, frameon=True, edgecolor="none")


def data_figures(
    counts: Mapping[str, int], split: Mapping[str, Mapping[str, int]]
) -> list[CaptionedFigure]:
    """Objects of each class, and on each side of the split. Paper, Figures 12 and 13."""
    sides = "; ".join(f"{side}: {_counted(of_side)}" for side, of_side in split.items())
    return [
        CaptionedFigure(
            class_histogram(counts),
            "Objects of each class (paper, Figure 12).",
            f"Bars: {_counted(counts)}.",
        ),
        CaptionedFigure(
            split_distribution(split),
            "Objects of each class on each side of the split (paper, Figure 13).",
            f"Bars by side: {sides}.",
        ),
    ]


def result_figures(matched: MatchedPredictions, metrics: Metrics) -> list[CaptionedFigure]:
    """Figures 14 and 15 of the paper, then by magnitude, redshift and confidence."""
    return [
        _confusion_figure(metrics),
        _roc_figure(matched, metrics),
        *_bin_figures(metrics),
        _reliability_figure(matched),
    ]


def _confusion_figure(metrics: Metrics) -> CaptionedFigure:
    rows = [
        f"of {metrics.counts[name]:,} {name} "
        + ", ".join(
            f"{count:,} as {other}" for other, count in zip(labels.CLASSES, row, strict=True)
        )
        for name, row in zip(labels.CLASSES, metrics.confusion, strict=True)
    ]
    return CaptionedFigure(
        confusion_matrix(metrics.confusion),
        "Confusion matrix (paper, Figure 14): counts, and fractions of each true class.",
        f"Classified: {'; '.join(rows)}.",
    )


def _roc_figure(matched: MatchedPredictions, metrics: Metrics) -> CaptionedFigure:
    areas = ", ".join(f"{name} {metrics.classes[name]['auc'].value:.4f}" for name in labels.CLASSES)
    return CaptionedFigure(
        roc_curves(matched),
        "ROC curves, each class against the rest, with the upper left corner enlarged (paper, "
        "Figure 15). Macro is the mean of the classes; micro pools all decisions.",
        f"Areas under the curves: {areas}.",
    )


def _bin_figures(metrics: Metrics) -> list[CaptionedFigure]:
    figures = []
    by_r = merged_bins(metrics.by_r, ENOUGH)
    by_redshift = merged_bins(metrics.by_redshift, ENOUGH, labels.QSO)
    if by_r:
        figures.append(
            CaptionedFigure(
                by_magnitude(by_r),
                "Accuracy, and recall of each class, by r magnitude with Wilson's 95 % intervals; "
                f"faint where a point is of fewer than {FEW} objects.",
                f"Accuracy by r magnitude: {_by_bin(by_r)}.",
            )
        )
    if by_redshift:
        figures.append(
            CaptionedFigure(
                by_magnitude(by_redshift, "redshift", labels.QSO),
                "Recall of quasars by redshift, with Wilson's 95 % intervals.",
                f"Recall of quasars by redshift: {_by_bin(by_redshift, labels.QSO)}.",
            )
        )
    return figures


def _reliability_figure(matched: MatchedPredictions) -> CaptionedFigure:
    bins = reliability(matched.probability.max(axis=1), matched.correct, 10)
    fractions = ", ".join(
        f"at {percent(part.confidence, 0)} {percent(part.correct.value, 0)} are correct"
        for part in bins
    )
    return CaptionedFigure(
        reliability_diagram(matched),
        "Calibration: on the diagonal probabilities are right; below, how often each occurs.",
        f"By confidence: {fractions}.",
    )


def history_figure(history: Mapping[str, ArrayLike]) -> CaptionedFigure:
    """Loss and accuracy by epoch."""
    figure = training_history(history)
    caption = "Loss and accuracy by epoch; the line marks the lowest validation loss."
    return CaptionedFigure(figure, caption, f"{figure.axes[0].get_title(loc='left')}.")


def candidate_figures(skies: Skies) -> list[CaptionedFigure]:
    """Purity and completeness of candidate lists by threshold and, if binned, by magnitude."""
    names = " and ".join(skies)
    figures = [
        CaptionedFigure(
            candidates_by_threshold(skies),
            "Purity and completeness of a list of candidates above a threshold, for the class "
            f"fractions of each prior ({names}); purity counts an unseen object as half a one.",
            "Purity rises and completeness falls with the threshold.",
        )
    ]
    if all(len(mix.ends) > 2 for mix, _ in skies.values()):
        figures.append(
            CaptionedFigure(
                candidates_by_magnitude(skies),
                "Purity and completeness of each class, by the largest probability, by r "
                f"magnitude, for the class fractions of each prior ({names}).",
                "By r magnitude, a line for each class.",
            )
        )
    return figures


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{int(counts.get(name, 0)):,} {name}" for name in labels.CLASSES)


def _by_bin(parts: Sequence[Bin], only: str | None = None) -> str:
    """Accuracy, or recall of one class, of each bin in words."""
    estimates = [part.accuracy if only is None else part.recall[only] for part in parts]
    return ", ".join(
        f"{part.low:g} to {part.high:g} {percent(estimate.value, 0)}"
        for part, estimate in zip(parts, estimates, strict=True)
    )
