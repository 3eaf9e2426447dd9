"""A model from nanomaggies to probabilities as one torch module, for export to other engines.

`Preprocessing` and the network; and, for an exported file, the rules of `cutouts.quality`, the
magnitude of `imaging.photometry` and the temperature of `model.temperature` in operators that ONNX
has. Tests compare each with its original.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from gqs.cutouts.preprocessing import FLUX_LIMIT, Preprocessing
from gqs.cutouts.quality import CENTRE, MOST_MASKED
from gqs.imaging import photometry
from gqs.model.temperature import Temperature
from gqs.networks.embedding import embed
from gqs.surveys.sdss import CUTOUT_SIZE, REFERENCE_BAND, SOFTENING

FAR: Final = 3e38  # replaces infinity, which engines treat differently
_FEW: Final = 100  # sky pixels below which photometry assumes a sky of zero
_POGSON: Final = 2.5 / math.log(10)


class LogitModel(nn.Module):
    """From cutouts to logits and embedding."""

    noise: Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network, self.preprocessing = network, preprocessing
        self.register_buffer("noise", torch.tensor(preprocessing.noise)[:, None, None])

    def forward(self, images: Tensor, seeing: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, band, 50, 50) nanomaggies, NaN where masked -> (n, 3) logits, (n, d) embedding."""
        return embed(self.network, self.channels(images, seeing))

    def channels(self, images: Tensor, seeing: Tensor | None = None) -> Tensor:
        """The network's input channels, equal to those of `Preprocessing`."""
        if self.preprocessing.form == "paper":
            return images.float() / 127.5 - 1
        valid = images.abs() < FAR
        flux = torch.where(valid, images / self.noise, 0.0).clamp(-FLUX_LIMIT, FLUX_LIMIT)
        if self.preprocessing.stretch == "asinh":
            flux = torch.asinh(flux)
        planes = [flux, valid.float()]
        if seeing is not None:
            known = torch.where(seeing.abs() < FAR, seeing, 0.0)
            planes.append(known[:, :, None, None].expand_as(flux))
        return torch.cat(planes, dim=1)

    def example(self, n: int = 2) -> tuple[Tensor, ...]:
        """Example inputs: images, and the seeing if the network uses it."""
        bands = len(self.preprocessing.bands)
        if self.preprocessing.form == "paper":
            steps = torch.arange(n * 3 * CUTOUT_SIZE**2) % 251
            return (steps.to(torch.uint8).view(n, 3, CUTOUT_SIZE, CUTOUT_SIZE),)
        images = torch.linspace(-1, 9, n * bands * CUTOUT_SIZE**2)
        images = images.view(n, bands, CUTOUT_SIZE, CUTOUT_SIZE)
        return (images, torch.full((n, bands), 1.3))[: 1 + self.preprocessing.seeing]


class ExportedModel(nn.Module):
    """From cutouts to calibrated probabilities, NaN for cutouts that cannot be classified."""

    aperture: Tensor  # (k,) fraction of each pixel inside the aperture
    points: Tensor  # (k,) the same as whole numbers of points

    def __init__(self, whole: LogitModel, temperature: Temperature) -> None:
        super().__init__()
        self.whole, self.temperature = whole, temperature
        self.form = whole.preprocessing.form
        self.reference = whole.preprocessing.reference
        points = photometry.aperture_points(photometry.RADIUS).ravel()
        self.inside = np.flatnonzero(points).tolist()
        points = points[points > 0]
        self.register_buffer("points", torch.tensor(points, dtype=torch.float32))
        self.register_buffer(
            "aperture", torch.tensor(points / photometry.POINTS, dtype=torch.float32)
        )
        step = np.arange(CUTOUT_SIZE) - photometry.CENTRE
        far = np.hypot(step[:, None], step).ravel() > photometry.SKY_RADIUS
        self.rim = np.flatnonzero(far).tolist()

    def forward(
        self, images: Tensor, seeing: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(n, band, 50, 50) -> (n, 3) probabilities, (n, 3) logits, (n, d) embedding."""
        logits, embedding = self.whole(images, seeing)
        probabilities = torch.softmax(logits / self.softness(images)[:, None], dim=1)
        judged = self.judgeable(images)[:, None]
        return torch.where(judged, probabilities, torch.nan), logits, embedding

    def judgeable(self, images: Tensor) -> Tensor:
        """Whether each cutout can be classified, (n,); the rule of `cutouts.quality`."""
        if self.form == "paper":
            plain = images.float()
            return plain.amax((1, 2, 3)) > plain.amin((1, 2, 3))
        valid = images.abs() < FAR
        r, seen = images[:, self.reference], valid[:, self.reference]
        differs = torch.where(seen, r, -FAR).amax((1, 2)) > torch.where(seen, r, FAR).amin((1, 2))
        centre = seen[:, CENTRE, CENTRE].float().sum((1, 2)) > (CENTRE.stop - CENTRE.start) ** 2 - 1
        pixels = len(self.whole.preprocessing.bands) * CUTOUT_SIZE**2
        enough = valid.float().sum((1, 2, 3)) >= (1 - MOST_MASKED) * pixels
        return differs & centre & enough

    def softness(self, images: Tensor) -> Tensor:
        """Temperature at each cutout's r magnitude, (n,); as `model.temperature.Temperature`."""
        overall = torch.full_like(images[:, 0, 0, 0].float(), self.temperature.overall)
        knots, values = self.temperature.knots, np.log(self.temperature.at_knots)
        if self.form == "paper" or not knots:
            return overall
        magnitude, measured = self.magnitude(images[:, self.reference].flatten(1))
        logs = torch.full_like(magnitude, float(values[0]))
        for i in range(len(knots) - 1):
            slope = float((values[i + 1] - values[i]) / (knots[i + 1] - knots[i]))
            along = torch.relu(magnitude - knots[i]) - torch.relu(magnitude - knots[i + 1])
            logs = logs + slope * along
        return torch.where(measured, torch.exp(logs), overall)

    def magnitude(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Asinh magnitudes (n,) of r pixels (n, 2500), and which are valid; as `photometry`."""
        rim = pixels[:, self.rim]
        seen = rim.abs() < FAR
        count = seen.float().sum(1, keepdim=True)
        ordered = torch.where(seen, rim, FAR).sort(dim=1).values
        middle = ((count - 1) * 0.5).clamp_min(0).long()  # the lower of two, as in photometry
        sky = torch.where(count >= _FEW, ordered.gather(1, middle), 0.0)
        inside = pixels[:, self.inside]
        valid = inside.abs() < FAR
        mirror = inside.flip(1)  # the aperture is symmetric through the centre
        above = torch.where(valid, inside, torch.where(mirror.abs() < FAR, mirror, sky)) - sky
        # Sums of whole numbers below 2^24 are exact: the decision never depends on rounding.
        masked = (~valid).float() @ self.points
        flux = above @ self.aperture
        softening = SOFTENING[REFERENCE_BAND]
        magnitude = -_POGSON * (torch.asinh(flux * (1e-9 / (2 * softening))) + math.log(softening))
        return magnitude, masked <= photometry.MOST_MASKED * self.points.sum()
