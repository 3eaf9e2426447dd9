"""What a finished training says of where its objects lie in its network's eyes.

Two optional files of a model folder: how far from the classes is too far, and some examples.
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
from gqs.model import novelty as typical
from gqs.model.examples import KEPT, Examples
from gqs.model.folder import EXAMPLES, TYPICAL
from gqs.networks import zoo
from gqs.networks.embedding import embed
from gqs.recipes import Recipe
from gqs.report.pictures import colours
from gqs.training.batches import Data

AT_ONCE: Final = 256  # cutouts, which bounds memory
MOST: Final = 6000  # objects of either side: 2,000 of a class settle a covariance of 384 numbers
LEAST: Final = 1000
BUDGET: Final = 2e12  # multiply-adds, a minute or two of a core: large networks see fewer objects


def write(
    folder: Path,
    data: Data,
    recipe: Recipe,
    weights: dict[str, Tensor],
    device: str,
    unseen: NDArray[np.uint64],
) -> dict[str, Path]:
    """Write typical.safetensors and examples.safetensors, where there are objects for them."""
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
    some = _of_each(data, data.train, most // len(labels.CLASSES), rng)
    against = held if len(held) <= most else np.sort(rng.choice(held, most, replace=False))
    found = typical.fit(
        _embedded(network, data, some, device),
        data.classes[some],
        _embedded(network, data, against, device),
    )
    files = {"typical": found.save(folder / TYPICAL)}
    shown = _of_each(data, _free(data), KEPT, rng)
    if len(shown):
        examples = Examples(
            np.asarray(data.store.index["objid"][shown], dtype=np.uint64),
            data.classes[shown],
            colours(data.store.images(shown), data.store.bands),
            found.coordinates(_embedded(network, data, shown, device)).astype(np.float32),
        )
        files["examples"] = examples.save(folder / EXAMPLES)
    return files


def _of_each(
    data: Data, rows: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw at most so many of each class, in the order of the store."""
    drawn = [
        rng.permutation(rows[data.classes[rows] == i])[:count] for i in range(len(labels.CLASSES))
    ]
    return np.sort(np.concatenate(drawn))


def _free(data: Data) -> NDArray[np.int64]:
    """Training objects that a model may carry about: survey pixels are not ours to give away."""
    if ORIGIN not in data.store.index.colnames:
        return data.train
    origin = np.asarray(data.store.index[ORIGIN][data.train]).astype(str)
    return np.asarray(data.train[origin == SIMULATED])


@torch.no_grad()
def _embedded(
    network: nn.Module, data: Data, rows: NDArray[np.int64], device: str
) -> NDArray[np.float64]:
    """Embeddings (n, d) of rows of the store, in fp32 as a classifier computes them."""
    parts = []
    for start in range(0, len(rows), AT_ONCE):
        x = data.images(rows[start : start + AT_ONCE], torch.device(device))
        parts.append(embed(network, x)[1].double().cpu().numpy())
    return np.concatenate(parts)
