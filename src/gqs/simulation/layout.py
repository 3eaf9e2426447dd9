"""Layout of a simulated survey: its fields on the sky, and the sources of each field."""

from __future__ import annotations

from typing import Final

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from gqs.errors import UsageError
from gqs.simulation import population
from gqs.simulation.conditions import FieldConditions, Pointing
from gqs.simulation.population import Mix
from gqs.surveys import sdss
from gqs.surveys.sdss import PIXEL_SCALE, FieldId

FIRST_RUN: Final = 60001  # beyond SDSS's runs, the last of which is 8162
FIRST_FIELD: Final = 11
FIELDS_A_RUN: Final = 12  # by default: two in each camera column
ROWS_A_FIELD: Final = 1361  # by which a run's fields follow each other; frames overlap by 128
_MARGIN: Final = 60  # pixels around the frame whose sources still contribute light


def plan(n_fields: int, fields_a_run: int = FIELDS_A_RUN) -> list[FieldId]:
    """Names of a survey's fields: each run on its own stripe, six columns, every other field.

    Consecutive fields of a column overlap by 128 rows, so only every other one is used.
    """
    if n_fields < 1 or not 1 <= fields_a_run <= 400:
        raise UsageError(
            f"{n_fields} fields, {fields_a_run} a run: give at least one, and at most 400 a run."
        )
    if n_fields > 27 * 5 * fields_a_run:
        raise UsageError(
            f"{n_fields} fields at {fields_a_run} a run: at most "
            f"{27 * 5 * fields_a_run} fit on the survey's 27 stripes. Use more fields per run."
        )
    fields = []
    for index in range(n_fields):
        run, place = divmod(index, fields_a_run)
        row, column = divmod(place, 6)
        fields.append(FieldId(FIRST_RUN + run, column + 1, FIRST_FIELD + 2 * row))
    return fields


def place(field: FieldId) -> Pointing:
    """Position of a field on the sky; fields do not overlap."""
    run = field.run - FIRST_RUN
    stripe = 10 + (7 * run) % 27  # 7 and 27 share no factor, so every stripe is used
    nu = (field.camcol - 3.5) * 0.4197 + 0.1029
    mu = 140.0 + 12.0 * (run // 27) + field.field * ROWS_A_FIELD * PIXEL_SCALE / 3600
    return Pointing(stripe, "N", mu, nu)


def stream(seed: int, index: int, what: int) -> np.random.Generator:
    """Random generator for one purpose (`what`) in one field, independent of all others."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, what)))


def scatter(
    field: FieldId,
    conditions: FieldConditions,
    mix: Mix,
    own: Table | None,
    who: np.random.Generator,
    where: np.random.Generator,
) -> Table:
    """Draw a field's sources and their positions on the r frame and around it."""
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
    """Pixel positions (x, y) of sources on each band's own grid."""
    ra, dec = np.asarray(sources["ra"]), np.asarray(sources["dec"])
    return {b: tuple(conditions.bands[b].wcs.all_world2pix(ra, dec, 0)) for b in bands}
