"""Scipy's affine_transform is the oracle of our quicker one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from gqs.imaging.resample import BLOCK, _by_slices, affine_cubic

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
    np.testing.assert_array_max_ulp(np.nan_to_num(found), np.nan_to_num(expected), 4)


def test_only_blocks_of_one_whole_offset_are_taken_by_slices() -> None:
    coefficients, block = np.zeros((300, 400)), np.empty(BLOCK, np.float32)
    assert _by_slices(coefficients, SHIFT, block)
    assert not _by_slices(coefficients, TURN, block)
    for further in (0.63 - 1e-3, 400 - BLOCK[1]):  # passes a whole number; over the right edge
        moved = SHIFT.copy()
        moved[0, 2] += further
        assert not _by_slices(coefficients, moved, block)
