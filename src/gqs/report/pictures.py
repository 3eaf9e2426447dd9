"""Pictures of fields and cutouts. Paper, Figures 10 and 11.

Arrays of pixels have their first row at the bottom, as in FITS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from astropy import units
from astropy.table import Table
from astropy.wcs import WCS
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from gqs import labels
from gqs.evaluation.matched import MatchedPredictions
from gqs.formatting import percent
from gqs.imaging.align import BandStack
from gqs.imaging.composite import NONLINEARITY, PICTURE_BANDS, SCALES
from gqs.report.palette import BRIGHT, DEEP, FAINT, INK, MARKERS, ON_LIGHT, ON_SKY, axes, styled
from gqs.surveys import sdss
from gqs.tables import Flag, float_column

OTHER_SCALE: Final = 0.19  # of u and z by sky noise: as much noise as g, r and i have in pictures
INVALID: Final = (120, 124, 132)  # grey for pixels without data
BARS: Final = {"1'": 60.0, '30"': 30.0, '10"': 10.0}  # arcsec; the longest that fits is drawn
CONFIDENT: Final = 0.6  # probability below which a source is drawn faintly
FIELD_INCHES: Final = 10.0
CROWDED: Final = 10.0  # mean distance of sources, points, below which each class has a panel
DOT: Final = 5.5  # markers smaller than this, points, are filled
UNCLASSIFIED: Final = "#c9ccd1"
ZOOMS: Final = 8  # candidates in the strip
ZOOM: Final = 20  # pixels on each side of a candidate
# Of deep pictures, in units of the sky's noise: brightness of the sky, where the stretch turns
# from linear to logarithmic, and where it is white.
SKY_LEVEL: Final = 1.5
LINEAR: Final = 1.5
WHITE_LEVEL: Final = 300.0
_LONGEST: Final = 0.4  # largest length of a scale bar, as a fraction of the picture's width
_ARROW: Final = 0.075  # length of the compass arrows, as a fraction of the shorter side
_OUTLINE: Final = [patheffects.withStroke(linewidth=2.5, foreground=DEEP)]  # on bright galaxies


def colours(images: NDArray[np.float32] | NDArray[np.uint8], bands: str) -> NDArray[np.uint8]:
    """Cutouts (n, band, ny, nx) as colour pictures (n, ny, nx, 3) uint8, invalid pixels in grey.

    The stretch is that of `composite.colour_picture`.
    """
    if images.dtype == np.uint8:
        return np.asarray(images).transpose(0, 2, 3, 1).astype(np.uint8)
    channels = _channel_numbers(bands)
    rgb = np.moveaxis(images[:, channels].astype(np.float64), 1, -1)
    valid: NDArray[np.bool_] = np.asarray(np.isfinite(rgb).all(axis=-1))
    scale = [_scale(bands[i]) for i in channels]
    rgb = np.where(valid[..., None], np.maximum(rgb, 0) * scale, 0)
    mean = np.maximum(rgb.mean(axis=-1, keepdims=True), 1e-9)
    rgb *= np.arcsinh(3 * NONLINEARITY * mean) / (3 * NONLINEARITY * mean)
    rgb /= np.maximum(rgb.max(axis=-1, keepdims=True), 1)
    picture = (255 * rgb + 0.5).astype(np.uint8)
    picture[~valid] = INVALID
    return picture


def _channel_numbers(bands: str) -> list[int]:
    """Which bands are red, green and blue."""
    if set(PICTURE_BANDS) <= set(bands):
        return [bands.index(band) for band in PICTURE_BANDS]
    order = sorted(range(len(bands)), key=lambda i: -sdss.BANDS.find(bands[i]))
    return [order[0], order[len(order) // 2], order[-1]]


def _scale(band: str) -> float:
    return SCALES.get(band, OTHER_SCALE / sdss.SKY_NOISE[sdss.like(band)])


@styled
def field_picture(picture: NDArray[np.uint8], title: str, wcs: WCS | None = None) -> Figure:
    """A field in the colours of i, r and g. Paper, Figure 10."""
    figure, (ax,) = axes(8.4, 8.4 * picture.shape[0] / picture.shape[1] + 0.6)
    _show_field(ax, picture, wcs)
    ax.set_title(title)
    return figure


def deep_picture(stack: BandStack) -> NDArray[np.uint8]:
    """Picture of a field (ny, nx, 3) with the sky's noise at a dark grey, scaled by that noise.

    Colours are those of i, r and g if the stack has them; else the picture is grey.
    """
    bands = PICTURE_BANDS if set(PICTURE_BANDS) <= set(stack.bands) else stack.bands[:1]
    rgb = np.stack([stack.plane(band) * SCALES.get(band, 1.0) for band in bands], axis=-1)
    valid: NDArray[np.bool_] = np.asarray(np.isfinite(rgb).all(axis=-1))
    for band in bands:
        valid &= stack.covered[stack.bands.index(band)]
    return _deep(rgb, valid)


def deep_cutouts(images: NDArray[np.float32] | NDArray[np.uint8], bands: str) -> NDArray[np.uint8]:
    """Cutouts (n, band, ny, nx) as pictures (n, ny, nx, 3), each scaled by its own noise."""
    if images.dtype == np.uint8:
        return colours(images, bands)
    channels = _channel_numbers(bands)
    scale = [_scale(bands[i]) for i in channels]
    pictures = np.zeros((len(images), *images.shape[2:], 3), dtype=np.uint8)
    for picture, image in zip(pictures, images, strict=True):
        rgb = np.moveaxis(image[channels], 0, -1) * np.asarray(scale, dtype=np.float32)
        picture[:] = _deep(rgb, np.asarray(np.isfinite(rgb).all(axis=-1)))
    return pictures


def _deep(rgb: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Stretch scaled bands (ny, nx, 1 or 3) by the noise of their mean, invalid pixels in grey."""
    if not valid.any():
        return np.full((*valid.shape, 3), INVALID, dtype=np.uint8)
    rgb = np.where(valid[..., None], rgb, 0).astype(np.float32)
    rgb -= np.median(rgb[valid], axis=0)
    noise = max(1.4826 * float(np.median(np.abs(rgb.mean(axis=-1)[valid]))), 1e-9)
    rgb = np.maximum(rgb + SKY_LEVEL * noise, 0)
    mean = np.maximum(rgb.mean(axis=-1, keepdims=True), 1e-6 * noise)
    rgb *= np.arcsinh(mean / (LINEAR * noise)) / np.arcsinh(WHITE_LEVEL / LINEAR) / mean
    rgb /= np.maximum(rgb.max(axis=-1, keepdims=True), 1)
    picture = np.array(np.broadcast_to((255 * rgb + 0.5).astype(np.uint8), (*valid.shape, 3)))
    picture[~valid] = INVALID
    return picture


@styled
def classified_field(
    picture: NDArray[np.uint8],
    predictions: Table,
    title: str = "",
    confident: float = CONFIDENT,
    wcs: WCS | None = None,
) -> Figure:
    """A field with every source marked by its class, and zooms of the best QSO candidates.

    Markers shrink to dots where sources are dense, and a crowded field has one panel for each
    class. Sources that are flagged or below the probability `confident` are drawn faintly.
    """
    marks = _Marks.of(predictions, confident)
    rows, columns = picture.shape[:2]
    best = marks.best_candidates(rows, columns)
    spacing = FIELD_INCHES * 72 * np.sqrt(rows / columns / max(len(marks.names), 1))
    panels = labels.CLASSES if spacing < CROWDED else (None,)
    width = FIELD_INCHES if len(panels) == 1 else 1.6 * FIELD_INCHES
    height = width / len(panels) * rows / columns
    shrunk = width / len(panels) / FIELD_INCHES
    strip = width / ZOOMS + 0.4 if len(best) else 0.0
    figure = Figure((width, height + strip + 0.9), layout="constrained", facecolor=DEEP)
    parts = figure.add_gridspec(2, 1, height_ratios=(height, max(strip, 1e-3)))
    row = parts[0].subgridspec(1, len(panels))
    for i, only in enumerate(panels):
        ax = figure.add_subplot(row[i])
        _show_field(ax, picture, wcs)
        _mark(ax, marks, only, float(np.clip(0.45 * spacing * shrunk, 1.5, 8.5)))
        if only is not None:
            ax.set_title(f"{only}  {marks.count(only):,}", color=ON_SKY[only])
        if only in (None, labels.QSO):
            _number(ax, marks, best)
    if len(best):
        _zooms(figure, parts[1], picture, marks, best)
    found = f"{len(marks.names):,} sources, {marks.count(labels.QSO):,} classified as QSO"
    text = f"{title}: {found}" if title else found
    figure.suptitle(text, x=0.01, ha="left", weight="bold", size=12, color=BRIGHT)
    _field_legend(figure, marks, confident)
    return figure


@dataclass(frozen=True)
class _Marks:
    """What a field's markers show, (n,) each."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    names: NDArray[np.str_]
    p_qso: NDArray[np.float64]
    r: NDArray[np.float64]
    sure: NDArray[np.bool_]  # neither flagged nor below the probability

    @classmethod
    def of(cls, predictions: Table, confident: float) -> _Marks:
        """The markers of a table of predictions."""
        p = np.stack([float_column(predictions, c) for c in labels.PROBABILITY_COLUMNS])
        sure = np.nan_to_num(p).max(axis=0) >= confident
        if "flags" in predictions.colnames:  # a missing band concerns the field, not the source
            sure &= (np.asarray(predictions["flags"]) & ~int(Flag.MISSING_BAND)) == 0
        has_r = "mag_r" in predictions.colnames
        return cls(
            float_column(predictions, "x"),
            float_column(predictions, "y"),
            np.char.strip(np.asarray(predictions["class"]).astype(str)),
            p[labels.index(labels.QSO)],
            float_column(predictions, "mag_r") if has_r else np.full(p.shape[1], np.nan),
            sure,
        )

    def count(self, name: str) -> int:
        """Number of sources of a class."""
        return int((self.names == name).sum())

    def best_candidates(self, rows: int, columns: int) -> NDArray[np.int64]:
        """Rows of the unflagged QSO of the highest probability inside the picture, best first."""
        inside = (self.x >= 0) & (self.x < columns) & (self.y >= 0) & (self.y < rows)
        chosen = np.flatnonzero((self.names == labels.QSO) & self.sure & inside)
        order = np.argsort(-self.p_qso[chosen], kind="stable")
        return np.asarray(chosen[order][:ZOOMS])


def _mark(ax: Axes, marks: _Marks, only: str | None, size: float) -> None:
    """Mark sources of all classes or one: QSO last, faint ones first, small ones filled."""
    order = (labels.STAR, labels.GALAXY, labels.QSO) if only is None else (only,)
    other = ~np.isin(marks.names, labels.CLASSES)
    if only is None and other.any():
        x, y = marks.x[other], marks.y[other]
        ax.scatter(x, y, s=0.5 * size**2, marker="x", color=UNCLASSIFIED, linewidths=0.8)
    for sure in (False, True):
        for name in order:
            chosen = (marks.names == name) & (marks.sure == sure)
            across = size * (1.25 if name == labels.QSO else 1)
            ax.scatter(
                marks.x[chosen],
                marks.y[chosen],
                s=across**2,
                marker=MARKERS[name],
                facecolors=ON_SKY[name] if size < DOT else "none",
                edgecolors="none" if size < DOT else ON_SKY[name],
                linewidths=1.5 if name == labels.QSO else 0.9,
                alpha=0.95 if sure else 0.35,
            )


def _number(ax: Axes, marks: _Marks, best: NDArray[np.int64]) -> None:
    for place, row in enumerate(best, start=1):
        ax.annotate(
            str(place),
            (marks.x[row], marks.y[row]),
            (6, 5),
            textcoords="offset points",
            color=ON_SKY[labels.QSO],
            size=10,
            weight="bold",
            path_effects=_OUTLINE,
        )


def _zooms(
    figure: Figure,
    part: SubplotSpec,
    picture: NDArray[np.uint8],
    marks: _Marks,
    best: NDArray[np.int64],
) -> None:
    """A strip of zooms into the picture at the best candidates, with probability and r."""
    row = part.subgridspec(1, ZOOMS)
    padded = np.pad(picture, ((ZOOM, ZOOM), (ZOOM, ZOOM), (0, 0)))
    for place, i in enumerate(best):
        x, y = round(marks.x[i]), round(marks.y[i])
        ax = figure.add_subplot(row[place])
        r = f", r {marks.r[i]:.1f}" if np.isfinite(marks.r[i]) else ""
        zoom = padded[y : y + 2 * ZOOM + 1, x : x + 2 * ZOOM + 1]
        _cutout(ax, zoom, "", ON_SKY[labels.QSO])
        note = f"{place + 1}: {percent(marks.p_qso[i])}{r}"
        ax.set_xlabel(note, size=9, color=BRIGHT, labelpad=3)


def _field_legend(figure: Figure, marks: _Marks, confident: float) -> None:
    def entry(marker: str, colour: str, text: str) -> Line2D:
        style: Any = {"linestyle": "none", "markerfacecolor": "none", "markeredgewidth": 1.4}
        return Line2D([], [], marker=marker, color=colour, label=text, **style)

    handles = [
        entry(MARKERS[name], ON_SKY[name], f"{name}  {marks.count(name):,}")
        for name in labels.CLASSES
    ]
    left = len(marks.names) - sum(marks.count(name) for name in labels.CLASSES)
    if left:
        handles.append(entry("x", UNCLASSIFIED, f"not classified  {left:,}"))
    faint = f"faint: flagged or below {percent(confident, 0)}"
    handles.append(Line2D([], [], linestyle="none", label=faint))
    place: Any = {"loc": "outside lower left", "ncols": 5, "handletextpad": 0.3}
    figure.legend(handles=handles, labelcolor=BRIGHT, **place)


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
    pictures, names = deep_cutouts(images, bands), np.asarray(classes).astype(str)
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
    """Rows of the wrong classifications of the highest probability, most confident first."""
    wrong = np.flatnonzero(~matched.correct)
    return np.asarray(wrong[np.argsort(-matched.confidence[wrong], kind="stable")][:count])


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
    for ax, row, picture in zip(panels, rows, deep_cutouts(images, bands), strict=False):
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


def _show_field(ax: Axes, picture: NDArray[np.uint8], wcs: WCS | None) -> None:
    """A picture with a scale bar and, with a WCS, arrows to north and east."""
    rows, columns = picture.shape[:2]
    ax.imshow(picture, origin="lower", interpolation="antialiased")
    ax.set(xticks=[], yticks=[], xlim=(-0.5, columns - 0.5), ylim=(-0.5, rows - 0.5))
    ax.spines[:].set_visible(False)
    directions, scale = None, sdss.PIXEL_SCALE
    if wcs is not None:
        directions, scale = north_and_east(wcs, (columns - 1) / 2, (rows - 1) / 2)
        _compass(ax, directions, rows, columns)
    name = next((name for name, arc in BARS.items() if arc / scale <= _LONGEST * columns), None)
    if name is not None:
        length, x, y = BARS[name] / scale, 0.03 * columns, 0.035 * rows
        ax.plot([x, x + length], [y, y], color=BRIGHT, linewidth=2, path_effects=_OUTLINE)
        style: Any = {"color": BRIGHT, "ha": "center", "size": 10, "path_effects": _OUTLINE}
        ax.text(x + length / 2, y + 0.012 * rows, name, **style)


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
