"""Pixels as others have them: units, masks, astropy's and torch's objects, and other sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from astropy import units
from astropy.nddata import Cutout2D, NDData
from numpy.typing import NDArray

from gqs.errors import UsageError
from gqs.surveys.sdss import BANDS, CUTOUT_SIZE, OWN_BANDS, WAVELENGTH, ZERO_POINT

SMALLEST: Final = 32  # pixels on a side
_AB: Final = units.zero_point_flux(10 ** (0.4 * 8.9) * units.Jy)  # of magnitude 0: 3631 Jy
_COUNTS: Final = (units.adu, units.electron, units.ct, units.count, units.DN, units.photon)


class Pixels(NamedTuple):
    """Cutouts in nanomaggies, or 8-bit pictures."""

    images: NDArray[Any]  # (n, band, 50, 50), NaN where masked
    bands: str
    area: float  # fraction of a cutout that the given size covers


def as_pixels(given: Any, bands: str, zero_point: float | None = None) -> Pixels:
    """Cutouts of any kind as one array; `zero_point` is the AB magnitude of one count."""
    if isinstance(given, Mapping):
        bands = "".join(map(str, given))
        planes = [_array(given[band], band, zero_point) for band in given]
        if not planes or len({plane.shape for plane in planes}) > 1:
            shapes = ", ".join(f"{band} {p.shape}" for band, p in zip(bands, planes, strict=True))
            raise UsageError(f"Cutouts of {shapes or 'no band'}: give one shape for all bands.")
        array = np.stack(planes, axis=-3)
        array = array[None] if array.ndim == 3 else array
    else:
        array = _array(given, bands, zero_point)
        if array.ndim == 2 and len(bands) == 1:
            array = array[None, None]
        elif array.ndim == 3:
            array = array[:, None] if len(bands) == 1 else array[None]
    if array.ndim != 4 or array.dtype.kind not in "fiu" or min(array.shape[2:]) < SMALLEST:
        return Pixels(array, bands, 1.0)  # refused by the preprocessing, with the shape it takes
    ny, nx = (min(size, CUTOUT_SIZE) for size in array.shape[2:])
    outside = 0 if array.dtype == np.uint8 else np.nan
    return Pixels(centred(array, outside), bands, ny * nx / CUTOUT_SIZE**2)


def centred(planes: NDArray[Any], outside: float) -> NDArray[Any]:
    """Images cropped or padded about their centre, (..., 50, 50)."""
    for axis in (-2, -1):
        n = planes.shape[axis]
        if n > CUTOUT_SIZE:
            start = (n - CUTOUT_SIZE) // 2
            cut: list[slice] = [slice(None)] * planes.ndim
            cut[axis] = slice(start, start + CUTOUT_SIZE)
            planes = planes[tuple(cut)]
        elif n < CUTOUT_SIZE:
            before = (CUTOUT_SIZE - n + 1) // 2
            widths = [(0, 0)] * planes.ndim
            widths[axis] = (before, CUTOUT_SIZE - n - before)
            if planes.dtype.kind != "f" and np.isnan(outside):
                planes = planes.astype(np.float32)
            planes = np.pad(planes, widths, constant_values=outside)
    return planes


def _array(given: Any, bands: str, zero_point: float | None) -> NDArray[Any]:
    """One object, or a list of them, as nanomaggies with NaN where masked."""
    if isinstance(given, list | tuple):
        if any(isinstance(one, Mapping) for one in given):
            parts = [as_pixels(one, bands, zero_point) for one in given]
            if len({part.bands for part in parts}) > 1 or parts[0].bands != bands:
                raise UsageError(f"Cutouts by band: give every one the bands {bands!r} (bands=).")
            return np.concatenate([part.images for part in parts])
        arrays = [_array(one, bands, zero_point) for one in given]
        if len({one.shape for one in arrays}) > 1:
            shapes = ", ".join(sorted({str(one.shape) for one in arrays}))
            raise UsageError(f"Cutouts of several shapes ({shapes}): give all the same.")
        return np.stack(arrays) if arrays else np.empty((0, len(bands), CUTOUT_SIZE, CUTOUT_SIZE))
    if isinstance(given, Cutout2D):
        return _array(given.data, bands, zero_point)
    if isinstance(given, NDData):
        values = _converted(np.asarray(given.data), given.unit, bands, zero_point)
        if given.mask is None:
            return values
        return np.where(np.asarray(given.mask), np.nan, values)
    if callable(getattr(given, "detach", None)):  # a tensor of torch, of any type and device
        plain = given.detach().cpu()
        return _converted(
            (plain.float() if plain.is_floating_point() else plain).numpy(), None, bands, zero_point
        )
    unit = getattr(given, "unit", None)
    if unit is not None:
        filled = getattr(given, "filled", lambda _: given)(np.nan)  # astropy's Masked has it
        return _converted(np.asarray(filled.value), unit, bands, zero_point)
    if np.ma.isMaskedArray(given):
        given = np.ma.filled(given.astype(float), np.nan)
    return _converted(np.asarray(given), None, bands, zero_point)


def _converted(
    values: NDArray[Any], unit: Any, bands: str, zero_point: float | None
) -> NDArray[Any]:
    """Values in nanomaggies; plain numbers are nanomaggies, or counts if there is a zero point.

    A user's own bands stay as they are.
    """
    if not set(bands) - set(OWN_BANDS):  # scaled by the model, whatever their unit
        if zero_point is not None:
            raise UsageError(f"Bands {bands!r} are without a zero point. Leave it out.")
        return values
    plain = unit is None or unit == units.dimensionless_unscaled
    if plain and zero_point is None:
        return values
    counts = plain or any(
        unit.is_equivalent(one) or unit.is_equivalent(one / units.s) for one in _COUNTS
    )
    if counts:
        if zero_point is None:
            raise UsageError(
                f"Cutouts are in {unit}, which is no flux. Give the AB magnitude of one {unit} "
                "(zero_point=)."
            )
        return np.asarray(values * np.float32(10 ** (0.4 * (ZERO_POINT - zero_point))))
    if zero_point is not None:
        raise UsageError(f"Cutouts are in {unit}, so they need no zero point. Leave it out.")
    try:
        quantity = units.Quantity(values, unit)
        if unit.is_equivalent(units.nmgy) or unit.is_equivalent(units.Jy):
            return np.asarray(quantity.to_value(units.nmgy, _AB))
        if not unit.is_equivalent(units.W / units.m**3) or set(bands) - set(BANDS):
            raise units.UnitConversionError(unit)
        return _per_wavelength(quantity, bands)
    except (units.UnitConversionError, units.UnitTypeError, TypeError) as error:
        raise UsageError(
            f"Cutouts are in {unit}. Give nanomaggies, a flux density such as Jy, or counts with "
            "zero_point."
        ) from error


def _per_wavelength(quantity: units.Quantity, bands: str) -> NDArray[np.float64]:
    """Flux per wavelength at the bands' effective wavelengths as nanomaggies."""
    axis = 1 if quantity.ndim == 4 else 0
    several = len(bands) > 1
    if several and (quantity.ndim < 3 or quantity.shape[axis] != len(bands)):
        raise units.UnitConversionError(f"shape {quantity.shape}")
    planes = [
        (quantity.take(i, axis=axis) if several else quantity).to_value(
            units.Jy, units.spectral_density(WAVELENGTH[band] * units.AA)
        )
        for i, band in enumerate(bands)
    ]
    jansky = np.stack(planes, axis=axis) if several else planes[0]
    return np.asarray((jansky * units.Jy).to_value(units.nmgy, _AB))
