"""Networks of torchvision and timm for cutouts: new weights, any number of channels, 3 classes.

Nothing is downloaded and nothing is unpickled: names must be in the libraries' own lists, and only
the size is passed on of their arguments, as both may come from a model folder of unknown origin.

PyPI's torchvision registers fake kernels for two operators at import. Next to a CPU-only torch,
whose build lacks these operators, the import fails unless they are declared first; no classifier
uses them.
"""

from __future__ import annotations

import difflib
import importlib
import math
from collections import OrderedDict
from operator import index
from types import ModuleType
from typing import Any, Final

import torch
from torch import Tensor, library, nn

from gqs.errors import UsageError
from gqs.labels import CLASSES
from gqs.networks.measure import SIZE as CUTOUT

SIZES: Final = (32, 1024)  # pixels a side to which cutouts may be resized

# GoogLeNet's two auxiliary heads need a loss of three terms (Szegedy et al. 2015, section 5), which
# the paper does not mention, and they are not part of the classifier: left out, as in torchvision's
# published weights. Its initial weights are those of PyTorch 1.9, which the paper used.
_ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    "googlenet": {"aux_logits": False, "init_weights": True}
}
_UNSUITABLE = (AssertionError, IndexError, RuntimeError, TypeError, ValueError)

_OPERATORS: Final = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_DECLARED: list[library.Library] = []  # an operator lives as long as its library object


class Resize(nn.Module):
    """Bilinear: (n, channel, 50, 50) -> (n, channel, size, size), smoothed if it shrinks."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = index(size)
        if not SIZES[0] <= self.size <= SIZES[1]:
            raise UsageError(f"Size {size}: cutouts are resized to {SIZES[0]} to {SIZES[1]} px.")

    def forward(self, x: Tensor) -> Tensor:
        """Resample x; masks become fractions of a pixel."""
        shrinks = self.size < x.shape[-1]
        return nn.functional.interpolate(
            x, size=(self.size, self.size), mode="bilinear", antialias=shrinks
        )


def torchvision(name: str, channels: int = 3, size: int | None = None) -> nn.Module:
    """Classifier of torchvision with new weights: (n, channel, 50, 50) -> (n, 3) logits."""
    models = import_torchvision()
    arguments = dict(_ARGUMENTS.get(name, {}))
    if size is not None and name.startswith("vit"):  # it learns a position for each patch
        arguments["image_size"] = size
    resize = None if size is None else Resize(size)
    try:
        network = getattr(models, name)(weights=None, num_classes=len(CLASSES), **arguments)
    except AssertionError as error:
        raise UsageError(f"Network {name!r} cannot take cutouts of {size} px: {error}") from error
    return _after(resize, _with_channels(network, channels))


def timm(name: str, channels: int = 3, size: int | None = None) -> nn.Module:
    """Any classifier of timm with new weights: (n, channel, 50, 50) -> (n, 3) logits.

    Cutouts are resized to the network's own input size if it cannot take 50 x 50 pixels.
    """
    require_timm(name)
    models = import_timm()
    defaults = models.get_pretrained_cfg(name)
    own, fixed = defaults.input_size[-1], defaults.fixed_input_size
    sizes = [size] if size is not None else [own] if fixed else [None, own]

    def build(side: int | None) -> nn.Module:
        arguments = {"img_size": side} if fixed and side != own else {}
        resize = None if side is None else Resize(side)
        network = models.create_model(
            name, pretrained=False, in_chans=channels, num_classes=len(CLASSES), **arguments
        )
        return _after(resize, network)

    reason = ""
    for side in sizes:
        with torch.device("meta"):  # shapes only, so that a trial takes no memory
            try:
                shape = tuple(build(side).eval()(torch.empty(2, channels, CUTOUT, CUTOUT)).shape)
            except _UNSUITABLE as error:
                reason = str(error).split("\n")[0]
                continue
        if shape == (2, len(CLASSES)):
            return build(side)
        reason = f"it gives {shape}, not {len(CLASSES)} numbers a cutout"
    raise UsageError(
        f"Network 'timm:{name}' cannot take cutouts of {CUTOUT} px with {channels} channels "
        f"({reason}). Choose another, or give a size that it takes, as in size=224."
    )


def require_timm(name: str) -> str:
    """Version of timm, if it has a network of this name."""
    models = import_timm()
    known = models.list_models()
    if name not in known:
        bare = name.partition(".")[0]
        similar = difflib.get_close_matches(bare, known, n=5, cutoff=0.5)
        similar = [bare] if bare in known else similar
        hint = f" Did you mean {', '.join(similar)}?" if similar else ""
        raise UsageError(f"timm {models.__version__} has no network {name!r}.{hint}")
    return str(models.__version__)


def _after(resize: Resize | None, network: nn.Module) -> nn.Module:
    if resize is None:
        return network
    return nn.Sequential(OrderedDict(resize=resize, network=network))


def _with_channels(network: nn.Module, channels: int) -> nn.Module:
    """Replace the first convolution by one of another number of channels.

    Its weights are drawn with the standard deviation of the network's own times sqrt(3 / channels),
    so that inputs of the same variance give outputs of the same variance.
    """
    first = next(part for part in network.modules() if isinstance(part, nn.Conv2d))
    if channels != first.in_channels:
        spread = first.weight.detach().std() * math.sqrt(first.in_channels / channels)
        weight = torch.randn(first.out_channels, channels, *first.kernel_size) * spread
        first.in_channels, first.weight = channels, nn.Parameter(weight)
    return network


def import_torchvision() -> ModuleType:
    """Import torchvision.models; declare the operators that a CPU-only torch lacks if needed."""
    try:
        return importlib.import_module("torchvision.models")
    except ModuleNotFoundError as error:
        raise UsageError(
            "This network comes from torchvision, which is not installed. "
            "Install gqs with its extra: pip install 'gqs[zoo]'."
        ) from error
    except RuntimeError:
        if _DECLARED:
            raise
    operators = library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in _OPERATORS:
        operators.define(operator)  # type: ignore[no-untyped-call]
    _DECLARED.append(operators)
    return importlib.import_module("torchvision.models")


def import_timm() -> ModuleType:
    """Import timm, which itself imports torchvision."""
    import_torchvision()
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise UsageError(
            "Networks named timm:... come from timm, which is not installed. "
            "Install gqs with its extra: pip install 'gqs[zoo]'."
        ) from error
