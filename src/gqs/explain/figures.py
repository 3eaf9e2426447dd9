"""A source in pictures: its bands, what speaks in them, its probabilities, what it is like."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gqs import labels
from gqs.explain.sources import Explained, Neighbour
from gqs.report.palette import FAINT, INK, TEXT, axes, percent, styled
from gqs.surveys import sdss

BAR_ARCSEC: Final = 5.0
SOFT: Final = 2.0  # sky noises at which a band's picture turns from linear to logarithmic
PALE: Final = "#ffffff"


@styled
def bands(found: Explained) -> Figure:
    """Draw a source in colours and band by band, and below what each pixel adds to its class."""
    count = len(found.bands)
    figure = Figure(figsize=(1.55 * (count + 1), 3.9), layout="constrained")
    panels = figure.subplots(2, count + 1, squeeze=False)
    for ax in panels.ravel():
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color=FAINT, linewidth=0.8)
    panels[0, 0].imshow(found.picture, origin="lower", interpolation="nearest")
    panels[0, 0].set_title("colours", size=9.5)
    _bar(panels[0, 0], found.image.shape[-1])
    _compass(panels[0, 0], found, found.image.shape[-1])
    panels[1, 0].set_axis_off()
    name = str(found.row["class"])
    said = f"red: for {name}\nblue: against" if name else "not judged"
    panels[1, 0].text(0, 0.5, said, size=9, va="center", color=TEXT.get(name, INK))
    most = max(float(np.abs(found.parts).max()), 1e-9) ** 0.5
    for i, band in enumerate(found.bands):
        plane = found.image[i].astype(np.float64)
        if found.image.dtype != np.uint8:
            plane = np.arcsinh(plane / sdss.SKY_NOISE[band] / SOFT)
        low, high = np.nanpercentile(plane, (2, 99.7)) if np.isfinite(plane).any() else (0, 1)
        panels[0, i + 1].set_facecolor("#787c84")  # shows where there is no pixel
        panels[0, i + 1].imshow(plane, origin="lower", cmap="gray", vmin=low, vmax=high)
        panels[0, i + 1].set_title(band, size=9.5)
        signed = np.sign(found.parts[i]) * np.abs(found.parts[i]) ** 0.5  # shows the faint ones
        panels[1, i + 1].imshow(signed, origin="lower", cmap="RdBu_r", vmin=-most, vmax=most)
        panels[1, i + 1].set_xlabel(f"{found.parts[i].sum():+.1f}".replace("-", "−"), size=8.5)
    return figure


def _bar(ax: Axes, side: int) -> None:
    length = BAR_ARCSEC / sdss.PIXEL_SCALE
    ax.plot([2, 2 + length], [3, 3], color=PALE, linewidth=1.8)
    ax.text(2 + length / 2, 4.5, f'{BAR_ARCSEC:g}"', color=PALE, ha="center", size=7.5)
    ax.set(xlim=(-0.5, side - 0.5), ylim=(-0.5, side - 0.5))


def _compass(ax: Axes, found: Explained, side: int) -> None:
    """North and east from a point in the upper right corner, 6 pixels long; letters inside."""
    ways = np.array([found.north, found.east])
    letters = 8.2 * ways
    start = side - 3.5 - np.maximum(letters.max(axis=0), 0)  # a letter is 4 pixels high
    for letter, way, place in zip("NE", ways, start + letters, strict=True):
        arrow = {"arrowstyle": "->", "color": PALE, "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", tuple(start + 6 * way), tuple(start), arrowprops=arrow)
        ax.annotate(letter, tuple(place), color=PALE, size=7, ha="center", va="center")


@styled
def probabilities(found: Explained) -> Figure:
    """Draw a source's probabilities as bars, and those without each band below."""
    lines = [("all bands", found.probabilities)]
    lines += [(f"without {band}", p) for band, p in found.without.items()]
    figure, (ax,) = axes(6.4, 0.55 + 0.34 * len(lines))
    for place, (_, shares) in enumerate(lines):
        left = 0.0
        for name, share in zip(labels.CLASSES, np.nan_to_num(shares), strict=True):
            ax.barh(-place, share, left=left, height=0.7, color=labels.COLOURS[name])
            if share > 0.12:
                ax.text(left + share / 2, -place, f"{name} {100 * share:.0f} %", ha="center",
                        va="center", size=8, color="white", weight="bold")  # fmt: skip
            left += share
    ax.set(xlim=(0, 1), yticks=[-i for i in range(len(lines))])
    ax.set_yticklabels([text for text, _ in lines])
    percent(ax.xaxis)
    return figure


@styled
def nearest(found: list[Neighbour]) -> Figure:
    """Draw the training objects that a source is most like."""
    figure = Figure(figsize=(1.12 * len(found), 1.75), layout="constrained")
    for ax, one in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        ax.imshow(one.picture, origin="lower", interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color=labels.COLOURS[one.name], linewidth=1.8)
        ax.set_title(one.name, size=9, color=TEXT[one.name], loc="center", pad=3)
        ax.set_xlabel(f"{one.distance:.2f}", size=8.5)
    return figure
