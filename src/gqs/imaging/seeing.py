"""Seeing of a field in each band, from its stars.

The seeing is the full width at half maximum of the Gaussian that has the observed ratio of fluxes
within 2 and 5 pixels.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import sep
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from gqs.imaging.align import BandStack
from gqs.surveys.sdss import BANDS, PIXEL_SCALE, REFERENCE_BAND
from gqs.tables import Flag

FEWEST: Final = 5  # stars needed for a median
SIGNAL: Final = 40.0  # least signal to noise of a star within 5 pixels
_STEP: Final = 0.08  # arcsec: bins of the histogram in which the stars are a peak
_NEAR: Final = 0.12  # arcsec, half-width of the peak


class Stars(NamedTuple):
    """Stars among a field's sources, selected by their widths."""

    chosen: NDArray[np.bool_]  # (n,) isolated, unsaturated, and in the peak of smallest widths in r
    widths: NDArray[np.float64]  # (band, n) arcsec; NaN where a source is too faint in a band


def field_seeing(stack: BandStack, sources: Table) -> NDArray[np.float64]:
    """Seeing of a field in each band, (band,) arcsec; NaN with fewer than five stars."""
    return seeing_of(field_stars(stack, sources))


def seeing_of(stars: Stars) -> NDArray[np.float64]:
    """Median width of the stars in each band, (band,) arcsec; NaN with fewer than five stars."""
    found = np.full(len(stars.widths), np.nan)
    for i, widths in enumerate(stars.widths):
        own = widths[stars.chosen & np.isfinite(widths)]
        if len(own) >= FEWEST:
            found[i] = np.median(own)
    return found


def field_stars(stack: BandStack, sources: Table) -> Stars:
    """Select the stars of a field: the narrowest sources, whose widths agree."""
    widths = np.full((len(stack.bands), len(sources)), np.nan)
    plain = np.asarray(sources["flags"]) & int(Flag.EDGE | Flag.SATURATED | Flag.BLENDED) == 0
    x, y = np.asarray(sources["x"]), np.asarray(sources["y"])
    for i, noise in enumerate(stack.noise):
        plane = np.where(stack.covered[i], stack.flux[i], np.float32(0))
        plane = np.ascontiguousarray(plane, dtype=np.float32)
        inner, outer = (sep.sum_circle(plane, x, y, r, subpix=5)[0] for r in (INNER, OUTER))
        bright = plain & (outer > SIGNAL * float(noise) * np.sqrt(np.pi) * OUTER)
        widths[i, bright] = seeing(inner[bright], outer[bright])
    return Stars(_stars(widths[stack.bands.index(REFERENCE_BAND)]), widths)


def _stars(width: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each width is in the first peak of their histogram, (n,) bool."""
    known = width[np.isfinite(width)]
    if len(known) < FEWEST:
        return np.zeros(len(width), dtype=bool)
    edges = np.arange(known.min() - _STEP, known.max() + 2 * _STEP, _STEP)
    counts = np.convolve(np.histogram(known, edges)[0], np.ones(2), "same")
    # The narrowest peak at least half as high as the highest: galaxies may form a higher one.
    first = int(np.flatnonzero(counts >= 0.5 * counts.max())[0])
    top = first + int(counts[first : first + 3].argmax())
    middle = float(edges[top])
    for _ in range(3):
        near = np.abs(width - middle) < _NEAR
        if near.any():
            middle = float(np.median(width[near]))
    return np.asarray(np.abs(width - middle) < _NEAR)


INNER: Final = 2.0  # pixels
OUTER: Final = 5.0
COLUMNS: Final = tuple(f"seeing_{band}" for band in BANDS)  # in catalogues and stores, arcsec
_WIDTHS: Final = np.linspace(0.4, 6.0, 1121)  # sigma, pixels
_SHARE: Final = (1 - np.exp(-0.5 * (INNER / _WIDTHS) ** 2)) / (
    1 - np.exp(-0.5 * (OUTER / _WIDTHS) ** 2)
)
_FWHM: Final = 2 * np.sqrt(2 * np.log(2.0))


def seeing(inner: ArrayLike, outer: ArrayLike) -> NDArray[np.float64]:
    """FWHM in arcsec of the Gaussian with these fluxes within 2 and 5 pixels."""
    inner, outer = np.asarray(inner, np.float64), np.asarray(outer, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(outer > 0, inner / outer, np.nan)
    return np.asarray(_FWHM * PIXEL_SCALE * np.interp(-share, -_SHARE, _WIDTHS))


def seeing_columns(table: Table, bands: str) -> NDArray[np.float64]:
    """Seeing columns of a table, (n, band) arcsec; NaN where a band has no column."""
    values = np.full((len(table), len(bands)), np.nan)
    for i, band in enumerate(bands):
        if f"seeing_{band}" in table.colnames:
            values[:, i] = np.asarray(table[f"seeing_{band}"], dtype=np.float64)
    return values
