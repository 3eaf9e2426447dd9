"""What a network knows of a cutout just before it decides: the input of its last layers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def embed(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Judge cutouts and tell by what: logits, and what entered the layers that decide.

    One forward pass gives both. The layers that decide are those that a network names in its
    attribute `decides`, else the linear layer that runs last, so this holds for every network of
    the zoo, our own or borrowed.
    """
    entered: list[Tensor] = []

    def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        entered[:] = arguments[:1]

    named = getattr(network, "decides", None)
    if named is not None:
        parts = [network.get_submodule(named)]
    else:
        parts = [part for part in network.modules() if isinstance(part, nn.Linear)]
    hooks = [part.register_forward_pre_hook(note) for part in parts]
    try:
        logits: Tensor = network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return logits, (entered[0] if entered else logits).flatten(1).float()
