"""What enters the last layers of a network: the layers after it make the logits of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gqs.networks import zoo
from gqs.networks.embedding import embed


def cutouts(n: int, channels: int) -> torch.Tensor:
    x = torch.randn(n, channels, 50, 50, generator=torch.Generator().manual_seed(n))
    if channels == 10:
        x[:, 5:] = 1
    return x


@pytest.mark.parametrize(
    ("name", "last", "width"),
    [
        ("compact", "head", 384),
        ("resnet18", "fc", 512),
        ("resnet18_cbam", "fc", 512),
        ("resnet50_se", "fc", 2048),
        ("swin_t", ".head", 768),
        ("vit_b_16", ".heads.head", 768),
    ],
)
def test_the_last_layers_make_the_logits_of_it(name: str, last: str, width: int) -> None:
    torch.manual_seed(5)
    channels = zoo.find(name).channels
    arguments = {"size": 64} if name in ("swin_t", "vit_b_16") else {}
    network = zoo.build(name, channels, **arguments).eval()
    x = cutouts(2, channels)
    with torch.no_grad():
        logits, embedding = embed(network, x)
        assert embedding.shape == (2, width) and embedding.dtype == torch.float32
        torch.testing.assert_close(logits, network(x), rtol=0, atol=0)
        (layer,) = [part for at, part in network.named_modules() if at.endswith(last)]
        decided = layer(embedding)
        torch.testing.assert_close(decided, logits, rtol=1e-5, atol=1e-5)
    assert not any(part._forward_pre_hooks for part in network.modules())


def test_a_network_without_a_linear_layer_is_embedded_by_its_logits() -> None:
    network = nn.Sequential(nn.Conv2d(4, 3, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    logits, embedding = embed(network, cutouts(3, 4))
    torch.testing.assert_close(embedding, logits)
