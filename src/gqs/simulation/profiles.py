"""Light profiles of stars and galaxies.

The PSF has photo's form, two Gaussians and a power law (Lupton et al. 2001, ASP Conf. Ser. 238,
269), with an aureole and diffraction spikes. Its proportions were fitted to stacked stars of real
frames, whose r^-2 aureole, strongest in i, was followed to 150 pixels around saturated stars. The
profile includes the pixel response, so it is sampled at pixel centres.

A galaxy's image is the product of its transform and that of the PSF, transformed back: exact at any
sub-pixel position and ten times as fast as drawing profiles one by one (GalSim is the oracle of the
tests). The transforms of the exponential disc and of the de Vaucouleurs bulge depend only on k
times the half-light radius: the disc's has a closed form, the bulge's is tabulated once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import j0

from gqs.imaging.seeing import INNER, OUTER, seeing

Floats = NDArray[np.float32]

# kappa such that half the light lies within the half-light radius (Graham & Driver 2005).
KAPPA_DISC: Final = 1.67834699
KAPPA_BULGE: Final = 7.66924944
_CUT: Final = (7.0, 8.0)  # half-light radii over which photo lets a bulge end (Stoughton 2002)
_LOG_Q: Final = (-4.0, 7.0, 1400)  # ln(k r) from, to, steps of the bulge's table
SIZES: Final = (64, 128, 256, 512, 1024)

RADIUS: Final = 25  # pixels to which every star is followed; brighter ones farther
# SDSS's magnitudes count the light within 7.43 arcsec (Stoughton et al. 2002, section 4.4.5).
APERTURE: Final = 7.43 / 0.396
_FINE: Final = 10  # points a pixel in which apertures are summed
_FAR: Final = 700  # pixels: no wing is followed farther

# Amplitudes of the second Gaussian and of the wing against the first Gaussian, and their widths
# against its sigma, as fitted to 20 stacks of real stars (seeing 1.0 to 1.7 arcsec).
_SECOND, _SECOND_WIDTH = 0.09, 1.9
_WING, _WING_SCALE = 0.20, (1.2, 0.5)
# Aureole: light in each of three shells, scale in pixels; together r^-2 from 8 to 150 pixels.
_AUREOLE_SCALES: Final = (8.0, 24.0, 72.0)
_AUREOLE: Final = {"u": 0.008, "g": 0.010, "r": 0.011, "i": 0.036, "z": 0.012}
# Spikes of the secondary's vanes, followed from 20 to 80 pixels: light a pixel of their crest.
_SPIKES: Final = {"u": 0.7e-4, "g": 0.9e-4, "r": 1.2e-4, "i": 1.1e-4, "z": 0.8e-4}
_SPIKE_CORE, _SPIKE_LENGTH, _SPIKE_WIDTH = 8.0, 45.0, 1.6  # pixels


def _sheared(x: Any, y: Any, e1: float, e2: float) -> Any:
    """Squared radius in coordinates in which an ellipse of ellipticity e is a unit circle's."""
    norm = 1 / (1 - e1 * e1 - e2 * e2)
    xx, yy, xy = (1 - e1) ** 2 + e2**2, (1 + e1) ** 2 + e2**2, -4 * e2
    return norm * (xx * x * x + yy * y * y + xy * x * y)


def _shares(inside: NDArray[np.bool_]) -> NDArray[Any]:
    """Share of each pixel that lies inside, from _FINE x _FINE points."""
    n = len(inside) // _FINE
    return np.asarray(inside.reshape(n, _FINE, n, _FINE).mean(axis=(1, 3)))


def _power(r2: Any, scale2: float) -> Any:
    """Return (1 + r^2 / a^2)^(-3/2), whose Fourier transform is 2 pi a^2 exp(-a k)."""
    base = 1 + r2 / scale2
    return 1 / (base * np.sqrt(base))


def _core(r2: Any, sigma: Any) -> Any:
    """Two Gaussians and a wing, 1.29 at the centre."""
    wing = (_WING_SCALE[0] + _WING_SCALE[1] * sigma) ** 2
    second = _SECOND_WIDTH * sigma
    return (
        np.exp(-r2 / (2 * sigma**2))
        + _SECOND * np.exp(-r2 / (2 * second**2))
        + _WING * _power(r2, wing)
    )


@lru_cache(maxsize=1)
def _widths() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """FWHM of the core against the width of its first Gaussian, found by halving."""
    sigma = np.linspace(0.4, 4.0, 1801)
    low, high = np.zeros_like(sigma), 6 * sigma
    for _ in range(45):
        middle = 0.5 * (low + high)
        outside = _core(middle**2 / 4, sigma) < 0.5 * _core(0.0, sigma)
        low, high = np.where(outside, low, middle), np.where(outside, middle, high)
    return middle, sigma


@dataclass(frozen=True)
class Psf:
    """The profile of a point source in one frame."""

    band: str  # one of u g r i z
    fwhm: float  # full width at half maximum, pixels; the mean of both axes
    e1: float = 0.0  # ellipticity (a - b) / (a + b) along x and along the diagonal
    e2: float = 0.0
    spike_angle: float = 0.0  # degrees from +x to the first of the four spikes
    # relative strength of the four spikes
    spike_arms: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)

    @cached_property
    def sigma(self) -> float:
        """Width of the first Gaussian, pixels, that gives the asked FWHM."""
        return float(np.interp(self.fwhm, *_widths()))

    @property
    def axis_ratio(self) -> float:
        """Minor over major axis of the core."""
        e = math.hypot(self.e1, self.e2)
        return (1 - e) / (1 + e)

    @cached_property
    def _norm(self) -> tuple[float, float]:
        """Integral of the core, and the whole profile's share within SDSS's aperture."""
        s2, wing2 = self.sigma**2, (_WING_SCALE[0] + _WING_SCALE[1] * self.sigma) ** 2
        second, wing = _SECOND * s2 * _SECOND_WIDTH**2, _WING * wing2
        core = 2 * math.pi * (s2 + second + wing)
        halo = _AUREOLE[self.band]
        inside = 1 - wing / (s2 + second + wing) * (1 + APERTURE**2 / wing2) ** -0.5
        inside += sum(halo * (1 - (1 + (APERTURE / a) ** 2) ** -0.5) for a in _AUREOLE_SCALES)
        return core, inside

    def at(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Light a pixel at an offset from the source, for unit light within SDSS's aperture."""
        core, inside = self._norm
        light = _core(_sheared(x, y, self.e1, self.e2), self.sigma) / core
        r2 = x * x + y * y
        for a in _AUREOLE_SCALES:
            light = light + _AUREOLE[self.band] / (2 * math.pi * a * a) * _power(r2, a * a)
        return np.asarray(light / inside)

    def spikes(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Light a pixel in the diffraction spikes, for unit light within SDSS's aperture."""
        total: Any = 0.0
        for arm, strength in enumerate(self.spike_arms):
            angle = math.radians(self.spike_angle + 90 * arm)
            along = x * math.cos(angle) + y * math.sin(angle)
            across = y * math.cos(angle) - x * math.sin(angle)
            width = _SPIKE_WIDTH * (1 + np.abs(along) / 150)
            fall = np.exp(-np.abs(along) / _SPIKE_LENGTH) / (1 + along**2 / _SPIKE_CORE**2) ** 0.5
            fall *= 1 - np.exp(-((along / 10) ** 2))  # nearer in, the profile has their light
            profile = np.exp(-0.5 * (across / width) ** 2) / width
            total = total + np.where(along > 0, strength * fall * profile, 0.0)
        return np.asarray(_SPIKES[self.band] * total)

    def transform(self, kx: Floats, ky: Floats) -> Floats:
        """Fourier transform of the profile: every part of it has one in closed form."""
        core, inside = self._norm
        # A shape stretched in space is squeezed in frequency: the ellipticity changes its sign.
        k2 = _sheared(kx, ky, -self.e1, -self.e2)
        s2, wing = self.sigma**2, _WING_SCALE[0] + _WING_SCALE[1] * self.sigma
        second2 = s2 * _SECOND_WIDTH**2
        light = s2 * np.exp(-0.5 * k2 * s2) + _SECOND * second2 * np.exp(-0.5 * k2 * second2)
        light += _WING * wing**2 * np.exp(-wing * np.sqrt(k2))
        light *= 2 * math.pi / core
        k = np.sqrt(kx * kx + ky * ky)
        for a in _AUREOLE_SCALES:
            light += _AUREOLE[self.band] * np.exp(-a * k)
        return np.asarray(light / inside, dtype=np.float32)

    @cached_property
    def _radial(self) -> tuple[NDArray[Any], NDArray[Any]]:
        radii = np.concatenate([np.arange(0.0, 60.0), np.geomspace(60, _FAR, 60)])
        return radii, self.at(radii, np.zeros_like(radii))

    @cached_property
    def seeing(self) -> float:
        """Seeing as its stars show it, arcsec; see `gqs.imaging.seeing`."""
        pixel = np.arange(-7, 8)
        part = (np.arange(_FINE) + 0.5) / _FINE - 0.5
        widths = []
        for phase in (0.0, 0.25, 0.5):  # where in its pixel a star lies
            light = self.at(pixel - phase, pixel[:, None] - phase)
            fine = (pixel[:, None] + part - phase).ravel()
            radius = np.hypot(fine, fine[:, None])
            within = [(light * _shares(radius < limit)).sum() for limit in (INNER, OUTER)]
            widths.append(float(seeing(*within)))
        return float(np.mean(widths))

    def wing(self, radius: float) -> float:
        """Light a pixel at a distance along x, from a table."""
        return float(np.interp(radius, *self._radial))

    def reach(self, flux: float, floor: float) -> int:
        """Distance in pixels at which a source's wing falls below a floor."""
        radii, light = self._radial
        last = min(int(np.searchsorted(-light, -floor / flux)), len(radii) - 1)
        return max(math.ceil(float(radii[last])), RADIUS)


@lru_cache(maxsize=1)
def bulge_table() -> NDArray[np.float64]:
    """Hankel transform of the de Vaucouleurs profile against ln(k r_half), 1 at k = 0: (1400,) for
    ln(k r) from -4 to 7.
    """
    t = np.linspace(0, _CUT[1] ** 0.25, 6001)[1:]  # r = t^4 evens out the cusp
    r = t**4
    profile = np.exp(-KAPPA_BULGE * t)
    profile *= np.clip((_CUT[1] - r) / (_CUT[1] - _CUT[0]), 0, 1)
    weight = profile * r * 4 * t**3
    q = np.exp(np.linspace(*_LOG_Q))
    values = np.empty(len(q))
    for start in range(0, len(q), 100):
        part = slice(start, start + 100)
        values[part] = j0(q[part, None] * r) @ weight
    return np.asarray(values / weight.sum())


def bulge_transform(q2: Floats) -> Floats:
    """Transform of a de Vaucouleurs profile of unit light."""
    low, high, steps = _LOG_Q
    place = (0.5 * np.log(q2 + np.float32(1e-12)) - low) * ((steps - 1) / (high - low))
    place = np.clip(place, 0, steps - 1.001)
    index = place.astype(np.intp)
    table = bulge_table().astype(np.float32)
    return np.asarray(table[index] + (place - index) * (table[index + 1] - table[index]))


def disc_transform(q2: Floats) -> Floats:
    """Transform of an exponential profile of unit light."""
    base = 1 + q2 * np.float32(KAPPA_DISC**-2)
    return np.asarray(1 / (base * np.sqrt(base)))


class Grid:
    """The frequencies of stamps of one size, and the seeing of one frame on them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.ky = (2 * np.pi * fft.fftfreq(size)).astype(np.float32)[:, None]
        self.kx = (2 * np.pi * fft.rfftfreq(size)).astype(np.float32)[None, :]

    def ellipse(self, axis_ratio: float, angle_deg: float) -> Floats:
        """Squared frequency across an ellipse whose major axis is the unit of length: (size, size
        // 2 + 1).
        """
        c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
        q2 = axis_ratio * axis_ratio
        xx, yy, xy = c * c + q2 * s * s, s * s + q2 * c * c, 2 * c * s * (1 - q2)
        k2 = (xx * self.kx * self.kx + yy * self.ky * self.ky) + xy * (self.kx * self.ky)
        return np.asarray(k2, dtype=np.float32)

    def image(self, transform: Floats, seeing: Floats, x: float, y: float) -> Floats:
        """Image of a source at (x, y), in pixels from the stamp's first pixel: (size, size)
        float32.
        """
        shift_y = np.exp(-1j * (y % self.size) * self.ky.astype(np.float64)).astype(np.complex64)
        shift_x = np.exp(-1j * (x % self.size) * self.kx.astype(np.float64)).astype(np.complex64)
        spectrum = (transform * seeing) * shift_y * shift_x
        return np.asarray(fft.irfft2(spectrum, s=(self.size, self.size)), dtype=np.float32)


@lru_cache(maxsize=len(SIZES))
def grid(size: int) -> Grid:
    """Return the grid of a size, made once."""
    return Grid(size)


def stamp_size(
    flux: float, bulge: float, bulge_radius: float, disc_radius: float, psf: Psf, floor: float
) -> int:
    """Choose the smallest stamp at whose edge a galaxy is fainter than a floor."""
    for size in SIZES:
        r = size / 2
        light = psf.wing(r) * flux
        if bulge > 0 and r < _CUT[1] * bulge_radius:
            ratio = r / bulge_radius
            surface = bulge * flux / (22.665 * bulge_radius**2)  # at the half-light radius
            light += surface * math.exp(-KAPPA_BULGE * (ratio**0.25 - 1))
        if bulge < 1:
            surface = (1 - bulge) * flux * KAPPA_DISC**2 / (2 * math.pi * disc_radius**2)
            light += surface * math.exp(-KAPPA_DISC * r / disc_radius)
        if light < floor:
            return size
    return SIZES[-1]
