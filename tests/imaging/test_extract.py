"""Cutouts are Cutout2D's, edges follow the policy named, nothing is dropped or moved."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from astropy.nddata import Cutout2D
from PIL import Image

from gqs.cutouts.extract import cut_flux, cut_picture, pixel_positions
from gqs.errors import UsageError
from gqs.imaging.composite import colour_picture
from gqs.tables import Flag


def positions(shape, n=120, seed=5):
    rng = np.random.default_rng(seed)
    ny, nx = shape
    x, y = rng.uniform(-0.5, nx - 0.5, n), rng.uniform(-0.5, ny - 0.5, n)
    x[:6], y[:6] = [0, nx - 1, 0, nx - 1, 24.5, 25.0], [0, 0, ny - 1, ny - 1, 24.5, 25.0]
    return x, y


def test_cutout2d_is_the_oracle(stack):
    x, y = positions(stack.flux.shape[1:])
    images, flags = cut_flux(stack, x, y)
    for i in range(len(x)):
        for k in range(len(stack.bands)):
            oracle = Cutout2D(stack.flux[k], (x[i], y[i]), 50, mode="partial", fill_value=np.nan)
            np.testing.assert_array_equal(images[i, k], oracle.data)
        origin = np.array(oracle.origin_original)
        over = (np.array(oracle.slices_cutout[0].indices(50)[:2]) != [0, 50]).any()
        over |= (np.array(oracle.slices_cutout[1].indices(50)[:2]) != [0, 50]).any()
        assert bool(flags[i] & Flag.EDGE) == over, (x[i], y[i], origin)


def test_a_source_lies_at_24_to_25(sky, stack):
    images, _ = cut_flux(stack, *sky.stars.T)
    local = sky.stars - np.ceil(sky.stars - 25)
    assert ((local > 24) & (local <= 25)).all()
    peak = images[:, stack.bands.index("r"), 23:27, 23:27].reshape(len(images), -1).max(axis=1)
    np.testing.assert_array_equal(peak, np.nanmax(images[:, 2, 20:30, 20:30], axis=(1, 2)))


def test_positions_off_the_frame_are_kept_and_flagged(stack):
    ny, nx = stack.flux.shape[1:]
    x = np.array([np.nan, -1.0, nx, 50.0, 1e300, -np.inf])
    y = np.array([30.0, 30.0, 30.0, ny + 3.0, 20.0, 20.0])
    for edge in ("pad", "paper"):
        images, flags = cut_flux(stack, x, y, edge)
        assert images.shape == (6, 5, 50, 50) and np.isnan(images).all()
        assert (flags == Flag.OUTSIDE).all()
        pictures, flags = cut_picture(colour_picture(stack), stack.covered.all(0), x, y, edge)
        assert (pictures == 0).all() and (flags == Flag.OUTSIDE).all()


def test_flags_say_what_is_unusual(stack):
    covered, saturated, flux = stack.covered.copy(), stack.saturated.copy(), stack.flux.copy()
    covered[:, 80, 60] = False
    flux[:, 80, 60] = np.nan
    saturated[3, 80, 140] = True
    flux[2, :55, 60:115] = 0.5
    stack = dataclasses.replace(stack, covered=covered, saturated=saturated, flux=flux)
    _, flags = cut_flux(stack, [62.0, 138.0, 100.0, 88.0], [78.0, 85.0, 110.0, 27.0])
    assert flags.tolist() == [Flag.MASKED, Flag.SATURATED, 0, Flag.NO_SIGNAL]
    picture, flags = cut_picture(colour_picture(stack), covered.all(0), [62.0], [78.0])
    assert flags.tolist() == [Flag.MASKED] and picture.dtype == np.uint8


def test_no_rows_give_no_rows(stack):
    images, flags = cut_flux(stack, [], [])
    assert images.shape == (0, 5, 50, 50) and flags.shape == (0,)


def test_paper_edge_is_the_shortened_box_resized(stack):
    """a0 = min(25, distance to the edge): the box is centred, square, and fills the cutout."""
    picture = colour_picture(stack)
    covered = np.ones(stack.flux.shape[1:], dtype=bool)
    ny, nx = covered.shape
    x, y = np.array([60.3, 11.0, 90.0, nx - 9.0]), np.array([70.8, 60.0, ny - 14.0, 16.0])
    images, flags = cut_picture(picture, covered, x, y, "paper")
    assert [bool(flag & Flag.EDGE) for flag in flags] == [False, True, True, True]
    np.testing.assert_array_equal(
        images[0], cut_picture(picture, covered, x[:1], y[:1], "pad")[0][0]
    )
    for i, half in ((1, 11), (2, 13), (3, 8)):
        row, column = int(np.ceil(y[i] - half)), int(np.ceil(x[i] - half))
        box = picture[row : row + 2 * half, column : column + 2 * half]
        oracle = Image.fromarray(box).resize((50, 50), Image.Resampling.BILINEAR)
        difference = np.moveaxis(images[i], 0, -1).astype(int) - np.asarray(oracle)
        assert np.abs(difference).max() <= 1


def test_paper_edge_keeps_masks_in_flux(stack):
    images, flags = cut_flux(stack, [10.0], [150.0], "paper")
    assert images.shape == (1, 5, 50, 50)
    assert np.isfinite(images[0, 2]).all() and flags[0] & Flag.EDGE
    assert np.isnan(images[0, 1]).any() and flags[0] & Flag.MASKED


def test_a_source_in_the_very_corner_still_gives_a_cutout(stack):
    for x, y in ((0.0, 0.0), (-0.5, 80.0), (202.4, 160.4)):
        images, flags = cut_flux(stack, [x], [y], "paper")
        assert flags[0] & Flag.EDGE and np.isfinite(images[0, 2]).all()


def test_unknown_edge_policy_is_refused(stack):
    with pytest.raises(UsageError, match="pad and paper"):
        cut_flux(stack, [30.0], [30.0], "wrap")


def test_positions_go_to_pixels_and_back(stack):
    x, y = positions(stack.flux.shape[1:])
    ra, dec = stack.wcs.all_pix2world(x, y, 0)
    found = pixel_positions(stack.wcs, ra, dec)
    np.testing.assert_allclose(found, [x, y], atol=1e-6)


def test_positions_that_are_none_give_nan_not_a_mirrored_place(stack):
    ra0, dec0 = stack.wcs.wcs.crval
    ra = np.array([np.nan, 229.5, (ra0 + 180) % 360, ra0, 229.5])
    dec = np.array([42.7, np.nan, -dec0, dec0 + 95, 95.0])
    x, y = pixel_positions(stack.wcs, ra, dec)
    assert np.isnan(x).all() and np.isnan(y).all()


def test_real_positions_are_0_based(real_data, real_stack):
    from gqs import tables

    catalog = tables.read(real_data / "catalogs/field_003918-3-0213_photo_types.csv")
    x, y = pixel_positions(real_stack.wcs, catalog["ra"], catalog["dec"])
    assert np.abs(x - catalog["x_r"]).max() < 1e-3 and np.abs(y - catalog["y_r"]).max() < 1e-3
