"""What a classification depends on: bands left out in turn, and contributions of the pixels."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gqs.imaging.composite import PICTURE_BANDS
from gqs.model.classifier import Classifier
from gqs.surveys.sdss import REFERENCE_BAND

STEPS: Final = 64  # on the path from empty sky; the error of the sum is then about 1 %
CHUNK: Final = 16  # steps in memory at a time
BLACK: Final = -1.0  # value of a black pixel in the channels of the paper's picture


def without_each_band(
    classifier: Classifier,
    images: NDArray[Any],
    bands: str,
    seeing: NDArray[np.float64] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Probabilities (n, 3) of cutouts with one band left out, by that band.

    A colour of the paper's picture is set to black instead; the r band of flux is always needed.
    """
    without = {}
    paper = classifier.form == "paper"
    mag_r = None if paper else classifier.preprocessing.magnitudes(images, bands)
    for i, band in enumerate(PICTURE_BANDS if paper else bands):
        if band not in classifier.bands or (band == REFERENCE_BAND and not paper):
            continue
        if paper:
            blackened = images.copy()
            blackened[:, i] = 0
            without[band] = classifier.predict_cutouts(blackened, bands, mag_r, seeing)
            continue
        kept = [k for k in range(len(bands)) if k != i]
        widths = None if seeing is None else seeing[:, kept]
        other_bands = bands.replace(band, "")
        without[band] = classifier.predict_cutouts(images[:, kept], other_bands, mag_r, widths)
    return without


def pixel_contributions(
    classifier: Classifier, channels: Tensor, target: int, steps: int = STEPS
) -> tuple[NDArray[np.float32], float]:
    """Contribution of each pixel (band, ny, nx) to the lead of a class, and the lead.

    The lead is the logit of the class minus the mean of the three logits, relative to empty sky.
    Integrated gradients (Sundararajan, Taly & Yan 2017, arXiv:1703.01365) along a path on which
    the source brightens as asinh of its flux; in flux all would happen in the first hundredth.
    """
    preprocessing = classifier.preprocessing
    device = next(classifier.network.parameters()).device
    paper = preprocessing.form == "paper"
    planes = 3 if paper else len(preprocessing.bands)
    light, rest = channels[:, :planes].to(device), channels[:, planes:].to(device)
    linear = not paper and preprocessing.stretch == "linear"
    if linear:
        light = torch.asinh(light)
    empty = torch.full_like(light, BLACK if paper else 0.0)

    def lead_of(at: Tensor) -> Tensor:
        pixels = torch.sinh(at) if linear else at
        logits = classifier.network(torch.cat([pixels, rest.expand(len(at), -1, -1, -1)], dim=1))
        return torch.as_tensor(logits[:, target] - logits.mean(dim=1)).double()

    total = torch.zeros_like(light, dtype=torch.float64)
    for chunk in torch.split((torch.arange(steps) + 0.5) / steps, CHUNK):
        fraction = chunk[:, None, None, None].to(device)
        at = (empty + fraction * (light - empty)).requires_grad_()
        (slope,) = torch.autograd.grad(lead_of(at).sum(), at)
        total += slope.double().sum(dim=0, keepdim=True)
    with torch.no_grad():
        lead = float(lead_of(light) - lead_of(empty))
    pixels = (total * (light - empty) / steps)[0]
    return pixels.float().cpu().numpy(), lead
