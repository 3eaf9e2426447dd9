"""Attention modules that the paper tries on ResNet: SE, ECA and CBAM. Paper 2.3, Figures 4-6."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    """Reweight channels by what the whole image holds of each. Hu et al. 2018, Figure 4.

    s = sigmoid(W2 relu(W1 mean(x))), W1 to C/16 channels; out = s x. (n, C, h, w) -> the same.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction)
        self.excite = nn.Linear(channels // reduction, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with its channels reweighted, each by a number in (0, 1)."""
        mean = x.mean(dim=(2, 3))
        scale = torch.sigmoid(self.excite(torch.relu(self.squeeze(mean))))
        return x * scale[:, :, None, None]


class EfficientChannelAttention(nn.Module):
    """Reweight channels by their neighbours' means alone. Wang et al. 2020, Figure 5.

    s = sigmoid(conv1d_k(mean(x))), k the odd number nearest to (log2 C + 1) / 2 from above.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = int(abs((math.log2(channels) + 1) / 2))  # their eq. 12, gamma = 2 and b = 1
        size += (size + 1) % 2
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with its channels reweighted, each by a number in (0, 1)."""
        mean = x.mean(dim=(2, 3))[:, None, :]
        return x * torch.sigmoid(self.conv(mean))[:, 0, :, None, None]


class ConvolutionalBlockAttention(nn.Module):
    """Reweight channels, then places. Woo et al. 2018 (CBAM), Figure 6.

    Channels: sigmoid(MLP(mean) + MLP(max)); places: sigmoid(conv7x7([mean; max] over channels)).
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
        """Return x reweighted by channel and by place; (n, C, h, w) stays so."""
        channel = torch.sigmoid(self.mlp(x.mean(dim=(2, 3))) + self.mlp(x.amax(dim=(2, 3))))
        x = x * channel[:, :, None, None]
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.place(summary))


# After the last convolution of every residual unit (paper 2.3); CBAM has its own two places.
IN_UNIT: Final[dict[str, Callable[[int], nn.Module]]] = {
    "none": lambda channels: nn.Identity(),
    "se": SqueezeExcitation,
    "eca": EfficientChannelAttention,
    "cbam": lambda channels: nn.Identity(),
}
