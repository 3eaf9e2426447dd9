"""Pictures of fields and cutouts. Paper, Figures 10 and 11.

Arrays of pixels have their first row at the bottom, as in FITS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from astropy import units
from astropy.table import Table
from astropy.wcs import WCS
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gqs import labels
from gqs.evaluation.matched import MatchedPredictions
from gqs.evaluation.reliability import log_losses
from gqs.formatting import percent
from gqs.imaging.composite import NONLINEARITY, SCALES
from gqs.report.palette import BRIGHT, DEEP, FAINT, INK, MARKERS, ON_LIGHT, ON_SKY, axes, styled
from gqs.surveys import sdss
from gqs.tables import float_column

OTHER_SCALE: Final = 0.19  # of u and z by sky noise: as much noise as g, r and i have in pictures
INVALID: Final = (120, 124, 132)  # grey for pixels without data
BARS: Final = {"1'": 60.0, '30"': 30.0, '10"': 10.0}  # arcsec; the longest that fits is drawn
_LONGEST: Final = 0.4  # largest length of a scale bar, as a fraction of the picture's width
_ARROW: Final = 0.075  # length of the compass arrows, as a fraction of the shorter side
_OUTLINE: Final = [patheffects.withStroke(linewidth=2.5, foreground=DEEP)]  # on bright galaxies


def colours(images: NDArray[np.float32] | NDArray[np.uint8], bands: str) -> NDArray[np.uint8]:
    """Cutouts (n, band, ny, nx) as colour pictures (n, ny, nx, 3) uint8, invalid pixels in grey.

    The stretch is that of `composite.colour_picture`.
    """
    if images.dtype == np.uint8:
        return np.asarray(images).transpose(0, 2, 3, 1).astype(np.uint8)
    if set("gri") <= set(bands):
        channels = [bands.index(band) for band in "irg"]
    else:
        order = sorted(range(len(bands)), key=lambda i: -sdss.BANDS.find(bands[i]))
        channels = [order[0], order[len(order) // 2], order[-1]]
    rgb = np.moveaxis(images[:, channels].astype(np.float64), 1, -1)
    valid: NDArray[np.bool_] = np.asarray(np.isfinite(rgb).all(axis=-1))
    scale = [
        SCALES.get(bands[i], OTHER_SCALE / sdss.SKY_NOISE[sdss.like(bands[i])]) for i in channels
    ]
    rgb = np.where(valid[..., None], np.maximum(rgb, 0) * scale, 0)
    mean = np.maximum(rgb.mean(axis=-1, keepdims=True), 1e-9)
    rgb *= np.arcsinh(3 * NONLINEARITY * mean) / (3 * NONLINEARITY * mean)
    rgb /= np.maximum(rgb.max(axis=-1, keepdims=True), 1)
    picture = (255 * rgb + 0.5).astype(np.uint8)
    picture[~valid] = INVALID
    return picture


@styled
def field_picture(picture: NDArray[np.uint8], title: str, wcs: WCS | None = None) -> Figure:
    """A field in the colours of i, r and g. Paper, Figure 10."""
    figure, ax = _frame(picture, 8.4, wcs)
    ax.set_title(title)
    return figure


@styled
def classified_field(
    picture: NDArray[np.uint8],
    predictions: Table,
    title: str = "",
    confident: float = 0.0,
    wcs: WCS | None = None,
) -> Figure:
    """A field with every source marked by its class, faintly below a probability."""
    figure, ax = _frame(picture, 10.0, wcs)
    x, y = float_column(predictions, "x"), float_column(predictions, "y")
    names = np.char.strip(np.asarray(predictions["class"]).astype(str))
    best = np.stack([float_column(predictions, c) for c in labels.PROBABILITY_COLUMNS]).max(axis=0)
    for name in labels.CLASSES:
        chosen = names == name
        for mask, alpha in (
            (chosen & (best >= confident), 0.95),
            (chosen & (best < confident), 0.35),
        ):
            ax.scatter(
                x[mask],
                y[mask],
                s=58 if name == labels.QSO else 40,
                marker=MARKERS[name],
                facecolors="none",
                edgecolors=ON_SKY[name],
                linewidths=1.2,
                alpha=alpha,
                label=f"{name}  {int(chosen.sum()):,}" if alpha > 0.5 else None,
            )
    unclassified = ~np.isin(names, labels.CLASSES)
    if unclassified.any():
        ax.scatter(
            x[unclassified], y[unclassified], s=26, marker="x", color="#c9ccd1", linewidths=0.9
        )
        ax.scatter(
            [], [], s=26, marker="x", color=FAINT, label=f"not classified  {unclassified.sum():,}"
        )
    ax.set_title(f"{title}: {len(names):,} sources by class" if title else "Sources by class")
    figure.legend(loc="outside lower left", ncols=4, handletextpad=0.3)
    return figure


@styled
def cutouts_by_class(
    images: NDArray[np.float32] | NDArray[np.uint8],
    bands: str,
    classes: Sequence[str],
    notes: Sequence[str] | None = None,
    columns: int = 8,
) -> Figure:
    """Cutouts of each class in rows. Paper, Figure 11."""
    figure = Figure(figsize=(1.02 * columns, 3.75 if notes is None else 4.3), layout="constrained")
    panels = figure.subplots(len(labels.CLASSES), columns, squeeze=False)
    pictures, names = colours(images, bands), np.asarray(classes).astype(str)
    for row, name in zip(panels, labels.CLASSES, strict=True):
        chosen = np.flatnonzero(names == name)
        for i, ax in enumerate(row):
            if i < len(chosen):
                note = notes[int(chosen[i])] if notes is not None else ""
                _cutout(ax, pictures[chosen[i]], note, ON_LIGHT[name])
            else:
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
        if not len(chosen):
            row[0].text(0.05, 0.5, "none", color=FAINT, va="center")
        row[0].set_ylabel(name, color=ON_LIGHT[name], weight="bold", labelpad=6)
    side = images.shape[-1] * sdss.PIXEL_SCALE
    figure.suptitle(_channels(images, bands) + f', {side:.0f}" a side', x=0.01, ha="left", size=10)
    return figure


def worst_errors(matched: MatchedPredictions, count: int = 18) -> NDArray[np.int64]:
    """Rows of the wrong classifications with the highest log loss, worst first."""
    wrong = np.flatnonzero(~matched.correct)
    return np.asarray(wrong[np.argsort(-log_losses(matched)[wrong], kind="stable")][:count])


@styled
def errors_by_class(
    images: NDArray[np.float32] | NDArray[np.uint8],
    bands: str,
    matched: MatchedPredictions,
    rows: NDArray[np.int64],
    columns: int = 6,
) -> Figure:
    """Cutouts of wrong classifications under their true class, with the predicted one."""
    if not len(rows):
        figure, (ax,) = axes(6.0, 1.2)
        ax.set_axis_off()
        ax.text(0, 0.5, "All objects are classified correctly.", va="center", size=12)
        return figure
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(1.5 * columns, 2.06 * lines + 0.4), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax in panels:
        ax.set_axis_off()
    for ax, row, picture in zip(panels, rows, colours(images, bands), strict=False):
        true, predicted = (labels.CLASSES[i] for i in (matched.truth[row], matched.decided[row]))
        r = f"r = {matched.r[row]:.1f}" if np.isfinite(matched.r[row]) else "r unknown"
        ax.set_axis_on()
        note = f"classified as {predicted}\n{percent(matched.confidence[row], 0)}, {r}"
        _cutout(ax, picture, note, FAINT)
        ax.set_title(true, color=ON_LIGHT[true], size=9.5, pad=4, loc="center")
    title = "Wrong classifications of the highest confidence, under the true class"
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=11)
    return figure


def north_and_east(wcs: WCS, x: float, y: float) -> tuple[NDArray[np.float64], float]:
    """Unit vectors to north and east in pixels, (2, 2), and the pixel scale in arcsec."""
    centre = wcs.pixel_to_world(x, y)
    # A step of 10 arcsec is straight on any picture, and also correct near a pole.
    ends = centre.directional_offset_by([0.0, 90.0] * units.deg, 10 * units.arcsec)
    step = np.stack(wcs.world_to_pixel(ends), axis=1) - (x, y)
    length = np.hypot(step[:, 0], step[:, 1])
    return step / length[:, None], float(10 / length.mean())


def _frame(picture: NDArray[np.uint8], width: float, wcs: WCS | None = None) -> tuple[Figure, Axes]:
    rows, columns = picture.shape[:2]
    figure, (ax,) = axes(width, width * rows / columns + 0.6)
    ax.imshow(picture, origin="lower", interpolation="antialiased")
    ax.set(xticks=[], yticks=[], xlim=(-0.5, columns - 0.5), ylim=(-0.5, rows - 0.5))
    ax.spines[:].set_visible(False)
    directions, scale = None, sdss.PIXEL_SCALE
    if wcs is not None:
        directions, scale = north_and_east(wcs, (columns - 1) / 2, (rows - 1) / 2)
        _compass(ax, directions, rows, columns)
    for name, arcsec in BARS.items():
        length = arcsec / scale
        if length <= _LONGEST * columns:
            x, y = 0.03 * columns, 0.035 * rows
            ax.plot([x, x + length], [y, y], color=BRIGHT, linewidth=2, path_effects=_OUTLINE)
            ax.text(
                x + length / 2,
                y + 0.012 * rows,
                name,
                color=BRIGHT,
                ha="center",
                size=10,
                path_effects=_OUTLINE,
            )
            break
    return figure, ax


def _compass(ax: Axes, directions: NDArray[np.float64], rows: int, columns: int) -> None:
    """Draw arrows to north and east in the lower right corner."""
    length = _ARROW * min(rows, columns)
    # The arrows, their letters and a margin fit into the corner.
    middle = np.array([columns - 2.2 * length, 2.0 * length])
    middle -= length * directions.sum(axis=0) / 2
    for letter, direction in zip("NE", directions, strict=True):
        ax.annotate(
            "",
            xy=tuple(middle + length * direction),
            xytext=tuple(middle),
            arrowprops={
                "arrowstyle": "-|>",
                "color": BRIGHT,
                "linewidth": 1.4,
                "shrinkA": 0,
                "path_effects": _OUTLINE,
            },
        )
        x, y = middle + 1.35 * length * direction
        ax.text(
            x,
            y,
            letter,
            color=BRIGHT,
            ha="center",
            va="center",
            size=10,
            weight="bold",
            path_effects=_OUTLINE,
        )


def _cutout(ax: Axes, picture: NDArray[np.uint8], note: str, colour: str) -> None:
    ax.imshow(picture, origin="lower", interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color=colour, linewidth=1.4)
    if note:
        ax.set_xlabel(note, size=8, color=INK, labelpad=3)


def _channels(images: NDArray[np.float32] | NDArray[np.uint8], bands: str) -> str:
    if images.dtype == np.uint8 or set("gri") <= set(bands):
        return "Cutouts in the colours of i, r and g"
    return f"Cutouts in {', '.join(bands)}"
