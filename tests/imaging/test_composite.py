"""The colour picture has SDSS's stretch, and masked pixels are black on purpose."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
from PIL import Image

from gqs.errors import BadInputError
from gqs.imaging.composite import colour_cutouts, colour_picture


def flat(stack, i, r, g, shape=(53, 61)):
    flux = np.empty((3, *shape), np.float32)
    for k, value in enumerate((g, r, i)):
        flux[k] = value
    covered = np.isfinite(flux)
    return dataclasses.replace(
        stack, bands="gri", flux=flux, covered=covered, saturated=np.zeros_like(covered)
    )


def photoop(i, r, g):
    """photoop's formula on its own: scale, asinh of the sum, box, bytes."""
    rgb = 0.4 * np.array([5.0, 6.5, 9.0]) * [i, r, g]
    total = 2.25 * rgb.sum()
    rgb = rgb * np.arcsinh(total) / total
    return 255 * rgb / max(1.0, rgb.max())


@pytest.mark.parametrize("fluxes", [(0.01, 0.02, 0.01), (0.2, 0.1, 0.05), (3.0, 4.0, 2.0)])
def test_stretch_is_photoops(stack, fluxes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = colour_picture(flat(stack, *fluxes))
    assert picture.shape == (53, 61, 3) and picture.dtype == np.uint8
    np.testing.assert_allclose(picture[20, 30], photoop(*fluxes), atol=1.01)


def test_masked_pixels_are_black_and_change_no_other(stack):
    whole = flat(stack, 0.3, 0.3, 0.3)
    flux, covered = whole.flux.copy(), whole.covered.copy()
    flux[0, 10, 20], covered[0, 10, 20] = np.nan, False
    picture = colour_picture(dataclasses.replace(whole, flux=flux, covered=covered))
    assert (picture[10, 20] == 0).all()
    picture[10, 20] = colour_picture(whole)[10, 20]
    np.testing.assert_array_equal(picture, colour_picture(whole))


def test_cutouts_look_as_they_do_in_their_fields_picture(stack):
    rng = np.random.default_rng(3)
    field = flat(stack, 0.1, 0.1, 0.1)
    flux = rng.normal(0.2, 0.4, field.flux.shape).astype(np.float32)
    flux[:, 8:12, 9:13] = rng.uniform(40, 90, (3, 4, 4))  # overexposed, in the first cutout
    flux[:, 30:33, 45:49] = rng.uniform(40, 90, (3, 3, 4))  # and in the second, of another colour
    picture = colour_picture(dataclasses.replace(field, flux=flux))
    corners = [(2, 3), (24, 35)]
    cut = np.stack([flux[:, y : y + 19, x : x + 23] for y, x in corners])
    found = colour_cutouts(cut, "gri")
    assert found.shape == (2, 3, 19, 23) and found.dtype == np.uint8
    for pixels, (y, x) in zip(found, corners, strict=True):
        expected = picture[y : y + 19, x : x + 23].transpose(2, 0, 1)
        np.testing.assert_array_equal(pixels, expected)


def test_overexposed_cores_get_one_colour(stack):
    bright = flat(stack, 0.1, 0.1, 0.1)
    flux = bright.flux.copy()
    flux[:, 20:24, 30:33] = np.random.default_rng(0).uniform(40, 90, (3, 4, 3))
    picture = colour_picture(dataclasses.replace(bright, flux=flux))
    assert len(np.unique(picture[20:24, 30:33].reshape(-1, 3), axis=0)) == 1


def test_the_stretch_does_not_depend_on_the_frame(stack):
    one, other = flat(stack, 0.2, 0.2, 0.2), flat(stack, 0.2, 0.2, 0.2)
    other.flux[:, :20] = 500.0
    np.testing.assert_array_equal(colour_picture(one)[30:], colour_picture(other)[30:])


def test_a_missing_band_is_named(stack):
    bands = dataclasses.replace(stack, bands="ugr", flux=stack.flux[:3], covered=stack.covered[:3])
    with pytest.raises(BadInputError, match="i is missing"):
        colour_picture(bands)


def test_it_looks_like_sdss_own_picture(real_data, real_stack):
    from skimage.metrics import structural_similarity

    path = next((real_data / "frames/003918-3-0213").glob("frame-irg-*.jpg"))
    theirs = np.asarray(Image.open(path).convert("L"), dtype=float)
    ours = np.asarray(Image.fromarray(colour_picture(real_stack)[::-1]).convert("L"), dtype=float)
    crop = np.s_[300:1100, 500:1500]
    assert structural_similarity(theirs[crop], ours[crop], data_range=255) > 0.8
    assert structural_similarity(theirs[crop], ours[::-1][crop], data_range=255) < 0.6
