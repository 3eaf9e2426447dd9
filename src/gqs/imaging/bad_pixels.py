"""Bad pixels: not finite, in a dead row or column, or in a patch of one value."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gqs.errors import BadInputError

_DEAD: Final = 0.9  # fraction of equal neighbours above which a row or column is constant
_PATCH: Final = 8  # pixels on a side: noise never makes so many pixels equal
_MOST: Final = 16  # values whose patches are extended to their rims


class NoSignalError(BadInputError):
    """A frame without signal: constant, or without a finite pixel."""


def bad_pixels(flux: NDArray[np.float32], path: Path) -> NDArray[np.bool_]:
    """Bad pixels of a frame, (ny, nx) bool: not finite, in a constant row or column, or in a patch
    of zeros or another value.
    """
    bad = ~np.isfinite(flux)
    if bad.all():
        raise NoSignalError(f"{path}: has no valid pixel. Fetch the frame again.")
    with np.errstate(invalid="ignore"):
        # With noise one pixel in ten equals its neighbour; in a dead line nearly all do.
        across, down = np.diff(flux, axis=1) == 0, np.diff(flux, axis=0) == 0
    rows, columns = across.mean(axis=1) > _DEAD, down.mean(axis=0) > _DEAD
    if rows.all() or columns.all():
        raise NoSignalError(f"{path}: is constant and has no signal. Fetch the frame again.")
    bad |= rows[:, None] | columns[None, :]
    _add_patches(bad, flux, across)
    if bad.all():
        raise NoSignalError(
            f"{path}: is constant in patches and has no signal. Fetch the frame again."
        )
    return bad


def _add_patches(
    bad: NDArray[np.bool_], flux: NDArray[np.float32], across: NDArray[np.bool_]
) -> None:
    """Mark patches of one value: blocks of 8 x 8 pixels, extended to the rims of the patches."""
    ny, nx = (n // _PATCH for n in across.shape)
    blocks = across[: ny * _PATCH, : nx * _PATCH].reshape(ny, _PATCH, nx, _PATCH)
    whole = blocks.all(axis=(1, 3))
    whole &= ~bad[: ny * _PATCH : _PATCH, : nx * _PATCH : _PATCH]
    if not whole.any():
        return
    values = flux[: ny * _PATCH : _PATCH, : nx * _PATCH : _PATCH]
    whole &= values < np.nanmax(flux)
    known = np.unique(values[whole])
    if len(known) > _MOST:
        patches = whole.repeat(_PATCH, axis=0).repeat(_PATCH, axis=1)
        bad[: ny * _PATCH, : nx * _PATCH] |= patches
        return
    for value in known:
        bad |= ndimage.binary_opening(flux == value, np.ones((_PATCH, _PATCH)))
