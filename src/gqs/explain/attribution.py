"""What a judgement hangs on: each band left out, and each pixel's part in it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gqs.imaging.composite import PICTURE_BANDS
from gqs.model.classifier import Classifier
from gqs.surveys.sdss import REFERENCE_BAND

STEPS: Final = 64  # of the path from empty sky; the error of the sum is then about 1 %
BLACK: Final = -1.0  # a pixel without light in the channels of the paper's picture


def without_each_band(
    classifier: Classifier,
    images: NDArray[Any],
    bands: str,
    seeing: NDArray[np.float64] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Judge cutouts again with each band left out: (n, 3) probabilities by the band that is left
    out.
    """
    found = {}
    paper = classifier.form == "paper"
    mag_r = None if paper else classifier.preprocessing.magnitudes(images, bands)
    for i, band in enumerate(PICTURE_BANDS if paper else bands):
        if band not in classifier.bands or (band == REFERENCE_BAND and not paper):
            continue
        if paper:
            less = images.copy()
            less[:, i] = 0
            found[band] = classifier.predict_cutouts(less, bands, mag_r, seeing)
            continue
        others = [k for k in range(len(bands)) if k != i]
        widths = None if seeing is None else seeing[:, others]
        left = bands.replace(band, "")
        found[band] = classifier.predict_cutouts(images[:, others], left, mag_r, widths)
    return found


def evidence(
    classifier: Classifier, channels: Tensor, target: int, steps: int = STEPS
) -> tuple[NDArray[np.float32], float]:
    """Share a class's lead among the pixels of one cutout.

    Integrated gradients (Sundararajan, Taly & Yan 2017, arXiv:1703.01365) of the lead of a class,
    its logit less the mean of all, from empty sky to the cutout. Flux brightens along the path as
    its asinh does: along flux itself all would happen in the first hundredth of it.
    """
    prepare = classifier.preprocessing
    device = next(classifier.network.parameters()).device
    planes = 3 if prepare.form == "paper" else len(prepare.bands)
    light, rest = channels[:, :planes].to(device), channels[:, planes:].to(device)
    linear = prepare.form == "flux" and prepare.stretch == "linear"
    if linear:
        light = torch.asinh(light)
    empty = torch.full_like(light, BLACK if prepare.form == "paper" else 0.0)

    def lead_of(at: Tensor) -> Tensor:
        seen = torch.sinh(at) if linear else at
        logits = classifier.network(torch.cat([seen, rest.expand(len(at), -1, -1, -1)], dim=1))
        return torch.as_tensor(logits[:, target] - logits.mean(dim=1)).double()

    total = torch.zeros_like(light, dtype=torch.float64)
    for some in torch.split((torch.arange(steps) + 0.5) / steps, 16):
        share = some[:, None, None, None].to(device)
        at = (empty + share * (light - empty)).requires_grad_()
        (slope,) = torch.autograd.grad(lead_of(at).sum(), at)
        total += slope.double().sum(dim=0, keepdim=True)
    with torch.no_grad():
        lead = float(lead_of(light) - lead_of(empty))
    pixels = (total * (light - empty) / steps)[0]
    return pixels.float().cpu().numpy(), lead
