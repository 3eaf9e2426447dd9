"""Observing conditions of a field: seeing, sky, calibration, astrometry.

The ranges are those of real fields of runs 1035, 1043, 3918 and 7264. Great circles: Stoughton et
al. 2002, section 3.2.2; camera: Gunn et al. 1998.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from gqs.simulation.profiles import Psf
from gqs.surveys.sdss import BANDS, FRAME_SHAPE, PIXEL_SCALE, FieldId, dark_variance, gain

Floats = NDArray[np.float32]

SKY_SHAPE: Final = (192, 256)  # of the sky image in HDU 2
NODE: Final = 95.0  # right ascension of the survey's ascending node, degrees

# Range of sky noise, nanomaggies per pixel.
_NOISE: Final = {
    "u": (0.0402, 0.0528),
    "g": (0.0162, 0.0238),
    "r": (0.0232, 0.0308),
    "i": (0.0372, 0.0508),
    "z": (0.1602, 0.1898),
}
# Range of calibration, nanomaggies per count.
_NMGY: Final = {
    "u": (0.0066, 0.0118),
    "g": (0.0035, 0.0041),
    "r": (0.0047, 0.0053),
    "i": (0.0064, 0.0070),
    "z": (0.0227, 0.0376),
}
# Range of sky level, counts, for which noise and calibration are consistent.
_SKY_COUNTS: Final = {"u": (6, 60), "g": (35, 110), "r": (70, 220), "i": (110, 300), "z": (45, 260)}
# Seeing relative to r: it decreases slowly with wavelength (Fried 1966: power -0.2), and the optics
# increase it in the blue.
_SEEING_RATIO: Final = {"u": 1.12, "g": 1.08, "r": 1.0, "i": 0.95, "z": 0.93}
# Offset of each band's grid from r, pixels: mean and scatter in x, mean and scatter in y.
_OFFSET: Final = {
    "u": (-1.0, 2.6, -6.3, 1.6),
    "g": (-0.8, 2.6, -10.3, 1.1),
    "r": (0.0, 0.0, 0.0, 0.0),
    "i": (-0.4, 2.0, -2.9, 0.5),
    "z": (-0.3, 2.2, -7.1, 0.5),
}
_OFFSET_LIMIT: Final = (6.0, 12.0)


@dataclass(frozen=True)
class Pointing:
    """Position of a field: the great circle of its scan, and coordinates along it."""

    stripe: int  # number of the survey's stripe, 10 to 36
    strip: str  # N or S
    mu: float  # great-circle coordinates of the field's centre, degrees
    nu: float

    @property
    def inclination(self) -> float:
        """Inclination of the great circle, degrees."""
        return 2.5 * (self.stripe - 10)


@dataclass(frozen=True)
class BandConditions:
    """Observing conditions of one CCD."""

    band: str  # one of u g r i z
    psf: Psf  # point-spread function in the middle of the frame, pixel included
    # (3, 3): change of width (relative) and of both ellipticities with x, x^2 and y, each from -1
    # to 1 over the frame
    drift: NDArray[np.float64]
    noise: float  # sky and read noise of a pixel, nanomaggies
    calibration: Floats  # (nx,) float32, nanomaggies a count
    sky: Floats  # (192, 256) float32, counts: the sky that the pipeline subtracted
    residual: NDArray[np.float64]  # (4, 5) coefficients in counts of what it failed to subtract
    gain: float  # electrons a count; counts squared; counts
    dark_variance: float
    full_well: float
    wcs: WCS  # of this band's own grid, 0-based pixels to ICRS

    def psf_at(self, x: float, y: float) -> Psf:
        """Point-spread function at a place on the frame."""
        width, e1, e2 = self.drift @ [x, x * x - 1 / 3, y]
        e = _limited(np.array([self.psf.e1 + e1, self.psf.e2 + e2]))
        return replace(self.psf, fwhm=self.psf.fwhm * (1 + width), e1=e[0], e2=e[1])

    @property
    def nmgy(self) -> float:
        """Mean calibration, nanomaggies a count."""
        return float(self.calibration.mean())


@dataclass(frozen=True)
class FieldConditions:
    """Observing conditions of one field in every band."""

    field: FieldId  # run, camera column and field
    pointing: Pointing  # where it lies
    shape: tuple[int, int]  # (ny, nx) of each frame
    bands: dict[str, BandConditions]  # in the order u g r i z


def draw_conditions(
    field: FieldId,
    pointing: Pointing,
    rng: np.random.Generator,
    shape: tuple[int, int] = FRAME_SHAPE,
) -> FieldConditions:
    """Draw the conditions of a field."""
    # Seeing in r: its five-band mean lies at 1.1 to 1.9 arcsec.
    fwhm = float(np.clip(1.34 * np.exp(0.15 * rng.standard_normal()), 1.08, 1.9))
    tail = 2.0 if rng.random() < 0.12 else 1.0  # nights of poor collimation
    e = rng.normal(0, 0.038 * tail, 2)
    spikes = rng.normal(0, 6.0), tuple(rng.uniform(0.35, 1.1, 4))
    centre = _wcs(pointing, shape, (0.0, 0.0), np.zeros((2, 2)))
    bands = {}
    for band in BANDS:
        bands[band] = _band(field, band, (fwhm, e, spikes), pointing, shape, centre, rng)
    return FieldConditions(field, pointing, shape, bands)


def _band(
    field: FieldId,
    band: str,
    common: tuple[float, NDArray[np.float64], tuple[float, tuple[float, ...]]],
    pointing: Pointing,
    shape: tuple[int, int],
    r_wcs: WCS,
    rng: np.random.Generator,
) -> BandConditions:
    run, camcol, _ = field
    fwhm, e, (angle, arms) = common
    seeing = fwhm * _SEEING_RATIO[band] * float(np.exp(0.045 * rng.standard_normal()))
    own = _limited(e + rng.normal(0, 0.016, 2))
    psf = Psf(
        band,
        seeing / PIXEL_SCALE,
        own[0],
        own[1],
        angle + rng.normal(0, 1.0),
        tuple(a * rng.uniform(0.85, 1.15) for a in arms),  # type: ignore[arg-type]
    )
    # Stars of one real frame scatter in half-light radius by 1.5 % more than their noise.
    drift = rng.normal(0, 1, (3, 3)) * [[0.020, 0.012, 0.010], [0.015] * 3, [0.015] * 3]
    electrons, dark = gain(band, camcol, run), dark_variance(band, camcol, run)
    noise, nmgy, sky = _exposure(band, electrons, dark, rng)
    scale = math.sqrt(sky / electrons + dark)  # noise of the sky, counts
    residual = rng.normal(0, 0.035 * scale, (4, 5)) / (1 + np.add.outer(range(4), range(5)))
    residual[0, 0] = rng.normal(0.03, 0.04) * scale
    offset, shear = _misalignment(band, shape, rng)
    return BandConditions(
        band=band,
        psf=psf,
        drift=drift,
        noise=noise,
        calibration=_calibration(nmgy, shape[1], rng),
        sky=_sky(sky, rng),
        residual=residual,
        gain=electrons,
        dark_variance=dark,
        full_well=float(rng.uniform(52_500, 58_000)),
        wcs=r_wcs if band == "r" else _wcs(pointing, shape, offset, shear),
    )


def _limited(e: NDArray[np.float64]) -> tuple[float, float]:
    """Ellipticity that gives an axis ratio of 0.75 at the least."""
    shrink = min(1.0, 0.1428 / max(float(np.hypot(*e)), 1e-9))
    return float(e[0]) * shrink, float(e[1]) * shrink


def _exposure(
    band: str, electrons: float, dark: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Noise (nanomaggies), calibration (nanomaggies a count) and sky (counts) that agree."""
    faint, bright = _SKY_COUNTS[band]
    for _ in range(1000):
        noise, nmgy = rng.uniform(*_NOISE[band]), rng.uniform(*_NMGY[band])
        sky = electrons * ((noise / nmgy) ** 2 - dark)
        if faint < sky < bright:
            break
    else:  # a CCD whose dark noise alone reaches the limit
        sky, noise = faint, _NOISE[band][1]
        nmgy = noise / math.sqrt(sky / electrons + dark)
    return noise, nmgy, sky


def _calibration(nmgy: float, columns: int, rng: np.random.Generator) -> Floats:
    """Flat field times calibration along a row: smooth, up to 1 % off at the CCD's edges."""
    x = np.arange(columns) / 2048
    flat = 1 + 0.001 * rng.normal() * np.cos(math.pi * x) + 0.001 * rng.normal() * x**2
    for edge in (x, x[-1] - x):
        flat += abs(rng.normal(0, 0.005)) * np.exp(-edge / 0.03)
    return np.asarray(nmgy * flat, dtype=np.float32)


def _sky(level: float, rng: np.random.Generator) -> Floats:
    """Draw the smooth sky that the pipeline subtracted, (192, 256) counts."""
    coefficients = rng.normal(0, 0.0008 * level, (5, 6)) / (1 + np.add.outer(range(5), range(6)))
    coefficients[0, 0] = level
    return smooth_surface(coefficients, SKY_SHAPE)


def smooth_surface(coefficients: NDArray[np.float64], shape: tuple[int, int]) -> Floats:
    """Sum of cosines over a rectangle: (ny, nx) float32."""
    y, x = ((np.arange(n) + 0.5) / n for n in shape)
    rows = np.cos(math.pi * np.outer(y, np.arange(coefficients.shape[0])))
    columns = np.cos(math.pi * np.outer(np.arange(coefficients.shape[1]), x))
    return np.asarray((rows @ coefficients).astype(np.float32) @ columns.astype(np.float32))


def _misalignment(
    band: str, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[tuple[float, float], NDArray[np.float64]]:
    """Offset of a band's grid from r's at the centre (pixels), and the matrix of its change."""
    x, dx, y, dy = _OFFSET[band]
    limit_x, limit_y = _OFFSET_LIMIT
    offset = (
        float(np.clip(rng.normal(x, dx), 0.7 - limit_x, limit_x - 0.7)),
        float(np.clip(rng.normal(y, dy), 0.5 - limit_y, limit_y - 0.5)),
    )
    sign = rng.choice([-1.0, 1.0], 4)
    change = sign * [  # pixels from one edge to the other, of x by x and y, of y by x and y
        rng.uniform(0.4, 1.15),
        rng.uniform(0.0, 0.25),
        rng.uniform(0.05, 0.4),
        rng.uniform(0.05, 0.4),
    ]
    size = np.array([FRAME_SHAPE[1], FRAME_SHAPE[0]])  # a smaller frame sees less change
    return offset, np.reshape(change, (2, 2)) / size


def _great_circle(pointing: Pointing, mu: float, nu: float) -> NDArray[np.float64]:
    """Unit vector (x, y, z) towards great-circle coordinates, degrees."""
    m, n, i = np.deg2rad([mu - NODE, nu, pointing.inclination])
    along = np.array([np.cos(m) * np.cos(n), np.sin(m) * np.cos(n), np.sin(n)])
    x, y, z = along[0], along[1] * np.cos(i) - along[2] * np.sin(i), 0.0
    z = along[1] * np.sin(i) + along[2] * np.cos(i)
    a = np.deg2rad(NODE)
    return np.array([x * np.cos(a) - y * np.sin(a), x * np.sin(a) + y * np.cos(a), z])


def _wcs(
    pointing: Pointing,
    shape: tuple[int, int],
    offset: tuple[float, float],
    shear: NDArray[np.float64],
) -> WCS:
    """Tangent plane with rows along the scan (mu) and columns across it (nu).

    A pixel at p from the centre of this band's grid lies at p + offset + shear p from that of r.
    """
    scale = PIXEL_SCALE / 3600
    mu, nu = pointing.mu + scale * offset[1], pointing.nu + scale * offset[0]
    centre = _great_circle(pointing, mu, nu)
    ra, dec = math.atan2(centre[1], centre[0]), math.asin(centre[2])
    east = np.array([-math.sin(ra), math.cos(ra), 0.0])
    north = np.cross(centre, east)
    step = 1e-4
    across = _great_circle(pointing, mu, nu + step) - _great_circle(pointing, mu, nu - step)
    along = _great_circle(pointing, mu + step, nu) - _great_circle(pointing, mu - step, nu)
    axes = [vector / np.linalg.norm(vector) for vector in (across, along)]
    turn = np.array([[axis @ east for axis in axes], [axis @ north for axis in axes]])
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.radesys = "ICRS"
    # SDSS: (1025, 745) for frames of 2048 x 1489.
    wcs.wcs.crpix = [shape[1] // 2 + 1.0, (shape[0] + 1) / 2]
    wcs.wcs.crval = [math.degrees(ra) % 360, math.degrees(dec)]
    wcs.wcs.cd = scale * turn @ (np.eye(2) + shear)
    wcs.wcs.set()
    return wcs
