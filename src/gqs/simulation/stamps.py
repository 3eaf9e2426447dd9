"""Cutouts rendered directly, for training sets of many objects without whole frames.

Each object has its own cell in every band, which is rendered, exposed, saturated and rounded like a
frame, on the band's native pixels. The cells are then resampled to the r grid by an affine
transformation and a cubic spline, as `gqs.imaging.align` does, so that noise is smoothed alike.
Objects are grouped into fields that share their conditions, so that splits by field are meaningful.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy import ndimage

from gqs import files
from gqs.simulation import population
from gqs.simulation.conditions import (
    SKY_SHAPE,
    BandConditions,
    FieldConditions,
    draw_conditions,
    smooth_surface,
)
from gqs.simulation.exposure import calibrated, noisy_counts, saturate
from gqs.simulation.layout import FIELDS_A_RUN, FIRST_FIELD, FIRST_RUN, place, stream
from gqs.simulation.population import Mix
from gqs.simulation.rendering import Painter
from gqs.surveys import sdss
from gqs.surveys.sdss import (
    CUTOUT_SIZE,
    FRAME_SHAPE,
    PIXEL_SCALE,
    REFERENCE_BAND,
    SATURATION,
    FieldId,
)
from gqs.tables import Flag

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

OBJECTS_A_FIELD: Final = 128
CELL: Final = 64  # pixels a side: the cutout, its resampling and room for a bleed
_NEAR: Final = 36.0  # pixels from an object within which faint neighbours show in its cutout
_FAR: Final = 75.0  # and bright ones, by their wings
_BRIGHT: Final = 20.5  # r magnitude
_EDGE: Final = 50  # pixels: no cell of any band reaches over the frame's edge
_RUNS: Final = 5535  # from FIRST_RUN to the last that an objid can hold


def render_cutouts(
    sources: Table,
    seed: int,
    bands: str = sdss.BANDS,
    *,
    first_field: int | None = None,
    neighbours: Mix | None = None,
) -> Iterator[tuple[Floats, Table]]:
    """Render sources as cutouts, a field's worth at a time."""
    bands = sdss.check_bands(bands)
    for number, start in enumerate(range(0, len(sources), OBJECTS_A_FIELD)):
        index = number if first_field is None else first_field + number
        field = _field_of(seed, number) if first_field is None else _planned(index)
        rng = stream(seed, index, 20)
        conditions = draw_conditions(field, place(field), stream(seed, index, 0))
        part = sources[start : start + OBJECTS_A_FIELD]
        yield _field_cutouts(part, conditions, bands, rng, neighbours or Mix())


def _planned(index: int) -> FieldId:
    """Return the field of a number, as `fields.plan` would name it."""
    run, at = divmod(index, FIELDS_A_RUN)
    row, column = divmod(at, 6)
    return FieldId(FIRST_RUN + run % _RUNS, column + 1, FIRST_FIELD + 2 * row)


def _field_of(seed: int, number: int) -> FieldId:
    """Return a field on a stretch of sky that the seed chooses."""
    run, stretch = np.random.SeedSequence(seed, spawn_key=(21,)).generate_state(2)
    row, column = divmod(number, 6)
    later = 2 * (int(stretch) % 900) + 2 * row
    return FieldId(FIRST_RUN + int(run) % _RUNS, column + 1, (FIRST_FIELD + later) % 4096)


@dataclass(frozen=True)
class _Band:
    """How one band sees the cells of a field."""

    conditions: BandConditions
    matrix: Doubles  # (2, 2) and offset (2,): from r pixels to this band's
    offset: Doubles
    origin: NDArray[np.intp]  # (n, 2) x and y of each cell's first pixel


def _field_cutouts(
    sources: Table,
    conditions: FieldConditions,
    bands: str,
    rng: np.random.Generator,
    mix: Mix,
) -> tuple[Floats, Table]:
    n = len(sources)
    x, y = _places(n, rng)
    first = np.ceil(np.column_stack([x, y]) - CUTOUT_SIZE // 2).astype(np.intp)
    others, cells, around = _neighbours(n, mix, rng)
    near = x[cells] + around[0], y[cells] + around[1]
    seen = {band: _band(conditions, band, first) for band in bands}
    canvases = {band: np.zeros((n, CELL, CELL), np.float32) for band in bands}
    painter = Painter(conditions)
    own = np.arange(n)
    painter.paint(canvases, sources, (x, y), _in_cells(seen, x, y, own), own)
    painter.paint(canvases, others, near, _in_cells(seen, *near, cells), cells)
    images = np.empty((n, len(bands), CUTOUT_SIZE, CUTOUT_SIZE), np.float32)
    saturated = np.zeros(n, dtype=bool)
    for i, band in enumerate(bands):
        flux, full = _exposed(canvases[band], seen[band], rng)
        images[:, i] = _resampled(flux, seen[band], first, band)
        margin = (CELL - CUTOUT_SIZE) // 2 - 1
        saturated |= full[:, margin:-margin, margin:-margin].any(axis=(1, 2))
    return images, _rows(sources, conditions, x, y, saturated)


def _places(n: int, rng: np.random.Generator) -> tuple[Doubles, Doubles]:
    """Spread n objects over the r frame, each at a sub-pixel phase of its own and none close."""
    ny, nx = FRAME_SHAPE
    columns, rows = (nx - 2 * _EDGE) // CELL, (ny - 2 * _EDGE) // CELL
    chosen = rng.choice(columns * rows, n, replace=False)
    jitter = rng.uniform(0.05, 0.95, (2, n)) * CELL
    return (
        _EDGE + CELL * (chosen % columns) + jitter[0],
        _EDGE + CELL * (chosen // columns) + jitter[1],
    )


def _neighbours(
    n: int, mix: Mix, rng: np.random.Generator
) -> tuple[Table, NDArray[np.intp], Doubles]:
    """Draw the sky's other sources for n cells, the cell of each, and where (x, y) around it."""
    others = population.sky(n * (2 * _FAR * PIXEL_SCALE / 3600) ** 2, rng, mix)
    cells, around = rng.integers(0, n, len(others)), rng.uniform(-_FAR, _FAR, (2, len(others)))
    shows = (np.abs(around).max(axis=0) < _NEAR) | (np.asarray(others["r"]) < _BRIGHT)
    return others[shows], cells[shows], around[:, shows]


def _band(conditions: FieldConditions, band: str, first: NDArray[np.intp]) -> _Band:
    """Fit the affine from r's pixels to a band's, and place its cells around the cutouts."""
    own, reference = conditions.bands[band], conditions.bands[REFERENCE_BAND].wcs
    ny, nx = conditions.shape
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, nx - 1, 5), np.linspace(0, ny - 1, 4)))
    there = np.column_stack(own.wcs.all_world2pix(*reference.all_pix2world(x, y, 0), 0))
    fit = np.linalg.lstsq(np.column_stack([x, y, np.ones_like(x)]), there, rcond=None)[0]
    matrix, offset = fit[:2].T, fit[2]
    middle = (first + (CUTOUT_SIZE - 1) / 2) @ matrix.T + offset
    return _Band(own, matrix, offset, np.rint(middle - (CELL - 1) / 2).astype(np.intp))


def _in_cells(
    seen: dict[str, _Band], x: Doubles, y: Doubles, cells: NDArray[np.intp]
) -> dict[str, tuple[Doubles, Doubles]]:
    """Turn r pixels of the frame into every band's pixels of the cell."""
    positions = {}
    for name, band in seen.items():
        at = np.column_stack([x, y]) @ band.matrix.T + band.offset - band.origin[cells]
        positions[name] = at[:, 0], at[:, 1]
    return positions


def _exposed(
    light: Floats, band: _Band, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.bool_]]:
    """Observe all cells of a band as a frame is observed; also where they are saturated."""
    own, x = band.conditions, band.origin[:, 0]
    calibration = own.calibration[x[:, None] + np.arange(CELL)][:, None, :]
    sky = _sky_in_cells(own.sky, band.origin)
    residual = _sky_in_cells(smooth_surface(own.residual, SKY_SHAPE), band.origin)
    counts = noisy_counts(light / calibration, sky + residual, own, rng)
    for k in np.flatnonzero(counts.max(axis=(1, 2)) > own.full_well):
        saturate(counts[k], own.full_well, rng)
    return calibrated(counts, sky, calibration), counts >= SATURATION


def _sky_in_cells(coarse: Floats, origin: NDArray[np.intp]) -> Floats:
    """Sky (n, cell, cell) around the places of cells: its level and its slope there."""
    middle = (origin[:, ::-1] + CELL // 2) // 8  # the sky image has a step for 8 pixels
    row, column = np.clip(middle, 1, np.array(SKY_SHAPE) - 2).T
    down = (coarse[row + 1, column] - coarse[row - 1, column]) / 16
    along = (coarse[row, column + 1] - coarse[row, column - 1]) / 16
    step = np.arange(CELL, dtype=np.float32) - (CELL - 1) / 2
    level = coarse[row, column][:, None, None] + down[:, None, None] * step[:, None]
    return np.asarray(level + along[:, None, None] * step, dtype=np.float32)


def _resampled(flux: Floats, band: _Band, first: NDArray[np.intp], name: str) -> Floats:
    """Cutouts (n, 50, 50) on r's grid of a band's cells."""
    images = np.empty((len(flux), CUTOUT_SIZE, CUTOUT_SIZE), np.float32)
    starts = first @ band.matrix.T + band.offset - band.origin  # of each cutout, x and y
    if name == REFERENCE_BAND:
        for image, cell, (x, y) in zip(images, flux, np.rint(starts).astype(int), strict=True):
            image[:] = cell[y : y + CUTOUT_SIZE, x : x + CUTOUT_SIZE]
        return images
    rows_first = band.matrix[::-1, ::-1]  # scipy counts rows before columns
    for image, cell, start in zip(images, flux, starts, strict=True):
        ndimage.affine_transform(cell, rows_first, start[::-1], output=image, order=3)
    images *= np.float32(abs(np.linalg.det(band.matrix)))
    return images


def _rows(
    sources: Table,
    conditions: FieldConditions,
    x: Doubles,
    y: Doubles,
    saturated: NDArray[np.bool_],
) -> Table:
    field = conditions.field
    rows = Table()
    rows["objid"] = sdss.photo_objid(field, np.arange(len(sources)))
    for name, value in zip(("run", "camcol", "field"), field, strict=True):
        rows[name] = np.full(len(sources), value, np.int32)
    rows["ra"], rows["dec"] = conditions.bands[REFERENCE_BAND].wcs.all_pix2world(x, y, 0)
    rows["x"], rows["y"] = x, y
    for name in ("class", "redshift"):
        rows[name] = np.asarray(sources[name])
    for band, own in conditions.bands.items():
        rows[f"seeing_{band}"] = np.full(len(rows), own.psf.seeing)
    for band in sdss.BANDS:
        flux = 10 ** (-0.4 * (np.asarray(sources[band], np.float64) - sdss.ZERO_POINT))
        rows[band] = sdss.asinh_magnitude(flux, band)
    rows["flags"] = np.where(saturated, int(Flag.SATURATED), 0).astype(np.int32)
    return rows


@cache
def renderer_hash() -> str:
    """Hash of the simulator's code and tables and of the survey's description."""
    package = Path(files.__file__).parent
    paths = sorted((package / "simulation").glob("*.py"))
    paths += sorted((package / "simulation").glob("*.ecsv"))
    paths += sorted((package / "surveys").glob("sdss.*"))
    return files.hash_of([files.sha256(path) for path in paths])
