"""Magnitudes measured on cutouts: apertures, their errors, and features for boosted trees.

A cutout shows its source at 24 < x' <= 25 (0-based), so one aperture around (24.5, 24.5) serves
all of them, and a batch is one matrix product. Masked pixels are filled with their mirror image
through the centre, which is right for round and for elliptical sources, or else with the local
sky.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gqs.errors import UsageError
from gqs.surveys.sdss import BANDS, CUTOUT_SIZE, SKY_NOISE, asinh_magnitude

RADIUS: Final = 7.5  # pixels: 3 arcsec, most of a point source's light and of a small galaxy's
INNER: Final = 3.0  # pixels: most of the signal to noise of a faint source
CENTRE: Final = (CUTOUT_SIZE - 1) / 2
SKY_RADIUS: Final = 18.0  # pixels from which the corners and edges of a cutout count as sky
MOST_MASKED: Final = 0.5  # share of an aperture that may be filled in
# Nanomaggies an electron: calibration over gain, middle of the real frames at hand.
ELECTRON: Final = {"u": 6.0e-3, "g": 0.95e-3, "r": 1.04e-3, "i": 1.38e-3, "z": 7.4e-3}
_SUBPIXELS: Final = 25


class Sky(NamedTuple):
    """The sky around sources; (n, band) each."""

    # nanomaggies a pixel: its level, the noise of a pixel, and the level's own uncertainty
    level: NDArray[np.float64]
    noise: NDArray[np.float64]
    wobble: NDArray[np.float64]


def aperture_flux(
    images: NDArray[np.floating], bands: str, radius: float = RADIUS, sky: Sky | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Flux inside a circle around each cutout's source, above the local sky."""
    if images.ndim != 4 or images.shape[1:] != (len(bands), CUTOUT_SIZE, CUTOUT_SIZE):
        raise UsageError(
            f"Cutouts for bands {bands!r} must be (n, {len(bands)}, {CUTOUT_SIZE}, {CUTOUT_SIZE}); "
            f"got {images.shape}."
        )
    if not 0 < radius <= CUTOUT_SIZE / 2 - 1 or set(bands) - set(BANDS):
        raise UsageError(f"No aperture of {radius} px in bands {bands!r} fits into a cutout.")
    weights = aperture_weights(radius).ravel()
    used = weights > 0
    pixels = np.ascontiguousarray(images).reshape(*images.shape[:2], CUTOUT_SIZE**2)
    level, noise, wobble = local_sky(images, bands) if sky is None else sky
    inside = pixels[..., used].astype(np.float64) - level[..., None]
    masked = np.isnan(inside)
    if masked.any():
        mirror = inside[..., ::-1]  # the circle's pixels run from one end to the other
        inside = np.where(masked, np.where(np.isnan(mirror), 0.0, mirror), inside)
    share = weights[used]
    flux = inside @ share
    flux[masked @ share > MOST_MASKED * share.sum()] = np.nan
    electron = np.array([ELECTRON[band] for band in bands])
    variance = noise**2 * (share**2).sum() + (wobble * share.sum()) ** 2
    variance += np.maximum(flux, 0) * electron
    return flux, np.sqrt(variance)


def aperture_magnitudes(
    images: NDArray[np.floating], bands: str, radius: float = RADIUS, sky: Sky | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Asinh magnitudes inside a circle around each cutout's source."""
    return magnitudes(*aperture_flux(images, bands, radius, sky), bands)


def magnitudes(
    flux: NDArray[np.float64], error: NDArray[np.float64], bands: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Asinh magnitudes of fluxes, and their errors. Lupton, Gunn & Szalay 1999, eq. 3 and 4: (n,
    band); NaN where the flux is.
    """
    magnitude, spread = np.empty_like(flux), np.empty_like(flux)
    for i, band in enumerate(bands):
        magnitude[:, i] = asinh_magnitude(flux[:, i], band)
        step = asinh_magnitude(flux[:, i] - 0.5 * error[:, i], band)
        spread[:, i] = step - asinh_magnitude(flux[:, i] + 0.5 * error[:, i], band)
    return magnitude, spread


def concentration(images: NDArray[np.floating], bands: str) -> NDArray[np.float64]:
    """Tell how much fainter a source is inside 3 px than inside 7.5 px: small for point sources:
    (n, band) differences of asinh magnitudes; NaN where either is.
    """
    inner, _ = aperture_magnitudes(images, bands, INNER)
    outer, _ = aperture_magnitudes(images, bands, RADIUS)
    return np.asarray(inner - outer)


def magnitude_features(images: NDArray[np.floating], bands: str) -> NDArray[np.float32]:
    """Measure what boosted trees judge by: magnitudes, colours, concentrations: (n, k) float32 in
    the order of `feature_names`; NaN where not measured, which trees take.
    """
    outer, _ = aperture_magnitudes(images, bands, RADIUS)
    inner, _ = aperture_magnitudes(images, bands, INNER)
    # Colours from the inner circle: less noise, and the same part of the source in every band.
    columns = [outer, inner[:, :-1] - inner[:, 1:], inner - outer]
    return np.concatenate(columns, axis=1).astype(np.float32)


def feature_names(bands: str) -> list[str]:
    """Name the columns of `magnitude_features`."""
    names = [f"mag_{band}" for band in bands]
    names += [f"{blue}-{red}" for blue, red in pairwise(bands)]
    return names + [f"concentration_{band}" for band in bands]


def aperture_weights(radius: float) -> NDArray[np.float64]:
    """Share of each pixel of a cutout that lies inside a circle around its source: (50, 50) from 0
    to 1, each from 25 x 25 points; symmetric through the centre.
    """
    step = (np.arange(CUTOUT_SIZE * _SUBPIXELS) + 0.5) / _SUBPIXELS - 0.5 - CENTRE
    inside = step[:, None] ** 2 + step**2 <= radius**2
    cells = inside.reshape(CUTOUT_SIZE, _SUBPIXELS, CUTOUT_SIZE, _SUBPIXELS)
    return np.asarray(cells.mean(axis=(1, 3)))


def local_sky(images: NDArray[np.floating], bands: str) -> Sky:
    """Measure the sky around each cutout's source.

    From the median of a cutout's rim, which holds against a neighbour or two.
    """
    pixels = np.ascontiguousarray(images).reshape(*images.shape[:2], CUTOUT_SIZE**2)
    step = np.arange(CUTOUT_SIZE) - CENTRE
    rim = np.flatnonzero((np.hypot(step[:, None], step) > SKY_RADIUS).ravel())
    outer = np.sort(pixels[..., rim].astype(np.float32), axis=-1)  # NaN go to the end
    count = np.isfinite(outer).sum(axis=-1)

    def quantile(share: float) -> NDArray[np.float64]:
        at = np.clip((share * (count - 1)).astype(np.intp), 0, None)
        return np.take_along_axis(outer, at[..., None], axis=-1)[..., 0].astype(np.float64)

    level, low = quantile(0.5), quantile(0.1587)
    usual = np.array([SKY_NOISE[band] for band in bands])
    few = count < 100
    noise = np.where(few | ~(level > low), usual, level - low)
    # A median's scatter is sqrt(pi / 2) of a mean's.
    wobble = np.where(few, 0.0, noise * np.sqrt(np.pi / 2 / np.maximum(count, 1)))
    return Sky(np.where(few, 0.0, level), noise, wobble)
