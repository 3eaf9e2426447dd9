"""Sources on one field: who is there, and where each lies on every band's own grid."""

from __future__ import annotations

from typing import Final

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from gqs.simulation import population
from gqs.simulation.conditions import FieldConditions
from gqs.simulation.population import Mix
from gqs.surveys import sdss
from gqs.surveys.sdss import PIXEL_SCALE, FieldId

_MARGIN: Final = 60  # pixels around the frame whose sources may still shine onto it


def scatter(
    field: FieldId,
    conditions: FieldConditions,
    mix: Mix,
    own: Table | None,
    who: np.random.Generator,
    where: np.random.Generator,
) -> Table:
    """Draw a field's sources and their places: on the r frame and around it."""
    ny, nx = conditions.shape
    area = (ny + 2 * _MARGIN) * (nx + 2 * _MARGIN) * (PIXEL_SCALE / 3600) ** 2
    sources = population.sky(area, who, mix)
    x = where.uniform(-_MARGIN, nx + _MARGIN, len(sources))
    y = where.uniform(-_MARGIN, ny + _MARGIN, len(sources))
    if own is not None:
        sources["in_catalog"] = False
        sources["row"] = np.full(len(sources), -1)
        x = np.concatenate([where.uniform(0, nx - 1, len(own)), x])
        y = np.concatenate([where.uniform(0, ny - 1, len(own)), y])
        sources = vstack([own, sources], metadata_conflicts="silent")
    inside = (x >= 0) & (x <= nx - 1) & (y >= 0) & (y <= ny - 1)
    ra, dec = conditions.bands["r"].wcs.all_pix2world(x, y, 0)
    sources["in_catalog"] = np.asarray(sources["in_catalog"], bool) & inside
    sources["objid"] = sdss.photo_objid(field, np.arange(len(sources)))
    for name, value in zip(("run", "camcol", "field"), field, strict=True):
        sources[name] = np.full(len(sources), value, np.int64)
    sources["ra"], sources["dec"], sources["x"], sources["y"] = ra, dec, x, y
    sources["in_frame"] = inside
    return sources


def band_positions(
    conditions: FieldConditions, sources: Table, bands: str
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Where sources fall on each band's own grid."""
    ra, dec = np.asarray(sources["ra"]), np.asarray(sources["dec"])
    return {b: tuple(conditions.bands[b].wcs.all_world2pix(ra, dec, 0)) for b in bands}
