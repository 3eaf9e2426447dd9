"""Things that are no galaxy, quasar or star, drawn onto cutouts; flux in nanomaggies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gqs.imaging.photometry import aperture_flux
from gqs.surveys.sdss import BANDS, CUTOUT_SIZE, SKY_NOISE

Images = NDArray[np.float32]
CENTRE: Final = (CUTOUT_SIZE - 1) / 2
NOISE: Final = np.array([SKY_NOISE[band] for band in BANDS], dtype=np.float32)
R: Final = BANDS.index("r")
# Colours of a star of type G on the sky: nanomaggies in each band over those in r.
SUN: Final = np.array([0.16, 0.62, 1.0, 1.12, 1.16], dtype=np.float32)
ROWS, COLUMNS = np.mgrid[:CUTOUT_SIZE, :CUTOUT_SIZE].astype(np.float32)


def sky(images: Images, rng: np.random.Generator) -> Images:
    """Empty sky with its true noise: faint cutouts, turned so that the source is in a corner."""
    return np.roll(images, (CUTOUT_SIZE // 2, CUTOUT_SIZE // 2), axis=(2, 3))


def _line(rng: np.random.Generator, reach: float) -> NDArray[np.float32]:
    """Distance of every pixel from a line that passes within `reach` px of the centre."""
    angle, off = rng.uniform(0, np.pi), rng.uniform(-reach, reach)
    away = (COLUMNS - CENTRE) * np.sin(angle) - (ROWS - CENTRE) * np.cos(angle)
    return np.asarray(away - off, dtype=np.float32)


def trail(images: Images, rng: np.random.Generator) -> Images:
    """Satellite: bands are exposed one after the other, so it is in one of them alone."""
    out = images.copy()
    for image in out:
        band = rng.choice([1, 2, 3], p=[0.2, 0.6, 0.2])
        profile = np.exp(-0.5 * (_line(rng, 2.0) / rng.uniform(1.3, 2.2)) ** 2)
        image[band] += NOISE[band] * np.exp(rng.uniform(np.log(5), np.log(60))) * profile
    return out


def trail_on_sky(images: Images, rng: np.random.Generator) -> Images:
    """A satellite's trail that was itself taken for a source."""
    return trail(sky(images, rng), rng)


def spike(images: Images, rng: np.random.Generator) -> Images:
    """Spike and halo of a bright star off the cutout: the gradient r^-2.5 and a line to it."""
    out = sky(images, rng)
    for image in out:
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(35, 90)
        x, y = COLUMNS - CENTRE - far * np.cos(angle), ROWS - CENTRE - far * np.sin(angle)
        distance = np.hypot(x, y)
        across = (COLUMNS - CENTRE) * np.sin(angle) - (ROWS - CENTRE) * np.cos(angle)
        halo = np.exp(rng.uniform(np.log(1), np.log(10))) * (distance / far) ** -2.5
        line = np.exp(rng.uniform(np.log(8), np.log(60))) * (distance / far) ** -1
        line *= np.exp(-0.5 * (across / rng.uniform(1.0, 1.8)) ** 2)
        image += SUN[:, None, None] * NOISE[R] * (halo + line)
    return out


def halo(images: Images, rng: np.random.Generator) -> Images:
    """Halo alone: a bright star just off the cutout, nothing in the middle."""
    out = sky(images, rng)
    for image in out:
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(28, 45)
        x, y = COLUMNS - CENTRE - far * np.cos(angle), ROWS - CENTRE - far * np.sin(angle)
        peak = np.exp(rng.uniform(np.log(8), np.log(50)))
        image += SUN[:, None, None] * NOISE[R] * peak * (np.hypot(x, y) / far) ** -3
    return out


def cosmic_ray(images: Images, rng: np.random.Generator) -> Images:
    """A charged particle: sharp, in one band alone."""
    out = sky(images, rng)
    for image in out:
        away = np.abs(_line(rng, 1.0)) < 0.7
        near = np.hypot(ROWS - CENTRE, COLUMNS - CENTRE) < rng.uniform(1.5, 5)
        image[R] += NOISE[R] * np.exp(rng.uniform(np.log(20), np.log(400))) * (away & near)
    return out


def blend(images: Images, rng: np.random.Generator) -> Images:
    """A second point source of like brightness and its own colours, 2 to 6 px away."""
    out = images.copy()
    light = np.clip(aperture_flux(images, BANDS, 5.0)[0], 0, None)
    other = rng.permutation(len(images))
    for image, mine, theirs in zip(out, light, light[other], strict=True):
        if not mine[R] > 0 or not theirs[R] > 0:
            continue
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(2, 6)
        x, y = COLUMNS - CENTRE - far * np.cos(angle), ROWS - CENTRE - far * np.sin(angle)
        psf = (1 + (x**2 + y**2) / 3.2**2) ** -3.0  # Moffat, 1.3 arcsec
        light_in = theirs * mine[R] / theirs[R] * 10 ** rng.uniform(-0.2, 0.2)
        image += (light_in / 16.08)[:, None, None] * psf  # pi 3.2^2 / 2 is its whole light
    return out


def half_masked(images: Images, rng: np.random.Generator) -> Images:
    """The frame ends 3 to 12 px from the source."""
    out = images.copy()
    for image in out:
        image[:, :, : int(rng.integers(12, 22))] = np.nan
        image[:] = np.rot90(image, rng.integers(4), axes=(1, 2))
    return out


def hot_column(images: Images, rng: np.random.Generator) -> Images:
    """A bad column that nobody masked, in one band."""
    out = images.copy()
    for image in out:
        band, column = rng.integers(1, 4), 25 + rng.integers(-3, 4)
        image[band, :, column] += NOISE[band] * np.exp(rng.uniform(np.log(5), np.log(80)))
    return out


# What each is drawn on: any source, a faint one (which is turned away), or a bright one.
KINDS: Final[dict[str, tuple[str, Callable[[Images, np.random.Generator], Images]]]] = {
    "trail on sky": ("faint", trail_on_sky),
    "trail over a source": ("any", trail),
    "spike with halo": ("faint", spike),
    "halo": ("faint", halo),
    "cosmic ray": ("faint", cosmic_ray),
    "blend": ("bright", blend),
    "half masked": ("any", half_masked),
    "hot column": ("any", hot_column),
    "empty sky": ("faint", sky),
}
