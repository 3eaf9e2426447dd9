"""Every network by name. A new one is a line in this table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import torch
from torch import nn

from gqs.errors import UsageError
from gqs.networks import resnet, resnet_gqs
from gqs.networks.compact import Compact

INPUT_SIZE: Final = 50  # pixels a side of every cutout


@dataclass(frozen=True)
class Network:
    """What the zoo knows of a network before it is built.

    Attributes
    ----------
    builder : callable
        Takes `channels` and the network's own arguments; gives a module
        (n, channel, 50, 50) -> (n, 3).
    source : str
        Where it comes from.
    stretch : str
        How flux goes in: "asinh", or "linear" for a network that stretches by itself.
    """

    builder: Callable[..., nn.Module]
    source: str
    stretch: Literal["linear", "asinh"] = "asinh"


_GQS = "Gao, Tu, Li & Li 2023, "
_RESNET = "He et al. 2016 (paper 2.2)"
_SE, _ECA, _CBAM = "Hu et al. 2018", "Wang et al. 2020", "Woo et al. 2018"

NETWORKS: Final[dict[str, Network]] = {
    "compact": Network(Compact, "gqs: measured features and a small trunk", stretch="linear"),
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
}


def find(name: str) -> Network:
    """Return a network's entry.

    Parameters
    ----------
    name : str
        A key of `NETWORKS`.

    Returns
    -------
    Network
        The entry.

    Raises
    ------
    UsageError
        If there is no such network; the sentence lists those that there are.
    """
    if name not in NETWORKS:
        raise UsageError(f"Unknown network {name!r}. The networks are {', '.join(NETWORKS)}.")
    return NETWORKS[name]


def build(name: str, channels: int = 3, **arguments: Any) -> nn.Module:
    """Build a network with fresh weights.

    Parameters
    ----------
    name : str
        A key of `NETWORKS`.
    channels : int
        Of the input: 3 for the paper's picture, twice the number of bands for flux and masks.
    **arguments
        The network's own.

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
    try:
        return find(name).builder(channels, **arguments)
    except TypeError as error:
        raise UsageError(f"Network {name!r} does not take these arguments: {error}.") from error


def channels_last(network: nn.Module) -> nn.Module:
    """Lay weights out as convolutions run fastest: 1.3 times as fast on a CPU, same numbers.

    Parameters
    ----------
    network : Module
        Changed in place.

    Returns
    -------
    Module
        The same.
    """
    # torch's own annotations lack the argument.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def parameters(name: str, channels: int = 3, **arguments: Any) -> int:
    """Count a network's weights without making room for them.

    Parameters
    ----------
    name : str
        A key of `NETWORKS`.
    channels : int
        Of the input.
    **arguments
        The network's own.

    Returns
    -------
    int
        How many numbers training changes.
    """
    with torch.device("meta"):
        network = build(name, channels, **arguments)
    return sum(parameter.numel() for parameter in network.parameters())
