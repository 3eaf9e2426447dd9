"""Galaxies drawn in Fourier space against GalSim, which draws them its own way."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gqs.simulation.profiles import Psf, bulge_transform, disc_transform, grid, stamp_size

galsim = pytest.importorskip("galsim", reason="GalSim, the oracle (extra dev), is not installed")
SIZE = 128
SIGMA = 1.4  # of the Gaussian seeing that both sides draw through, pixels


@pytest.mark.parametrize(
    ("kind", "radius", "axis_ratio", "angle", "limit"),
    [
        ("disc", 4.0, 0.4, 30.0, 0.003),
        ("disc", 1.2, 0.9, 110.0, 0.003),
        ("bulge", 3.0, 0.7, 75.0, 0.006),
        ("bulge", 1.0, 0.9, 160.0, 0.006),
    ],
)
def test_a_galaxy_through_the_seeing_is_as_galsim_draws_it(
    kind: str, radius: float, axis_ratio: float, angle: float, limit: float
) -> None:
    ours_of = disc_transform if kind == "disc" else bulge_transform
    frequencies = grid(SIZE)
    transform = ours_of(frequencies.ellipse(axis_ratio, angle) * np.float32(radius**2))
    seeing = np.exp(-0.5 * SIGMA**2 * (frequencies.kx**2 + frequencies.ky**2))
    x, y = 64.3, 63.8
    ours = frequencies.image(transform, seeing, x, y)
    # GalSim keeps the area when it shears, we keep the major axis.
    half_light = radius * math.sqrt(axis_ratio)
    if kind == "disc":
        profile = galsim.Exponential(half_light_radius=half_light)
    else:
        profile = galsim.DeVaucouleurs(
            half_light_radius=half_light, trunc=7.5 * half_light, flux_untruncated=True
        )
    profile = profile.withFlux(1.0).shear(q=axis_ratio, beta=angle * galsim.degrees)
    scene = galsim.Convolve(profile, galsim.Gaussian(sigma=SIGMA))
    middle = (SIZE - 1) / 2
    theirs = scene.drawImage(
        nx=SIZE, ny=SIZE, scale=1.0, method="no_pixel", offset=(x - middle, y - middle)
    ).array
    assert np.abs(ours - theirs).max() < limit * theirs.max()


def test_transforms_are_one_at_zero_frequency_and_fall() -> None:
    q2 = np.array([0.0, 0.01, 1.0, 25.0, 400.0], np.float32)
    for transform in (bulge_transform, disc_transform):
        values = transform(q2)
        assert values[0] == pytest.approx(1, abs=2e-3)
        assert (np.diff(values) < 0).all()
        assert (values > 0).all()


def test_stamps_grow_with_light_and_size() -> None:
    psf = Psf("r", 3.4)
    faint = stamp_size(1.0, 0.5, 1.0, 2.0, psf, 0.003)
    bright = stamp_size(2000.0, 0.5, 10.0, 20.0, psf, 0.003)
    assert faint == 64
    assert bright >= 256
