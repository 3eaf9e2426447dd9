"""Channels for networks: units, masks, refusals; never NaN, whatever comes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gqs.cutouts.channels import to_channels
from gqs.cutouts.preprocessing import Preprocessing
from gqs.errors import UsageError
from gqs.surveys.sdss import SKY_NOISE


def images(bands: int = 3, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(4, bands, 50, 50)).astype(np.float32)


def test_flux_comes_in_units_of_the_sky_noise_in_the_order_of_the_bands() -> None:
    flux = images()
    x = to_channels(Preprocessing("flux", "grz", "linear"), flux)
    assert x.shape == (4, 6, 50, 50)
    assert x.dtype == torch.float32
    for i, band in enumerate("grz"):
        np.testing.assert_allclose(x[:, i], flux[:, i] / SKY_NOISE[band], rtol=1e-6)
    assert (x[:, 3:] == 1).all()


def test_asinh_is_of_the_flux_in_sky_noises() -> None:
    flux = images()
    linear = to_channels(Preprocessing("flux", "gri", "linear"), flux)
    asinh = to_channels(Preprocessing("flux", "gri", "asinh"), flux)
    expected = np.arcsinh(linear[:, :3].numpy())
    np.testing.assert_allclose(asinh[:, :3], expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(asinh[:, 3:], linear[:, 3:])


@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
def test_faulty_pixels_become_zero_and_are_masked(fault: float) -> None:
    flux = images()
    flux[1, 2, 7, 30:] = fault
    x = to_channels(Preprocessing("flux", "gri", "linear"), flux)
    assert torch.isfinite(x).all()
    assert (x[1, 2, 7, 30:] == 0).all()
    assert (x[1, 5, 7, 30:] == 0).all()
    assert x[:, 3:].sum() == 4 * 3 * 2500 - 20


def test_a_band_that_is_missing_is_all_masked() -> None:
    flux = images()
    flux[:, 0] = np.nan
    x = to_channels(Preprocessing("flux", "gri", "asinh"), flux)
    assert (x[:, 0] == 0).all()
    assert (x[:, 3] == 0).all()


def test_absurd_values_stay_finite() -> None:
    flux = np.full((1, 1, 50, 50), 3e38, dtype=np.float32)
    for stretch in ("linear", "asinh"):
        assert torch.isfinite(to_channels(Preprocessing("flux", "g", stretch), flux)).all()
        assert torch.isfinite(to_channels(Preprocessing("flux", "g", stretch), -flux)).all()


def test_big_endian_and_double_flux_are_taken() -> None:
    flux = images()
    expected = to_channels(Preprocessing("flux", "gri", "linear"), flux)
    for kind in (">f4", "<f8"):
        assert torch.equal(
            to_channels(Preprocessing("flux", "gri", "linear"), flux.astype(kind)), expected
        )


def test_the_papers_picture_runs_from_minus_one_to_one() -> None:
    picture = np.zeros((2, 3, 50, 50), dtype=np.uint8)
    picture[0, 1] = 255
    preprocessing = Preprocessing("paper", "gri", "asinh")
    x = to_channels(preprocessing, picture)
    assert preprocessing.channels == 3
    assert preprocessing.masks == 0
    assert x[0, 1].unique().tolist() == [1.0]
    assert x[1].unique().tolist() == [-1.0]


def test_the_images_are_left_alone() -> None:
    flux = images()
    flux[0, 0, 3, 4] = np.nan
    before = flux.copy()
    to_channels(Preprocessing("flux", "gri", "asinh"), flux)
    np.testing.assert_array_equal(flux, before)


def test_none_gives_none() -> None:
    assert to_channels(Preprocessing("flux", "gri", "linear"), images()[:0]).shape == (0, 6, 50, 50)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("colour", "gri", "linear"), "Unknown form 'colour'"),
        (("flux", "gri", "log"), "Unknown stretch 'log'"),
        (("flux", "grv", "linear"), "Unknown band 'v'"),
    ],
)
def test_unknown_settings_are_refused(arguments: tuple[str, str, str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Preprocessing(*arguments)


def test_images_of_another_form_are_refused() -> None:
    with pytest.raises(UsageError, match="takes"):
        to_channels(
            Preprocessing("flux", "gri", "linear"), np.zeros((2, 3, 50, 50), dtype=np.uint8)
        )
    with pytest.raises(UsageError, match="takes"):
        to_channels(Preprocessing("paper", "gri", "linear"), images())
    with pytest.raises(UsageError, match="takes"):
        to_channels(Preprocessing("flux", "ugriz", "linear"), images(3))


def test_seeing_is_a_plane_a_band_and_0_where_it_is_not_known() -> None:
    seeing = np.array([[1.2, np.nan, 1.5]] * 4)
    x = to_channels(Preprocessing("flux", "gri", "linear", seeing=True), images(), seeing)
    assert x.shape == (4, 9, 50, 50)
    planes = x[:, 6:].numpy()
    assert (planes == planes[..., :1, :1]).all()
    np.testing.assert_allclose(planes[:, :, 0, 0], np.nan_to_num(seeing), rtol=1e-6)
    without = to_channels(Preprocessing("flux", "gri", "linear", seeing=True), images())
    assert not without[:, 6:].any()
