"""The model as one module: each rule written in torch against its original."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gqs.cutouts.channels import to_channels
from gqs.cutouts.preprocessing import Preprocessing
from gqs.cutouts.quality import quality_flags
from gqs.imaging.photometry import aperture_magnitudes
from gqs.model.engines.export_module import ExportedModel, LogitModel
from gqs.model.engines.probe_cutouts import specimens
from gqs.model.temperature import KNOTS, Temperature

ANY = nn.Flatten()
TEMPERATURE = Temperature(1.3, KNOTS, (0.7, 0.9, 1.0, 1.1, 1.4, 1.6, 1.5, 1.2))


def harmed(n: int = 60, bands: str = "ugriz") -> np.ndarray:
    """Simulated cutouts, some harmed, and then some that cannot be judged at all."""
    images = specimens(Preprocessing("flux", bands, "linear"), n, seed=7).images
    r = bands.index("r")
    images[0, r, 24, 25] = np.nan  # the centre
    images[1, r] = 0.25  # no signal
    images[2] = np.nan
    images[3, :, :26] = np.inf  # over half masked
    images[4, :, ::2] = np.nan
    images[5, r, 19:24, 19:30] = np.nan  # part of the aperture, not the centre
    images[6, r, 26:32, 18:32] = np.nan
    images[7, r, :, :22] = np.nan
    images[8, r, 17:23] = images[8, r, 27:33] = np.nan  # with the mirror image
    images[9, r, :18] = images[9, r, 32:] = np.nan
    return images


@pytest.mark.parametrize("bands", ["ugriz", "gri"])
@pytest.mark.parametrize("stretch", ["linear", "asinh"])
@pytest.mark.parametrize("with_seeing", [True, False])
def test_channels_are_those_of_preprocessing(bands: str, stretch: str, with_seeing: bool) -> None:
    preprocessing = Preprocessing("flux", bands, stretch, with_seeing)
    images = harmed(24, bands)
    images[10, 0, 3, 3] = 1e12
    seeing = np.linspace(0.8, 2.2, 24 * len(bands)).reshape(24, -1)
    seeing[5, 1] = np.nan
    given = (torch.tensor(images), *([torch.tensor(seeing).float()] if with_seeing else []))
    found = LogitModel(ANY, preprocessing).channels(*given)
    clean = np.where(np.isfinite(images), images, np.nan)
    expected = to_channels(preprocessing, clean, seeing)
    np.testing.assert_allclose(found, expected, rtol=3e-7, atol=1e-7)


def test_channels_of_a_picture() -> None:
    preprocessing = Preprocessing("paper", "irg", "linear")
    pictures = np.random.default_rng(1).integers(0, 256, (3, 3, 50, 50)).astype(np.uint8)
    found = LogitModel(ANY, preprocessing).channels(torch.tensor(pictures))
    np.testing.assert_allclose(found, to_channels(preprocessing, pictures), atol=1e-7)


@pytest.mark.parametrize("bands", ["ugriz", "gri"])
def test_what_can_be_judged_is_what_the_dataset_says(bands: str) -> None:
    images = harmed(bands=bands)
    judging = ExportedModel(LogitModel(ANY, Preprocessing("flux", bands, "linear")), Temperature())
    expected = quality_flags(images, bands) == 0
    assert 0 < expected.sum() < len(images)
    np.testing.assert_array_equal(judging.judgeable(torch.tensor(images)).numpy(), expected)


def test_the_magnitude_is_that_of_photometry() -> None:
    images = harmed()
    judging = ExportedModel(LogitModel(ANY, Preprocessing("flux", "ugriz", "linear")), TEMPERATURE)
    plane = np.where(np.isfinite(images[:, 2:3]), images[:, 2:3], np.nan)
    expected = aperture_magnitudes(plane, "r")[0][:, 0]
    magnitude, measured = judging.magnitude(torch.tensor(images[:, 2]).flatten(1))
    np.testing.assert_array_equal(measured.numpy(), np.isfinite(expected))
    known = np.isfinite(expected)
    assert 40 < known.sum() < len(images)
    np.testing.assert_allclose(magnitude.numpy()[known], expected[known], atol=2e-4)
    soft = judging.softness(torch.tensor(images)).numpy()
    np.testing.assert_allclose(soft, TEMPERATURE.at(expected), rtol=1e-4)


def test_without_knots_one_temperature_serves_all() -> None:
    images = torch.tensor(harmed(12))
    judging = ExportedModel(
        LogitModel(ANY, Preprocessing("flux", "ugriz", "linear")), Temperature(1.7)
    )
    np.testing.assert_allclose(judging.softness(images), 1.7, rtol=1e-6)
