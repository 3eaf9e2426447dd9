"""Conditions, exposure and pixels of simulated frames, against what was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from gqs.simulation.conditions import FieldConditions, draw_conditions
from gqs.simulation.exposure import bleed, expose, full_sky
from gqs.simulation.layout import place
from gqs.simulation.profiles import APERTURE
from gqs.simulation.rendering import Painter, add_trail, split_light
from gqs.surveys.sdss import BANDS, SATURATION, FieldId

NOISE = {
    "u": (0.040, 0.053),
    "g": (0.016, 0.024),
    "r": (0.023, 0.031),
    "i": (0.037, 0.051),
    "z": (0.16, 0.19),
}
SHAPE = (211, 340)


def conditions(seed: int = 1, shape: tuple[int, int] = (1489, 2048)) -> FieldConditions:
    field = FieldId(60001, seed % 6 + 1, 11)
    return draw_conditions(field, place(field), np.random.default_rng(seed), shape)


def source(kind: str, magnitude: float, **columns: float) -> Table:
    values = {"bulge_fraction": 0.0, "bulge_radius": 0.0, "disc_radius": 0.0, "axis_ratio": 1.0}
    values |= {"angle": 0.0, "host_fraction": 0.0, **columns}
    return Table(
        {"class": [kind], **{b: [magnitude] for b in BANDS}, **{k: [v] for k, v in values.items()}}
    )


@pytest.mark.parametrize("band", BANDS)
def test_the_noise_of_an_empty_sky_is_as_asked(band: str) -> None:
    for seed in range(4):
        own = conditions(seed, SHAPE).bands[band]
        empty = expose(np.zeros(SHAPE, np.float32), own, np.random.default_rng(seed))
        low, high = NOISE[band]
        assert low <= own.noise <= high
        assert empty.std() == pytest.approx(own.noise, rel=0.03)
        assert abs(np.median(empty)) < 0.35 * own.noise


def test_seeing_and_axis_ratios_are_those_of_the_survey() -> None:
    drawn = [conditions(seed) for seed in range(200)]
    seeing = np.array([[c.bands[b].psf.fwhm * 0.396 for b in BANDS] for c in drawn])
    ratio = np.array([[c.bands[b].psf.axis_ratio for b in BANDS] for c in drawn])
    assert 0.85 < seeing.min() < seeing.max() < 2.5
    assert 1.2 < np.median(seeing[:, 2]) < 1.5
    assert (np.diff(np.median(seeing, axis=0)) < 0).all()  # sharper to the red
    assert np.corrcoef(seeing.T).min() > 0.7
    assert ratio.min() == pytest.approx(0.75, abs=0.06)
    assert ratio.min() > 0.7499


def test_seeing_drifts_over_a_frame_a_little() -> None:
    own = conditions(9).bands["i"]
    corners = [own.psf_at(x, y) for x in (-1.0, 1.0) for y in (-1.0, 1.0)]
    widths = np.array([psf.fwhm for psf in corners]) / own.psf.fwhm
    assert 0.001 < np.ptp(widths) < 0.2
    assert min(psf.axis_ratio for psf in corners) > 0.7499


def test_bands_lie_off_r_by_as_much_as_in_sdss_and_not_by_a_pure_shift() -> None:
    corners = np.array([[0, 0], [2047, 0], [0, 1488], [2047, 1488], [1023, 744]], float)
    for seed in range(30):
        bands = conditions(seed).bands
        for band in "ugiz":
            sky = bands["r"].wcs.all_pix2world(corners, 0)
            off = bands[band].wcs.all_world2pix(sky, 0) - corners
            assert np.abs(off[:, 0]).max() < 6.2
            assert np.abs(off[:, 1]).max() < 12.4
            assert 0.35 < np.ptp(off, axis=0).max() < 1.9


def test_the_grid_is_a_drift_scans() -> None:
    wcs = conditions(3).bands["r"].wcs
    cd = wcs.wcs.cd * 3600
    assert np.linalg.det(cd) == pytest.approx(-(0.396**2), rel=1e-3)  # east is left of north
    assert list(wcs.wcs.crpix) == [1025, 745]
    assert cd[:, 0] @ cd[:, 1] == pytest.approx(0, abs=1e-4)


def test_light_of_a_star_sums_to_its_magnitude_wherever_its_band_puts_it() -> None:
    field = conditions(4, SHAPE)
    star = source("STAR", 17.0)
    painter = Painter(field)
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for x, y in ((120.25, 80.7), (121.999, 100.0)):
        canvases = {band: np.zeros(SHAPE, np.float32) for band in BANDS}
        at = {band: (np.array([x + k]), np.array([y - k])) for k, band in enumerate(BANDS)}
        painter.paint(canvases, star, at["r"], at)
        for k, band in enumerate(BANDS):
            inside = np.hypot(xx - x - k, yy - y + k) < APERTURE
            assert canvases[band][inside].sum() == pytest.approx(10**2.2, rel=0.01)
            light = canvases[band] * (np.hypot(xx - x - k, yy - y + k) < 6)
            assert (light * xx).sum() / light.sum() == pytest.approx(x + k, abs=0.02)
            assert (light * yy).sum() / light.sum() == pytest.approx(y - k, abs=0.02)


def test_light_of_galaxies_and_hosts_adds_up() -> None:
    for one in (
        source("GALAXY", 18.0, bulge_fraction=0.4, bulge_radius=0.8, disc_radius=1.6),
        source("QSO", 18.0, host_fraction=0.3, bulge_radius=0.5, disc_radius=1.0),
    ):
        for band in BANDS:
            parts = split_light(one, band)
            assert sum(parts)[0] == pytest.approx(10**1.8)
        field = conditions(5, SHAPE)
        canvas = {"r": np.zeros(SHAPE, np.float32)}
        at = np.array([170.4]), np.array([100.1])
        Painter(field).paint(canvas, one, at, {"r": at})
        # As a star's, the light within 7.43 arcsec is the magnitude's; the aureole lies beyond.
        assert 1.0 < canvas["r"].sum() / 10**1.8 < 1.07
    bulges = [split_light(source("GALAXY", 18.0, bulge_fraction=0.4), b).bulge[0] for b in BANDS]
    assert (np.diff(bulges) > 0).all()  # redder than their discs


def test_pixels_are_whole_counts_kept_to_10_binary_digits() -> None:
    own = conditions(6, SHAPE).bands["r"]
    light = np.zeros(SHAPE, np.float32)
    light[90:110, 150:180] = 20.0
    flux = expose(light, own, np.random.default_rng(1))
    assert flux.dtype == np.float32
    assert not (flux.view(np.uint32) & 0x3FFF).any()
    signal = flux / own.calibration
    counts = signal + full_sky(own.sky, SHAPE)
    assert np.abs(counts - np.rint(counts))[np.abs(signal) < 15].max() < 0.015
    bright = np.abs(signal[95:105, 155:175])
    assert (np.abs(counts - np.rint(counts))[95:105, 155:175] < bright / 1024 + 0.01).all()


def test_photon_noise_grows_with_the_light() -> None:
    own = conditions(7, SHAPE).bands["r"]
    light = np.full(SHAPE, 5.0, np.float32)
    flux = expose(light, own, np.random.default_rng(2))
    counts = 5.0 / own.nmgy + own.sky.mean()
    expected = own.nmgy * np.sqrt(counts / own.gain + own.dark_variance)
    assert flux.std() == pytest.approx(expected, rel=0.02)


def test_bleeding_keeps_the_charge_and_stops_at_the_full_well() -> None:
    column = np.full(120, 100.0, np.float32)
    column[60] = 500_000.0
    before = column.sum()
    bleed(column, 50_000.0)
    assert column.max() <= 50_000.0
    assert column.sum() == pytest.approx(before, rel=1e-5)
    full = np.flatnonzero(column >= 49_999)
    assert len(full) == pytest.approx(10, abs=1)
    assert abs(full.mean() - 60) <= 1


def test_a_saturated_star_shows_in_the_counts() -> None:
    """Of stars just over the full well most keep a flat top; heavier cores are interpolated."""
    kept, cores = 0, []
    for seed in range(12):
        field = conditions(seed, SHAPE)
        own = field.bands["r"]
        canvas = np.zeros(SHAPE, np.float32)
        peak = float(own.psf.at(np.zeros(1), np.zeros(1))[0])
        flux = 1.15 * own.full_well * own.nmgy / peak
        star, at = (
            source("STAR", 22.5 - 2.5 * np.log10(flux)),
            (np.array([170.0]), np.array([100.0])),
        )
        Painter(field).paint({"r": canvas}, star, at, {"r": at})
        counts = expose(canvas, own, np.random.default_rng(seed)) / own.calibration
        kept += bool((counts > SATURATION).any())
        canvas *= 30
        counts = expose(canvas, own, np.random.default_rng(seed)) / own.calibration
        assert counts.max() < 1.02 * own.full_well
        cores.append(counts[100, 170] / own.full_well)
    assert kept >= 5
    assert np.median(cores) < 0.9


def test_a_trail_crosses_when_it_is_certain_and_never_when_it_is_not() -> None:
    own = conditions(8, SHAPE).bands["g"]
    for seed in range(5):
        canvas = np.zeros(SHAPE, np.float32)
        assert add_trail(canvas, own, 0.0, np.random.default_rng(seed)) == 0
        assert not canvas.any()
        assert add_trail(canvas, own, 1.0, np.random.default_rng(seed)) == 1
        assert canvas.max() > own.noise
        assert 0 < (canvas > 0.5 * canvas.max()).mean() < 0.1
