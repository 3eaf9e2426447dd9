"""Contributions of pixels and bands, against networks with a known answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gqs.cutouts.channels import to_channels
from gqs.cutouts.preprocessing import Preprocessing
from gqs.explain.attribution import pixel_contributions, without_each_band
from gqs.model.classifier import Classifier
from gqs.networks import zoo
from gqs.surveys.sdss import SKY_NOISE

BANDS = "gri"


def classifier(name: str, preprocessing: Preprocessing) -> Classifier:
    torch.manual_seed(7)
    network = zoo.build(name, preprocessing.channels).eval()
    return Classifier(network, preprocessing, "0" * 64, {}, Path())


def sources(n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    noise = np.array([SKY_NOISE[band] for band in BANDS])[:, None, None]
    y, x = np.mgrid[:50, :50] - 24.5
    shape = np.exp(-(x**2 + (y / 1.4) ** 2) / (2 * 1.7**2))
    images = rng.uniform(0.2, 3, (n, 3, 1, 1)) * shape + rng.normal(size=(n, 3, 50, 50)) * noise
    images[:, :, :5] = np.nan  # masked rows
    return images.astype(np.float32)


def test_leaving_a_band_out_is_classifying_without_it() -> None:
    model = classifier("compact", Preprocessing("flux", BANDS, "linear"))
    images = sources(4)
    found = without_each_band(model, images, BANDS)
    assert list(found) == ["g", "i"]  # r is always needed
    np.testing.assert_allclose(found["g"], model.predict_cutouts(images[:, 1:], "ri"), atol=1e-7)
    np.testing.assert_allclose(found["i"], model.predict_cutouts(images[:, :2], "gr"), atol=1e-7)
    assert np.abs(found["g"] - model.predict_cutouts(images, BANDS)).max() > 1e-4


@pytest.mark.parametrize(
    ("name", "form", "stretch"),
    [("compact", "flux", "linear"), ("resnet18", "flux", "asinh"), ("resnet18", "paper", "linear")],
)
def test_contributions_of_all_pixels_sum_to_the_lead(name: str, form: str, stretch: str) -> None:
    model = classifier(name, Preprocessing(form, BANDS, stretch))
    images = sources(1)
    if form == "paper":
        rng = np.random.default_rng(3)
        images = rng.integers(0, 255, (1, 3, 50, 50)).astype(np.uint8)
    pixels, lead = pixel_contributions(
        model, to_channels(model.preprocessing, images), target=1, steps=96
    )
    assert pixels.shape == (3, 50, 50)
    assert pixels.sum() == pytest.approx(lead, abs=0.02 + 0.05 * abs(lead))
    if form == "flux":
        assert (pixels[:, :5] == 0).all()  # masked pixels contribute nothing


def test_contributions_of_a_linear_network_are_its_terms() -> None:
    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.Parameter(torch.randn(3, 6, 50, 50))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.einsum("ncyx,kcyx->nk", x, self.weights)

    network = Linear().eval()
    model = Classifier(network, Preprocessing("flux", BANDS, "asinh"), "0" * 64, {}, Path())
    x = to_channels(model.preprocessing, sources(1))
    pixels, lead = pixel_contributions(model, x, target=2, steps=4)
    weights = (network.weights[2] - network.weights.mean(dim=0)).detach()
    np.testing.assert_allclose(pixels, (weights * x[0])[:3].numpy(), rtol=2e-3, atol=1e-4)
    assert lead == pytest.approx(float((weights * x[0])[:3].sum()), rel=1e-3, abs=1e-2)
