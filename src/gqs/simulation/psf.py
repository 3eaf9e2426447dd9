"""Point-spread functions like SDSS's: a double Gaussian core, a power-law wing, an aureole, spikes.

Form: photo's composite profile of two Gaussians and a power law (Lupton et al. 2001, ASP Conf.
Ser. 238, 269). Proportions: fits to stacked stars of real frames, whose r^-2 aureole, strongest in
i, was followed to 150 pixels around saturated stars. All of it is the effective profile, the
pixel's own width included, so that sampling it at pixel centres is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gqs.imaging.seeing import INNER, OUTER, seeing

Floats = NDArray[np.float32]

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
