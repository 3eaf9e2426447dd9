"""Scipy's affine_transform is the oracle of our quicker one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from gqs.imaging.resample import BLOCK, _by_slices, affine_cubic, affine_mask

SHIFT = np.array([[1.0001, 2e-4, 5.37], [-1.5e-4, 0.9999, 11.6]])  # as between SDSS's bands
TURN = np.array([[0.9123, 0.4017, -20.37], [-0.4017, 0.9123, 60.83]])


@pytest.mark.parametrize("matrix", [SHIFT, TURN], ids=["shift", "turn"])
@pytest.mark.parametrize("shape", [(190, 410), (150, 300)])
def test_scipy_is_the_oracle(matrix: np.ndarray, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(5).normal(0.0, 1.0, (190, 410)).astype(np.float32)
    image[90, 200] = 3000.0
    expected = ndimage.affine_transform(
        image, matrix[::-1, 1::-1], matrix[::-1, 2], output_shape=shape, output=np.float32,
        order=3, mode="constant", cval=np.nan,
    )  # fmt: skip
    found = affine_cubic(image, matrix, shape)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    assert np.isfinite(found).sum() > found.size / 2
    # Sums in float32 err by some of the last digits of the brightest pixel that goes into them.
    around = ndimage.maximum_filter(np.abs(np.nan_to_num(expected)), 9)
    assert (np.abs(np.nan_to_num(found) - np.nan_to_num(expected)) <= 1e-6 * around).all()


@pytest.mark.parametrize("matrix", [SHIFT, TURN], ids=["shift", "turn"])
def test_a_mask_goes_where_scipys_nearest_pixel_puts_it(matrix: np.ndarray) -> None:
    rng = np.random.default_rng(7)
    mask = ndimage.maximum_filter(rng.random((190, 410)) < 0.01, size=3)
    expected = ndimage.affine_transform(
        mask.astype(np.uint8), matrix[::-1, 1::-1], matrix[::-1, 2], output_shape=(150, 300),
        order=0, mode="constant", cval=0,
    )  # fmt: skip
    assert expected.any()
    np.testing.assert_array_equal(affine_mask(mask, matrix, (150, 300)), expected > 0)


def test_only_blocks_of_one_whole_offset_are_taken_by_slices() -> None:
    coefficients, block = np.zeros((300, 400), np.float32), np.empty(BLOCK, np.float32)
    assert _by_slices(coefficients, SHIFT, block)
    assert not _by_slices(coefficients, TURN, block)
    for further in (0.63 - 1e-3, 400 - BLOCK[1]):  # passes a whole number; over the right edge
        moved = SHIFT.copy()
        moved[0, 2] += further
        assert not _by_slices(coefficients, moved, block)
