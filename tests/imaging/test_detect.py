"""Sources are found where they are, under names that stay, and little else is found."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import sep
from scipy.spatial import cKDTree

from gqs import tables
from gqs.errors import BadInputError
from gqs.imaging import detect as module
from gqs.imaging.align import align
from gqs.imaging.detect import detect
from gqs.imaging.frames import read_frame
from gqs.tables import Flag


def only_r(stack):
    k = stack.bands.index("r")
    return dataclasses.replace(
        stack,
        bands="r",
        **{name: getattr(stack, name)[k : k + 1] for name in
           ("flux", "covered", "saturated", "noise", "star_shift")},
    )  # fmt: skip


def test_all_stars_and_nothing_else_are_found(sky, stack):
    found = detect(stack)
    separation, _ = cKDTree(np.column_stack([found["x"], found["y"]])).query(sky.stars)
    assert separation.max() < 0.1
    assert len(found) == sky.n_stars
    radius = sky.sigma * np.sqrt(2 * np.log(2))  # half of a Gaussian's light
    assert np.median(found["radius"]) == pytest.approx(radius, rel=0.1)


def test_columns_are_those_of_the_contract(stack):
    found = detect(stack)
    assert found.colnames[:9] == [
        *("objid", "ra", "dec", "x", "y", "run", "camcol", "field", "flags")
    ]
    assert found["objid"].dtype == np.uint64 and found["ra"].unit == "deg"
    x, y = stack.wcs.all_world2pix(found["ra"], found["dec"], 0)
    np.testing.assert_allclose([x, y], [found["x"], found["y"]], atol=1e-6)


def test_objid_is_the_same_on_every_run_and_for_any_bands(sky, stack):
    first = detect(stack)["objid"]
    np.testing.assert_array_equal(first, detect(stack)["objid"])
    np.testing.assert_array_equal(first, detect(only_r(stack))["objid"])
    assert len(set(first.tolist())) == len(first)


def test_flags_tell_edge_blend_and_saturation(make_sky, tmp_path):
    sky = make_sky(n_stars=4, flux=120.0)
    sky.stars[:] = [[14.0, 80.0], [100.0, 80.0], [105.5, 81.0], [150.0, 70.0]]
    stack = align({"r": read_frame(sky.write(tmp_path, "r"))}, "r")
    stack.saturated[0, 70, 150] = True
    found = detect(stack)
    flags = {round(float(x)): int(flag) for x, flag in zip(found["x"], found["flags"], strict=True)}
    assert flags == {14: Flag.EDGE, 100: Flag.BLENDED, 106: Flag.BLENDED, 150: Flag.SATURATED} or (
        sorted(flags.values()) == [Flag.EDGE, Flag.SATURATED, Flag.BLENDED, Flag.BLENDED]
    )


def test_a_star_whose_flat_top_has_two_peaks_is_one_star(make_sky, tmp_path):
    """As photo leaves saturated stars: interpolated over, uneven. A close pair stays a pair."""
    sky = make_sky(n_stars=3, flux=3000.0)
    sky.stars[:] = [[100.0, 80.0], [107.0, 80.0], [40.0, 60.0]]
    stack = align({"r": read_frame(sky.write(tmp_path, "r"))}, "r")
    pair = detect(stack)
    assert len(pair) == 3
    flux = stack.flux.copy()
    flux[0, 76:85, 97:111] = 60.0
    flux[0, 79:82, 98:101] = 90.0
    flux[0, 79:82, 107:110] = 70.0
    nowhere = np.zeros(flux[0].shape, dtype=bool)
    pieces, _ = module._extract(flux[0], nowhere, float(stack.noise[0]), nowhere)
    assert (pieces["x"] > 90).sum() > 1  # so that there is something to join
    joined = detect(dataclasses.replace(stack, flux=flux))
    assert len(joined) == 2
    star = joined[np.argmax(joined["x"])]
    assert (star["x"], star["y"]) == (pytest.approx(103, abs=1.5), pytest.approx(80, abs=0.3))
    assert star["flags"] & Flag.SATURATED


def test_what_is_sharper_than_the_seeing_is_a_cosmic_ray(make_sky, tmp_path):
    sky = make_sky(n_stars=8, flux=60.0)
    stack = align({"r": read_frame(sky.write(tmp_path, "r"))}, "r")
    flux = stack.flux.copy()
    flux[0, 30:32, 150] += [30.0, 4.0]
    found = detect(dataclasses.replace(stack, flux=flux))
    hit = np.hypot(found["x"] - 150, found["y"] - 30) < 2
    assert hit.sum() == 1
    assert (np.asarray(found["flags"] & Flag.COSMIC_RAY) > 0).tolist() == hit.tolist()


def test_an_empty_sky_gives_an_empty_table(make_sky, tmp_path):
    sky = make_sky(n_stars=0)
    found = detect(align({"r": read_frame(sky.write(tmp_path, "r"))}, "r"))
    assert len(found) == 0 and found["objid"].dtype == np.uint64


def test_without_r_or_pixels_there_is_nothing_to_detect(stack):
    with pytest.raises(BadInputError, match="r band, which is missing"):
        detect(dataclasses.replace(stack, bands="u"))
    with pytest.raises(BadInputError, match="no valid pixel"):
        detect(dataclasses.replace(stack, covered=np.zeros_like(stack.covered)))


def test_a_globular_cluster_overflows_nothing(make_sky, tmp_path, monkeypatch):
    """Thousands of stars in one blend; with sep's own limits this fails."""
    sky = make_sky(shape=(260, 301), n_stars=1500, flux=15.0, seed=4, margin=20.0)
    rng = np.random.default_rng(4)
    sky.stars = np.clip(rng.normal([150, 130], 40, (1500, 2)), 20, 240)
    stack = align({"r": read_frame(sky.write(tmp_path, "r"))}, "r")
    crowded = detect(stack)
    assert len(crowded) > 60
    monkeypatch.setattr(module, "SUB_OBJECTS", 4)  # forces the overflow
    assert 0 < len(detect(stack)) < len(crowded)


def test_pieces_of_spikes_are_left_out(make_sky, tmp_path):
    sky = make_sky(shape=(301, 353), n_stars=2, seed=1)
    sky.stars[:] = [[170.0, 150.0], [60.0, 60.0]]
    counts = sky.counts("r")
    y, x = np.mgrid[:301, :353]
    star = np.exp(-(np.hypot(x - 170, y - 150) ** 2) / 8)
    counts += np.rint(2e5 * 0.2 * star)
    for centre in (220, 250, 280):  # bright knots along the row through the star
        knot = np.exp(-((x - centre) ** 2) / 60 - (y - 150) ** 2 / 3)
        counts += np.rint(60 * knot)

    def draw(hdus):
        hdus[0].data[:] = (counts - sky.sky_counts) * sky.calibration

    found = detect(align({"r": read_frame(sky.write(tmp_path, "r", draw))}, "r"))
    assert not (np.abs(found["y"] - 150) < 4)[found["x"] > 200].any()
    assert len(found) == 2


def _magnitude(stack, x, y):
    """Point-source magnitude: 3 px aperture above the sky around it, plus what lies beyond."""
    flux = np.nan_to_num(stack.plane("r")).astype(float)
    inner, _, _ = sep.sum_circle(flux, x, y, 3.0, bkgann=(9.0, 14.0))
    return 22.5 - 2.5 * np.log10(np.maximum(inner, 1e-3)) - 0.25


def test_real_sources_to_r_21_are_found(real_data, real_stack):
    """SDSS photo's own sources are the oracle; the few left are shreds of one large galaxy."""
    catalog = tables.read(real_data / "catalogs/field_003918-3-0213_photo_types.csv")
    x, y = (np.asarray(catalog[name], dtype=float) for name in ("x_r", "y_r"))
    found = detect(real_stack)
    separation, _ = cKDTree(np.column_stack([found["x"], found["y"]])).query(
        np.column_stack([x, y])
    )
    bright = _magnitude(real_stack, x, y) < 21
    assert bright.sum() > 150
    assert (separation[bright] < 3).mean() >= 0.95
    assert 600 < len(found) < 800


def test_the_real_sky_upside_down_is_empty(real_stack):
    k = real_stack.bands.index("r")
    flipped = only_r(dataclasses.replace(real_stack, flux=-real_stack.flux))
    assert len(detect(flipped)) <= 0.01 * len(detect(real_stack))
    assert real_stack.covered[k].all()
