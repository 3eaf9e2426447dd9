"""Seeing as stars show it: the width of a Gaussian as concentrated as they are.

How much of a star's light lies within 2 pixels, of that within 5, is what parts stars from small
galaxies, and it can be measured on a few stars in any band. So this ratio, told as the full width
at half maximum of the Gaussian that has it, stands for a frame's point-spread function.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from gqs.survey.sdss import BANDS, PIXEL_SCALE

INNER: Final = 2.0  # pixels
OUTER: Final = 5.0
COLUMNS: Final = tuple(f"seeing_{band}" for band in BANDS)  # of catalogues and stores, arcsec
_WIDTHS: Final = np.linspace(0.4, 6.0, 1121)  # sigma, pixels
_SHARE: Final = (1 - np.exp(-0.5 * (INNER / _WIDTHS) ** 2)) / (
    1 - np.exp(-0.5 * (OUTER / _WIDTHS) ** 2)
)
_FWHM: Final = 2 * np.sqrt(2 * np.log(2.0))


def seeing(inner: ArrayLike, outer: ArrayLike) -> NDArray[np.float64]:
    """Full width at half maximum of the Gaussian with such light in two apertures.

    Parameters
    ----------
    inner, outer : array_like
        Light within 2 and within 5 pixels, above the sky, in one unit.

    Returns
    -------
    ndarray
        Arcsec, from 0.4 to 5.6; NaN where there is no light.
    """
    inner, outer = np.asarray(inner, np.float64), np.asarray(outer, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(outer > 0, inner / outer, np.nan)
    return np.asarray(_FWHM * PIXEL_SCALE * np.interp(-share, -_SHARE, _WIDTHS))


def told(table: Table, bands: str) -> NDArray[np.float64]:
    """Read the seeing that a table tells.

    Parameters
    ----------
    table : Table
        With `seeing_u` and so on, where it was measured.
    bands : str
        Which bands are wanted.

    Returns
    -------
    ndarray
        (n, band) arcsec; NaN where it is not told.
    """
    found = np.full((len(table), len(bands)), np.nan)
    for i, band in enumerate(bands):
        if f"seeing_{band}" in table.colnames:
            found[:, i] = np.asarray(table[f"seeing_{band}"], dtype=np.float64)
    return found
