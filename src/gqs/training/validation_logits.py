"""What a finished training says of its validation side, and of the mix that it learned from."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gqs.cutouts.quality import faults
from gqs.imaging import seeing
from gqs.imaging.photometry import aperture_magnitudes
from gqs.model.calibration import USUAL, HeldOut
from gqs.networks import zoo
from gqs.probability.label_shift import Shares, learned_shares
from gqs.recipes import Recipe
from gqs.surveys.sdss import REFERENCE_BAND
from gqs.training.batches import TrainingData
from gqs.training.optimizer import class_weights

AT_ONCE: Final = 256  # cutouts, which bounds memory
COUNTED: Final = 20_000  # training objects whose magnitude is measured, drawn at random


@torch.no_grad()
def held_out(
    data: TrainingData, recipe: Recipe, weights: dict[str, Tensor], device: str
) -> dict[str, HeldOut]:
    """Judge the validation side with the weights that were kept, as a classifier would: in fp32."""
    network = zoo.build(recipe.network, data.preprocessing.channels, **recipe.arguments)
    network.load_state_dict(weights)
    network = zoo.channels_last(network).to(device).eval()
    sets = _sets(data, recipe)
    logits: dict[str, list[NDArray[Any]]] = {bands: [np.empty((0, 3))] for bands in sets}
    magnitudes = [np.empty(0)]
    for start in range(0, len(data.validation), AT_ONCE):
        rows = data.validation[start : start + AT_ONCE]
        images = data.store.images(rows)
        magnitudes.append(_magnitudes(images, data))
        seen = images if data.store.form == "paper" else images[:, _planes(data)]
        told = seeing.seeing_columns(data.store.index[rows], data.preprocessing.bands)
        for bands in sets:
            given = _without(seen, told, bands, data.preprocessing.bands)
            found = network(data.preprocessing(given[0], torch.device(device), given[1]))
            found = found.double().cpu().numpy()
            found[~_judgeable(seen, bands, data)] = np.nan
            logits[bands].append(found)
    objid = np.asarray(data.store.index["objid"][data.validation], dtype=np.uint64)
    truth, mag_r = data.classes[data.validation], np.concatenate(magnitudes)
    return {
        bands: HeldOut(objid, truth, mag_r, np.concatenate(parts))
        for bands, parts in logits.items()
    }


def _sets(data: TrainingData, recipe: Recipe) -> list[str]:
    """Name the network's own bands, and the usual sets that it learned to make do with."""
    own, augment = data.preprocessing.bands, recipe.augment
    any_bands = data.preprocessing.form == "flux" and (augment.band_dropout or augment.narrow)
    fewer = [bands for bands in USUAL if set(bands) < set(own)] if any_bands else []
    return [own, *fewer]


def _without(
    seen: NDArray[Any], told: NDArray[np.float64], bands: str, own: str
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Mark all other bands as missing, as `Classifier.arranged` and `Classifier.told` do."""
    missing = [i for i, band in enumerate(own) if band not in bands]
    if not missing:
        return seen, told
    seen, told = seen.copy(), told.copy()
    seen[:, missing], told[:, missing] = np.nan, np.nan
    return seen, told


def learned_mix(data: TrainingData, recipe: Recipe) -> Shares:
    """Count the classes that a training learned from, by magnitude."""
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


def _planes(data: TrainingData) -> list[int]:
    """Positions of the network's bands in the store."""
    return [data.store.bands.index(band) for band in data.preprocessing.bands]


def _judgeable(seen: NDArray[Any], bands: str, data: TrainingData) -> NDArray[np.bool_]:
    """Tell which cutouts a classifier would judge by the bands that are given."""
    if data.store.form == "paper":
        return np.asarray(seen.max(axis=(1, 2, 3)) > seen.min(axis=(1, 2, 3)))
    given = [i for i, band in enumerate(data.preprocessing.bands) if band in bands]
    ordered = "".join(data.preprocessing.bands[i] for i in given)
    return np.asarray(faults(seen[:, given], ordered) == 0)


def _magnitudes(images: NDArray[Any], data: TrainingData) -> NDArray[np.float64]:
    """Aperture r magnitudes (n,); a colour picture has none."""
    if data.store.form == "paper" or REFERENCE_BAND not in data.store.bands:
        return np.full(len(images), np.nan)
    r = data.store.bands.index(REFERENCE_BAND)
    return aperture_magnitudes(images[:, r : r + 1], REFERENCE_BAND)[0][:, 0]
