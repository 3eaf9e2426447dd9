"""All networks by name, with their size and cost. A new network is a line in this table.

Networks with learned positions or windows of 7 x 7 tokens were designed for 224 pixels, which is
also torchvision's smallest input for them (`min_size` of its weights); cutouts are resized for
them. All others take the 50 pixels directly. Table 5 suggests the same: only ViT and Swin have
batches of 32, as 256 images of 224 pixels would not have fitted into the paper's 12 GB (4.2).
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
from gqs.networks import libraries, resnet, resnet_gqs
from gqs.networks.compact import Compact

INPUT_SIZE: Final = 50  # pixels a side of every cutout
TIMM: Final = "timm:"  # prefix of the names of timm's networks


@dataclass(frozen=True)
class Network:
    """A network before it is built."""

    # Takes `channels` and the network's own arguments; gives a module (n, channel, 50, 50) ->
    # (n, 3).
    builder: Callable[..., nn.Module]
    source: str
    # Of flux: "asinh", or "linear" for a network that stretches it itself.
    stretch: Literal["linear", "asinh"] = "asinh"
    channels: int = 3  # by default: 3 colours, or 10 for five bands with their masks


@dataclass(frozen=True)
class Facts:
    """Size and cost of a network."""

    name: str  # as `build` takes it
    channels: int  # of the input
    input_size: int  # pixels a side; more than 50 if it resizes cutouts
    parameters: int
    multiply_adds: int  # of convolutions and matrix products, for one cutout, forward
    source: str


def _torchvision(name: str, source: str, **arguments: Any) -> Network:
    return Network(partial(libraries.torchvision, name, **arguments), f"torchvision; {source}")


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
    """Entry of a network."""
    if name.startswith(TIMM):
        timm_name = name.removeprefix(TIMM)
        version = libraries.require_timm(timm_name)
        return Network(partial(libraries.timm, timm_name), f"timm {version}")
    if name not in NETWORKS:
        raise UsageError(
            f"Unknown network {name!r}. The networks are {', '.join(NETWORKS)}, and {TIMM}NAME for "
            "any network of timm."
        )
    return NETWORKS[name]


def build(name: str, channels: int = 3, **arguments: Any) -> nn.Module:
    """Build a network with new weights.

    Parameters
    ----------
    name : str
        A key of `NETWORKS`, or `timm:NAME` for any network of timm.
    channels : int
        Of the input: 3 for the paper's picture, twice the number of bands for flux and masks.
    **arguments
        The network's own. Networks of torchvision and timm have `size`, the pixels a side to which
        they resize cutouts.

    Returns
    -------
    Module
        (n, channel, 50, 50) float32 -> (n, 3) logits in the order of `gqs.labels`.

    Raises
    ------
    UsageError
        If the network or an argument is unknown, or it cannot take the channels.
    """
    if not 1 <= channels <= 64:
        raise UsageError(f"Network {name!r}: {channels} channels, but 1 to 64 are possible.")
    builder = find(name).builder
    known = [argument for argument in signature(builder).parameters if argument != "channels"]
    for argument in sorted(arguments.keys() - set(known)):
        hint = f"It has {', '.join(known)}." if known else "It has none."
        raise UsageError(f"Network {name!r} has no argument {argument!r}. {hint}")
    try:
        return builder(channels, **arguments)
    except TypeError as error:
        raise UsageError(f"Network {name!r} does not take these arguments: {error}.") from error


def channels_last(network: nn.Module) -> nn.Module:
    """Store weights channels last: convolutions are 1.3 times as fast on a CPU, same results."""
    # torch's own annotations lack the argument.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def parameters(name: str, channels: int = 3, **arguments: Any) -> int:
    """Number of a network's weights, counted without allocating them."""
    with torch.device("meta"):
        network = build(name, channels, **arguments)
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(network: nn.Module, channels: int, side: int = INPUT_SIZE) -> int:
    """Multiply-adds of one image, forward.

    Only convolutions and matrix products count, as in the tables of papers and of torchvision.
    """
    # With gradients, torch does not use the fused attention that the counter does not know.
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.empty(1, channels, side, side, device="meta"))
    return int(counter.get_total_flops()) // 2


def describe(name: str, channels: int | None = None, **arguments: Any) -> Facts:
    """Size and cost of a network, without allocating its weights.

    Parameters
    ----------
    name : str
        As `build` takes it.
    channels : int, optional
        Of the input; by default the network's own.
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
    sizes = [part.size for part in network.modules() if isinstance(part, libraries.Resize)]
    return Facts(
        name=name,
        channels=channels,
        input_size=sizes[0] if sizes else INPUT_SIZE,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        multiply_adds=multiply_adds(network, channels),
        source=entry.source,
    )
