"""Drawn sources on real sky: noiseless light with its own photon noise, added to real pixels.

Real sky has what no simulation has: its residuals, neighbours, halos, correlated noise. Sources of
all three classes are drawn alike onto it, so that the sky itself says nothing of the class.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from astropy.table import Table

from gqs.simulation.conditions import FieldConditions, draw_conditions
from gqs.simulation.layout import place
from gqs.simulation.profiles import Psf
from gqs.simulation.rendering import Painter
from gqs.surveys.sdss import BANDS, CUTOUT_SIZE, FieldId

GROUP: Final = 16  # sources of like seeing that share a profile, which costs more than its use
MARGIN: Final = 7  # pixels around a cutout into which light is drawn as well
JITTER: Final = 0.5  # pixels: largest distance of a source from the middle, along an axis
VARIES: Final = 0.02  # of the seeing over a field, relative
STEPS: Final = 8  # after which a profile is as wide as wanted, or as narrow as one can be
_CENTRE: Final = 24.5


def paint(
    images: np.ndarray, fwhm: np.ndarray, offset: np.ndarray, sources: Table, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one source onto the middle of each piece of sky.

    Parameters
    ----------
    images : ndarray
        (n, 5, 50, 50) nanomaggies, without a source in the middle; NaN stays NaN.
    fwhm : ndarray
        (n, 5) seeing in u g r i z, arcsec, as `gqs.imaging.seeing` defines it.
    offset : ndarray
        (n, 5, 2): x and y by which each band's image lies off r's, pixels.
    sources : Table
        n rows, as `gqs.simulation.population` gives them.
    seed : int
        Of photon noise, of where in its pixel a source lies, and of the profile's shape.

    Returns
    -------
    images : ndarray
        (n, 5, 50, 50) float32.
    seeing_arcsec : ndarray
        (n, 5) seeing of the field, arcsec: as requested, if a profile can be as narrow.
    """
    rng = np.random.default_rng([seed, 7])
    out, seeing_arcsec = images.astype(np.float32, copy=True), np.empty(fwhm.shape)
    size = CUTOUT_SIZE + 2 * MARGIN
    order = np.argsort(fwhm[:, BANDS.index("r")])
    for start in range(0, len(order), GROUP):
        rows = order[start : start + GROUP]
        conditions, seeing_arcsec[rows] = _conditions(np.median(fwhm[rows], axis=0), rng)
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
    return out, seeing_arcsec


def _conditions(fwhm: np.ndarray, rng: np.random.Generator) -> tuple[FieldConditions, list[float]]:
    """Conditions of a simulated field with this sky's point-spread function, and its seeing."""
    field = FieldId(3918, 3, int(rng.integers(11, 800)))
    drawn = draw_conditions(field, place(field), rng)
    bands, seeing_arcsec = {}, []
    for band, width in zip(BANDS, fwhm.tolist(), strict=True):
        own, varies = drawn.bands[band], float(np.exp(VARIES * rng.standard_normal()))
        bands[band] = replace(own, psf=_as_wide(own.psf, width * varies))
        seeing_arcsec.append(bands[band].psf.seeing / varies)
    return replace(drawn, bands=bands), seeing_arcsec


def _as_wide(psf: Psf, wanted: float) -> Psf:
    """Profile whose stars have a seeing, found iteratively, as wings do not grow with the core."""
    for _ in range(STEPS):
        psf = replace(psf, fwhm=psf.fwhm * wanted / psf.seeing)
    return psf
