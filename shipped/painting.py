"""Drawn sources on real sky: noiseless light with its own photon noise, added to real pixels.

Real sky has what no simulation has: its residuals, neighbours, halos, correlated noise. Sources of
all three classes are drawn alike onto it, so that the sky itself says nothing of the class.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from astropy.table import Table

from gqs.survey.sdss import BANDS, CUTOUT_SIZE, FieldId
from gqs.survey.simulated.conditions import FieldConditions, draw_conditions
from gqs.survey.simulated.plan import place
from gqs.survey.simulated.rendering import Painter

GROUP: Final = 16  # sources of like seeing that share a profile, which costs more than its use
MARGIN: Final = 7  # pixels around a cutout into which light is drawn as well
JITTER: Final = 0.5  # pixels: largest distance of a source from the middle, along an axis
_CENTRE: Final = 24.5


def paint(
    images: np.ndarray, fwhm: np.ndarray, offset: np.ndarray, sources: Table, seed: int
) -> np.ndarray:
    """Draw one source onto the middle of each piece of sky.

    Parameters
    ----------
    images : ndarray
        (n, 5, 50, 50) nanomaggies, without a source in the middle; NaN stays NaN.
    fwhm : ndarray
        (n, 5) seeing in u g r i z, arcsec, as `gqs.survey.seeing` defines it.
    offset : ndarray
        (n, 5, 2): x and y by which each band's image lies off r's, pixels.
    sources : Table
        n rows, as `gqs.survey.simulated.population` gives them.
    seed : int
        Of photon noise, of where in its pixel a source lies, and of the profile's shape.

    Returns
    -------
    ndarray
        (n, 5, 50, 50) float32.
    """
    rng = np.random.default_rng([seed, 7])
    out = images.astype(np.float32, copy=True)
    size = CUTOUT_SIZE + 2 * MARGIN
    order = np.argsort(fwhm[:, BANDS.index("r")])
    for start in range(0, len(order), GROUP):
        rows = order[start : start + GROUP]
        conditions = _conditions(np.median(fwhm[rows], axis=0), rng)
        canvases = {band: np.zeros((len(rows), size, size), np.float32) for band in BANDS}
        middle = MARGIN + _CENTRE + rng.uniform(-JITTER, JITTER, (len(rows), 2))
        at = {band: tuple((middle + offset[rows, i]).T) for i, band in enumerate(BANDS)}
        ny, nx = conditions.shape
        where = rng.uniform(0, nx, len(rows)), rng.uniform(0, ny, len(rows))
        Painter(conditions).paint(canvases, sources[rows], where, at, np.arange(len(rows)))
        for i, band in enumerate(BANDS):
            own = conditions.bands[band]
            light = canvases[band][:, MARGIN:-MARGIN, MARGIN:-MARGIN]
            photons = np.maximum(light, 0) / own.nmgy * own.gain
            noise = rng.standard_normal(light.shape, dtype=np.float32) * np.sqrt(photons)
            out[rows, i] += light + noise * np.float32(own.nmgy / own.gain)
    return out


def _conditions(fwhm: np.ndarray, rng: np.random.Generator) -> FieldConditions:
    """Conditions of a simulated field with this sky's point-spread function."""
    field = FieldId(3918, 3, int(rng.integers(11, 800)))
    drawn = draw_conditions(field, place(field), rng)
    bands = {}
    for band, width in zip(BANDS, fwhm.tolist(), strict=True):
        own = drawn.bands[band]
        # The profile whose stars show this seeing; its own width is in pixels of another measure.
        scale = width / own.psf.seeing * float(np.exp(0.02 * rng.standard_normal()))
        psf = replace(own.psf, fwhm=own.psf.fwhm * scale)
        bands[band] = replace(own, psf=psf)
    return replace(drawn, bands=bands)
