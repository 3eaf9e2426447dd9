"""Figures of lists of candidates: purity and completeness by threshold and by magnitude."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from gqs import labels
from gqs.probability.candidates import by_magnitude, curve
from gqs.probability.poststratify import Mix
from gqs.report.palette import INK, MARKERS, axes, percent, styled

Array = NDArray[np.float64]

# A mix of classes by its name, and the probabilities (n, 3) of its objects for it.
Skies = Mapping[str, tuple[Mix, Array]]
ENDS = 1e-3  # thresholds nearer to 0 or 1 are not drawn


@styled
def by_threshold(skies: Skies) -> Figure:
    """Draw purity and completeness of each class against the threshold, one panel a mix."""
    return _panels(skies, _against_threshold, markers=False)


@styled
def by_brightness(skies: Skies) -> Figure:
    """Draw purity and completeness of what is decided for each class, by magnitude."""
    return _panels(skies, _against_magnitude, markers=True)


def _panels(skies: Skies, draw: Callable[[Axes, Mix, Array], None], markers: bool) -> Figure:
    figure, panels = axes(4.4 * len(skies) + 0.6, 4.2, len(skies))
    for ax, (name, (mix, probability)) in zip(panels, skies.items(), strict=True):
        draw(ax, mix, probability)
        ax.set(title=f"Prior: {name}", ylim=(0, 1.02))
        percent(ax.yaxis)
        ax.grid()
    _key(panels[0], markers)
    return figure


def _against_threshold(ax: Axes, mix: Mix, probability: Array) -> None:
    for i, label in enumerate(labels.CLASSES):
        found = curve(mix, probability[:, i], i)
        inside = (found.threshold > ENDS) & (found.threshold < 1 - ENDS)
        x = np.log10(found.threshold[inside] / (1 - found.threshold[inside]))
        ax.plot(x, found.purity[inside], "-", color=labels.COLOURS[label])
        ax.plot(x, found.completeness[inside], "--", color=labels.COLOURS[label])
    shares = np.array([0.01, 0.1, 0.5, 0.9, 0.99])
    ax.set_xticks(np.log10(shares / (1 - shares)), [f"{share:g}" for share in shares])
    ax.set(xlabel="threshold of probability")


def _against_magnitude(ax: Axes, mix: Mix, probability: Array) -> None:
    middle = (mix.ends[:-1] + mix.ends[1:]) / 2
    for i, label in enumerate(labels.CLASSES):
        purity, completeness = by_magnitude(mix, probability.argmax(axis=1), i)
        colour, shape = labels.COLOURS[label], MARKERS[label]
        ax.plot(middle, purity, "-", color=colour, marker=shape)
        ax.plot(middle, completeness, "--", color=colour, marker=shape, markerfacecolor="white")
    ax.set(xlabel="r (mag)")


def _key(ax: Axes, markers: bool) -> None:
    lines = [
        Line2D(
            [], [], color=labels.COLOURS[name], label=name, marker=MARKERS[name] if markers else ""
        )
        for name in labels.CLASSES
    ]
    lines.append(Line2D([], [], color=INK, linestyle="-", label="purity"))
    lines.append(Line2D([], [], color=INK, linestyle="--", label="completeness"))
    ax.legend(handles=lines, loc="lower left", framealpha=0.85, frameon=True, edgecolor="none")
