"""What happens to cutouts before a network sees them; the same in training and in use.

`Preprocessing` defines the order of bands, the seeing, which cutouts are usable and the magnitude.
`gqs.cutouts.channels` turns the result into tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gqs.cutouts.quality import quality_flags
from gqs.errors import UsageError
from gqs.imaging.photometry import aperture_magnitudes
from gqs.surveys.sdss import CUTOUT_SIZE, REFERENCE_BAND, SKY_NOISE, like, store_bands

FORMS: Final = ("flux", "paper")
STRETCHES: Final = ("linear", "asinh")
# Sky noises; far beyond any star that is not saturated (2e5), and squares stay finite in float32.
FLUX_LIMIT: Final = 1e7


class Inputs(NamedTuple):
    """Cutouts in a network's own order of bands."""

    images: NDArray[Any]  # (n, band, 50, 50) nanomaggies, NaN where masked; or (n, 3, 50, 50) uint8
    seeing: NDArray[np.float64]  # (n, band) arcsec, NaN where not known
    usable: NDArray[np.bool_]  # (n,) whether a cutout can be classified
    complete: NDArray[np.bool_]  # (n,) whether every band of the network shows something


@dataclass(frozen=True)
class Preprocessing:
    """What is done to cutouts before a network sees them; the same in training and in use.

    Attributes
    ----------
    form : str
        "flux": nanomaggies with NaN where masked. "paper": 8-bit red, green and blue.
    bands : str
        Bands of the network, in the order of the images' planes; for the form "paper" the picture
        is always made of i, r and g.
    stretch : str
        Of flux in units of a pixel's sky noise (`sdss.SKY_NOISE`): "linear" leaves it, "asinh"
        takes its inverse hyperbolic sine. The paper's picture is already stretched.
    seeing : bool
        Whether the network gets the seeing: a constant plane a band after the masks, arcsec, 0
        where it is not known. A small galaxy in good seeing looks like a star in bad seeing, and
        one cutout alone cannot tell which it is.

    Raises
    ------
    UsageError
        If form, bands or stretch is unknown.
    """

    form: str
    bands: str
    stretch: str
    seeing: bool = False

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise UsageError(f"Unknown form {self.form!r}. The forms are {', '.join(FORMS)}.")
        if self.stretch not in STRETCHES:
            raise UsageError(
                f"Unknown stretch {self.stretch!r}. The stretches are {', '.join(STRETCHES)}."
            )
        store_bands(self.bands)

    @property
    def planes(self) -> int:
        """Planes of one image: one a band, or the three colours."""
        return 3 if self.form == "paper" else len(self.bands)

    @property
    def channels(self) -> int:
        """Channels that a network gets: flux, mask and perhaps seeing a band, or the colours."""
        return 3 if self.form == "paper" else (2 + self.seeing) * len(self.bands)

    @property
    def masks(self) -> int:
        """How many channels are masks; they follow as many channels of flux."""
        return 0 if self.form == "paper" else len(self.bands)

    @property
    def noise(self) -> list[float]:
        """Sky noise of each band's pixel, nanomaggies: the unit of flux."""
        return [SKY_NOISE[like(band)] for band in self.bands]

    @property
    def reference(self) -> int:
        """Position of the r band among the planes; of the first band where there is no r."""
        return max(self.bands.find(REFERENCE_BAND), 0)

    def shared_bands(self, bands: str) -> str:
        """Those of the network's bands that are given, in its order; all of a colour picture."""
        return "".join(band for band in self.bands if band in bands or self.form == "paper")

    def inputs(
        self,
        flux: NDArray[Any],
        bands: str,
        seeing: NDArray[np.floating] | None = None,
        keep: str | None = None,
        area: float = 1.0,
    ) -> Inputs:
        """Put cutouts into the network's order of bands; what is missing becomes NaN.

        `bands` are those of `flux` and of `seeing`, (n, band) or (band,) arcsec; `keep` names the
        only ones to use, as if the others were missing; `area` is the fraction of a cutout that
        was observed, where smaller images were padded.
        """
        used = bands if keep is None else "".join(band for band in bands if band in keep)
        images = self.arrange(flux, bands, used)
        return Inputs(
            images,
            self._arrange_seeing(len(images), bands, seeing, used),
            self._usable(images, used, area),
            self._complete(images),
        )

    def arrange(self, flux: NDArray[Any], bands: str, used: str | None = None) -> NDArray[Any]:
        """Put images into the network's order of bands, with NaN for bands that are missing."""
        self._check_flux(flux, bands)
        if self.form == "paper":
            return flux
        return arrange_bands(flux, bands, self.bands, bands if used is None else used)

    def _arrange_seeing(
        self, n: int, bands: str, seeing: NDArray[np.floating] | None, used: str
    ) -> NDArray[np.float64]:
        arranged = np.full((n, len(self.bands)), np.nan)
        if seeing is not None and self.form == "flux":
            given = np.broadcast_to(np.asarray(seeing, dtype=np.float64), (n, len(bands)))
            for i, band in enumerate(self.bands):
                if band in used:
                    arranged[:, i] = given[:, bands.index(band)]
        return arranged

    def _usable(self, images: NDArray[Any], used: str, area: float) -> NDArray[np.bool_]:
        """Whether each cutout can be classified by the bands that are there, (n,)."""
        if self.form == "paper":
            return np.asarray(images.max(axis=(1, 2, 3)) > images.min(axis=(1, 2, 3)))
        shared = self.shared_bands(used)
        planes = [self.bands.index(band) for band in shared]
        return np.asarray(quality_flags(images[:, planes], shared, area) == 0)

    def _complete(self, images: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each cutout shows something in every band, (n,)."""
        if self.form == "paper":
            return np.ones(len(images), dtype=bool)
        return np.asarray(np.isfinite(images).any(axis=(2, 3)).all(axis=1))

    def magnitudes(self, flux: NDArray[Any], bands: str) -> NDArray[np.float64]:
        """Asinh r magnitudes within 3 arcsec, (n,); NaN for a picture or without r."""
        if self.form == "paper" or REFERENCE_BAND not in bands:
            return np.full(len(flux), np.nan)
        r = bands.index(REFERENCE_BAND)
        plane = flux[:, r : r + 1].astype(np.float32, copy=False)
        plane = np.where(np.isfinite(plane), plane, np.nan)
        return aperture_magnitudes(plane, REFERENCE_BAND)[0][:, 0]

    def _check_flux(self, flux: NDArray[Any], bands: str) -> None:
        """Refuse cutouts whose shape or type does not fit their bands."""
        got = f"got {flux.dtype} {flux.shape}."
        if self.form == "paper":
            if flux.dtype != np.uint8 or flux.ndim != 4 or flux.shape[1] != 3:
                raise UsageError(
                    "This model takes 8-bit colour pictures "
                    f"(n, 3, {CUTOUT_SIZE}, {CUTOUT_SIZE}); {got}"
                )
            return
        store_bands(bands)
        shape = (len(bands), CUTOUT_SIZE, CUTOUT_SIZE)
        if flux.ndim != 4 or flux.shape[1:] != shape or flux.dtype.kind not in "fiu":
            raise UsageError(
                f"Cutouts for bands {bands!r} must be numbers (n, {', '.join(map(str, shape))}); "
                f"{got}"
            )
        if flux.dtype == np.uint8:
            raise UsageError("Cutouts are 8-bit pictures, which hold no flux. Give nanomaggies.")

    def check_images(self, images: NDArray[Any]) -> None:
        """Refuse images that are not in the network's form and order of bands."""
        eight_bit = images.dtype == np.uint8
        if (
            images.ndim != 4
            or images.shape[1] != self.planes
            or eight_bit != (self.form == "paper")
        ):
            raise UsageError(
                f"Preprocessing for form {self.form!r} and bands {self.bands!r} got "
                f"{images.dtype} {images.shape}; it takes (n, {self.planes}, rows, columns)."
            )


def arrange_bands(
    flux: NDArray[Any], bands: str, order: str, used: str | None = None
) -> NDArray[np.float32]:
    """Put (n, band, 50, 50) flux into another order of bands, NaN where missing or not finite.

    `used` names the only bands to take; by default all of them.
    """
    images = np.full((len(flux), len(order), *flux.shape[2:]), np.nan, dtype=np.float32)
    for i, band in enumerate(order):
        if band in bands and (used is None or band in used):
            images[:, i] = flux[:, bands.index(band)]
    images[~np.isfinite(images)] = np.nan
    return images
