"""Embeddings of a finished training's objects: limits for novelty, and examples of the classes.

Both are optional files of a model folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gqs import labels
from gqs.cutouts.shards import ORIGIN, SIMULATED
from gqs.model import novelty
from gqs.model.examples import KEPT, Examples
from gqs.model.folder import EXAMPLES, TYPICAL
from gqs.networks import zoo
from gqs.networks.embedding import embed
from gqs.recipes import Recipe
from gqs.report.pictures import colours
from gqs.training.batches import TrainingData

BATCH: Final = 256  # cutouts at a time, which bounds memory
MOST: Final = 6000  # objects of either side: 2,000 of a class determine a covariance of 384 numbers
LEAST: Final = 1000
BUDGET: Final = 2e12  # multiply-adds, a minute or two on one core: large networks use fewer objects


def write(
    folder: Path,
    data: TrainingData,
    recipe: Recipe,
    weights: dict[str, Tensor],
    device: str,
    unseen: NDArray[np.uint64],
) -> dict[str, Path]:
    """Write typical.safetensors and examples.safetensors, if there are objects for them.

    `unseen` are the objid of usable validation objects, which set the limits of novelty.
    """
    channels = data.preprocessing.channels
    network = zoo.build(recipe.network, channels, **recipe.arguments)
    network.load_state_dict(weights)
    network = zoo.channels_last(network).to(device).eval()
    cost = zoo.describe(recipe.network, channels, **recipe.arguments).multiply_adds
    most = int(np.clip(BUDGET / max(cost, 1), LEAST, MOST))
    held = data.validation[np.isin(data.store.index["objid"][data.validation], unseen)]
    if not len(held):
        return {}
    rng = np.random.default_rng(len(data.train))
    fitted = _draw_by_class(data, data.train, most // len(labels.CLASSES), rng)
    compared = held if len(held) <= most else np.sort(rng.choice(held, most, replace=False))
    limits = novelty.fit(
        _embeddings(network, data, fitted, device),
        data.classes[fitted],
        _embeddings(network, data, compared, device),
    )
    files = {"typical": limits.save(folder / TYPICAL)}
    shown = _draw_by_class(data, _distributable(data), KEPT, rng)
    if len(shown):
        examples = Examples(
            np.asarray(data.store.index["objid"][shown], dtype=np.uint64),
            data.classes[shown],
            colours(data.store.images(shown), data.store.bands),
            limits.coordinates(_embeddings(network, data, shown, device)).astype(np.float32),
        )
        files["examples"] = examples.save(folder / EXAMPLES)
    return files


def _draw_by_class(
    data: TrainingData, rows: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw at most `count` rows of each class, in the order of the store."""
    drawn = [
        rng.permutation(rows[data.classes[rows] == i])[:count] for i in range(len(labels.CLASSES))
    ]
    return np.sort(np.concatenate(drawn))


def _distributable(data: TrainingData) -> NDArray[np.int64]:
    """Training rows whose pixels may be part of a model folder: simulated ones, not a survey's."""
    if ORIGIN not in data.store.index.colnames:
        return data.train
    origin = np.asarray(data.store.index[ORIGIN][data.train]).astype(str)
    return np.asarray(data.train[origin == SIMULATED])


@torch.no_grad()
def _embeddings(
    network: nn.Module, data: TrainingData, rows: NDArray[np.int64], device: str
) -> NDArray[np.float64]:
    """Embeddings of rows of the store, (n, d), in fp32 as a classifier computes them."""
    parts = []
    for start in range(0, len(rows), BATCH):
        x = data.images(rows[start : start + BATCH], torch.device(device))
        parts.append(embed(network, x)[1].double().cpu().numpy())
    return np.concatenate(parts)
