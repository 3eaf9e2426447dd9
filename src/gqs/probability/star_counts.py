"""Star counts per square degree and magnitude in any direction (Bahcall & Soneira 1980, B1)."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import tables

Array = NDArray[np.float64]

TABLE: Final = Path(__file__).with_suffix(".ecsv")
V_MINUS_R: Final = 0.3  # V - r of a typical star, Johnson V and SDSS r; see the table's metadata
LOWEST: Final = 20.0  # degrees of latitude below which the formula is not valid


def star_density(r: Array, longitude: Array, latitude: Array) -> Array:
    """Differential star counts, (n,) stars per square degree and magnitude."""
    v = np.asarray(r, dtype=np.float64) + V_MINUS_R
    b = np.radians(np.maximum(np.abs(latitude), LOWEST))
    cos_l = np.cos(np.radians(longitude))
    near = np.clip(v, 12.0, 20.0) - 12.0
    mu, gamma = 0.03 + 0.0075 * near, 0.36 - 0.04 * near
    disc, spheroid = (_by_magnitude(v, row) for row in (0, 1))
    disc /= (np.sin(b) * (1 - mu * cos_l / np.tan(b))) ** (3 - 5 * gamma)
    towards = np.cos(b) * cos_l
    spheroid /= (1 - towards) ** (1.45 - 0.20 * towards)
    return np.asarray(disc + spheroid)


def _by_magnitude(v: Array, row: int) -> Array:
    scale, slope, bend, power, middle = (float(_constants()[row][i]) for i in range(1, 6))
    step = v - middle
    return np.asarray(scale * 10 ** (slope * step) / (1 + 10 ** (bend * step)) ** power)


@functools.cache
def _constants() -> Table:
    return tables.read(TABLE)
