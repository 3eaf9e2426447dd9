"""Seeing of a field, band by band, from its own stars."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import sep
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from gqs.imaging.align import BandStack
from gqs.surveys.sdss import BANDS, PIXEL_SCALE, REFERENCE_BAND
from gqs.tables import Flag

FEWEST: Final = 5  # stars from which a median is taken
SIGNAL: Final = 40.0  # of a star's light within 5 pixels, in sigmas
_STEP: Final = 0.08  # arcsec: bins in which the crowd of stars is looked for
_NEAR: Final = 0.12  # arcsec from its middle


class Stars(NamedTuple):
    """Which of a field's sources are stars, as their widths show it."""

    # (n,) bool: single, whole, and in the crowd of the narrowest widths in r
    chosen: NDArray[np.bool_]
    # (band, n) arcsec, as `gqs.imaging.seeing` defines it; NaN where a band shows too little
    widths: NDArray[np.float64]


def field_seeing(stack: BandStack, sources: Table) -> NDArray[np.float64]:
    """Measure the seeing in every band of a field: (band,) arcsec, as `gqs.imaging.seeing` defines
    it; NaN where fewer than five stars tell.
    """
    return seeing_of(field_stars(stack, sources))


def seeing_of(stars: Stars) -> NDArray[np.float64]:
    """Each band's seeing: the median of the stars that it shows well: (band,) arcsec; NaN where
    fewer than five stars tell.
    """
    found = np.full(len(stars.widths), np.nan)
    for i, widths in enumerate(stars.widths):
        own = widths[stars.chosen & np.isfinite(widths)]
        if len(own) >= FEWEST:
            found[i] = np.median(own)
    return found


def field_stars(stack: BandStack, sources: Table) -> Stars:
    """Find the stars of a field: no galaxy is narrower than they, and their widths agree."""
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
    """Tell which sources are in the first crowd of widths; none where there is no crowd."""
    known = width[np.isfinite(width)]
    if len(known) < FEWEST:
        return np.zeros(len(width), dtype=bool)
    edges = np.arange(known.min() - _STEP, known.max() + 2 * _STEP, _STEP)
    counts = np.convolve(np.histogram(known, edges)[0], np.ones(2), "same")
    # The narrowest crowd that is half as large as the largest: galaxies crowd behind stars.
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
COLUMNS: Final = tuple(f"seeing_{band}" for band in BANDS)  # of catalogues and stores, arcsec
_WIDTHS: Final = np.linspace(0.4, 6.0, 1121)  # sigma, pixels
_SHARE: Final = (1 - np.exp(-0.5 * (INNER / _WIDTHS) ** 2)) / (
    1 - np.exp(-0.5 * (OUTER / _WIDTHS) ** 2)
)
_FWHM: Final = 2 * np.sqrt(2 * np.log(2.0))


def seeing(inner: ArrayLike, outer: ArrayLike) -> NDArray[np.float64]:
    """Full width at half maximum of the Gaussian with such light in two apertures."""
    inner, outer = np.asarray(inner, np.float64), np.asarray(outer, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(outer > 0, inner / outer, np.nan)
    return np.asarray(_FWHM * PIXEL_SCALE * np.interp(-share, -_SHARE, _WIDTHS))


def told(table: Table, bands: str) -> NDArray[np.float64]:
    """Read the seeing that a table tells: (n, band) arcsec; NaN where it is not told."""
    found = np.full((len(table), len(bands)), np.nan)
    for i, band in enumerate(bands):
        if f"seeing_{band}" in table.colnames:
            found[:, i] = np.asarray(table[f"seeing_{band}"], dtype=np.float64)
    return found
