"""Every network by name, and what it costs. A new one is a line in this table.

Those with learned positions or windows of 7 x 7 tokens were made for 224 px, where torchvision
also puts their least input (`min_size` of its weights), and resize cutouts to it. All others take
the 50 px as they come. Table 5 says the same: batches of 32 for ViT and Swin alone; 256 pictures
of 224 px would not have fitted into the paper's 12 GB (4.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Final, Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gqs.errors import UsageError
from gqs.networks import borrowed, resnet, resnet_gqs
from gqs.networks.compact import Compact

INPUT_SIZE: Final = 50  # pixels a side of every cutout
TIMM: Final = "timm:"  # what the name of any network of timm begins with


@dataclass(frozen=True)
class Network:
    """What the zoo knows of a network before it is built."""

    # takes `channels` and the network's own arguments; gives a module (n, channel, 50, 50) -> (n,
    # 3)
    builder: Callable[..., nn.Module]
    source: str  # where it comes from
    # how flux goes in: "asinh", or "linear" for a network that stretches by itself
    stretch: Literal["linear", "asinh"] = "asinh"
    # of its usual input: 3 for the paper's picture, 10 for five bands with their masks
    channels: int = 3


@dataclass(frozen=True)
class Facts:
    """What a network is and costs."""

    name: str  # as `build` takes it
    channels: int  # of the input for which it was counted
    # pixels a side on which it looks at a cutout; more than 50 where it resizes inside
    input_size: int
    parameters: int  # how many numbers training changes
    multiply_adds: int  # of one cutout, forward: those of convolutions and matrix products
    source: str  # where it comes from


def _torchvision(name: str, source: str, **arguments: Any) -> Network:
    return Network(partial(borrowed.torchvision, name, **arguments), f"torchvision; {source}")


_GQS = "Gao, Tu, Li & Li 2023, "
_RESNET = "He et al. 2016 (paper 2.2)"
_SE, _ECA, _CBAM = "Hu et al. 2018", "Wang et al. 2020", "Woo et al. 2018"

NETWORKS: Final[dict[str, Network]] = {
    "compact": Network(Compact, "gqs: measured features and a small trunk", "linear", channels=10),
    "resnet18": Network(resnet.resnet18, _RESNET),
    "resnet34": Network(resnet.resnet34, _RESNET),
    "resnet50": Network(resnet.resnet50, _RESNET),
    "resnet18_se": Network(partial(resnet.resnet18, attention="se"), f"{_RESNET}; {_SE}"),
    "resnet18_eca": Network(partial(resnet.resnet18, attention="eca"), f"{_RESNET}; {_ECA}"),
    "resnet18_cbam": Network(partial(resnet.resnet18, attention="cbam"), f"{_RESNET}; {_CBAM}"),
    "resnet50_se": Network(partial(resnet.resnet50, attention="se"), f"{_RESNET}; {_SE}"),
    "resnet50_eca": Network(partial(resnet.resnet50, attention="eca"), f"{_RESNET}; {_ECA}"),
    "resnet50_cbam": Network(partial(resnet.resnet50, attention="cbam"), f"{_RESNET}; {_CBAM}"),
    # From ResNet50-SE to ResNet50-GQS, one change at a time (the paper has no such table).
    "resnet50_se_stem": Network(resnet_gqs.resnet50_se_stem, _GQS + "2.3: stem 4x4"),
    "resnet50_se_stem_widths": Network(
        resnet_gqs.resnet50_se_stem_widths, _GQS + "2.3: stem 4x4, widths 96-768"
    ),
    "resnet50_se_stem_widths_3x3": Network(
        resnet_gqs.resnet50_se_stem_widths_3x3, _GQS + "2.3: stem 4x4, widths 96-768, 3x3 first"
    ),
    "resnet50_gqs": Network(resnet_gqs.resnet50_gqs, _GQS + "Table 2"),
    # The rest of Table 6.
    "vgg16": _torchvision("vgg16", "Simonyan & Zisserman 2014"),
    "googlenet": _torchvision("googlenet", "Szegedy et al. 2015, without auxiliary heads"),
    "mobilenet_v2": _torchvision("mobilenet_v2", "Sandler et al. 2018"),
    "densenet121": _torchvision("densenet121", "Huang et al. 2016"),
    "efficientnet_b0": _torchvision("efficientnet_b0", "Tan & Le 2019"),
    "vit_b_16": _torchvision("vit_b_16", "Dosovitskiy et al. 2020", size=224),
    "swin_t": _torchvision("swin_t", "Liu et al. 2021", size=224),
    "convnext_tiny": _torchvision("convnext_tiny", "Liu et al. 2022"),
}


def find(name: str) -> Network:
    """Return a network's entry."""
    if name.startswith(TIMM):
        theirs = name.removeprefix(TIMM)
        version = borrowed.require_timm(theirs)
        return Network(partial(borrowed.timm, theirs), f"timm {version}")
    if name not in NETWORKS:
        raise UsageError(
            f"Unknown network {name!r}. The networks are {', '.join(NETWORKS)}, and {TIMM}NAME for "
            "any of timm."
        )
    return NETWORKS[name]


def build(name: str, channels: int = 3, **arguments: Any) -> nn.Module:
    """Build a network with fresh weights.

    Parameters
    ----------
    name : str
        A key of `NETWORKS`, or `timm:NAME` for any network of timm.
    channels : int
        Of the input: 3 for the paper's picture, twice the number of bands for flux and masks.
    **arguments
        The network's own. Those of torchvision and timm have `size`: pixels a side to which they
        resize cutouts.

    Returns
    -------
    Module
        (n, channel, 50, 50) float32 -> (n, 3) logits in the order of `gqs.labels`.

    Raises
    ------
    UsageError
        If there is no such network, it has no such argument, or cannot take the channels.
    """
    if not 1 <= channels <= 64:
        raise UsageError(f"Network {name!r}: {channels} channels; there may be 1 to 64.")
    builder = find(name).builder
    taken = [argument for argument in signature(builder).parameters if argument != "channels"]
    for argument in sorted(arguments.keys() - set(taken)):
        known = f"It has {', '.join(taken)}." if taken else "It has none."
        raise UsageError(f"Network {name!r} has no argument {argument!r}. {known}")
    try:
        return builder(channels, **arguments)
    except TypeError as error:
        raise UsageError(f"Network {name!r} does not take these arguments: {error}.") from error


def channels_last(network: nn.Module) -> nn.Module:
    """Lay weights out as convolutions run fastest: 1.3 times as fast on a CPU, same numbers."""
    # torch's own annotations lack the argument.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def parameters(name: str, channels: int = 3, **arguments: Any) -> int:
    """Count a network's weights without making room for them."""
    with torch.device("meta"):
        network = build(name, channels, **arguments)
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(network: nn.Module, channels: int, side: int = INPUT_SIZE) -> int:
    """Count the multiply-adds of one image, forward.

    Those of convolutions and matrix products, as the tables of papers and of torchvision do: sums,
    norms and activations are left out.
    """
    # With gradients on, torch takes no fused path through attention that the counter does not know.
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.empty(1, channels, side, side, device="meta"))
    return int(counter.get_total_flops()) // 2


def describe(name: str, channels: int | None = None, **arguments: Any) -> Facts:
    """Say what a network is and costs, without making room for it.

    Parameters
    ----------
    name : str
        As `build` takes it.
    channels : int, optional
        Of the input; those of its usual input where none are named.
    **arguments
        The network's own.

    Returns
    -------
    Facts
        Input size, parameters, multiply-adds and source.

    Raises
    ------
    UsageError
        As `build` does.
    """
    entry = find(name)
    channels = channels or entry.channels
    with torch.device("meta"):
        network = build(name, channels, **arguments)
    sizes = [part.size for part in network.modules() if isinstance(part, borrowed.Resize)]
    return Facts(
        name=name,
        channels=channels,
        input_size=sizes[0] if sizes else INPUT_SIZE,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        multiply_adds=multiply_adds(network, channels),
        source=entry.source,
    )
