"""A model folder with a small network of random weights that takes the seeing, calibrated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gqs import labels
from gqs.cutouts.channels import to_channels
from gqs.model.calibration import ValidationLogits, calibrate
from gqs.model.engines.probe_cutouts import ProbeCutouts, specimens
from gqs.model.folder import Card, save_model
from gqs.networks import zoo
from gqs.probability.label_shift import ClassFractions

ARGUMENTS = {"seeing": True, "width": 8, "hidden": 32}


@pytest.fixture(scope="session")
def seen() -> ProbeCutouts:
    """Simulated cutouts, some very bright, faint, saturated, masked."""
    card = Card(
        network="compact",
        arguments=ARGUMENTS,
        bands="ugriz",
        form="flux",
        stretch="linear",
        data_hash="",
        split_hash="",
    )
    return specimens(card.preprocessing(), 90)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, seen: ProbeCutouts) -> Path:
    """The folder. What is tested holds for any weights, if they give more than one class."""
    torch.manual_seed(8)
    network = zoo.build("compact", channels=15, **ARGUMENTS).eval()
    card = Card(
        network="compact",
        arguments=ARGUMENTS,
        bands="ugriz",
        form="flux",
        stretch="linear",
        data_hash="0" * 64,
        split_hash="0" * 64,
    )
    network.fit(to_channels(card.preprocessing(), seen.images, seen.seeing))
    with torch.no_grad():
        network.head[-1].weight.mul_(30)  # probabilities that differ, as a trained network's do
    rng = np.random.default_rng(2)
    n = 300
    truth = rng.integers(len(labels.CLASSES), size=n)
    logits = rng.normal(0, 2, (n, 3)) + 2 * np.eye(3)[truth]
    held_out = ValidationLogits(
        np.arange(n, dtype=np.uint64), truth, rng.uniform(15, 23, n), logits
    )
    shares = ClassFractions(np.array([18.0]), np.full((1, 3), 1 / 3))
    card = card.model_copy(update={"calibration": calibrate(held_out, shares)})
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, network.state_dict(), card)
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the tests' own: the user's stays as it is, and each graph is drawn once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GQS_CACHE", str(folder))
        yield folder
