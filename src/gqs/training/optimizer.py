"""How weights change: the optimizer, its learning rate, class weights and the moving average."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from gqs import labels
from gqs.recipes import Recipe
from gqs.training.batches import TrainingData


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Optimizer of a recipe. Paper, Table 5."""
    weights, decay = list(network.parameters()), recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(weights, recipe.rate, recipe.momentum, weight_decay=decay)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(weights, recipe.rate, weight_decay=decay, fused=True)


def learning_rate(recipe: Recipe, steps: int, step: int) -> float:
    """Rate of a step, with `steps` an epoch: a linear warm-up, then constant or half a cosine."""
    warm, total = recipe.warmup * steps, recipe.epochs * steps
    if step < warm:
        return recipe.rate * (step + 1) / (warm + 1)
    if recipe.schedule == "none":
        return recipe.rate
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, total - warm)))


@torch.no_grad()
def update_average(averaged: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights towards the network's, faster in the first steps."""
    decay = min(decay, (1 + step) / (10 + step))
    new = network.state_dict()
    for name, value in averaged.state_dict().items():
        if value.is_floating_point():
            value.lerp_(new[name], 1 - decay)
        else:
            value.copy_(new[name])


def class_weights(data: TrainingData, recipe: Recipe, device: torch.device) -> Tensor | None:
    """Weights n / (k n_class) of the loss, (3,), with which the k classes of the training set count
    equally; 0 for an absent class; or None.
    """
    if recipe.class_weights == "none":
        return None
    counts = np.bincount(data.classes[data.train], minlength=len(labels.CLASSES))
    present = counts > 0
    weights = np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1)), 0.0)
    return torch.tensor(weights, dtype=torch.float32, device=device)


def smooth_targets(y: Tensor, smoothing: float) -> Tensor:
    """Target probabilities of the classes, (n, 3), each row summing to 1."""
    classes = len(labels.CLASSES)
    return nn.functional.one_hot(y, classes).float() * (1 - smoothing) + smoothing / classes
