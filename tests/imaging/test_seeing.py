"""Seeing comes back: Gaussian stars' own width, the simulated profile's, and NaN without stars."""

from __future__ import annotations

import numpy as np
import pytest
import sep

from gqs.imaging import seeing
from gqs.imaging.detect import detect
from gqs.imaging.seeing import _stars, field_seeing
from gqs.simulation.profiles import Psf
from gqs.surveys.sdss import PIXEL_SCALE

FWHM = 2 * np.sqrt(2 * np.log(2))


@pytest.mark.parametrize("sigma", [1.1, 1.6, 2.4])
def test_a_gaussian_has_its_own_width(sigma):
    inside = [1 - np.exp(-0.5 * (radius / sigma) ** 2) for radius in (2.0, 5.0)]
    assert seeing.seeing(*inside) == pytest.approx(FWHM * sigma * PIXEL_SCALE, rel=1e-4)


def test_no_light_has_no_width():
    assert np.isnan(seeing.seeing([0.0, 1.0], [0.0, -2.0])).all()


def test_a_field_of_gaussian_stars_tells_their_width_in_every_band(sky, stack):
    found = field_seeing(stack, detect(stack))
    # A pixel of width 1 and the resampling spline widen the profile a little.
    expected = FWHM * np.hypot(sky.sigma, 1 / np.sqrt(12)) * PIXEL_SCALE
    assert found.shape == (len(stack.bands),)
    np.testing.assert_allclose(found, expected, rtol=0.05)


def test_without_stars_nothing_is_told(stack):
    none = detect(stack)[:4]
    assert np.isnan(field_seeing(stack, none)).all()


def test_a_crowd_of_galaxies_behind_the_stars_is_passed_over():
    rng = np.random.default_rng(3)
    width = np.concatenate([rng.normal(1.35, 0.02, 60), rng.normal(2.1, 0.35, 100)])
    stars = _stars(width)
    assert stars[:60].all() and stars[60:].sum() <= 5
    assert np.median(width[stars]) == pytest.approx(1.35, abs=0.01)


@pytest.mark.parametrize("fwhm", [2.8, 3.6])
def test_a_simulated_profile_tells_what_its_stars_show(fwhm):
    psf = Psf("r", fwhm)
    y, x = np.mgrid[:61, :67]
    widths = []
    for phase in (0.0, 0.3, 0.5):
        star = psf.at(x - 33 - phase, y - 30 + phase)
        at = [33 + phase], [30 - phase]
        inner, outer = (sep.sum_circle(star, *at, r, subpix=11)[0][0] for r in (2.0, 5.0))
        widths.append(float(seeing.seeing(inner, outer)))
    assert np.mean(widths) == pytest.approx(psf.seeing, rel=0.005)
