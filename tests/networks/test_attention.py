"""Attention modules against their formulas, written out with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gqs.networks.attention import (
    ConvolutionalBlockAttention,
    EfficientChannelAttention,
    SqueezeExcitation,
)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 32, 5, 7, generator=torch.Generator().manual_seed(2))


def test_squeeze_excitation_is_its_formula(x: torch.Tensor) -> None:
    module = SqueezeExcitation(32)
    assert module.squeeze.out_features == 2  # reduction 16
    w = {name: value.detach().numpy() for name, value in module.named_parameters()}
    mean = x.numpy().mean((2, 3))
    middle = np.maximum(mean @ w["squeeze.weight"].T + w["squeeze.bias"], 0)
    scale = sigmoid(middle @ w["excite.weight"].T + w["excite.bias"])
    expected = x.numpy() * scale[:, :, None, None]
    np.testing.assert_allclose(module(x).detach().numpy(), expected, atol=1e-6)


# Kernel sizes of Wang et al. 2020, eq. 12, for the channels of ResNet.
@pytest.mark.parametrize(
    ("channels", "size"), [(64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)]
)
def test_eca_kernel_sizes(channels: int, size: int) -> None:
    module = EfficientChannelAttention(channels)
    assert module.conv.kernel_size == (size,)


def test_eca_is_its_formula(x: torch.Tensor) -> None:
    module = EfficientChannelAttention(32)
    kernel = module.conv.weight.detach().numpy().ravel()
    mean = np.pad(x.numpy().mean((2, 3)), ((0, 0), (1, 1)))
    scale = sigmoid(np.stack([np.convolve(row, kernel[::-1], "valid") for row in mean]))
    expected = x.numpy() * scale[:, :, None, None]
    np.testing.assert_allclose(module(x).detach().numpy(), expected, atol=1e-6)


def test_cbam_weighs_channels_then_places(x: torch.Tensor) -> None:
    module = ConvolutionalBlockAttention(32)
    first, _, second = module.mlp

    def mlp(v: np.ndarray) -> np.ndarray:
        middle = np.maximum(v @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0)
        return middle @ second.weight.detach().numpy().T + second.bias.detach().numpy()

    values = x.numpy()
    scale = sigmoid(mlp(values.mean((2, 3))) + mlp(values.max((2, 3))))
    values = values * scale[:, :, None, None]
    summary = torch.from_numpy(np.stack([values.mean(1), values.max(1)], axis=1))
    places = torch.nn.functional.conv2d(summary, module.place.weight, padding=3)
    expected = values * sigmoid(places.detach().numpy())
    np.testing.assert_allclose(module(x).detach().numpy(), expected, atol=1e-6)
