"""What the cores of sources tell: saturated stars, cosmic rays.

SDSS's photo interpolates over saturated pixels, and the frames keep what it wrote there: no value
gives them away. Their shape does. A top that was interpolated is flat, and uneven enough for
deblending to make several sources of one star.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import sep
from numpy.typing import NDArray
from scipy import ndimage

from gqs.imaging.align import BandStack
from gqs.surveys.sdss import REFERENCE_BAND

BRIGHT: Final = 1500.0  # nanomaggies: r of 14.6, from which stars saturate
_PIECE: Final = 0.15 * BRIGHT  # what each piece of a star that fell apart has at least
_WIDTH: Final = 20.0  # pixels from piece to piece
# Light half way from piece to piece, of the fainter's: two stars so near would be one detection.
_NO_VALLEY: Final = 0.45
# Nanomaggies a pixel, 18.0 mag a square arcsecond: what interpolation leaves at the least, and more
# than galaxies have that are flat over 3 px or have two knots.
_SURFACE: Final = 10.0
_APERTURES: Final = (1.5, 3.0, 8.0)  # pixels
_FIRST: Final = "gri"  # what saturates in u or z has long done so here
_FLAT: Final = 0.85  # light within 1.5 of that within 3 px, of what the field's stars have
_TOPPED: Final = 630.0  # nanomaggies within 8 px, 15.5 mag: what may be left of a star of 14
_MEASURED: Final = 25.0  # nanomaggies within 8 px, 19 mag
_FEWEST: Final = 5
# On real frames noise makes no star of such signal half as sharp again; cosmic rays are over twice.
_SHARP: Final = 1.6
_SIGNAL: Final = 30.0  # light within 3 px, in sigmas of a pixel


def join_pieces(
    flux: NDArray[np.float32], found: NDArray[Any], saturated: NDArray[np.bool_]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Make one star again of the pieces of each flat top."""
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


def judge_cores(
    stack: BandStack, x: NDArray[Any], y: NDArray[Any]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Compare how peaked sources are with the field's stars."""
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
        # Of stars and galaxies together, the upper quarter's edge is where the stars are.
        stars = np.percentile(peaked[usual], 75)
        surface = middle / (np.pi * _APERTURES[1] ** 2)
        if band in _FIRST:
            flat |= (whole > _TOPPED) & (surface > _SURFACE) & (peaked < _FLAT * stars)
        if band == REFERENCE_BAND:
            sharp = (middle > _SIGNAL * float(noise)) & (peaked > _SHARP * stars)
    return flat, sharp
