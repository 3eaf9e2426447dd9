"""ResNet, with and without attention, for small cutouts. He et al. 2016; paper 2.2, Figures 2-3.

Parameters have torchvision's names, so that weights can be exchanged; tests compare the outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from gqs.labels import CLASSES
from gqs.networks.attention import UNIT_ATTENTION, ConvolutionalBlockAttention

Attention = Literal["none", "se", "eca", "cbam"]


def convolution(before: int, after: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Convolution without bias (a batch norm follows) that keeps the size at stride 1."""
    return nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)


def shortcut(before: int, after: int, stride: int) -> nn.Sequential | None:
    """W_s of eq. (1): 1x1 convolution and batch norm if the shape changes, else None."""
    if stride == 1 and before == after:
        return None
    return nn.Sequential(convolution(before, after, 1, stride), nn.BatchNorm2d(after))


def add_shortcut(residual: Tensor, shortcut: Tensor) -> Tensor:
    """f(W_s x + F(x)), f = ReLU. Paper eq. (1)."""
    return torch.relu_(residual + shortcut)


class Unit(nn.Module):
    """A residual unit: (channels before, width, stride, attention) to `expansion` x width."""

    expansion: ClassVar[int] = 1

    def __init__(self, before: int, width: int, stride: int, attention: str) -> None:
        super().__init__()


class BasicBlock(Unit):
    """x -> relu(W_s x + F(x)), F = 3x3, 3x3. Paper eq. (1), Figure 2."""

    expansion = 1

    def __init__(self, before: int, width: int, stride: int, attention: str) -> None:
        super().__init__(before, width, stride, attention)
        self.conv1, self.bn1 = convolution(before, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = convolution(width, width, 3), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.attention = UNIT_ATTENTION[attention](width)
        self.downsample = shortcut(before, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, h, w) -> (n, width, h / stride, w / stride)."""
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.attention(self.bn2(self.conv2(residual)))
        return add_shortcut(residual, x if self.downsample is None else self.downsample(x))


class Bottleneck(Unit):
    """x -> relu(W_s x + F(x)), F = 1x1, 3x3, 1x1 to four times the width. Eq. (1), Figure 3.

    The stride is that of the 3x3 convolution, as in torchvision and most ResNets today.
    """

    expansion = 4

    def __init__(self, before: int, width: int, stride: int, attention: str) -> None:
        super().__init__(before, width, stride, attention)
        wide = width * self.expansion
        self.conv1, self.bn1 = convolution(before, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = convolution(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = convolution(width, wide, 1), nn.BatchNorm2d(wide)
        self.relu = nn.ReLU(inplace=True)
        self.attention = UNIT_ATTENTION[attention](wide)
        self.downsample = shortcut(before, wide, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, h, w) -> (n, 4 width, h / stride, w / stride)."""
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.attention(self.bn3(self.conv3(residual)))
        return add_shortcut(residual, x if self.downsample is None else self.downsample(x))


class ResNet(nn.Module):
    """Stem, four stages of residual units, mean over pixels, one linear layer."""

    def __init__(
        self,
        unit: type[Unit],
        depths: Sequence[int],
        channels: int = 3,
        attention: Attention = "none",
        widths: Sequence[int] = (64, 128, 256, 512),
        patch_stem: bool = False,
    ) -> None:
        super().__init__()
        first = widths[0]
        if patch_stem:  # 50 -> 13 pixels, as with 7x7 and pooling, without overlap
            self.conv1 = nn.Conv2d(channels, first, 4, stride=4, padding=2, bias=False)
            self.maxpool: nn.Module = nn.Identity()
        else:
            self.conv1 = nn.Conv2d(channels, first, 7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.bn1, self.relu = nn.BatchNorm2d(first), nn.ReLU(inplace=True)
        self.stem_attention = _cbam(attention, first)
        before = first
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
            units = []
            for position in range(depth):
                stride = 2 if number > 1 and position == 0 else 1
                units.append(unit(before, width, stride, attention))
                before = width * unit.expansion
            setattr(self, f"layer{number}", nn.Sequential(*units))
        self.last_attention = _cbam(attention, before)
        self.fc = nn.Linear(before, len(CLASSES))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(n, channel, 50, 50) -> (n, 3) logits in the order of `gqs.labels`."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.stem_attention(x)
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        logits: Tensor = self.fc(self.last_attention(x).mean(dim=(2, 3)))
        return logits


def _cbam(attention: str, channels: int) -> nn.Module:
    return ConvolutionalBlockAttention(channels) if attention == "cbam" else nn.Identity()


def resnet18(channels: int = 3, attention: Attention = "none") -> ResNet:
    """ResNet18: 11.2 M weights."""
    return ResNet(BasicBlock, (2, 2, 2, 2), channels, attention)


def resnet34(channels: int = 3, attention: Attention = "none") -> ResNet:
    """ResNet34: 21.3 M weights."""
    return ResNet(BasicBlock, (3, 4, 6, 3), channels, attention)


def resnet50(channels: int = 3, attention: Attention = "none") -> ResNet:
    """ResNet50: 23.5 M weights."""
    return ResNet(Bottleneck, (3, 4, 6, 3), channels, attention)
