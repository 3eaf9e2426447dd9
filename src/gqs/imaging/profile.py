"""PSF of a field in one band, fitted to its stars.

The form is photo's, two Gaussians and a power law (Lupton et al. 2001, ASP Conf. Ser. 238, 269),
here elliptical, with the second Gaussian twice as wide as the first. It is sampled at pixel
centres, so it includes the pixel response. There is one profile for the field; its variation is
left to an aperture correction (`psf`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

HALF: Final = 7  # pixels on each side of a source that are fitted
APERTURE: Final = 7.5  # pixels, radius within which a profile has unit flux
STARS: Final = 25  # brightest stars to which a profile is fitted
WINDOW: Final = 2 * HALF + 1
# Radius of the wing in pixels, linear in the width of the first Gaussian; from stacked stars of
# real frames, see `gqs.simulation.psf`.
_WING: Final = (1.2, 0.5)
_LIMITS: Final = (  # ln sigma, ellipticity (2), offset (2), second Gaussian, wing
    (math.log(0.6), -0.3, -0.3, -1.0, -1.0, 0.0, 0.0),
    (math.log(5.0), 0.3, 0.3, 1.0, 1.0, 0.6, 0.6),
)
_FIRST: Final = (0.09, 0.10)
_MODEL_ERROR: Final = 0.02  # relative error of the profile: no formula fits a star's core exactly
_LAGS: Final = 16  # pixels to which overlaps of profiles are tabulated


@dataclass(frozen=True)
class Profile:
    """Profile of a point source."""

    sigma: float  # of the first Gaussian, pixels
    e1: float = 0.0  # ellipticity (a - b) / (a + b) along x and along the diagonal
    e2: float = 0.0
    dx: float = 0.0  # offset from the r band's position, pixels
    dy: float = 0.0
    second: float = _FIRST[0]  # amplitudes against the first Gaussian's
    wing: float = _FIRST[1]

    def at(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float32]:
        """Flux per pixel at offsets (pixels) from the r band's position, for unit total flux."""
        x, y = np.asarray(x - self.dx, np.float32), np.asarray(y - self.dy, np.float32)
        e1, e2, s2 = self.e1, self.e2, self.sigma**2
        norm = 1 / (1 - e1 * e1 - e2 * e2)
        xx, yy, xy = ((1 - e1) ** 2 + e2**2, (1 + e1) ** 2 + e2**2, -4 * e2)
        r2 = np.float32(norm * xx) * x * x + np.float32(norm * yy) * y * y
        r2 = r2 + np.float32(norm * xy) * x * y
        first = np.exp(r2 * np.float32(-0.5 / s2))
        second = np.sqrt(np.sqrt(first))  # twice as wide
        base = 1 + r2 * np.float32(1 / self._wing2)
        light = first + np.float32(self.second) * second
        light += np.float32(self.wing) / (base * np.sqrt(base))
        return np.asarray(light * np.float32(1 / self._light))

    @property
    def _wing2(self) -> float:
        radius = _WING[0] + _WING[1] * self.sigma
        return radius * radius

    @property
    def _light(self) -> float:
        """Integral of the three parts within the aperture."""
        s2, wing2, far = self.sigma**2, self._wing2, APERTURE**2
        total = s2 * (1 - math.exp(-far / (2 * s2)))
        total += self.second * 4 * s2 * (1 - math.exp(-far / (8 * s2)))
        total += self.wing * wing2 * (1 - (1 + far / wing2) ** -0.5)
        return float(2 * math.pi * total)

    def overlap(self, dx: NDArray[Any], dy: NDArray[Any]) -> NDArray[np.float64]:
        """Sum over pixels of the product of two profiles at distances (dx, dy) pixels, (n,)."""
        step = np.arange(-_LAGS, _LAGS) + 0.5
        light = self.at(step + self.dx, (step + self.dy)[:, None]).astype(np.float64)
        transform = np.fft.rfft2(light, (4 * _LAGS, 4 * _LAGS))
        table = np.fft.fftshift(np.fft.irfft2(np.abs(transform) ** 2))
        where = np.stack([dy, dx]) + 2 * _LAGS
        return np.asarray(ndimage.map_coordinates(table, where, order=3))


def fitted(
    stamps: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    noise: float,
    electron: float,
    seeing: float,
) -> Profile:
    """Fit a profile to stamps of stars (n, 15, 15) at sub-pixel offsets (x, y)."""
    step = np.arange(-HALF, HALF + 1, dtype=np.float32)
    dx = (step - x[:, None]).astype(np.float32)[:, None, :]
    dy = (step - y[:, None]).astype(np.float32)[:, :, None]
    known = np.isfinite(stamps)
    light = np.where(known, stamps, 0)
    peak = light.max(axis=(1, 2), keepdims=True)
    variance = noise**2 + electron * np.maximum(light, 0) + (_MODEL_ERROR * light) ** 2
    variance += (0.002 * peak) ** 2
    weight = np.where(known, 1 / np.sqrt(variance), 0).astype(np.float32)
    weighted = weight * light

    def residuals(values: NDArray[np.float64]) -> NDArray[np.float64]:
        model = weight * _profile(values).at(dx, dy)
        flux = (model * weighted).sum(axis=(1, 2)) / (model * model).sum(axis=(1, 2))
        off = weighted - flux[:, None, None] * model
        return np.asarray(off.ravel(), dtype=np.float64)

    first = [math.log(np.clip(seeing / 2.6, 0.7, 4.0)), 0.0, 0.0, 0.0, 0.0, *_FIRST]
    found = optimize.least_squares(
        residuals,
        first,
        bounds=_LIMITS,
        loss="soft_l1",
        f_scale=3.0,
        diff_step=1e-3,  # float32
        ftol=1e-4,
        xtol=1e-4,
        max_nfev=12,
        x_scale=(0.1, 0.03, 0.03, 0.1, 0.1, 0.05, 0.05),
    )
    return _profile(found.x)


def _profile(values: NDArray[np.float64]) -> Profile:
    sigma, *rest = map(float, values)
    return Profile(math.exp(sigma), *rest)
