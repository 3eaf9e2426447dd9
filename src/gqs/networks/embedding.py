"""Embedding of a cutout: the input of a network's last layers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def embed(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, 3) and embeddings (n, d) of one forward pass.

    The embedding is the input of the layers that a network names in its attribute `last_layers`,
    else of the linear layer that runs last, so that this works for every network of the zoo.
    """
    inputs: list[Tensor] = []

    def record(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        inputs[:] = arguments[:1]

    name = getattr(network, "last_layers", None)
    if name is not None:
        layers = [network.get_submodule(name)]
    else:
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_pre_hook(record) for layer in layers]
    try:
        logits: Tensor = network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return logits, (inputs[0] if inputs else logits).flatten(1).float()
