"""Logits of a training's validation side, and the class shares that it learned from."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gqs.cutouts.channels import to_channels
from gqs.imaging.seeing import seeing_columns
from gqs.model.calibration import USUAL, ValidationLogits
from gqs.networks import zoo
from gqs.probability.label_shift import ClassFractions, training_fractions
from gqs.recipes import Recipe
from gqs.training.batches import TrainingData
from gqs.training.optimizer import class_weights

AT_ONCE: Final = 256  # cutouts, which bounds memory
COUNTED: Final = 20_000  # training objects whose magnitude is measured, drawn at random


@torch.no_grad()
def held_out(
    data: TrainingData, recipe: Recipe, weights: dict[str, Tensor], device: str
) -> dict[str, ValidationLogits]:
    """Validation logits by set of bands, in fp32, with the same inputs as a classifier's."""
    network = zoo.build(recipe.network, data.preprocessing.channels, **recipe.arguments)
    network.load_state_dict(weights)
    network = zoo.channels_last(network).to(device).eval()
    preprocessing, store = data.preprocessing, data.store
    sets = _sets(data, recipe)
    logits: dict[str, list[NDArray[Any]]] = {bands: [np.empty((0, 3))] for bands in sets}
    magnitudes = [np.empty(0)]
    for start in range(0, len(data.validation), AT_ONCE):
        rows = data.validation[start : start + AT_ONCE]
        images = store.images(rows)
        magnitudes.append(preprocessing.magnitudes(images, store.bands))
        seeing = seeing_columns(store.index[rows], store.bands)
        for bands in sets:
            inputs = preprocessing.inputs(images, store.bands, seeing, keep=bands)
            x = to_channels(preprocessing, inputs.images, inputs.seeing, torch.device(device))
            found = network(x).double().cpu().numpy()
            found[~inputs.usable] = np.nan
            logits[bands].append(found)
    objid = np.asarray(store.index["objid"][data.validation], dtype=np.uint64)
    truth, mag_r = data.classes[data.validation], np.concatenate(magnitudes)
    return {
        bands: ValidationLogits(objid, truth, mag_r, np.concatenate(parts))
        for bands, parts in logits.items()
    }


def _sets(data: TrainingData, recipe: Recipe) -> list[str]:
    """The network's own bands, and the usual subsets if it was trained with missing bands."""
    own, augment = data.preprocessing.bands, recipe.augment
    any_bands = data.preprocessing.form == "flux" and (augment.band_dropout or augment.narrow)
    fewer = [bands for bands in USUAL if set(bands) < set(own)] if any_bands else []
    return [own, *fewer]


def learned_mix(data: TrainingData, recipe: Recipe) -> ClassFractions:
    """Class shares of the training side by magnitude, with the weights of the loss."""
    rows = data.train
    if len(rows) > COUNTED:
        rows = np.sort(np.random.default_rng(len(rows)).choice(rows, COUNTED, replace=False))
    if data.store.form == "paper":
        magnitudes = np.full(len(rows), np.nan)
    else:
        parts = [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]
        magnitudes = np.concatenate(
            [
                data.preprocessing.magnitudes(data.store.images(part), data.store.bands)
                for part in parts
            ]
        )
    weights = class_weights(data, recipe, torch.device("cpu"))
    loss_weights = None if weights is None else weights.double().numpy()
    return training_fractions(data.classes[rows], magnitudes, loss_weights)
