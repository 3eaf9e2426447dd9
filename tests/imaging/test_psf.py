"""PSF magnitudes against analytic profiles, photutils' fit and the simulated sky's truth."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table
from astropy.wcs import WCS
from numpy.testing import assert_allclose

from gqs.imaging.align import BandStack
from gqs.imaging.psf import HALF, Profile, fitted, psf_magnitudes
from gqs.imaging.seeing import Stars, seeing_of
from gqs.simulation.profiles import Psf
from gqs.surveys.sdss import PIXEL_SCALE, FieldId, asinh_magnitude

SHAPE = (420, 530)
NOISE = 0.03
ELECTRON = 1.04e-3  # of the r band
PSF = Psf("r", 3.4, 0.05, -0.03)


def test_a_profile_holds_unit_light_and_its_overlaps_are_sums():
    profile = Profile(1.5, 0.05, -0.04, 0.2, -0.1)
    y, x = np.mgrid[-20:20:0.25, -20:20:0.25]
    inside = np.hypot(x - 0.2, y + 0.1) < 7.5
    assert (profile.at(x, y) * inside).sum() / 16 == pytest.approx(1.0, abs=3e-3)
    y, x = np.mgrid[-25:26, -25:26]
    for dx, dy in ((0.0, 0.0), (2.3, -1.4), (-6.0, 0.5)):
        direct = (profile.at(x, y).astype(float) * profile.at(x - dx, y - dy)).sum()
        assert_allclose(profile.overlap(np.array([dx]), np.array([dy])), direct, rtol=0.02)


def test_the_fit_finds_the_simulated_skys_profile():
    rng = np.random.default_rng(1)
    dx, dy = rng.uniform(-0.5, 0.5, (2, 25))
    step = np.arange(-HALF, HALF + 1)
    stamps = np.stack(
        [200 * PSF.at(step - u, step[:, None] - v) for u, v in zip(dx, dy, strict=True)]
    )
    stamps += rng.normal(0, NOISE, stamps.shape)
    stamps[3, 2:5, 2:5] += 8.0  # a neighbour
    stamps[4, :3] = np.nan
    found = fitted(stamps.astype(np.float32), dx, dy, NOISE, ELECTRON, 3.9)
    assert_allclose([found.dx, found.dy], 0, atol=0.01)
    assert_allclose([found.sigma, found.e1, found.e2], [PSF.sigma, PSF.e1, PSF.e2], atol=0.02)


def make_field(seed, pairs):
    """190 stars of r = 15.5 to 21.5 in a field of one band, the first in close pairs."""
    rng = np.random.default_rng(seed)
    n = 190
    x, y = rng.uniform(15, SHAPE[1] - 15, n), rng.uniform(15, SHAPE[0] - 15, n)
    first, second = slice(pairs), slice(pairs, 2 * pairs)
    x[first] = x[second] + rng.uniform(3, 5, pairs)
    y[first] = y[second] + rng.uniform(-1, 1, pairs)
    flux = 10 ** (0.4 * (22.5 - rng.uniform(15.5, 21.5, n)))
    plane = np.zeros(SHAPE, dtype=np.float64)
    grid = np.arange(SHAPE[1]), np.arange(SHAPE[0])[:, None]
    for i in range(n):
        rows = slice(max(int(y[i]) - 60, 0), int(y[i]) + 61)
        columns = slice(max(int(x[i]) - 60, 0), int(x[i]) + 61)
        plane[rows, columns] += flux[i] * PSF.at(grid[0][columns] - x[i], grid[1][rows] - y[i])
    plane += rng.normal(0, 1, SHAPE) * np.sqrt(NOISE**2 + ELECTRON * plane)
    bright = flux > 10**0.4
    stars = Stars(bright, np.where(bright, PSF.seeing, np.nan)[None])
    stack = BandStack(
        field=FieldId(3918, 3, 213),
        bands="r",
        flux=plane[None].astype(np.float32),
        covered=np.ones((1, *SHAPE), dtype=bool),
        saturated=np.zeros((1, *SHAPE), dtype=bool),
        wcs=WCS(naxis=2),
        noise=np.array([NOISE]),
        star_shift=np.zeros((1, 2)),
    )
    return stack, Table({"x": x, "y": y}), stars, flux


@pytest.fixture(scope="module")
def field():
    return make_field(8, 10)


def test_magnitudes_are_the_true_ones_within_their_errors(field):
    stack, sources, stars, flux = field
    magnitude, error = psf_magnitudes(stack, sources, np.zeros((len(flux), 1)), sources, stars)
    off = magnitude[:, 0] - asinh_magnitude(flux, "r")
    pull = off / error[:, 0]
    bright = flux > 10  # r < 20
    assert abs(np.median(off[bright])) < 0.02
    assert 0.7 < 1.4826 * np.median(np.abs(pull[20:] - np.median(pull[20:]))) < 1.3


def test_close_pairs_share_their_flux():
    """Medians of 240 stars: of a few, chance and the processor's rounding would decide."""
    off, pull = [], []
    for seed in (8, 9, 10):
        stack, sources, stars, flux = make_field(seed, 40)
        sky = np.zeros((len(flux), 1))
        magnitude, error = psf_magnitudes(stack, sources, sky, sources, stars)
        off.append((magnitude[:, 0] - asinh_magnitude(flux, "r"))[:80])
        pull.append(off[-1] / error[:80, 0])
    assert np.median(np.abs(off)) < 0.05 and np.median(np.abs(pull)) < 2


def test_relative_magnitudes_are_photutils(field):
    photutils = pytest.importorskip("photutils.psf")
    stack, sources, stars, flux = field
    chosen = np.flatnonzero((flux > 10) & (flux < 300))[:25]
    magnitude, _ = psf_magnitudes(stack, sources, np.zeros((len(flux), 1)), sources, stars)
    y, x = np.mgrid[-16:16.01:0.25, -16:16.01:0.25]
    model = photutils.ImagePSF(PSF.at(x, y), oversampling=4)
    fit = photutils.PSFPhotometry(model, (15, 15), grouper=photutils.SourceGrouper(12))
    near = sources.copy()
    near.rename_columns(["x", "y"], ["x_init", "y_init"])
    near["flux_init"] = flux
    theirs = np.asarray(fit(stack.flux[0].astype(float), init_params=near)["flux_fit"])[chosen]
    step = magnitude[chosen, 0] + 2.5 * np.log10(theirs)
    assert np.std(step - np.median(step)) < 0.03


def test_positions_share_light_with_what_was_detected_and_masks_make_nan(field):
    stack, sources, stars, flux = field
    sky = np.zeros((len(flux), 1))
    whole, _ = psf_magnitudes(stack, sources, sky, sources, stars)
    some = Table({"x": [np.nan, sources["x"][0], -0.4], "y": [50.0, sources["y"][0], -0.4]})
    placed, error = psf_magnitudes(stack, some, sky[:3], sources, stars)
    assert np.isnan(placed[0, 0]) and np.isnan(error[0, 0])
    assert placed[1, 0] == pytest.approx(whole[0, 0], abs=1e-3)
    assert np.isnan(placed[2, 0])  # three quarters of it lie off the frame
    few = Stars(stars.chosen & (np.cumsum(stars.chosen) < 5), stars.widths)
    assert np.isnan(psf_magnitudes(stack, sources, sky, sources, few)[0]).all()


def test_the_profile_starts_from_the_fields_seeing(field):
    _, _, stars, _ = field
    assert seeing_of(stars)[0] / PIXEL_SCALE == pytest.approx(PSF.fwhm, rel=0.25)
