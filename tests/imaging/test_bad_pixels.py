"""Pixels without information are masked: flat patches to their rims, never a star's flat top."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gqs.imaging.bad_pixels import NoSignalError, bad_pixels

SHAPE = (161, 203)


def noise():
    # Whole numbers, as counts are: one neighbour in ten is equal.
    return np.rint(np.random.default_rng(0).normal(0, 3, SHAPE)).astype(np.float32)


def test_patches_are_masked_to_their_rims():
    flux, bad = noise(), np.zeros(SHAPE, dtype=bool)
    for rows, columns in ((slice(20, 71), slice(90, 203)), (slice(100, 140), slice(0, 33))):
        flux[rows, columns], bad[rows, columns] = 0.0, True
    flux[:, 50], bad[:, 50] = 7.0, True  # a dead column
    flux[150, 3] = np.nan
    bad[150, 3] = True
    found = bad_pixels(flux, Path("frame"))
    # A pixel of the sky beside a patch may have its value too.
    assert (found >= bad).all() and (found & ~bad).sum() < 60
    assert not bad_pixels(noise(), Path("frame")).any()


def test_a_flat_top_stays_and_many_patches_are_no_burden():
    flux = noise()
    flux[60:80, 60:75] = 5e4
    assert not bad_pixels(flux, Path("frame")).any()
    flux = noise()
    for i in range(24):  # each with a value of its own
        flux[(i // 6) * 40 :, (i % 6) * 33 :][:24, :24] = i + 0.5
    found = bad_pixels(flux, Path("frame"))
    assert found.sum() >= 23 * 16 * 16 and not found[:, 24:32].any()


@pytest.mark.parametrize("value", [0.0, np.nan, 3.5])
def test_a_frame_without_signal_says_so(value):
    with pytest.raises(NoSignalError, match="frame"):
        bad_pixels(np.full(SHAPE, value, dtype=np.float32), Path("frame"))
