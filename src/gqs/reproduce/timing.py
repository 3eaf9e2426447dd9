"""How fast networks train here: from the epochs that were trained, or from a few steps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import nn

from gqs import labels
from gqs.errors import GqsError
from gqs.networks import zoo
from gqs.recipes import Recipe
from gqs.training import machine
from gqs.training import optimizer as optimizing

MOST_IMAGES: Final = {"cpu": 16}  # a step; a GPU takes the recipe's whole batch
STEPS: Final = 2


class Pace(NamedTuple):
    """Seconds an image, in training and in validation; parameters of the network."""

    training: float
    validation: float
    parameters: int

    def epoch(self, training: int, validation: int) -> float:
        """Return the seconds of an epoch."""
        return self.training * training + self.validation * validation


def measure(recipe: Recipe, channels: int, device: str | None, threads: int | None) -> Pace:
    """Time a few steps of a network on images of noise."""
    where = machine.device_of(device)
    precision = machine.precision_of(recipe.precision, where)
    batch = min(recipe.batch, MOST_IMAGES.get(where.type, recipe.batch))
    with (
        machine.reproducible(threads, where),
        machine.enough_memory(batch),
        _sentence(recipe.network),
    ):
        network = zoo.build(recipe.network, channels, **recipe.arguments)
        network = zoo.channels_last(network).to(where)
        optimizer = optimizing.make_optimizer(network, recipe)
        x = torch.randn(batch, channels, zoo.INPUT_SIZE, zoo.INPUT_SIZE, device=where)
        y = torch.arange(batch, device=where) % len(labels.CLASSES)
        seconds = []
        for _ in range(STEPS + 1):
            begin = _now(where)
            with machine.autocast(where, precision):
                logits = network(x)
            loss = nn.functional.cross_entropy(logits.float(), y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            seconds.append(_now(where) - begin)
        network.eval()
        with torch.no_grad(), machine.autocast(where, precision):
            begin = _now(where)
            network(x)
            validation = _now(where) - begin
    size = sum(weight.numel() for weight in network.parameters())
    return Pace(float(np.min(seconds[1:])) / batch, validation / batch, size)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextlib.contextmanager
def _sentence(network: str) -> Iterator[None]:
    """Name the network where a library that it needs fails."""
    try:
        yield
    except GqsError:
        raise
    except ImportError as error:
        raise GqsError(f"Network {network!r} cannot be built here ({error}).") from error
