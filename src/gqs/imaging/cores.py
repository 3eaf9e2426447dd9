"""Saturated stars and cosmic rays, recognised by the cores of sources.

SDSS's photo interpolates over saturated pixels, and the frames contain the interpolated values, so
saturation is not visible in the values but in the shape: an interpolated core is flat, and uneven
enough that deblending may split one star into several sources.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import sep
from numpy.typing import NDArray
from scipy import ndimage

from gqs.imaging.align import BandStack
from gqs.surveys.sdss import REFERENCE_BAND

BRIGHT: Final = 1500.0  # nanomaggies: r of 14.6, above which stars saturate
_PIECE: Final = 0.15 * BRIGHT  # least flux of a piece of a split star
_WIDTH: Final = 20.0  # pixels, largest distance between pieces
# Flux half way between two pieces, relative to the fainter: two stars so close would be merged.
_NO_VALLEY: Final = 0.45
# Nanomaggies per pixel, 18.0 mag per square arcsecond: the least that interpolation leaves, and
# more than galaxies with a flat core or two knots have.
_SURFACE: Final = 10.0
_APERTURES: Final = (1.5, 3.0, 8.0)  # pixels
_FIRST: Final = "gri"  # stars that saturate in u or z saturate here first
_FLAT: Final = 0.85  # flux within 1.5 px over that within 3 px, relative to the field's stars
_TOPPED: Final = 630.0  # nanomaggies within 8 px, 15.5 mag: what may remain of a star of 14 mag
_MEASURED: Final = 25.0  # nanomaggies within 8 px, 19 mag
_FEWEST: Final = 5
# On real frames noise makes no star of such signal 1.5 times as sharp; cosmic rays exceed 2.
_SHARP: Final = 1.6
_SIGNAL: Final = 30.0  # flux within 3 px, in sigmas of a pixel


def join_pieces(
    flux: NDArray[np.float32], found: NDArray[Any], saturated: NDArray[np.bool_]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Merge the detections of each star whose saturated core was split."""
    whole, full, keep = found.copy(), saturated.copy(), np.ones(len(found), dtype=bool)
    order = np.argsort(-found["flux"], kind="stable")
    bright = order[found["flux"][order] > _PIECE]
    for at, star in enumerate(bright):
        if not keep[star]:
            continue
        pieces = [star]
        for other in bright[at + 1 :]:
            ends = np.array([[found[name][one] for name in ("y", "x")] for one in (star, other)])
            if not keep[other] or np.hypot(*(ends[1] - ends[0])) > _WIDTH:
                continue
            light = ndimage.map_coordinates(flux, np.linspace(ends[0], ends[1], 15).T, order=1)
            if light.min() > max(_NO_VALLEY * min(light[0], light[-1]), _SURFACE):
                pieces.append(other)
        if len(pieces) > 1:
            shares = found["flux"][pieces]
            for name in ("x", "y"):
                whole[name][star] = np.average(found[name][pieces], weights=shares)
            whole["flux"][star], whole["npix"][star] = shares.sum(), found["npix"][pieces].sum()
            full[star], keep[pieces[1:]] = True, False
    return whole[keep], full[keep]


def flat_and_sharp(
    stack: BandStack, x: NDArray[Any], y: NDArray[Any]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which sources are flatter (saturated), and which sharper (cosmic rays), than the stars."""
    flat, sharp = np.zeros((2, len(x)), dtype=bool)
    for band, plane, covered, noise in zip(
        stack.bands, stack.flux, stack.covered, stack.noise, strict=True
    ):
        filled = np.ascontiguousarray(np.where(covered, plane, np.float32(0)), dtype=np.float32)
        core, middle, whole = (sep.sum_circle(filled, x, y, r, subpix=5)[0] for r in _APERTURES)
        peaked = np.divide(core, middle, out=np.zeros_like(core), where=middle > 0)
        usual = (whole > _MEASURED) & (whole < _TOPPED)
        if usual.sum() < _FEWEST:
            continue
        # The upper quartile of stars and galaxies together is typical of the stars.
        stars = np.percentile(peaked[usual], 75)
        surface = middle / (np.pi * _APERTURES[1] ** 2)
        if band in _FIRST:
            flat |= (whole > _TOPPED) & (surface > _SURFACE) & (peaked < _FLAT * stars)
        if band == REFERENCE_BAND:
            sharp = (middle > _SIGNAL * float(noise)) & (peaked > _SHARP * stars)
    return flat, sharp
