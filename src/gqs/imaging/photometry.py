"""Aperture magnitudes of cutouts, their errors, and features for boosted trees.

The source of a cutout is at 24 < x <= 25 (0-based), so the same aperture around (24.5, 24.5) is
used for all cutouts, and a batch is one matrix product. Masked pixels are filled with the pixel
mirrored at the centre, which is right for round and elliptical sources, or else with the local sky.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gqs.errors import UsageError
from gqs.surveys.sdss import CUTOUT_SIZE, SKY_NOISE, asinh_magnitude, like, store_bands

RADIUS: Final = 7.5  # pixels: 3 arcsec, most of the flux of a point source or a small galaxy
INNER: Final = 3.0  # pixels: most of the signal to noise of a faint source
CENTRE: Final = (CUTOUT_SIZE - 1) / 2
SKY_RADIUS: Final = 18.0  # pixels from which the corners and edges of a cutout count as sky
MOST_MASKED: Final = 0.5  # fraction of an aperture that may be filled
# Nanomaggies per electron: calibration over gain, median of real frames.
ELECTRON: Final = {"u": 6.0e-3, "g": 0.95e-3, "r": 1.04e-3, "i": 1.38e-3, "z": 7.4e-3}
_SUBPIXELS: Final = 25
POINTS: Final = _SUBPIXELS**2  # in a pixel, for the fraction of it inside an aperture


class Sky(NamedTuple):
    """Sky around sources; (n, band) each."""

    # nanomaggies per pixel: level, noise of a pixel, and uncertainty of the level
    level: NDArray[np.float64]
    noise: NDArray[np.float64]
    wobble: NDArray[np.float64]


def aperture_flux(
    images: NDArray[np.floating], bands: str, radius: float = RADIUS, sky: Sky | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Flux and error in a circular aperture, sky subtracted, (n, band) nanomaggies each.

    NaN where more than half of the aperture is masked.
    """
    if images.ndim != 4 or images.shape[1:] != (len(bands), CUTOUT_SIZE, CUTOUT_SIZE):
        raise UsageError(
            f"Cutouts for bands {bands!r} must be (n, {len(bands)}, {CUTOUT_SIZE}, {CUTOUT_SIZE}); "
            f"got {images.shape}."
        )
    store_bands(bands)
    if not 0 < radius <= CUTOUT_SIZE / 2 - 1:
        raise UsageError(f"An aperture of {radius} px does not fit a cutout.")
    points = aperture_points(radius).ravel()
    used = points > 0
    pixels = np.ascontiguousarray(images).reshape(*images.shape[:2], CUTOUT_SIZE**2)
    level, noise, wobble = local_sky(images, bands) if sky is None else sky
    inside = pixels[..., used].astype(np.float64) - level[..., None]
    masked = np.isnan(inside)
    if masked.any():
        mirror = inside[..., ::-1]  # the aperture is symmetric through the centre
        inside = np.where(masked, np.where(np.isnan(mirror), 0.0, mirror), inside)
    weights = points[used] / POINTS
    flux = inside @ weights
    # Whole numbers, whose sums are exact: the decision never depends on rounding.
    flux[masked @ points[used] > MOST_MASKED * points.sum()] = np.nan
    electron = np.array([ELECTRON[like(band)] for band in bands])
    variance = noise**2 * (weights**2).sum() + (wobble * weights.sum()) ** 2
    variance += np.maximum(flux, 0) * electron
    return flux, np.sqrt(variance)


def aperture_magnitudes(
    images: NDArray[np.floating], bands: str, radius: float = RADIUS, sky: Sky | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Asinh magnitudes in a circular aperture, and their errors, (n, band) each."""
    return magnitudes(*aperture_flux(images, bands, radius, sky), bands)


def magnitudes(
    flux: NDArray[np.float64], error: NDArray[np.float64], bands: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Asinh magnitudes of fluxes and their errors, (n, band) each; NaN where the flux is.

    Lupton, Gunn & Szalay 1999, eq. 3 and 4.
    """
    magnitude, spread = np.empty_like(flux), np.empty_like(flux)
    for i, band in enumerate(bands):
        magnitude[:, i] = asinh_magnitude(flux[:, i], band)
        step = asinh_magnitude(flux[:, i] - 0.5 * error[:, i], band)
        spread[:, i] = step - asinh_magnitude(flux[:, i] + 0.5 * error[:, i], band)
    return magnitude, spread


def concentration(images: NDArray[np.floating], bands: str) -> NDArray[np.float64]:
    """Magnitude within 3 px minus that within 7.5 px, (n, band): small for point sources."""
    inner, _ = aperture_magnitudes(images, bands, INNER)
    outer, _ = aperture_magnitudes(images, bands, RADIUS)
    return np.asarray(inner - outer)


def magnitude_features(images: NDArray[np.floating], bands: str) -> NDArray[np.float32]:
    """Features for boosted trees, (n, k) float32: magnitudes, colours and concentrations in the
    order of `feature_names`; NaN where not measured.
    """
    outer, _ = aperture_magnitudes(images, bands, RADIUS)
    inner, _ = aperture_magnitudes(images, bands, INNER)
    # Colours from the inner aperture: less noise, and the same part of the source in every band.
    columns = [outer, inner[:, :-1] - inner[:, 1:], inner - outer]
    return np.concatenate(columns, axis=1).astype(np.float32)


def feature_names(bands: str) -> list[str]:
    """Names of the columns of `magnitude_features`."""
    names = [f"mag_{band}" for band in bands]
    names += [f"{blue}-{red}" for blue, red in pairwise(bands)]
    return names + [f"concentration_{band}" for band in bands]


def aperture_weights(radius: float) -> NDArray[np.float64]:
    """Fraction of each pixel of a cutout that is inside a circular aperture, (50, 50), 0 to 1."""
    return aperture_points(radius) / POINTS


def aperture_points(radius: float) -> NDArray[np.float64]:
    """Number of a pixel's 25 x 25 points inside a circular aperture, (50, 50) whole numbers."""
    step = (np.arange(CUTOUT_SIZE * _SUBPIXELS) + 0.5) / _SUBPIXELS - 0.5 - CENTRE
    inside = step[:, None] ** 2 + step**2 <= radius**2
    cells = inside.reshape(CUTOUT_SIZE, _SUBPIXELS, CUTOUT_SIZE, _SUBPIXELS)
    return np.asarray(cells.sum(axis=(1, 3)), dtype=np.float64)


def local_sky(images: NDArray[np.floating], bands: str) -> Sky:
    """Local sky of each cutout: the median of its rim, robust against a neighbour or two."""
    pixels = np.ascontiguousarray(images).reshape(*images.shape[:2], CUTOUT_SIZE**2)
    step = np.arange(CUTOUT_SIZE) - CENTRE
    rim = np.flatnonzero((np.hypot(step[:, None], step) > SKY_RADIUS).ravel())
    outer = np.sort(pixels[..., rim].astype(np.float32), axis=-1)  # NaN go to the end
    count = np.isfinite(outer).sum(axis=-1)

    def quantile(share: float) -> NDArray[np.float64]:
        at = np.clip((share * (count - 1)).astype(np.intp), 0, None)
        return np.take_along_axis(outer, at[..., None], axis=-1)[..., 0].astype(np.float64)

    level, low = quantile(0.5), quantile(0.1587)
    usual = np.array([SKY_NOISE[like(band)] for band in bands])
    few = count < 100
    noise = np.where(few | ~(level > low), usual, level - low)
    # The scatter of a median is sqrt(pi / 2) times that of a mean.
    wobble = np.where(few, 0.0, noise * np.sqrt(np.pi / 2 / np.maximum(count, 1)))
    return Sky(np.where(few, 0.0, level), noise, wobble)
