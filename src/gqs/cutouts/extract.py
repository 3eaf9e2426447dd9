"""Cutouts of 50 x 50 pixels at given positions, as flux or as colour picture. Paper 3.3.

50 is even, so no pixel is the middle: as in astropy's `Cutout2D`, the first column is
ceil(x - 25), and a source lies at 24 < x' <= 25 of its cutout. Two policies at a frame's edge:
`pad` keeps scale and size and masks what the frame does not show; `paper` takes the smaller
centred square that still fits (the paper's a0, for both axes and all four edges) and stretches it
to 50 x 50, which changes its pixel scale.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray

from gqs.errors import UsageError
from gqs.imaging.align import BandStack
from gqs.surveys.sdss import CUTOUT_SIZE, REFERENCE_BAND
from gqs.tables import Flag

EDGES: Final = ("pad", "paper")
_HALF: Final = CUTOUT_SIZE // 2
_FARTHEST: Final = 90.0  # degrees from the field: beyond, a gnomonic projection mirrors the sky


def pixel_positions(
    wcs: WCS, ra: ArrayLike, dec: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Turn positions on the sky into 0-based pixels, by `all_world2pix`: (n,) pixels; NaN for
    positions that are none, or that lie on the sky's other half.
    """
    lon = np.atleast_1d(np.asarray(ra, dtype=np.float64))
    lat = np.atleast_1d(np.asarray(dec, dtype=np.float64))
    x, y = np.full(lon.shape, np.nan), np.full(lon.shape, np.nan)
    lon0, lat0 = np.deg2rad(wcs.wcs.crval)
    away, up = np.deg2rad(lon) - lon0, np.deg2rad(lat)
    cosine = np.sin(lat0) * np.sin(up) + np.cos(lat0) * np.cos(up) * np.cos(away)
    with np.errstate(invalid="ignore"):
        near = cosine > np.cos(np.deg2rad(_FARTHEST)) + 1e-6
        usable = np.isfinite(cosine) & (np.abs(lat) <= 90) & near
    if usable.any():
        x[usable], y[usable] = wcs.all_world2pix(lon[usable], lat[usable], 0, quiet=True)
    return x, y


def cut_flux(
    stack: BandStack, x: ArrayLike, y: ArrayLike, edge: str = "pad"
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Cut sources out of a field's bands."""
    xs, ys, inside = _positions(x, y, stack.flux.shape[1:], edge)
    images = _windows(stack.flux, xs, ys, inside, np.nan)
    flags = _flags(xs, ys, inside, stack.flux.shape[1:])
    if stack.saturated.any():
        anywhere = np.asarray(stack.saturated.any(axis=0))[None]
        saturated = _windows(anywhere, xs, ys, inside, False).any(axis=(1, 2, 3))
        flags |= np.where(saturated, Flag.SATURATED, 0).astype(np.int32)
    # A sum finds the few cutouts with masked pixels; only there it matters where they lie.
    some = np.flatnonzero(inside & np.isnan(images.sum(axis=(1, 2, 3))))
    shown = _shown(xs[some], ys[some], stack.flux.shape[1:])
    masked = (np.asarray(np.isnan(images[some])).any(axis=1) & shown).any(axis=(1, 2))
    flags[some[masked]] |= Flag.MASKED
    if edge == "paper":
        for i in np.flatnonzero(flags & Flag.EDGE):
            images[i] = _stretched(_box(stack.flux, xs[i], ys[i]))
    reference = images[:, max(stack.bands.find(REFERENCE_BAND), 0)]
    flags |= np.where(inside & ~_varies(reference), Flag.NO_SIGNAL, 0).astype(np.int32)
    return images, flags


def cut_picture(
    picture: NDArray[np.uint8],
    covered: NDArray[np.bool_],
    x: ArrayLike,
    y: ArrayLike,
    edge: str = "paper",
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Cut sources out of a field's colour picture."""
    planes = np.moveaxis(picture, -1, 0)
    xs, ys, inside = _positions(x, y, covered.shape, edge)
    images = _windows(planes, xs, ys, inside, 0)
    valid = _windows(covered[None], xs, ys, inside, True)
    flags = _flags(xs, ys, inside, covered.shape)
    flags |= np.where(valid.all(axis=(1, 2, 3)), 0, Flag.MASKED).astype(np.int32)
    if edge == "paper":
        for i in np.flatnonzero(flags & Flag.EDGE):
            box = _stretched(_box(planes, xs[i], ys[i]).astype(np.float32))
            images[i] = np.rint(box).astype(np.uint8)
    flat = images.reshape(len(images), 3 * CUTOUT_SIZE**2)
    flags |= np.where(inside & (np.ptp(flat, axis=1) == 0), Flag.NO_SIGNAL, 0).astype(np.int32)
    return images, flags


def _positions(
    x: ArrayLike, y: ArrayLike, shape: tuple[int, ...], edge: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    if edge not in EDGES:
        raise UsageError(f"Unknown edge policy {edge!r}. There are {' and '.join(EDGES)}.")
    xs = np.atleast_1d(np.asarray(x, dtype=np.float64))
    ys = np.atleast_1d(np.asarray(y, dtype=np.float64))
    ny, nx = shape
    with np.errstate(invalid="ignore"):
        inside = (xs >= -0.5) & (xs <= nx - 0.5) & (ys >= -0.5) & (ys <= ny - 0.5)
    return xs, ys, inside


def _windows(
    planes: NDArray[Any],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    inside: NDArray[np.bool_],
    outside: Any,
) -> NDArray[Any]:
    """Cut (plane, ny, nx) at n positions: (n, plane, 50, 50), `outside` where nothing is shown."""
    ny, nx = planes.shape[1:]
    images = np.empty((len(x), len(planes), CUTOUT_SIZE, CUTOUT_SIZE), dtype=planes.dtype)
    for i in np.flatnonzero(inside):
        column, row = math.ceil(x[i] - _HALF), math.ceil(y[i] - _HALF)
        right, top = column + CUTOUT_SIZE, row + CUTOUT_SIZE
        if column >= 0 and row >= 0 and right <= nx and top <= ny:
            images[i] = planes[:, row:top, column:right]
            continue
        images[i] = outside
        rows, columns = slice(max(row, 0), min(top, ny)), slice(max(column, 0), min(right, nx))
        there = slice(rows.start - row, rows.stop - row)
        images[i, :, there, columns.start - column : columns.stop - column] = planes[
            :, rows, columns
        ]
    images[~inside] = outside
    return images


def _shown(
    x: NDArray[np.float64], y: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Pixels of each cutout that lie on the frame: (n, 50, 50)."""
    ny, nx = shape
    step = np.arange(CUTOUT_SIZE)
    columns = np.nan_to_num(np.ceil(x - _HALF))[:, None] + step
    rows = np.nan_to_num(np.ceil(y - _HALF))[:, None] + step
    return np.asarray(
        ((rows >= 0) & (rows < ny))[:, :, None] & ((columns >= 0) & (columns < nx))[:, None, :]
    )


def _flags(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    inside: NDArray[np.bool_],
    shape: tuple[int, ...],
) -> NDArray[np.int32]:
    over = inside & ~_shown(x, y, shape).all(axis=(1, 2))
    return np.where(inside, np.where(over, Flag.EDGE, 0), Flag.OUTSIDE).astype(np.int32)


def _half_size(x: Any, y: Any, shape: tuple[int, ...]) -> Any:
    """Compute the paper's a0: 25 pixels, or the distance to the nearest edge where it is less."""
    ny, nx = shape
    return np.minimum.reduce([np.full_like(x, _HALF, dtype=float), x, y, nx - 1 - x, ny - 1 - y])


def _box(planes: NDArray[Any], x: float, y: float) -> NDArray[Any]:
    """Cut the square of half-size a0, at least 2 pixels wide, that lies on the frame."""
    ny, nx = planes.shape[1:]
    size = max(2, int(2 * _half_size(np.float64(x), np.float64(y), (ny, nx))))
    column = min(max(int(np.ceil(x - size / 2)), 0), nx - size)
    row = min(max(int(np.ceil(y - size / 2)), 0), ny - size)
    return planes[:, row : row + size, column : column + size]


def _stretched(box: NDArray[np.float32]) -> NDArray[np.float32]:
    """Resize (plane, size, size) to 50 x 50 bilinearly; a masked pixel masks what it reaches."""
    size = box.shape[-1]
    at = np.clip((np.arange(CUTOUT_SIZE) + 0.5) * size / CUTOUT_SIZE - 0.5, 0, size - 1)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size)))  # (50, size)
    masked = np.isnan(box)
    values = weights @ np.where(masked, 0, box) @ weights.T
    reached = weights @ masked.astype(np.float64) @ weights.T > 0
    return np.where(reached, np.nan, values).astype(np.float32)


def _varies(plane: NDArray[np.float32]) -> NDArray[np.bool_]:
    flat = plane.reshape(len(plane), CUTOUT_SIZE**2)
    with np.errstate(invalid="ignore"):  # fmax and fmin pass over NaN
        return np.asarray(np.fmax.reduce(flat, axis=1) > np.fmin.reduce(flat, axis=1))
