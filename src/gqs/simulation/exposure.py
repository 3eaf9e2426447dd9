"""From light to a frame's pixels: noise, saturation, whole counts, calibration, rounding.

Follows the survey's frame data model: counts are whole numbers, noise follows gain and dark
variance, charge above the full well bleeds along columns, photo interpolates most saturated cores
along rows, and pixels keep 10 significant binary digits (FLOATCOMPRESS).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gqs.simulation.conditions import BandConditions, smooth_surface

Floats = NDArray[np.float32]

_KEPT: Final = 9  # saturated pixels of a star up to which the pipeline may leave its flat top
_DROPPED_BITS: Final = 14  # of a float32's 23 mantissa bits; 9 and the hidden one stay


def sky_steps(size: int, first: float) -> Floats:
    """Positions in the coarse sky image of an axis' pixels (XINTERP, YINTERP): 8 to a step: (size,)
    float32.
    """
    return np.asarray(first + np.arange(size) / 8, dtype=np.float32)


def full_sky(sky: Floats, shape: tuple[int, int]) -> Floats:
    """Interpolate the coarse sky to every pixel, as the data model says: bilinear, clamped: (ny,
    nx) float32, counts.
    """
    for size, first in zip(shape, (0.5625, -0.4375), strict=True):
        at = np.clip(sky_steps(size, first), 0, len(sky) - 1)
        low = np.minimum(at.astype(np.intp), len(sky) - 2)
        share = (at - low)[:, None]
        sky = (sky[low] * (1 - share) + sky[low + 1] * share).T
    return sky


def expose(light: Floats, conditions: BandConditions, rng: np.random.Generator) -> Floats:
    """Observe a scene with one CCD: (ny, nx) float32 nanomaggies, as in HDU 0 of an archive's
    frame.
    """
    sky = full_sky(conditions.sky, light.shape)
    true_sky = sky + smooth_surface(conditions.residual, light.shape)
    counts = noisy_counts(light / conditions.calibration, true_sky, conditions, rng)
    saturate(counts, conditions.full_well, rng)
    return calibrated(counts, sky, conditions.calibration)


def noisy_counts(
    signal: Floats, sky: Floats, conditions: BandConditions, rng: np.random.Generator
) -> Floats:
    """Add the sky and the noise of photons, dark current and read-out."""
    expected = signal + sky
    z = rng.standard_normal(expected.shape, dtype=np.float32)
    gain = np.float32(conditions.gain)
    variance = np.maximum(expected, 0) / gain + np.float32(conditions.dark_variance)
    # Cornish-Fisher: the second term gives the sum a Poisson distribution's skewness.
    return np.asarray(expected + np.sqrt(variance) * z + (z * z - 1) / (6 * gain))


def calibrated(counts: Floats, sky: Floats, calibration: Floats) -> Floats:
    """Whole counts less the sky in nanomaggies, rounded to 10 binary digits."""
    flux = np.ascontiguousarray((np.rint(counts) - sky) * calibration, dtype=np.float32)
    bits = flux.view(np.uint32)
    bits += np.uint32(1 << (_DROPPED_BITS - 1))
    bits &= np.uint32(0xFFFFFFFF << _DROPPED_BITS & 0xFFFFFFFF)
    return flux


def saturate(counts: Floats, full_well: float, rng: np.random.Generator) -> None:
    """Let charge over the full well bleed along the columns; interpolate most such cores away."""
    if counts.max() <= full_well:
        return
    for x in np.flatnonzero((counts > full_well).any(axis=0)):
        bleed(counts[:, x], full_well)
    full = counts >= full_well * 0.999
    cores, _ = ndimage.label(full, structure=np.ones((3, 3)))
    for core, box in enumerate(ndimage.find_objects(cores), start=1):
        mask = cores[box] == core
        if mask.sum() <= _KEPT and rng.random() < 0.7:
            continue
        _interpolate(counts, box, mask, keep_end=rng.random() < 0.4)


def bleed(column: Floats, full_well: float) -> None:
    """Move charge over the full well to the nearest pixels with room, half up and half down."""
    excess = np.maximum(column - full_well, 0)
    np.minimum(column, full_well, out=column)
    centre = int(np.argmax(excess))
    half = float(excess.sum()) / 2
    for part in (column[centre + 1 :], column[:centre][::-1]):
        room = full_well - part
        before = np.concatenate([[0.0], np.cumsum(room, dtype=np.float64)[:-1]])
        part += np.clip(half - before, 0, room).astype(np.float32)


def _interpolate(
    counts: Floats, box: tuple[slice, slice], mask: NDArray[np.bool_], keep_end: bool
) -> None:
    """Replace a saturated core, row by row, by the line between its rims, as photo does."""
    mask = np.pad(mask, 2)
    mask = ndimage.binary_dilation(mask, np.ones((1, 3)) if keep_end else np.ones((3, 3)))
    y0, x0 = box[0].start - 2, box[1].start - 2
    if keep_end:  # the last pixel of the longest trail is often missed
        mask[-3, int(np.argmax(mask.sum(axis=0)))] = False
    for row, bad in enumerate(mask, start=y0):
        x = np.flatnonzero(bad) + x0
        x = x[(x >= 0) & (x < counts.shape[1])]
        if not len(x) or not 0 <= row < len(counts):
            continue
        left, right = max(x[0] - 1, 0), min(x[-1] + 1, counts.shape[1] - 1)
        rims = counts[row, [left, right]]
        counts[row, x] = np.interp(x, [left, right], rims)
