"""Photometry as a layer, against photometry done by hand with photutils-style sums in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gqs.networks.measure import (
    COLOUR_RADII,
    ERROR_RADII,
    POGSON,
    RADII,
    SIGMAS,
    Measure,
    extension_features,
)

SHAPES = len(RADII) - 1 + 3 * len(SIGMAS)
PER_BAND = len(RADII) + len(ERROR_RADII) + SHAPES + 1


def source(
    flux: float, sigma: float, x: float = 24.5, y: float = 24.5, ratio: float = 1.0
) -> torch.Tensor:
    """(50, 50) Gaussian of a total flux."""
    rows, columns = torch.meshgrid(torch.arange(50.0), torch.arange(50.0), indexing="ij")
    spot = torch.exp(-0.5 * (((columns - x) / sigma) ** 2 + ((rows - y) / (sigma * ratio)) ** 2))
    return flux * spot / spot.sum()


def measured(*planes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    flux = torch.stack(planes)[None]
    raw, valid = Measure(len(planes)).measure(flux, torch.ones_like(flux))
    return raw[0], valid[0]


def test_there_are_as_many_features_as_said() -> None:
    for bands in (1, 2, 5):
        raw, valid = measured(*[source(100, 2)] * bands)
        pairs = bands * (bands - 1) // 2
        expected = bands * PER_BAND + SHAPES + len(COLOUR_RADII) * pairs
        assert raw.shape == valid.shape == (Measure(bands).features,) == (expected,)


def test_magnitudes_are_asinh_magnitudes_of_sums_in_circles() -> None:
    image = source(3000, 2.2) + 0.3 * torch.randn(
        50, 50, generator=torch.Generator().manual_seed(1)
    )
    raw, _ = measured(image)
    rows, columns = np.mgrid[:50, :50]
    distance = np.hypot(rows - 24.5, columns - 24.5)
    for i, radius in enumerate(RADII):
        weight = np.clip(radius + 0.5 - distance, 0, 1)  # a pixel on the rim counts in part
        soft = 2 * np.sqrt(weight.sum())
        expected = -POGSON * np.arcsinh((image.numpy() * weight).sum() / soft)
        assert float(raw[i]) == pytest.approx(expected, rel=1e-4)
        assert weight.sum() == pytest.approx(np.pi * radius**2, rel=0.03)


def test_ten_times_the_flux_is_two_and_a_half_magnitudes() -> None:
    bright, faint = measured(source(1e5, 2))[0], measured(source(1e4, 2))[0]
    np.testing.assert_allclose(faint[:3] - bright[:3], 2.5, atol=0.002)


def test_colours_are_differences_of_magnitudes_whatever_the_shape() -> None:
    raw, _ = measured(source(5e4, 2.5), source(1e4, 2.5))
    np.testing.assert_allclose(raw[-len(COLOUR_RADII) :], -2.5 * np.log10(5), atol=0.003)


def test_sizes_are_those_of_the_source_under_the_weight_wherever_it_lies() -> None:
    # The product of two Gaussians is one: 1/s^2 = 1/sigma^2 + 1/weight^2.
    place = len(RADII) + len(ERROR_RADII) + len(RADII) - 1
    for sigma in (1.5, 2.5, 3.5):
        for x, y in ((24.5, 24.5), (24.1, 24.9), (25.4, 23.7)):
            raw, _ = measured(source(1e6, sigma, x, y))
            for number, weight in enumerate(SIGMAS):
                expected = 2 / (1 / sigma**2 + 1 / weight**2)
                assert float(raw[place + 3 * number]) == pytest.approx(expected, rel=0.01)


def test_ellipticity_does_not_turn_with_the_image() -> None:
    image = source(1e6, 3, ratio=0.6)
    place = len(RADII) + len(ERROR_RADII) + len(RADII) - 1 + 1
    along, across = measured(image)[0][place], measured(image.T.contiguous())[0][place]
    round_one = measured(source(1e6, 3))[0][place]
    assert float(along) == pytest.approx(float(across), rel=1e-4)
    assert along > 0.5 > 0.1 > round_one


def test_errors_are_those_of_noise_seen_in_many_skies() -> None:
    generator = torch.Generator().manual_seed(3)
    skies = 1.2 * torch.randn(800, 1, 50, 50, generator=generator) + source(120, 2)
    raw, _ = Measure(1).measure(skies, torch.ones_like(skies))
    for i, number in enumerate(ERROR_RADII):
        measured = raw[:, len(RADII) + i].median()
        assert float(measured) == pytest.approx(float(raw[:, number].std()), rel=0.15)


def test_a_masked_share_of_an_aperture_is_made_up_for() -> None:
    flux = torch.full((1, 1, 50, 50), 2.0)
    mask = torch.ones_like(flux)
    mask[..., 27:, :] = 0
    whole, _ = Measure(1).measure(flux, torch.ones_like(flux))
    part, valid = Measure(1).measure(flux * mask, mask)
    assert valid.all()
    np.testing.assert_allclose(part[0, : len(RADII)], whole[0, : len(RADII)], rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1e7, -1e7])
def test_features_are_finite_and_bounded_whatever_comes(value: float) -> None:
    layer = Measure(3)
    layer.fit(torch.randn(50, 3, 50, 50), torch.ones(50, 3, 50, 50))
    flux = torch.full((4, 3, 50, 50), value)
    mask = torch.ones_like(flux)
    mask[1, 0] = 0
    mask[2] = 0
    mask[3, :, 20:30, 20:30] = 0
    found = layer(flux, mask)
    assert torch.isfinite(found).all()
    assert found.abs().max() <= 6
    assert (found[2] == 0).all()


def test_gradient_is_finite_whatever_comes() -> None:
    flux = torch.zeros(3, 2, 50, 50, requires_grad=True)
    mask = torch.ones(3, 2, 50, 50)
    mask[1] = 0
    Measure(2)(flux, mask).sum().backward()
    assert flux.grad is not None
    assert torch.isfinite(flux.grad).all()


def test_a_missing_band_takes_its_colours_with_it_and_leaves_the_rest() -> None:
    layer = Measure(3)
    flux = torch.stack([source(1000 * (i + 1), 2) for i in range(3)])[None]
    mask = torch.ones_like(flux)
    whole = layer(flux, mask)
    mask[:, 1] = 0
    part = layer(flux * mask, mask)
    here = [slice(0, PER_BAND), slice(2 * PER_BAND, 3 * PER_BAND)]
    for band in here:
        assert torch.equal(part[:, band], whole[:, band])
    assert (part[:, PER_BAND : 2 * PER_BAND] == 0).all()
    colours, colours_before = part[0, -6:].reshape(3, 2), whole[0, -6:].reshape(3, 2)
    assert (colours[[0, 2]] == 0).all()  # first - second, second - third
    assert torch.equal(colours[1], colours_before[1])  # first - third


def test_fitted_features_have_median_0_and_spread_1() -> None:
    generator = torch.Generator().manual_seed(5)
    total = 10 ** torch.rand(500, 2, 1, 1, generator=generator).mul(3)
    flux = total * source(1, 2) + torch.randn(500, 2, 50, 50, generator=generator)
    layer = Measure(2)
    layer.fit(flux, torch.ones_like(flux))
    raw, valid = layer.measure(flux, torch.ones_like(flux))
    standard = ((raw - layer.middle) / layer.spread)[:, :6]
    assert valid.all()
    np.testing.assert_allclose(standard.median(dim=0).values, 0, atol=0.02)
    width = standard.quantile(0.84, dim=0) - standard.quantile(0.16, dim=0)
    np.testing.assert_allclose(width, 2, rtol=0.02)


def test_measuring_stays_in_float32_under_autocast() -> None:
    flux = torch.stack([source(54321, 2), source(12345, 2)])[None]
    layer = Measure(2)
    plain = layer(flux, torch.ones_like(flux))
    with torch.autocast("cpu", torch.bfloat16):
        under = layer(flux, torch.ones_like(flux))
    assert under.dtype == torch.float32
    assert torch.equal(plain, under)


def test_extension_is_none_for_a_gaussian_of_the_seeing_and_plain_for_a_wider_one() -> None:
    y, x = np.mgrid[:50, :50] - 24.5
    fwhm = 1.3  # arcsec
    found = []
    for factor in (1.0, 1.5):
        sigma = factor * fwhm / 0.396 / 2.3548
        star = 900 * np.exp(-0.5 * (x**2 + y**2) / sigma**2) / (2 * np.pi * sigma**2)
        flux = torch.tensor(star, dtype=torch.float32).expand(1, 3, 50, 50)
        seeing = torch.tensor([[fwhm, fwhm, 0.0]])
        found.append(Measure(3).extension(flux, torch.ones_like(flux), seeing)[0].numpy())
    (point, wide), bands = found, 3
    assert len(point) == extension_features(bands)
    # Apertures of whole and shared pixels are not quite circles: some per cent of the light.
    assert abs(point[bands : bands + 2]).max() < 0.15 and abs(point[-1]) < 0.15
    share = [(1 - np.exp(-0.5 * (2.0 / s) ** 2)) / (1 - np.exp(-0.5 * (4.5 / s) ** 2))
             for s in (1.394, 1.5 * 1.394)]  # fmt: skip
    assert wide[bands] == pytest.approx(5 * (share[0] - share[1]), abs=0.15)
    assert point[2] == wide[2] == 0  # of the third band nothing is known
