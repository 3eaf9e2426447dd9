"""The simulated point-spread function, by its integrals, its width and its transform."""

from __future__ import annotations

import numpy as np
import pytest

from gqs.simulation.profiles import APERTURE, RADIUS, Psf, _core


def image(psf: Psf, ny: int, nx: int, x: float, y: float) -> np.ndarray:
    return psf.at(np.arange(nx)[None, :] - x, np.arange(ny)[:, None] - y)


@pytest.mark.parametrize("band", "ugriz")
@pytest.mark.parametrize("fwhm", [2.4, 3.4, 4.8])
def test_unit_light_lies_within_the_aperture_of_sdss_magnitudes(band: str, fwhm: float) -> None:
    psf = Psf(band, fwhm, 0.05, -0.03)
    y, x = np.mgrid[-25:25:0.25, -24:24:0.25]
    inside = np.hypot(x, y) < APERTURE
    assert (psf.at(x, y)[inside].sum() / 16) == pytest.approx(1, abs=0.003)


@pytest.mark.parametrize("fwhm", [2.4, 4.8])
def test_the_width_at_half_maximum_is_as_asked(fwhm: float) -> None:
    psf = Psf("r", fwhm)
    peak, half = psf.at(np.array([0.0, fwhm / 2]), np.zeros(2))
    assert half / peak == pytest.approx(0.5, abs=0.01)


def test_the_axis_ratio_and_its_direction_are_as_asked() -> None:
    psf = Psf("g", 4.0, 0.1428, 0.0)
    assert psf.axis_ratio == pytest.approx(0.75, abs=1e-3)
    along, across = psf.at(np.array([3.0, 0.0]), np.array([0.0, 3.0]))
    assert along > across
    # The contour through 3 px on the major axis meets the minor axis at 3 px times the ratio.
    contour = _core(9.0 * psf.axis_ratio, psf.sigma)
    core, _ = psf._norm
    assert _core(9.0 * psf.axis_ratio, psf.sigma) == contour
    aureole = sum(0.010 / (2 * np.pi * a * a) for a in (8.0, 24.0, 72.0))
    assert along * psf._norm[1] == pytest.approx(contour / core + aureole, rel=0.01)


def test_the_transform_is_that_of_the_profile() -> None:
    psf = Psf("i", 3.4, 0.08, 0.05)
    ny, nx = 512, 640
    numeric = np.fft.rfft2(np.fft.ifftshift(image(psf, ny, nx, nx // 2, ny // 2)))
    ky = 2 * np.pi * np.fft.fftfreq(ny)[:, None]
    kx = 2 * np.pi * np.fft.rfftfreq(nx)[None, :]
    exact = psf.transform(kx, ky)
    high = np.hypot(kx, ky) > 0.05  # lower frequencies belong to wings longer than the image
    assert np.abs(numeric.real - exact)[high].max() < 2e-3
    assert np.abs(numeric.imag)[high].max() < 2e-3


def test_wings_are_followed_farther_for_brighter_stars() -> None:
    psf = Psf("r", 3.4)
    faint, bright = psf.reach(10.0, 0.0027), psf.reach(40_000.0, 0.0027)
    assert faint == RADIUS < 100 < bright <= 700


def test_spikes_lie_along_their_arms() -> None:
    psf = Psf("r", 3.4, spike_angle=0.0, spike_arms=(1.0, 0.0, 0.0, 0.0))
    right, left, up = psf.spikes(np.array([40.0, -40.0, 0.0]), np.array([0.0, 0.0, 40.0]))
    assert right > 0
    assert left == up == 0
