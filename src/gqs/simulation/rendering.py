"""Rendering of stars, galaxies, quasars and satellite trails in every band on the band's own grid.

Point sources are sampled from the frame's PSF, galaxies are computed in Fourier space (`profiles`).
The size of each source's stamp follows from its flux: it ends where the wings fall below a tenth of
the noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs.simulation.conditions import BandConditions, FieldConditions
from gqs.simulation.profiles import (
    Floats,
    Psf,
    bulge_transform,
    disc_transform,
    grid,
    stamp_size,
)
from gqs.surveys.sdss import PIXEL_SCALE, ZERO_POINT

Doubles = NDArray[np.float64]
Positions = tuple[Doubles, Doubles]

FLOOR: Final = 0.1  # of a pixel's noise: light below this is not followed farther out
_ZONES: Final = 5  # across the frame and along it: places that share a point-spread function
_SPIKED: Final = 300.0  # nanomaggies: fainter stars' spikes drown in the noise
# How much redder a bulge is than its disc, and a host than its quasar: ratios of their light
# against r, from colours of Kennedy et al. 2016 (bulges, discs) and Matsuoka et al. 2014 (hosts).
_BULGE_COLOUR: Final = {"u": 0.55, "g": 0.8, "r": 1.0, "i": 1.12, "z": 1.2}
_HOST_COLOUR: Final = {"u": 0.25, "g": 0.6, "r": 1.0, "i": 1.3, "z": 1.5}


class Light(NamedTuple):
    """Nanomaggies of n sources in one band, by part; each (n,)."""

    point: Doubles
    bulge: Doubles
    disc: Doubles


def flux(sources: Table, band: str) -> Doubles:
    """True flux of sources: (n,) nanomaggies."""
    return np.asarray(10 ** (-0.4 * (np.asarray(sources[band], np.float64) - ZERO_POINT)))


def split_light(sources: Table, band: str) -> Light:
    """Part each source's light into a point, a bulge and a disc, the redder ones redder."""
    total = flux(sources, band)
    extended = np.asarray(sources["class"]) == "GALAXY"
    host = _redder(np.asarray(sources["host_fraction"], np.float64), _HOST_COLOUR[band])
    host = np.where(extended, 1.0, host)
    bulge = _redder(np.asarray(sources["bulge_fraction"], np.float64), _BULGE_COLOUR[band])
    return Light(total * (1 - host), total * host * bulge, total * host * (1 - bulge))


def _redder(share: Doubles, ratio: float) -> Doubles:
    """Share of the light in another band, where its part is brighter by a ratio."""
    return np.asarray(ratio * share / (ratio * share + 1 - share))


class _Seeing:
    """A point-spread function at one place of one frame, its transforms kept."""

    def __init__(self, psf: Psf, floor: float) -> None:
        self.psf, self.floor = psf, floor
        self._transforms: dict[int, Floats] = {}

    def transform(self, size: int) -> Floats:
        """Return the transform on a grid, (size, size // 2 + 1), made once."""
        if size not in self._transforms:
            self._transforms[size] = self.psf.transform(grid(size).kx, grid(size).ky)
        return self._transforms[size]


class Painter:
    """Draws sources onto the canvases of one field's bands."""

    def __init__(self, field: FieldConditions) -> None:
        self.field = field
        self._seeing: dict[tuple[str, int, int], _Seeing] = {}

    def paint(
        self,
        canvases: Mapping[str, Floats],
        sources: Table,
        place: Positions,
        positions: Mapping[str, Positions],
        cells: NDArray[np.intp] | None = None,
    ) -> None:
        """Add sources to every band's canvas."""
        light = {band: split_light(sources, band) for band in canvases}
        zones = self._zones(place)
        names = ("bulge_radius", "disc_radius", "axis_ratio", "angle")
        shapes = np.stack([np.asarray(sources[name], np.float64) for name in names], axis=1)
        for k, (bulge_radius, disc_radius, axis_ratio, angle) in enumerate(shapes.tolist()):
            radii = (max(bulge_radius / PIXEL_SCALE, 0.02), max(disc_radius / PIXEL_SCALE, 0.02))
            shape = _Shape(*radii, axis_ratio, angle)
            for band, canvas in canvases.items():
                target = canvas if cells is None else canvas[cells[k]]
                seeing = self._seeing_in(band, *zones[k])
                x, y = (float(axis[k]) for axis in positions[band])
                point, bulge, disc = (float(part[k]) for part in light[band])
                if point > 0:
                    draw_point(target, seeing, point, x, y)
                if bulge + disc > 0:
                    draw_galaxy(target, seeing, (bulge, disc), shape, x, y)

    def _zones(self, place: Positions) -> list[tuple[int, int]]:
        """Zones of the frame, from 0 to 4 along each axis, in which places lie."""
        ny, nx = self.field.shape
        x, y = (
            np.clip((axis * _ZONES / n).astype(int), 0, _ZONES - 1)
            for axis, n in zip(place, (nx, ny), strict=True)
        )
        return list(zip(x.tolist(), y.tolist(), strict=True))

    def _seeing_in(self, band: str, i: int, j: int) -> _Seeing:
        if (band, i, j) not in self._seeing:
            own = self.field.bands[band]
            psf = own.psf_at(*((2 * k + 1) / _ZONES - 1 for k in (i, j)))
            self._seeing[band, i, j] = _Seeing(psf, FLOOR * own.noise)
        return self._seeing[band, i, j]


def draw_point(canvas: Floats, seeing: _Seeing, flux: float, x: float, y: float) -> None:
    """Add one point source."""
    psf = seeing.psf
    reach = psf.reach(flux, seeing.floor)
    x0, x1 = max(round(x) - reach, 0), min(round(x) + reach + 1, canvas.shape[1])
    y0, y1 = max(round(y) - reach, 0), min(round(y) + reach + 1, canvas.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    dx = (np.arange(x0, x1) - x).astype(np.float32)[None, :]
    dy = (np.arange(y0, y1) - y).astype(np.float32)[:, None]
    light = psf.at(dx, dy)
    if flux > _SPIKED:
        light = light + psf.spikes(dx, dy)
    canvas[y0:y1, x0:x1] += (flux * light).astype(np.float32)


def draw_galaxy(
    canvas: Floats, seeing: _Seeing, parts: tuple[float, float], shape: _Shape, x: float, y: float
) -> None:
    """Add one galaxy."""
    total, radii = sum(parts), (shape.bulge_radius, shape.disc_radius)
    size = stamp_size(total, parts[0] / total, *radii, seeing.psf, seeing.floor)
    x0, y0 = math.floor(x) - size // 2, math.floor(y) - size // 2
    ny, nx = canvas.shape
    if x0 >= nx or y0 >= ny or x0 + size <= 0 or y0 + size <= 0:
        return
    bulge, disc = shape.transforms(size)
    transform = np.float32(parts[0]) * bulge + np.float32(parts[1]) * disc
    add(canvas, grid(size).image(transform, seeing.transform(size), x - x0, y - y0), x0, y0)


class _Shape:
    """A galaxy's form, its transforms kept from band to band."""

    def __init__(
        self, bulge_radius: float, disc_radius: float, axis_ratio: float, angle: float
    ) -> None:
        self.bulge_radius, self.disc_radius = bulge_radius, disc_radius
        self._ellipse = axis_ratio, angle
        self._transforms: dict[int, tuple[Floats, Floats]] = {}

    def transforms(self, size: int) -> tuple[Floats, Floats]:
        """Return bulge and disc of unit light on a grid, (size, size // 2 + 1) each."""
        if size not in self._transforms:
            k2 = grid(size).ellipse(*self._ellipse)
            bulge = bulge_transform(k2 * np.float32(self.bulge_radius**2))
            disc = disc_transform(k2 * np.float32(self.disc_radius**2))
            self._transforms[size] = bulge, disc
        return self._transforms[size]


def add(canvas: Floats, stamp: Floats, x0: int, y0: int) -> None:
    """Add what of a stamp lies on a canvas."""
    ny, nx = canvas.shape
    h, w = stamp.shape
    left, right = max(x0, 0), min(x0 + w, nx)
    low, high = max(y0, 0), min(y0 + h, ny)
    if left < right and low < high:
        canvas[low:high, left:right] += stamp[low - y0 : high - y0, left - x0 : right - x0]


def add_trail(
    canvas: Floats,
    conditions: BandConditions,
    probability: float,
    rng: np.random.Generator,
) -> int:
    """Draw a satellite's trail with some probability; in one band, since bands follow in time."""
    chance, angle, brightness = rng.random(), rng.uniform(0, math.pi), rng.uniform(math.log(1.5), 4)
    ny, nx = canvas.shape
    x0, y0 = rng.uniform(0, nx), rng.uniform(0, ny)
    if chance >= probability:
        return 0
    # Out of focus, since it is near: a flat top a few pixels wide through the seeing.
    width = max(conditions.psf.sigma * 1.3, 1.5)
    crest = conditions.noise * math.exp(brightness)
    y, x = np.arange(ny, dtype=np.float32)[:, None], np.arange(nx, dtype=np.float32)[None, :]
    across = (x - x0) * math.sin(angle) - (y - y0) * math.cos(angle)
    near = np.abs(across) < 5 * width
    canvas[near] += crest * np.exp(-0.5 * (across[near] / width) ** 2)
    return 1
