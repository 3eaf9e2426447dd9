"""Colour picture of a field from its i, r and g bands (paper 3.2; Lupton et al. 2004).

The stretch is fixed: a stretch that depends on the frame would leave a signature of the frame in
every cutout. It is that of SDSS's `frame-irg` pictures (photoop's `sdss_frame_jpg`): bands are
scaled by 0.4 x (5, 6.5, 9), groups of pixels above 30 nanomaggies get their mean colour, and every
pixel is multiplied by asinh(N t) / (N t), where t is the sum of its scaled bands and N = 2.25.
Fitted to smooth pixels of four real pictures, the scales agree within 1.5 % and N within 0.5 %.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from astropy.visualization import make_lupton_rgb
from numpy.typing import NDArray
from scipy import ndimage

from gqs.errors import BadInputError
from gqs.imaging.align import BandStack

PICTURE_BANDS: Final = "irg"  # red, green, blue
SCALES: Final = {"i": 2.0, "r": 2.6, "g": 3.6}
NONLINEARITY: Final = 2.25
SATURATED: Final = 30.0  # nanomaggies per pixel
# Lupton et al. use the mean of three bands, photoop the sum, and astropy's slope at zero is
# 0.1 Q / (asinh(0.1 Q) stretch): with these two numbers the result is that of photoop.
_SOFTENING: Final = 3 * NONLINEARITY
Q: Final = float(10 * np.sinh(0.1 * _SOFTENING))
STRETCH: Final = Q / _SOFTENING


def colour_picture(stack: BandStack) -> NDArray[np.uint8]:
    """Colour picture of a field, (ny, nx, 3) uint8, red, green, blue from i, r, g."""
    for band in PICTURE_BANDS:
        if band not in stack.bands:
            raise BadInputError(
                f"Field {stack.field}: the colour picture needs i, r and g; {band} is missing. "
                "Add its frame, or use flux cutouts."
            )
    masked = ~np.logical_and.reduce([stack.covered[stack.bands.index(b)] for b in PICTURE_BANDS])
    planes = np.stack([np.where(masked, 0, stack.plane(band)) for band in PICTURE_BANDS])
    return np.asarray(_stretched(planes[:, None])[0], dtype=np.uint8)


def colour_cutouts(images: NDArray[np.float32], bands: str) -> NDArray[np.uint8]:
    """Colour pictures of cutouts, (n, 3, ny, nx) uint8, red, green, blue from i, r, g.

    Equal to cutouts of the field's picture, except for a group of overexposed pixels that extends
    beyond the cutout: it gets the mean colour of its part inside.
    """
    order = [bands.index(band) for band in PICTURE_BANDS]
    planes = np.moveaxis(images[:, order], 1, 0).copy()
    return np.moveaxis(_stretched(planes), -1, 1)


def _stretched(planes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stretch (3, n, ny, nx) flux in i, r and g, changed in place, to (n, ny, nx, 3) colours."""
    _even_out(planes)
    _, n, ny, nx = planes.shape
    red, green, blue = (
        plane.reshape(n * ny, nx) * SCALES[band]
        for plane, band in zip(planes, PICTURE_BANDS, strict=True)
    )
    with np.errstate(invalid="ignore", divide="ignore"):  # astropy divides by the empty sky
        picture = make_lupton_rgb(red, green, blue, minimum=0, stretch=STRETCH, Q=Q)
    return np.asarray(picture, dtype=np.uint8).reshape(n, ny, nx, 3)


def _even_out(planes: NDArray[np.float32]) -> None:
    """Give each group of overexposed pixels its mean colour, in place, to avoid rings."""
    within = np.zeros((3, 3, 3))
    within[1] = 1  # pixels are connected only within their own image
    groups, number = ndimage.label((planes > SATURATED).any(axis=0), structure=within)
    if not number:
        return
    inside = groups > 0
    for plane in planes:
        means = ndimage.mean(plane, groups, np.arange(1, number + 1))
        plane[inside] = means[groups[inside] - 1]
