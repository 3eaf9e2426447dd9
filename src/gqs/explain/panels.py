"""Figures of an explanation: bands with contributions, probabilities, similar objects."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gqs import labels
from gqs.explain.sources import Explanation, Neighbour
from gqs.formatting import percent, signed
from gqs.report.palette import BRIGHT, FAINT, INK, ON_LIGHT, PAPER, axes, percent_axis, styled
from gqs.surveys import sdss

BAR_ARCSEC: Final = 5.0
SOFTENING: Final = 2.0  # sky noises at which the stretch turns from linear to logarithmic
INVALID: Final = "#787c84"  # grey for pixels without data


@styled
def band_panels(source: Explanation) -> Figure:
    """A source in colours and in each band, and below the contribution of each pixel."""
    count = len(source.bands)
    figure = Figure(figsize=(1.55 * (count + 1), 3.9), layout="constrained")
    panels = figure.subplots(2, count + 1, squeeze=False)
    for ax in panels.ravel():
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color=FAINT, linewidth=0.8)
    panels[0, 0].imshow(source.picture, origin="lower", interpolation="nearest")
    panels[0, 0].set_title("colours", size=9.5)
    _scale_bar(panels[0, 0], source.image.shape[-1])
    _compass(panels[0, 0], source)
    panels[1, 0].set_axis_off()
    name = str(source.row["class"])
    legend = f"red: for {name}\nblue: against" if name else "not classified"
    panels[1, 0].text(0, 0.5, legend, size=9, va="center", color=ON_LIGHT.get(name, INK))
    largest = max(float(np.abs(source.contributions).max()), 1e-9) ** 0.5
    for i, band in enumerate(source.bands):
        plane = source.image[i].astype(np.float64)
        if source.image.dtype != np.uint8:
            plane = np.arcsinh(plane / sdss.SKY_NOISE[sdss.like(band)] / SOFTENING)
        low, high = np.nanpercentile(plane, (2, 99.7)) if np.isfinite(plane).any() else (0, 1)
        panels[0, i + 1].set_facecolor(INVALID)
        panels[0, i + 1].imshow(plane, origin="lower", cmap="gray", vmin=low, vmax=high)
        panels[0, i + 1].set_title(band, size=9.5)
        of_band = source.contributions[i]
        root = np.sign(of_band) * np.abs(of_band) ** 0.5  # so that small ones are visible
        panels[1, i + 1].imshow(root, origin="lower", cmap="RdBu_r", vmin=-largest, vmax=largest)
        panels[1, i + 1].set_xlabel(signed(of_band.sum(), 1), size=8.5)
    return figure


def _scale_bar(ax: Axes, side: int) -> None:
    length = BAR_ARCSEC / sdss.PIXEL_SCALE
    ax.plot([2, 2 + length], [3, 3], color=BRIGHT, linewidth=1.8)
    ax.text(2 + length / 2, 4.5, f'{BAR_ARCSEC:g}"', color=BRIGHT, ha="center", size=8)
    ax.set(xlim=(-0.5, side - 0.5), ylim=(-0.5, side - 0.5))


def _compass(ax: Axes, source: Explanation) -> None:
    """Arrows of 6 pixels to north and east, with their letters, in the upper right corner."""
    side = source.image.shape[-1]
    directions = np.array([source.north, source.east])
    letters = 8.2 * directions
    start = side - 3.5 - np.maximum(letters.max(axis=0), 0)  # a letter is 4 pixels high
    for letter, direction, place in zip("NE", directions, start + letters, strict=True):
        arrow = {"arrowstyle": "->", "color": BRIGHT, "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", tuple(start + 6 * direction), tuple(start), arrowprops=arrow)
        ax.annotate(letter, tuple(place), color=BRIGHT, size=8, ha="center", va="center")


@styled
def probability_bars(source: Explanation) -> Figure:
    """Probabilities of a source, and below those without each band."""
    lines = [("all bands", source.probabilities)]
    lines += [(f"without {band}", p) for band, p in source.without.items()]
    figure, (ax,) = axes(6.4, 0.55 + 0.34 * len(lines))
    style: Any = {"ha": "center", "va": "center", "size": 8, "color": PAPER, "weight": "bold"}
    for place, (_, of_line) in enumerate(lines):
        left = 0.0
        for name, p in zip(labels.CLASSES, np.nan_to_num(of_line), strict=True):
            ax.barh(-place, p, left=left, height=0.7, color=ON_LIGHT[name])
            if p > 0.12:
                ax.text(left + p / 2, -place, f"{name} {percent(p, 0)}", **style)
            left += p
    ax.set(xlim=(0, 1), yticks=[-i for i in range(len(lines))])
    ax.set_yticklabels([text for text, _ in lines])
    percent_axis(ax.xaxis)
    return figure


@styled
def neighbour_panels(neighbours: list[Neighbour]) -> Figure:
    """The training objects most similar to a source."""
    figure = Figure(figsize=(1.12 * len(neighbours), 1.75), layout="constrained")
    panels = figure.subplots(1, len(neighbours), squeeze=False)[0]
    for ax, neighbour in zip(panels, neighbours, strict=True):
        ax.imshow(neighbour.picture, origin="lower", interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color=ON_LIGHT[neighbour.name], linewidth=1.8)
        ax.set_title(neighbour.name, size=9, color=ON_LIGHT[neighbour.name], loc="center", pad=3)
        ax.set_xlabel(f"{neighbour.distance:.2f}", size=8.5)
    return figure
