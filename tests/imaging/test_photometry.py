"""Aperture magnitudes against photutils' circles, analytic Gaussians and masked pixels."""

from __future__ import annotations

import numpy as np
import pytest
import sep

from gqs.errors import UsageError
from gqs.imaging.photometry import (
    ELECTRON,
    aperture_flux,
    aperture_magnitudes,
    aperture_weights,
    concentration,
    feature_names,
    magnitude_features,
)
from gqs.surveys.sdss import SKY_NOISE, asinh_magnitude


def gaussians(n, bands="gri", flux=50.0, sigma=1.6, seed=0, noise=True, centred=False):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:50, :50]
    images = np.empty((n, len(bands), 50, 50))
    for i in range(n):
        cx, cy = (24.5, 24.5) if centred else rng.uniform(24, 25, 2)
        star = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
        images[i] = flux * star / (2 * np.pi * sigma**2)
    if noise:
        for k, band in enumerate(bands):
            photons = np.maximum(images[:, k], 0) * ELECTRON[band]
            spread = np.sqrt(SKY_NOISE[band] ** 2 + photons)
            images[:, k] += rng.normal(0, 1, images[:, k].shape) * spread
    return images.astype(np.float32)


@pytest.mark.parametrize("radius", [3.0, 7.5, 12.25])
def test_circles_are_seps_and_of_the_right_area(radius):
    weights = aperture_weights(radius)
    assert weights.sum() == pytest.approx(np.pi * radius**2, rel=2e-3)
    image = np.random.default_rng(1).normal(0, 1, (50, 50))
    exact, _, _ = sep.sum_circle(image, [24.5], [24.5], radius, subpix=0)
    assert (weights * image).sum() == pytest.approx(exact[0], abs=0.02)


def test_gaussians_have_the_flux_that_they_were_given():
    flux, _ = aperture_flux(gaussians(40, noise=False), "gri", 7.5)
    np.testing.assert_allclose(flux, 50.0, rtol=1e-3)
    inner, _ = aperture_flux(gaussians(1, noise=False, centred=True), "gri", 3.0)
    np.testing.assert_allclose(inner, 50 * (1 - np.exp(-9 / 2 / 1.6**2)), rtol=2e-2)


def test_errors_are_the_scatter():
    for flux in (0.0, 3.0, 400.0):
        images = gaussians(600, flux=flux, seed=7)
        measured, error = aperture_flux(images, "gri", 7.5)
        pull = (measured - flux) / error
        np.testing.assert_allclose(pull.std(axis=0), 1.0, atol=0.12)
        assert np.abs(pull.mean(axis=0)).max() < 0.2


def test_magnitudes_are_asinh_and_finite_without_a_source():
    images = gaussians(300, flux=0.0)
    magnitude, error = aperture_magnitudes(images, "gri")
    assert magnitude.shape == error.shape == (300, 3)
    assert np.isfinite(magnitude).all() and (error > 0).all()
    bright, error = aperture_magnitudes(gaussians(5, flux=100.0, noise=False), "gri")
    np.testing.assert_allclose(bright[:, 1], asinh_magnitude(100.0, "r"), atol=2e-3)
    flux, sigma = aperture_flux(gaussians(5, flux=100.0, noise=False), "gri")
    np.testing.assert_allclose(error, 2.5 / np.log(10) * sigma / flux, rtol=0.02)


def test_masked_pixels_are_made_up_for_or_refused():
    images = gaussians(50, flux=80.0, seed=3)
    whole, _ = aperture_magnitudes(images, "gri")
    images[:, :, 20:23, 27] = np.nan  # part of the aperture
    images[0, 1, 18:32, 18:32] = np.nan  # most of it
    magnitude, _ = aperture_magnitudes(images, "gri")
    assert np.isnan(magnitude[0, 1]) and np.isfinite(magnitude).sum() == magnitude.size - 1
    assert np.nanmedian(np.abs(magnitude - whole)) < 0.03


def test_sky_level_and_a_neighbour_do_not_count():
    images = gaussians(30, flux=40.0, noise=True, seed=5)
    plain, _ = aperture_flux(images, "gri")
    images += 0.05
    images[:, :, 40:46, 3:9] += 4.0
    np.testing.assert_allclose(aperture_flux(images, "gri")[0], plain, rtol=0.03)


def test_concentration_tells_wide_from_narrow():
    point = concentration(gaussians(20, flux=200.0), "gri")
    wide = concentration(gaussians(20, flux=200.0, sigma=3.0), "gri")
    assert np.nanmax(point) < np.nanmin(wide) - 0.3


def test_features_have_names_and_stand_for_one_row_each():
    images = gaussians(7, "ugriz")
    features = magnitude_features(images, "ugriz")
    names = feature_names("ugriz")
    assert features.shape == (7, len(names)) == (7, 14) and features.dtype == np.float32
    assert names[5:9] == ["u-g", "g-r", "r-i", "i-z"]
    np.testing.assert_array_equal(features[3:4], magnitude_features(images[3:4], "ugriz"))
    nothing = magnitude_features(np.full((2, 5, 50, 50), np.nan, np.float32), "ugriz")
    assert np.isnan(nothing).all()


def test_wrong_shapes_are_refused():
    with pytest.raises(UsageError, match="gri"):
        aperture_magnitudes(np.zeros((3, 2, 50, 50), np.float32), "gri")
    with pytest.raises(UsageError, match="30"):
        aperture_magnitudes(np.zeros((3, 3, 50, 50), np.float32), "gri", 30.0)


def test_an_aperture_masked_to_exactly_half_is_measured_and_one_pixel_more_is_not():
    images = gaussians(1, centred=True, noise=False).astype(np.float32)
    images[:, :, :, :25] = np.nan  # the aperture is symmetric: half of its points
    assert np.isfinite(aperture_flux(images, "gri", 3.0)[0]).all()
    images[:, :, 25, 25] = np.nan
    assert np.isnan(aperture_flux(images, "gri", 3.0)[0]).all()
