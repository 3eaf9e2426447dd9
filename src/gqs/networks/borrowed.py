"""Networks of torchvision and timm, made to take cutouts: fresh weights, any channels, 3 classes.

Nothing is downloaded and nothing is unpickled: names must be in the libraries' own lists, and of
their arguments only the size is passed on, as both may come from a model folder of unknown origin.
"""

from __future__ import annotations

import difflib
import math
from collections import OrderedDict
from operator import index
from typing import Any, Final

import torch
from torch import Tensor, nn

from gqs.errors import UsageError
from gqs.labels import CLASSES
from gqs.networks.measure import SIZE as CUTOUT
from gqs.networks.torchvision_cure import import_timm, import_torchvision

SIZES: Final = (32, 1024)  # pixels a side to which cutouts may be resized

# GoogLeNet's two auxiliary heads need a loss of three terms (Szegedy et al. 2015, section 5), which
# the paper does not name, and are no part of the classifier: left out, as in torchvision's
# published weights. Its initial weights are those of PyTorch 1.9, which the paper used.
_OWN: Final[dict[str, dict[str, Any]]] = {"googlenet": {"aux_logits": False, "init_weights": True}}
_REFUSALS = (AssertionError, IndexError, RuntimeError, TypeError, ValueError)


class Resize(nn.Module):
    """Bilinear: (n, channel, 50, 50) -> (n, channel, size, size), smoothed where it shrinks."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = index(size)
        if not SIZES[0] <= self.size <= SIZES[1]:
            raise UsageError(f"Size {size}: cutouts are resized to {SIZES[0]} to {SIZES[1]} px.")

    def forward(self, x: Tensor) -> Tensor:
        """Return x on the other grid; masks become shares of a pixel."""
        shrinks = self.size < x.shape[-1]
        return nn.functional.interpolate(
            x, size=(self.size, self.size), mode="bilinear", antialias=shrinks
        )


def torchvision(name: str, channels: int = 3, size: int | None = None) -> nn.Module:
    """Build one of torchvision's classifiers with its own fresh weights: (n, channel, 50, 50) ->
    (n, 3) logits.
    """
    models = import_torchvision()
    arguments = dict(_OWN.get(name, {}))
    if size is not None and name.startswith("vit"):  # its positions are learned, one a patch
        arguments["image_size"] = size
    resize = None if size is None else Resize(size)
    try:
        network = getattr(models, name)(weights=None, num_classes=len(CLASSES), **arguments)
    except AssertionError as error:
        raise UsageError(f"Network {name!r} does not take cutouts of {size} px: {error}") from error
    return _behind(resize, _with_channels(network, channels))


def timm(name: str, channels: int = 3, size: int | None = None) -> nn.Module:
    """Build any of timm's classifiers with its own fresh weights: (n, channel, 50, 50) -> (n, 3)
    logits.

    Cutouts go in as they are where the network takes 50 x 50 pixels, and are resized to what it was
    made for where it does not.
    """
    require_timm(name)
    library = import_timm()
    made_for = library.get_pretrained_cfg(name)
    own, fixed = made_for.input_size[-1], made_for.fixed_input_size
    sizes = [size] if size is not None else [own] if fixed else [None, own]

    def build(side: int | None) -> nn.Module:
        arguments = {"img_size": side} if fixed and side != own else {}
        resize = None if side is None else Resize(side)
        network = library.create_model(
            name, pretrained=False, in_chans=channels, num_classes=len(CLASSES), **arguments
        )
        return _behind(resize, network)

    reason = ""
    for side in sizes:
        with torch.device("meta"):  # shapes alone, so that a trial costs no memory
            try:
                shape = tuple(build(side).eval()(torch.empty(2, channels, CUTOUT, CUTOUT)).shape)
            except _REFUSALS as error:
                reason = str(error).split("\n")[0]
                continue
        if shape == (2, len(CLASSES)):
            return build(side)
        reason = f"it gives {shape}, not {len(CLASSES)} numbers a cutout"
    raise UsageError(
        f"Network 'timm:{name}' does not take cutouts of {CUTOUT} px with {channels} channels "
        f"({reason}). Choose another, or name the size that it takes: size=224."
    )


def require_timm(name: str) -> str:
    """Return timm's version, if it has a network of this name."""
    library = import_timm()
    known = library.list_models()
    if name not in known:
        bare = name.partition(".")[0]
        alike = difflib.get_close_matches(bare, known, n=5, cutoff=0.5)
        alike = [bare] if bare in known else alike
        hint = f" Did you mean {', '.join(alike)}?" if alike else ""
        raise UsageError(f"timm {library.__version__} has no network {name!r}.{hint}")
    return str(library.__version__)


def _behind(resize: Resize | None, network: nn.Module) -> nn.Module:
    if resize is None:
        return network
    return nn.Sequential(OrderedDict(resize=resize, network=network))


def _with_channels(network: nn.Module, channels: int) -> nn.Module:
    """Make the first convolution one of other channels than 3.

    Its weights are drawn anew, as wide as the network's own times sqrt(3 / channels): inputs of
    the same variance then give outputs of the same variance.
    """
    first = next(part for part in network.modules() if isinstance(part, nn.Conv2d))
    if channels != first.in_channels:
        spread = first.weight.detach().std() * math.sqrt(first.in_channels / channels)
        weight = torch.randn(first.out_channels, channels, *first.kernel_size) * spread
        first.in_channels, first.weight = channels, nn.Parameter(weight)
    return network
