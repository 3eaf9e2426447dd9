"""ResNet50-GQS, the paper's network, and the steps that lead to it. Paper 2.3, Table 2.

Where the paper contradicts itself or gives no detail:

- Table 2 prints conv2's output as 13x13x96. Its units have 384 output channels, and only with 384
  do the following stages have the printed shapes. We use 384.
- The unit (Figure 8 and the text): 3x3 convolution, BN; 1x1 convolution to 4w, ReLU; 1x1
  convolution, SE; plus the shortcut; f = ReLU of the sum, eq. (1). No ReLU after the first
  convolution is mentioned, so there is none.
- The 1x1 convolutions have a bias, as no BN follows; the 3x3 convolution has none.
- W_s is ResNet's: 1x1 convolution and BN where the shape changes. The paper removes ReLU and BN
  from the residual branch and does not mention the shortcut or the stem, which keep theirs.
- The stride of a stage is that of the first unit's 3x3 convolution, its only spatial one.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from gqs.networks.attention import UNIT_ATTENTION
from gqs.networks.resnet import Bottleneck, ResNet, Unit, add_shortcut, convolution, shortcut

DEPTHS: Final = (3, 4, 6, 3)
WIDTHS: Final = (96, 192, 384, 768)  # those of Swin-T and ConvNeXt-T


class SpatialFirst(Unit):
    """x -> relu(W_s x + F(x)), F = 3x3, 1x1 to 4w, 1x1; BN and ReLU as in ResNet50.

    The step before `ImprovedUnit`: order and widths of Figure 8, with every BN and ReLU.
    """

    expansion = 4

    def __init__(self, before: int, width: int, stride: int, attention: str) -> None:
        super().__init__(before, width, stride, attention)
        wide = width * self.expansion
        self.conv1, self.bn1 = convolution(before, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = convolution(width, wide, 1), nn.BatchNorm2d(wide)
        self.conv3, self.bn3 = convolution(wide, wide, 1), nn.BatchNorm2d(wide)
        self.relu = nn.ReLU(inplace=True)
        self.attention = UNIT_ATTENTION[attention](wide)
        self.downsample = shortcut(before, wide, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, h, w) -> (n, 4 width, h / stride, w / stride)."""
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.attention(self.bn3(self.conv3(residual)))
        return add_shortcut(residual, x if self.downsample is None else self.downsample(x))


class ImprovedUnit(Unit):
    """x -> relu(W_s x + F(x)), F = 3x3, BN, 1x1 to 4w, ReLU, 1x1, SE. Paper eq. (1), Figure 8."""

    expansion = 4

    def __init__(self, before: int, width: int, stride: int, attention: str) -> None:
        super().__init__(before, width, stride, attention)
        wide = width * self.expansion
        self.conv1, self.bn1 = convolution(before, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, wide, 1)
        self.conv3 = nn.Conv2d(wide, wide, 1)
        self.relu = nn.ReLU(inplace=True)
        self.attention = UNIT_ATTENTION[attention](wide)
        self.downsample = shortcut(before, wide, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, h, w) -> (n, 4 width, h / stride, w / stride)."""
        residual = self.relu(self.conv2(self.bn1(self.conv1(x))))
        residual = self.attention(self.conv3(residual))
        return add_shortcut(residual, x if self.downsample is None else self.downsample(x))


def resnet50_gqs(channels: int = 3) -> ResNet:
    """ResNet50-GQS: 156.3 M weights. Paper, Table 2."""
    return ResNet(ImprovedUnit, DEPTHS, channels, "se", WIDTHS, patch_stem=True)


def resnet50_se_stem(channels: int = 3) -> ResNet:
    """ResNet50-SE with the stem of ResNet50-GQS: the first step."""
    return ResNet(Bottleneck, DEPTHS, channels, "se", patch_stem=True)


def resnet50_se_stem_widths(channels: int = 3) -> ResNet:
    """The first step with the widths of ResNet50-GQS: the second step."""
    return ResNet(Bottleneck, DEPTHS, channels, "se", WIDTHS, patch_stem=True)


def resnet50_se_stem_widths_3x3(channels: int = 3) -> ResNet:
    """The second step with the 3x3 convolution first; fewer ReLU and BN then give ResNet50-GQS."""
    return ResNet(SpatialFirst, DEPTHS, channels, "se", WIDTHS, patch_stem=True)
