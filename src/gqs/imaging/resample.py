"""Cubic-spline resampling under an affine transformation that is nearly a shift.

Equal to `scipy.ndimage.affine_transform` of order 3 except for the last digits of float32, in half
the time. Most blocks of the grid have the same integer offset: their sixteen coefficients are then
slices, and numpy computes a block in a few dozen passes. The other blocks, and those at the edges,
are computed by scipy.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]
Plane = NDArray[np.float32]

BLOCK: Final = (64, 128)  # rows and columns: a dozen such arrays fit into a core's L2 cache


def affine_cubic(
    image: NDArray[Any], matrix: Array, shape: tuple[int, ...], outside: float = np.nan
) -> NDArray[np.float32]:
    """Resample an image to another grid by a cubic spline, (rows, columns) of the grid."""
    coefficients = ndimage.spline_filter(image, order=3, output=np.float64)
    narrow = coefficients.astype(np.float32)  # precise enough for the sums, half the memory traffic
    found = np.empty(shape, dtype=np.float32)
    rows, columns = shape
    for top in range(0, rows, BLOCK[0]):
        for left in range(0, columns, BLOCK[1]):
            block = found[top : top + BLOCK[0], left : left + BLOCK[1]]
            # The same transformation, relative to the block's first pixel.
            own = matrix.copy()
            own[:, 2] += matrix[:, 0] * left + matrix[:, 1] * top
            if not _by_slices(narrow, own, block):
                ndimage.affine_transform(
                    coefficients,
                    own[::-1, 1::-1],  # scipy counts rows before columns
                    own[::-1, 2],
                    output_shape=block.shape,
                    output=block,
                    order=3,
                    mode="constant",
                    cval=outside,
                    prefilter=False,
                )
    return found


def affine_mask(
    mask: NDArray[np.bool_], matrix: Array, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Resample a sparse mask to another grid by nearest neighbour, (rows, columns) bool; False
    outside the outermost pixel centres.
    """
    found = np.zeros(shape, dtype=bool)
    here, last = np.argwhere(mask)[:, ::-1], np.array(mask.shape[::-1]) - 1  # x, y
    near = np.rint(np.linalg.solve(matrix[:, :2], (here - matrix[:, 2]).T).T).astype(np.intp)
    for step in np.ndindex(3, 3):
        grid = near + step - 1
        there = grid @ matrix[:, :2].T + matrix[:, 2]
        inside = ((grid >= 0) & (grid < shape[::-1]) & (there >= 0) & (there <= last)).all(axis=1)
        x, y = grid[inside & (np.floor(there + 0.5) == here).all(axis=1)].T
        found[y, x] = True
    return found


def _by_slices(coefficients: Plane, matrix: Array, block: NDArray[np.float32]) -> bool:
    """Fill a block if all its pixels have the same integer offset; returns whether they do."""
    height, width = block.shape
    # Offsets are linear, so their extremes are at the corners.
    corners = np.array([[0, width - 1, 0, width - 1], [0, 0, height - 1, height - 1], [1] * 4])
    offsets = matrix @ corners - corners[:2]
    whole = np.floor(offsets).astype(int)
    if (whole != whole[:, :1]).any():
        return False
    x, y = (int(first) - 1 for first in whole[:, 0])
    ny, nx = coefficients.shape
    if min(x, y) < 0 or x + width + 3 > nx or y + height + 3 > ny:
        return False
    across, down = np.arange(width), np.arange(height)[:, None]
    along = (matrix[0, 0] - 1) * across + matrix[0, 2] - (x + 1) + matrix[0, 1] * down
    upward = matrix[1, 0] * across + matrix[1, 2] - (y + 1) + (matrix[1, 1] - 1) * down
    columns, rows = (_weights(t.astype(np.float32)) for t in (along, upward))
    total = np.zeros((height, width), dtype=np.float32)
    row, term = np.empty_like(total), np.empty_like(total)
    for i, share in enumerate(rows):
        near = coefficients[y + i : y + i + height, x : x + width + 3]
        np.multiply(columns[0], near[:, :width], out=row)
        for j in (1, 2, 3):
            np.multiply(columns[j], near[:, j : j + width], out=term)
            row += term
        row *= share
        total += row
    block[:] = total
    return True


def _weights(t: Plane) -> tuple[Plane, Plane, Plane, Plane]:
    """Cubic B-spline at distances 1 + t, t, 1 - t and 2 - t, 0 <= t < 1. Unser 1999, eq. (9)."""
    square = t * t
    last = square * t
    last *= 1 / 6
    second = 3 * last
    second -= square
    second += 2 / 3
    first = square - t
    first *= 0.5
    first -= last
    first += 1 / 6
    third = 1 - first
    third -= second
    third -= last
    return first, second, third, last
