"""Bands lie on one grid: where the stars are, how bright they are, what is masked."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import sep
from reproject import reproject_interp

from gqs.errors import BadInputError, UsageError
from gqs.imaging.align import align, fit_affine, shift_between, star_positions
from gqs.imaging.frames import read_frame


def frames_of(sky, folder, bands="gri", change=None):
    changes = change or {}
    return {band: read_frame(sky.write(folder, band, changes.get(band))) for band in bands}


def test_stars_come_to_lie_where_the_r_band_has_them(make_sky, tmp_path):
    sky = make_sky(flux=400.0)
    stack = align(frames_of(sky, tmp_path, "ugriz"), "ugriz")
    for band in "ugiz":
        plane = np.nan_to_num(stack.plane(band))
        x, y, _ = sep.winpos(plane, *sky.stars.T, np.full(sky.n_stars, 1.6))
        off = np.hypot(x - sky.stars[:, 0], y - sky.stars[:, 1])
        assert np.median(off) < 0.02, band


def test_flux_is_conserved(sky, stack):
    for band in "ugriz":
        flux, _, _ = sep.sum_circle(np.nan_to_num(stack.plane(band)), *sky.stars.T, 8.0, subpix=9)
        assert np.median(flux) == pytest.approx(sky.flux, rel=0.02), band


def test_affine_is_the_one_that_the_frames_were_made_with(sky, tmp_path):
    frames = frames_of(sky, tmp_path)
    matrix, residual = fit_affine(frames["r"].wcs, frames["g"].wcs, sky.shape)
    np.testing.assert_allclose(matrix, sky.to_band("g"), atol=2e-6, rtol=0)
    assert residual < 1e-5


def test_reproject_is_the_oracle(sky, tmp_path):
    frames = frames_of(sky, tmp_path)
    ours = align(frames, "gr").plane("g")
    theirs, _ = reproject_interp(
        (frames["g"].flux, frames["g"].wcs), frames["r"].wcs, shape_out=sky.shape, order="bicubic"
    )
    matrix, _ = fit_affine(frames["r"].wcs, frames["g"].wcs, sky.shape)
    theirs *= abs(np.linalg.det(matrix[:, :2]))
    inner = np.s_[12:-20, 12:-12]
    peak = np.nanmax(ours)
    assert np.abs(ours - theirs)[inner].max() < 1e-4 * peak


def test_a_bad_pixel_masks_what_it_reaches_and_nothing_rings(sky, tmp_path):
    def spoil(hdus):
        hdus[0].data[80, 100] = np.nan

    clean = align(frames_of(sky, tmp_path), "gr")
    (tmp_path / "spoilt").mkdir()
    spoilt = align(frames_of(sky, tmp_path / "spoilt", change={"g": spoil}), "gr")
    lost = clean.covered[0] & ~spoilt.covered[0]
    rows, columns = np.nonzero(lost)
    dx, dy = sky.to_band("g")[:, 2]
    assert 16 <= lost.sum() <= 36
    assert abs(rows.mean() - (80 - dy)) < 1 and abs(columns.mean() - (100 - dx)) < 1
    assert np.isnan(spoilt.flux[~spoilt.covered]).all()
    same = spoilt.covered[0]
    change = np.abs(spoilt.plane("g") - clean.plane("g"))[same]
    assert change.max() < 0.5 * clean.noise[0]


def test_what_a_band_does_not_reach_is_not_covered(sky, stack):
    covered = stack.covered[stack.bands.index("g")]
    lost = int(np.ceil(sky.to_band("g")[1, 2]))
    assert not covered[-lost + 1 :].any() and covered[20:-20, 20:-20].all()
    assert not covered[:, :2].any()
    assert (np.isfinite(stack.flux) == stack.covered).all()


def test_distortion_is_followed_by_reproject(sky, tmp_path):
    def bend(hdus):
        header = hdus[0].header
        header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
        header["A_ORDER"], header["B_ORDER"] = 2, 2
        header["A_2_0"], header["B_1_1"] = 2e-5, -2e-5

    frames = frames_of(sky, tmp_path, "gr", {"g": bend})
    assert fit_affine(frames["r"].wcs, frames["g"].wcs, sky.shape)[1] > 1e-2
    stack = align(frames, "gr")
    theirs, _ = reproject_interp(
        (frames["g"].flux, frames["g"].wcs), frames["r"].wcs, shape_out=sky.shape, order="bicubic"
    )
    inner = np.s_[20:-24, 20:-20]
    np.testing.assert_allclose(stack.plane("g")[inner], theirs[inner], rtol=5e-3, atol=1e-4)


def test_star_shift_is_measured_and_removed(make_sky, tmp_path):
    sky = make_sky(n_stars=25)

    def nudge(hdus):
        hdus[0].header["CRPIX1"] += 0.4
        hdus[0].header["CRPIX2"] -= 0.3

    frames = frames_of(sky, tmp_path, "gr", {"g": nudge})
    plain, moved = align(frames, "gr"), align(frames, "gr", star_shift=True)
    np.testing.assert_allclose(plain.star_shift[0], [-0.4, 0.3], atol=0.03)
    np.testing.assert_array_equal(plain.star_shift, moved.star_shift)
    assert moved.shift_removed and not plain.shift_removed
    for stack, expected in ((plain, 0.5), (moved, 0.0)):
        x, y, _ = sep.winpos(np.nan_to_num(stack.plane("g")), *sky.stars.T, np.full(25, 1.6))
        off = np.median(np.hypot(x - sky.stars[:, 0], y - sky.stars[:, 1]))
        assert off == pytest.approx(expected, abs=0.04)


def test_a_wcs_that_stars_contradict_is_refused(make_sky, tmp_path):
    def shift(hdus):
        hdus[0].header["CRPIX1"] += 30.0

    frames = frames_of(make_sky(n_stars=25, margin=35.0), tmp_path, "gr", {"g": shift})
    with pytest.raises(BadInputError, match=r"frame-g.*stars are -30\.\d, [+-]0\.\d px"):
        align(frames, "gr")


def test_chance_gives_no_shift():
    rng = np.random.default_rng(3)
    assert shift_between(rng.uniform(0, 900, (90, 2)), rng.uniform(0, 900, (80, 2))) is None
    assert shift_between(np.empty((0, 2)), np.ones((20, 2))) is None


def test_frames_that_do_not_belong_together_are_refused(sky, make_sky, tmp_path):
    frames = frames_of(sky, tmp_path)
    other = make_sky(field=sky.field._replace(field=214))
    with pytest.raises(BadInputError, match="r frame is missing"):
        align({"g": frames["g"]}, "g")
    with pytest.raises(BadInputError, match="the z frame is missing"):
        align(frames, "grz")
    with pytest.raises(BadInputError, match="is of field 003918-3-0214"):
        align({**frames, "g": read_frame(other.write(tmp_path, "g"))}, "gr")
    with pytest.raises(BadInputError, match="is a frame in band i, not g"):
        align({**frames, "g": frames["i"]}, "gr")
    with pytest.raises(BadInputError, match="rerun"):
        align({**frames, "g": dataclasses.replace(frames["g"], rerun="157")}, "gr")
    with pytest.raises(UsageError, match="Unknown band 'v'"):
        align(frames, "grv")


def test_real_bands_lie_where_their_wcs_puts_them(real_stack):
    """The WCS's own error between bands is 0.06-0.26 px by native centroids."""
    off = np.hypot(*real_stack.star_shift.T)
    assert np.isfinite(off).all() and (off < 0.3).all()


def test_real_stars_are_found(real_data):
    path = next((real_data / "frames/001035-6-0017").glob("frame-r-*.fits.bz2"))
    frame = read_frame(path)
    assert len(star_positions(frame, float(np.sqrt(np.median(frame.variance))))) > 40
