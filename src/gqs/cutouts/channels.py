"""From prepared cutouts to a network's channels: flux in sky noises, masks beside it, never NaN."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gqs.cutouts.preprocessing import FLUX_LIMIT, Preprocessing

CPU: Final = torch.device("cpu")


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a CPU tensor to a device, asynchronously from pinned memory where it is a GPU."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def to_channels(
    preprocessing: Preprocessing,
    images: NDArray[Any],
    seeing: NDArray[np.floating] | None = None,
    device: torch.device = CPU,
) -> Tensor:
    """Turn images into a network's input, (n, channel, 50, 50) float32, always finite.

    Flux: stretched flux, 0 where masked; then the masks, 1 where a pixel is valid; then a constant
    plane of the (n, band) seeing for each band. Picture: colours from -1 to 1.
    """
    preprocessing.check_images(images)
    if preprocessing.form == "paper":
        # Mean and spread 0.5, the custom of the paper's time; the paper prints no normalisation.
        return to_device(torch.from_numpy(images.copy()), device).float().div_(127.5).sub_(1)
    flux = to_device(torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)), device)
    valid = torch.isfinite(flux)
    noise = torch.tensor(preprocessing.noise)[:, None, None]
    flux = torch.where(valid, flux / to_device(noise, device), 0.0).clamp_(-FLUX_LIMIT, FLUX_LIMIT)
    if preprocessing.stretch == "asinh":
        flux = torch.asinh(flux)
    if not preprocessing.seeing:
        return torch.cat([flux, valid.float()], dim=1)
    known = np.zeros(images.shape[:2]) if seeing is None else np.nan_to_num(seeing)
    planes = to_device(torch.from_numpy(known.astype(np.float32)), device)[:, :, None, None]
    return torch.cat([flux, valid.float(), planes.expand_as(flux)], dim=1)
