"""Seeing of a field, band by band, from its own stars."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import sep
from astropy.table import Table
from numpy.typing import NDArray

from gqs.imaging.align import BandStack
from gqs.survey.sdss import REFERENCE_BAND
from gqs.survey.seeing import INNER, OUTER, seeing
from gqs.tables import Flag

FEWEST: Final = 5  # stars from which a median is taken
SIGNAL: Final = 40.0  # of a star's light within 5 pixels, in sigmas
_STEP: Final = 0.08  # arcsec: bins in which the crowd of stars is looked for
_NEAR: Final = 0.12  # arcsec from its middle


class Stars(NamedTuple):
    """Which of a field's sources are stars, as their widths show it.

    Attributes
    ----------
    chosen : ndarray
        (n,) bool: single, whole, and in the crowd of the narrowest widths in r.
    widths : ndarray
        (band, n) arcsec, as `gqs.survey.seeing` defines it; NaN where a band shows too little.
    """

    chosen: NDArray[np.bool_]
    widths: NDArray[np.float64]


def field_seeing(stack: BandStack, sources: Table) -> NDArray[np.float64]:
    """Measure the seeing in every band of a field.

    Parameters
    ----------
    stack : BandStack
        The field, r among its bands.
    sources : Table
        As `gqs.imaging.detect.detect` finds them.

    Returns
    -------
    ndarray
        (band,) arcsec, as `gqs.survey.seeing` defines it; NaN where fewer than five stars tell.
    """
    return seeing_of(field_stars(stack, sources))


def seeing_of(stars: Stars) -> NDArray[np.float64]:
    """Each band's seeing: the median of the stars that it shows well.

    Parameters
    ----------
    stars : Stars
        Of a field.

    Returns
    -------
    ndarray
        (band,) arcsec; NaN where fewer than five stars tell.
    """
    found = np.full(len(stars.widths), np.nan)
    for i, widths in enumerate(stars.widths):
        own = widths[stars.chosen & np.isfinite(widths)]
        if len(own) >= FEWEST:
            found[i] = np.median(own)
    return found


def field_stars(stack: BandStack, sources: Table) -> Stars:
    """Find the stars of a field: no galaxy is narrower than they, and their widths agree.

    Parameters
    ----------
    stack : BandStack
        The field, r among its bands.
    sources : Table
        As `gqs.imaging.detect.detect` finds them.

    Returns
    -------
    Stars
        In the order of `sources`.
    """
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
