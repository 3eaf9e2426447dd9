"""The small network: photometry as a layer, joined with a small convolutional trunk.

Magnitudes and colours separate the classes best, but convolutions learn them slowly; shapes,
neighbours and artefacts are what convolutions learn well. The network therefore measures the former
with fixed weights (`gqs.networks.measure`). It takes any bands with their masks.
"""

from __future__ import annotations

from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from gqs.errors import UsageError
from gqs.labels import CLASSES
from gqs.networks.measure import Measure, extension_features

TRUNK_SIZE: Final = 40  # pixels a side, around the centre; the apertures use the whole cutout
SOFT: Final = 2.0  # pixel value, in sky noises, where asinh turns from linear to logarithmic


class Compact(nn.Module):
    """Measured features and a convolutional trunk to (n, 3) logits."""

    last_layers: ClassVar[str] = "head"  # their input is the embedding

    def __init__(
        self,
        channels: int = 10,
        width: int = 16,
        hidden: int = 256,
        dropout: float = 0.3,
        seeing: bool = False,
    ) -> None:
        super().__init__()
        per_band = 3 if seeing else 2
        if channels < per_band or channels % per_band:
            names = "a flux, a mask and a seeing" if seeing else "a flux and a mask"
            raise UsageError(
                f"Network 'compact' takes {names} channel for each band, not {channels} channels. "
                "Use cutouts of form 'flux'."
            )
        self.bands, self.dropout, self.seeing = channels // per_band, dropout, seeing
        self.measure = Measure(self.bands)
        extension = extension_features(self.bands) if seeing else 0
        self.dense = nn.Sequential(
            nn.Linear(self.measure.features + extension, hidden),
            nn.BatchNorm1d(hidden),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Dropout(dropout),
        )
        self.trunk = nn.Sequential(
            nn.Conv2d(2 * self.bands, width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.SiLU(inplace=True),
            _Residual(width),
            _down(width, 2 * width),
            _Residual(2 * width),
            _down(2 * width, 4 * width),
            _Residual(4 * width),
        )
        self.head = nn.Sequential(
            nn.Linear(hidden + 8 * width, hidden),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, len(CLASSES)),
        )

    def fit(self, x: Tensor) -> None:
        """Set the constants of the measured features from cutouts of the training set."""
        self.measure.fit(x[:, : self.bands], x[:, self.bands : 2 * self.bands])

    def forward(self, x: Tensor) -> Tensor:
        """(n, channel, 50, 50) -> (n, 3) logits in the order of `gqs.labels`."""
        flux, mask = x[:, : self.bands], x[:, self.bands : 2 * self.bands]
        features = self.measure(flux, mask)
        if self.seeing:
            seeing = x[:, 2 * self.bands :, 0, 0]
            features = torch.cat([features, self.measure.extension(flux, mask, seeing)], dim=1)
        measured = self.dense(features)
        edge = (x.shape[-1] - TRUNK_SIZE) // 2
        centre = slice(edge, edge + TRUNK_SIZE)
        flux, mask = flux[..., centre, centre], mask[..., centre, centre]
        maps = self.trunk(torch.cat([_asinh(flux * mask / SOFT), mask], dim=1))
        pooled = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
        pooled = nn.functional.dropout(pooled, self.dropout, self.training)
        logits: Tensor = self.head(torch.cat([measured, pooled], dim=1))
        return logits


def _asinh(x: Tensor) -> Tensor:
    """asinh by logarithms, to 1e-7: torch's own is not vectorised and took a third of inference."""
    return (x.abs() + (x * x + 1).sqrt()).log() * x.sign()


class _Residual(nn.Module):
    """x -> silu(x + bn(3x3(silu(bn(3x3(x))))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.SiLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(x + self.body(x))


def _down(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.SiLU(inplace=True),
    )
