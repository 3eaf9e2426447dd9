"""Figures of the comparison: the paper's order and ours, and every pair of networks."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from gqs.formatting import percent, signed
from gqs.report.blocks import CaptionedFigure
from gqs.report.figures import data_figures, history_figure, result_figures
from gqs.report.palette import ACCENT, FAINT, INK, axes, percent_axis, styled
from gqs.reproduce import hypotheses
from gqs.reproduce.results import SplitResults

SIGNIFICANT = 0.05


@styled
def order_figure(results: SplitResults) -> Figure:
    """Accuracy of each network: ours with its interval, and the published one."""
    names = sorted(
        (name for name in results.accuracies if name in hypotheses.PUBLISHED),
        key=lambda name: hypotheses.PUBLISHED[name].accuracy,
    )
    figure, (ax,) = axes(7.4, 1.4 + 0.34 * len(names))
    for y, name in enumerate(names):
        ours, colour = results.accuracies[name], ACCENT
        ax.plot([ours.low, min(1.0, ours.high)], [y, y], color=colour, linewidth=2.4, alpha=0.5)
        ax.plot(ours.value, y, "o", color=colour, markersize=7, label="ours" if not y else None)
        for run in results.runs[name]:
            ax.plot(run.metrics.accuracy.value, y, "|", color=INK, markersize=9)
        theirs = hypotheses.PUBLISHED[name].accuracy
        label = "published" if not y else None
        ax.plot(theirs, y, "D", markerfacecolor="none", color=FAINT, markersize=6, label=label)
    ax.set_yticks(range(len(names)), [hypotheses.title(name) for name in names])
    ax.set_ylim(-0.6, len(names) - 0.4)
    percent_axis(ax.xaxis)
    best = max(names, key=lambda name: results.accuracies[name].value)
    ax.set(xlabel="accuracy on test objects", title=f"Most accurate here: {hypotheses.title(best)}")
    ax.grid(axis="x")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


@styled
def pairs_figure(results: SplitResults) -> Figure:
    """Difference of every two networks, bold if McNemar's test is significant."""
    names = sorted(results.runs, key=lambda name: -results.accuracies[name].value)
    place = {name: i for i, name in enumerate(names)}
    gaps = np.full((len(names), len(names)), np.nan)
    sure = np.zeros(gaps.shape, dtype=bool)
    for pair in results.pairs:
        i, j = place[pair.first], place[pair.second]
        gaps[i, j], gaps[j, i] = pair.difference.value, -pair.difference.value
        sure[i, j] = sure[j, i] = pair.p_corrected < SIGNIFICANT
    side = 2.6 + 0.44 * len(names)
    figure, (ax,) = axes(side, side)
    reach = float(np.nanmax(np.abs(gaps))) or 1.0
    ax.imshow(
        gaps, cmap="RdBu", vmin=-2 * reach, vmax=2 * reach
    )  # pale, as numbers are written on it
    for i, j in zip(*np.nonzero(np.isfinite(gaps)), strict=True):
        text = signed(round(100 * gaps[i, j], 1) + 0.0, 1)  # no -0.0
        weight = "bold" if sure[i, j] else "normal"
        ax.text(j, i, text, ha="center", va="center", size=8, weight=weight, color=INK)
    titles = [hypotheses.title(name) for name in names]
    ax.set_xticks(range(len(names)), titles, rotation=60, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), titles)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    count = sum(pair.p_corrected < SIGNIFICANT for pair in results.pairs)
    ax.set_title(f"{count} of {len(results.pairs)} pairs differ\nsignificantly")
    return figure


def order_blocks(results: SplitResults) -> list[CaptionedFigure]:
    """The paper's order and ours."""
    ours = {n: e for n, e in results.accuracies.items() if n in hypotheses.PUBLISHED}
    if not ours:
        return []
    values = "; ".join(f"{hypotheses.title(n)} {percent(e.value, 2)}" for n, e in ours.items())
    caption = (
        "Accuracy in the paper's order. Dots: ours, mean over seeds, with 95 % intervals from test "
        "objects and seeds; ticks: each seed; diamonds: as published, on the paper's test objects."
    )
    return [CaptionedFigure(order_figure(results), caption, f"Ours: {values}.")]


def pair_blocks(results: SplitResults) -> list[CaptionedFigure]:
    """Every pair of networks."""
    if not results.pairs:
        return []
    caption = (
        "Accuracy of the row minus that of the column, in points, mean over seeds. Bold: McNemar's "
        "exact test at the first common seed gives p < 0.05 after Holm's correction for all pairs."
    )
    count = sum(pair.p_corrected < SIGNIFICANT for pair in results.pairs)
    alt = f"{count} of {len(results.pairs)} pairs differ significantly."
    return [CaptionedFigure(pairs_figure(results), caption, alt)]


def paper_blocks(results: SplitResults) -> list[CaptionedFigure]:
    """Figures 12 to 15, and the training history of ResNet50-GQS."""
    counts = results.split.meta["counts"]
    total = {name: sum(side[name] for side in counts.values()) for name in counts["train"]}
    shown = data_figures(total, counts)
    if runs := results.gqs_runs():  # the page names the seed
        shown += result_figures(runs[0].predicted, runs[0].metrics)
        shown.append(history_figure(runs[0].history))
    return shown
