"""Offsets between the stars of two bands."""

from __future__ import annotations

from typing import Final

import numpy as np
import sep
from numpy.typing import NDArray

from gqs.imaging.frames import Frame

Positions = NDArray[np.float64]  # (n, 2): x, y in 0-based pixels

THRESHOLD: Final = 25.0  # sky sigmas: centroids are accurate to some hundredths of a pixel
MOST: Final = 300  # brightest stars that are used
REACH: Final = 60.0  # pixels, largest offset that is searched
NEAR: Final = 1.5  # pixels, largest separation of a matched pair
FEWEST: Final = 6
_ROUND: Final = 0.6  # least axis ratio of a star: the PSF itself goes down to 0.75


def star_positions(frame: Frame, noise: float) -> Positions:
    """Windowed centroids of a frame's bright, round, unsaturated sources, (n, 2) x and y in its own
    pixels, brightest first (as SExtractor's XWIN and YWIN).
    """
    flux = np.where(frame.bad, np.float32(0), frame.flux)
    sep.set_extract_pixstack(max(flux.size // 2, 300_000))
    try:
        found = sep.extract(
            flux,
            THRESHOLD * noise,
            minarea=9,
            filter_kernel=None,
            deblend_nthresh=1,
            deblend_cont=1.0,
            clean=False,
        )
    except Exception:  # sep overflows if the whole frame is a source
        return np.empty((0, 2))
    ny, nx = flux.shape
    good = (found["b"] > _ROUND * found["a"]) & (found["a"] < 6)
    good &= (found["xmin"] > 3) & (found["xmax"] < nx - 4)
    good &= (found["ymin"] > 3) & (found["ymax"] < ny - 4)
    rows, columns = found["ypeak"], found["xpeak"]
    good &= ~frame.saturated[rows, columns]
    found = found[good]
    found = found[np.argsort(-found["flux"])][:MOST]
    if not len(found):
        return np.empty((0, 2))
    x, y, flag = sep.winpos(flux, found["x"], found["y"], np.full(len(found), 1.7))
    steady = np.hypot(x - found["x"], y - found["y"]) < 1.0
    return np.asarray(np.column_stack([x, y])[steady & (flag & sep.APER_TRUNC == 0)])


def shift_between(reference: Positions, moved: Positions) -> tuple[float, float, int] | None:
    """Offset (x, y) between two sets of stars and the number of pairs, without identifications.

    The offsets of all pairs within 60 px are counted in cells of 2 px; the fullest cell gives the
    offset, and the median of the pairs near it refines it.
    """
    if min(len(reference), len(moved)) < FEWEST:
        return None
    offsets = (moved[:, None] - reference[None]).reshape(-1, 2)
    offsets = offsets[(np.abs(offsets) < REACH).all(axis=1)]
    edges = np.arange(-REACH, REACH + 1, 2.0)
    counts = np.histogram2d(offsets[:, 0], offsets[:, 1], bins=(edges, edges))[0]
    # Sums of adjacent cells, so that a peak on the border of two cells is not split.
    sums = counts[:-1, :-1] + counts[1:, :-1] + counts[:-1, 1:] + counts[1:, 1:]
    i, j = np.unravel_index(np.argmax(sums), sums.shape)
    centre = np.array([edges[i + 1], edges[j + 1]])
    chance = float(sums.mean())
    if sums[i, j] < max(FEWEST, chance + 5 * np.sqrt(chance) + 3):
        return None
    for reach in (2 * NEAR, NEAR):
        near = offsets[np.hypot(*(offsets - centre).T) < reach]
        if len(near) < FEWEST:
            return None
        centre = np.median(near, axis=0)
    return float(centre[0]), float(centre[1]), len(near)
