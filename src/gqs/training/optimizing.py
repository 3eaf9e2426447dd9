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
    """Build the recipe's optimizer. Paper, Table 5.

    Parameters
    ----------
    network : Module
        Whose weights move.
    recipe : Recipe
        With optimizer, rate, momentum and weight decay.

    Returns
    -------
    Optimizer
        SGD, Adam or AdamW.
    """
    weights, decay = list(network.parameters()), recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(weights, recipe.rate, recipe.momentum, weight_decay=decay)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(weights, recipe.rate, weight_decay=decay, fused=True)


def rate(recipe: Recipe, steps: int, step: int) -> float:
    """Learning rate of a step: a rise from 0, then constant or half a cosine.

    Parameters
    ----------
    recipe : Recipe
        With rate, schedule, warm-up and epochs.
    steps : int
        In an epoch.
    step : int
        Counted from 0 over all epochs.

    Returns
    -------
    float
        At most the recipe's rate.
    """
    warm, total = recipe.warmup * steps, recipe.epochs * steps
    if step < warm:
        return recipe.rate * (step + 1) / (warm + 1)
    if recipe.schedule == "none":
        return recipe.rate
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, total - warm)))


@torch.no_grad()
def follow(averaged: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Let averaged weights follow: quickly at first, so that the start is forgotten.

    Parameters
    ----------
    averaged, network : Module
        Of the same architecture; the first is changed, running statistics included.
    decay : float
        Share of the old mean that a step leaves, later on.
    step : int
        Counted from 0 over all epochs.
    """
    decay = min(decay, (1 + step) / (10 + step))
    new = network.state_dict()
    for name, value in averaged.state_dict().items():
        if value.is_floating_point():
            value.lerp_(new[name], 1 - decay)
        else:
            value.copy_(new[name])


def class_weights(data: Data, recipe: Recipe, device: torch.device) -> Tensor | None:
    """Weigh classes so that each counts as much as another, where the recipe says so.

    Parameters
    ----------
    data : Data
        Whose training side is counted.
    recipe : Recipe
        With `class_weights`.
    device : torch.device
        Where the weights go.

    Returns
    -------
    Tensor or None
        (3,) n / (3 n_class).
    """
    if recipe.class_weights == "none":
        return None
    counts = np.bincount(data.classes[data.train], minlength=len(labels.CLASSES))
    return torch.tensor(counts.sum() / (len(counts) * counts), dtype=torch.float32, device=device)


def shares(y: Tensor, smoothing: float) -> Tensor:
    """Return targets as shares of the classes; class weights then weigh each share's term.

    Parameters
    ----------
    y : Tensor
        (n,) classes.
    smoothing : float
        Share of each label that is spread over all classes.

    Returns
    -------
    Tensor
        (n, 3), each row summing to 1.
    """
    classes = len(labels.CLASSES)
    return nn.functional.one_hot(y, classes).float() * (1 - smoothing) + smoothing / classes
