"""How weights move: optimizer, its rate at each step, and the running mean of the weights."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from gqs import labels
from gqs.recipes import Recipe
from gqs.training.batches import Data


def optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Build the recipe's optimizer. Paper, Table 5."""
    weights, decay = list(network.parameters()), recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(weights, recipe.rate, recipe.momentum, weight_decay=decay)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(weights, recipe.rate, weight_decay=decay, fused=True)


def rate(recipe: Recipe, steps: int, step: int) -> float:
    """Learning rate of a step: a rise from 0, then constant or half a cosine."""
    warm, total = recipe.warmup * steps, recipe.epochs * steps
    if step < warm:
        return recipe.rate * (step + 1) / (warm + 1)
    if recipe.schedule == "none":
        return recipe.rate
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, total - warm)))


@torch.no_grad()
def follow(averaged: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Let averaged weights follow: quickly at first, so that the start is forgotten."""
    decay = min(decay, (1 + step) / (10 + step))
    new = network.state_dict()
    for name, value in averaged.state_dict().items():
        if value.is_floating_point():
            value.lerp_(new[name], 1 - decay)
        else:
            value.copy_(new[name])


def class_weights(data: Data, recipe: Recipe, device: torch.device) -> Tensor | None:
    """Weigh classes so that each counts as much as another, where the recipe says so: (3,) n / (3
    n_class).
    """
    if recipe.class_weights == "none":
        return None
    counts = np.bincount(data.classes[data.train], minlength=len(labels.CLASSES))
    return torch.tensor(counts.sum() / (len(counts) * counts), dtype=torch.float32, device=device)


def shares(y: Tensor, smoothing: float) -> Tensor:
    """Return targets as shares of the classes; class weights then weigh each share's term: (n, 3),
    each row summing to 1.
    """
    classes = len(labels.CLASSES)
    return nn.functional.one_hot(y, classes).float() * (1 - smoothing) + smoothing / classes
