"""From cutouts to a network's channels: flux in sky noises, masks beside it, never NaN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gqs.errors import UsageError
from gqs.surveys.sdss import SKY_NOISE, check_bands

FORMS: Final = ("flux", "paper")
STRETCHES: Final = ("linear", "asinh")
# Far beyond any star that is not saturated (2e5); keeps sums of squares finite in float32.
MOST: Final = 1e7
CPU: Final = torch.device("cpu")


def onto(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a CPU tensor to a device, asynchronously from pinned memory where it is a GPU."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@dataclass(frozen=True)
class Preprocessing:
    """What is done to cutouts before a network sees them; the same in training and in use.

    Attributes
    ----------
    form : str
        "flux": nanomaggies with NaN where masked. "paper": 8-bit red, green and blue.
    bands : str
        In the order of the images' planes; "irg" goes into the paper's picture, whatever is said.
    stretch : str
        Of flux, in units of the sky noise of a pixel (`sdss.SKY_NOISE`): "linear" leaves it,
        "asinh" takes its inverse hyperbolic sine. The paper's picture is stretched already.
    seeing : bool
        Whether a network is told the seeing: a constant plane a band after the masks, arcsec, 0
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
        check_bands(self.bands)

    @property
    def channels(self) -> int:
        """Channels that a network gets: flux, mask and perhaps seeing a band, or the colours."""
        return 3 if self.form == "paper" else (2 + self.seeing) * len(self.bands)

    @property
    def masks(self) -> int:
        """How many channels are masks; they follow as many of flux."""
        return 0 if self.form == "paper" else len(self.bands)

    def __call__(
        self,
        images: NDArray[Any],
        device: torch.device = CPU,
        seeing: NDArray[np.floating] | None = None,
    ) -> Tensor:
        """Turn images into channels: (n, channel, 50, 50) float32, finite: stretched flux, 0 where
        masked, then the masks, 1 where a pixel is valid, then planes of seeing; or colours from
        -1 to 1.
        """
        planes = 3 if self.form == "paper" else len(self.bands)
        eight_bit = images.dtype == np.uint8
        if images.ndim != 4 or images.shape[1] != planes or eight_bit != (self.form == "paper"):
            raise UsageError(
                f"Preprocessing for form {self.form!r} and bands {self.bands!r} got "
                f"{images.dtype} {images.shape}; it takes (n, {planes}, rows, columns)."
            )
        if eight_bit:
            # Mean and spread 0.5, as the paper's time did by habit; it prints none of its own.
            return onto(torch.from_numpy(images.copy()), device).float().div_(127.5).sub_(1)
        flux = onto(torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)), device)
        valid = torch.isfinite(flux)
        noise = torch.tensor([SKY_NOISE[band] for band in self.bands])[:, None, None]
        flux = torch.where(valid, flux / onto(noise, device), 0.0).clamp_(-MOST, MOST)
        if self.stretch == "asinh":
            flux = torch.asinh(flux)
        if not self.seeing:
            return torch.cat([flux, valid.float()], dim=1)
        told = np.zeros(images.shape[:2]) if seeing is None else np.nan_to_num(seeing)
        planes_of = onto(torch.from_numpy(told.astype(np.float32)), device)[:, :, None, None]
        return torch.cat([flux, valid.float(), planes_of.expand_as(flux)], dim=1)
