"""What a finished training says of its validation side, and of the mix that it learned from."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gqs.dataset.judgeable import faults
from gqs.evaluation.held_out import HeldOut, usable
from gqs.evaluation.shares import Shares, learned_shares
from gqs.imaging.photometry import aperture_magnitudes
from gqs.networks import zoo
from gqs.recipes import Recipe
from gqs.survey.sdss import REFERENCE_BAND
from gqs.training.batches import Data
from gqs.training.optimizing import class_weights

AT_ONCE: Final = 256  # cutouts, which bounds memory
COUNTED: Final = 20_000  # training objects whose magnitude is measured, drawn at random


@torch.no_grad()
def held_out(data: Data, recipe: Recipe, weights: dict[str, Tensor], device: str) -> HeldOut:
    """Judge the validation side with the weights that were kept, as a classifier would: in fp32.

    Parameters
    ----------
    data : Data
        What was trained on.
    recipe : Recipe
        With the network and its arguments.
    weights : dict
        The network's state_dict.
    device : str
        Where to compute, as torch names it.

    Returns
    -------
    HeldOut
        The objects that a classifier would judge.
    """
    network = zoo.build(recipe.network, data.preprocessing.channels, **recipe.arguments)
    network.load_state_dict(weights)
    network = zoo.channels_last(network).to(device).eval()
    logits, magnitudes = [np.empty((0, 3))], [np.empty(0)]
    for start in range(0, len(data.validation), AT_ONCE):
        rows = data.validation[start : start + AT_ONCE]
        images = data.store.images(rows)
        seen = images if data.store.form == "paper" else images[:, _planes(data)]
        x = data.images(rows, torch.device(device))
        found = network(x).double().cpu().numpy()
        found[~_judgeable(seen, data)] = np.nan
        logits.append(found)
        magnitudes.append(_magnitudes(images, data))
    every = HeldOut(
        objid=np.asarray(data.store.index["objid"][data.validation], dtype=np.uint64),
        truth=data.classes[data.validation],
        mag_r=np.concatenate(magnitudes),
        logits=np.concatenate(logits),
    )
    return usable(every)


def learned_mix(data: Data, recipe: Recipe) -> Shares:
    """Count the classes that a training learned from, by magnitude.

    Parameters
    ----------
    data : Data
        Its training side; of a large one some objects stand for all.
    recipe : Recipe
        With `class_weights`.

    Returns
    -------
    Shares
        As the loss counted them.
    """
    rows = data.train
    if len(rows) > COUNTED:
        rows = np.sort(np.random.default_rng(len(rows)).choice(rows, COUNTED, replace=False))
    parts = [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]
    if data.store.form == "paper":
        magnitudes = np.full(len(rows), np.nan)
    else:
        magnitudes = np.concatenate([_magnitudes(data.store.images(part), data) for part in parts])
    weights = class_weights(data, recipe, torch.device("cpu"))
    worth = None if weights is None else weights.double().numpy()
    return learned_shares(data.classes[rows], magnitudes, worth)


def _planes(data: Data) -> list[int]:
    """Positions of the network's bands in the store."""
    return [data.store.bands.index(band) for band in data.preprocessing.bands]


def _judgeable(seen: NDArray[Any], data: Data) -> NDArray[np.bool_]:
    """Tell which cutouts a classifier would judge, by the bands that it takes."""
    if data.store.form == "paper":
        return np.asarray(seen.max(axis=(1, 2, 3)) > seen.min(axis=(1, 2, 3)))
    return np.asarray(faults(seen, data.preprocessing.bands) == 0)


def _magnitudes(images: NDArray[Any], data: Data) -> NDArray[np.float64]:
    """Aperture r magnitudes (n,); a colour picture has none."""
    if data.store.form == "paper" or REFERENCE_BAND not in data.store.bands:
        return np.full(len(images), np.nan)
    r = data.store.bands.index(REFERENCE_BAND)
    return aperture_magnitudes(images[:, r : r + 1], REFERENCE_BAND)[0][:, 0]
