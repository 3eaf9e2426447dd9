"""Speed of networks on this machine: timed in a few steps, or by the trainings that were run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import nn

from gqs import labels
from gqs.errors import GqsError
from gqs.networks import zoo
from gqs.recipes import Recipe
from gqs.reproduce.predictions import inference_cost
from gqs.reproduce.results import Results, Run
from gqs.training import machine
from gqs.training.optimizer import make_optimizer

CPU_BATCH: Final = 16  # images a timed step at most; a GPU takes the recipe's whole batch
STEPS: Final = 2


class Pace(NamedTuple):
    """Seconds an image, in training and in validation."""

    training: float
    validation: float

    def epoch(self, training: int, validation: int) -> float:
        """Seconds of an epoch with so many training and validation objects."""
        return self.training * training + self.validation * validation


def measure_pace(recipe: Recipe, channels: int, device: str | None, threads: int | None) -> Pace:
    """Time a few steps of a network on images of noise."""
    where = machine.device_of(device)
    precision = machine.precision_of(recipe.precision, where)
    batch = min(recipe.batch, CPU_BATCH) if where.type == "cpu" else recipe.batch
    with (
        machine.reproducible(threads, where),
        machine.enough_memory(batch),
        _import_errors(recipe.network),
    ):
        network = zoo.build(recipe.network, channels, **recipe.arguments)
        network = zoo.channels_last(network).to(where)
        optimizer = make_optimizer(network, recipe)
        x = torch.randn(batch, channels, zoo.INPUT_SIZE, zoo.INPUT_SIZE, device=where)
        y = torch.arange(batch, device=where) % len(labels.CLASSES)
        seconds = []
        for _ in range(STEPS + 1):  # the first prepares kernels
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
    return Pace(float(np.min(seconds[1:])) / batch, validation / batch)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextlib.contextmanager
def _import_errors(network: str) -> Iterator[None]:
    """Name the network if the library that it comes from cannot be imported."""
    try:
        yield
    except ImportError as error:
        raise GqsError(f"Network {network!r} cannot be built here ({error}).") from error


def costs(results: Results) -> list[dict[str, Any]]:
    """Size, training time and inference time of every run."""
    facts: dict[str, zoo.Facts | None] = {}
    rows = []
    for split in results.splits.values():
        for run in (run for runs in split.runs.values() for run in runs):
            if run.network not in facts:
                facts[run.network] = _facts(run)
            rows.append(_cost(run, facts[run.network]))
    return rows


def _cost(run: Run, facts: zoo.Facts | None) -> dict[str, Any]:
    epoch = float(np.median(np.asarray(run.history["seconds"], dtype=float)))
    inference = inference_cost(run.folder)
    images_s = round(inference["images"] / inference["seconds"], 1) if inference else None
    return {
        "split": run.split,
        "network": run.network,
        "seed": run.seed,
        "parameters": facts.parameters if facts else None,
        "multiply_adds": facts.multiply_adds if facts else None,
        "seconds_an_epoch": round(epoch, 3),
        "training_images_s": round(run.card.training["objects"] / max(epoch, 1e-9), 1),
        "judged_images_s": images_s,
        "device": run.card.training.get("device", "?"),
        "threads": run.card.training.get("threads"),
        "judged_on": inference["device"] if inference else None,
    }


def _facts(run: Run) -> zoo.Facts | None:
    """Size of a network, or None if the library that it comes from is not installed."""
    try:
        channels = run.card.preprocessing().channels
        return zoo.describe(run.network, channels, **run.card.arguments)
    except (GqsError, ImportError):
        return None
