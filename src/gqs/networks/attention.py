"""Attention modules that the paper adds to ResNet: SE, ECA and CBAM. Paper 2.3, Figures 4-6."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    """Reweight channels by their means over the image. Hu et al. 2018, Figure 4.

    s = sigmoid(W2 relu(W1 mean(x))), W1 to C/16 channels; out = s x. (n, C, h, w) -> the same.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction)
        self.excite = nn.Linear(channels // reduction, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x with its channels multiplied by numbers in (0, 1)."""
        mean = x.mean(dim=(2, 3))
        scale = torch.sigmoid(self.excite(torch.relu(self.squeeze(mean))))
        return x * scale[:, :, None, None]


class EfficientChannelAttention(nn.Module):
    """Reweight channels by the means of neighbouring channels. Wang et al. 2020, Figure 5.

    s = sigmoid(conv1d_k(mean(x))), k = (log2 C + 1) / 2 rounded down, then up to an odd number.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = int(abs((math.log2(channels) + 1) / 2))  # Wang et al. eq. 12, gamma = 2 and b = 1
        size += (size + 1) % 2
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x with its channels multiplied by numbers in (0, 1)."""
        mean = x.mean(dim=(2, 3))[:, None, :]
        return x * torch.sigmoid(self.conv(mean))[:, 0, :, None, None]


class ConvolutionalBlockAttention(nn.Module):
    """Reweight channels, then pixels. Woo et al. 2018 (CBAM), Figure 6.

    Channels: sigmoid(MLP(mean) + MLP(max)); pixels: sigmoid(conv7x7([mean; max] over channels)).
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(channels, channels // reduction),
            nn.ReLU(),
            nn.Linear(channels // reduction, channels),
        )
        self.place = nn.Conv2d(2, 1, kernel_size=7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x multiplied by numbers in (0, 1) for each channel and for each pixel."""
        channel = torch.sigmoid(self.mlp(x.mean(dim=(2, 3))) + self.mlp(x.amax(dim=(2, 3))))
        x = x * channel[:, :, None, None]
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.place(summary))


# After the last convolution of every residual unit (paper 2.3); CBAM follows the stem and the last
# stage instead.
UNIT_ATTENTION: Final[dict[str, Callable[[int], nn.Module]]] = {
    "none": lambda channels: nn.Identity(),
    "se": SqueezeExcitation,
    "eca": EfficientChannelAttention,
    "cbam": lambda channels: nn.Identity(),
}
