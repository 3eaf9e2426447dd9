"""Checks of columns that hold for every table, whatever its file format, and the flags."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Final

import numpy as np
from astropy import units
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from gqs.errors import BadInputError, IntegrityError, UsageError

FIELD_COLUMNS: Final = ("run", "camcol", "field")
MAX_BYTES: Final = 4 << 30  # of a file, and of its uncompressed content
_OBJID_DIGITS: Final = 20  # of 2^64 - 1


class Flag(enum.IntFlag):
    """Quality flags of a source; the column `flags` is their sum."""

    EDGE = 1  # the cutout extends beyond the frame and is padded there
    MASKED = 2  # some of its pixels are bad or not covered in some band
    SATURATED = 4  # some of its pixels are saturated in some band, or photo interpolated over them
    MISSING_BAND = 8  # a band that the model uses is missing
    BLENDED = 16  # deblended from a neighbour
    OUTSIDE = 32  # the position is outside all frames, or invalid
    NO_SIGNAL = 64  # the reference band is constant
    NOT_JUDGED = 128  # not classified: centre invalid (3 px, r band), or over half of it masked
    UNLIKE = 256  # unlike the training set: an artefact, a blend, a halo, or something new
    NO_PRIOR = 512  # r magnitude unknown, so the prior was not applied
    HALO = 1024  # in the halo of a bright star
    TRAIL = 2048  # crossed by a satellite trail in r, or part of one
    COSMIC_RAY = 4096  # sharper in r than a point source
    NOISE_ESTIMATED = 8192  # a frame has no calibration: noise and saturation are estimates


def exact_objid(values: object, where: object = "catalogue") -> NDArray[np.uint64]:
    """Identifiers as (n,) uint64; refuse those that lost digits as floating-point numbers."""
    column = np.asarray(values)
    if not len(column):
        return np.zeros(0, dtype=np.uint64)
    if column.dtype.kind == "f":
        raise IntegrityError(
            f"{where}: objid was saved as a decimal number, which loses its last digits. "
            "Export it as text or as a 64-bit integer."
        )
    masked = np.ma.getmaskarray(values) if np.ma.isMaskedArray(values) else np.zeros(len(column))
    whole = column.dtype.kind == "u" or (column.dtype.kind == "i" and (column >= 0).all())
    if whole and not masked.any():
        return column.astype(np.uint64)
    if column.dtype.kind == "S":
        column = np.char.decode(column, "ascii", "replace")
    text = [str(value).strip().strip('"') for value in column.tolist()]
    for row, value in enumerate(text):
        number = value.isascii() and value.isdigit() and len(value.lstrip("0")) <= _OBJID_DIGITS
        if masked[row] or not number or int(value) >= 2**64:
            raise IntegrityError(
                f"{where}, row {row + 1}: objid {'' if masked[row] else value[:30]!r} is not a "
                "whole number below 2^64. Export it as text or as a 64-bit integer."
            )
    return np.array([int(value) for value in text], dtype=np.uint64)


def as_float(column: object) -> NDArray[np.float64]:
    """A column as (n,) float64; NaN where a value is masked or not a number."""
    values = np.ma.getdata(column) if np.ma.isMaskedArray(column) else np.asarray(column)
    if values.dtype.kind in "fiu":
        numbers = values.astype(np.float64)
    else:
        numbers = np.array([_number(value) for value in values.tolist()], dtype=np.float64)
    if np.ma.isMaskedArray(column):
        numbers[np.ma.getmaskarray(column)] = np.nan
    return numbers


def float_column(table: Table, name: str) -> NDArray[np.float64]:
    """A column of numbers, (n,) float64; NaN where it is masked or the table lacks it."""
    if name not in table.colnames:
        return np.full(len(table), np.nan)
    values = np.asarray(table[name]).astype(np.float64)
    return np.where(np.ma.getmaskarray(table[name]), np.nan, values)


def _number(text: object) -> float:
    try:
        return float(text.decode() if isinstance(text, bytes) else str(text))
    except ValueError:
        return float("nan")


def positions_usable(table: Table) -> NDArray[np.bool_]:
    """Convert `ra` and `dec` to degrees, 0 <= ra < 360; (n,) bool, whether a row's is valid.

    Right ascensions from -180 to 180, or a turn off, are the same places; larger ones are taken for
    marks of missing values, such as 999 or 9999.
    """
    for name in ("ra", "dec"):
        unit = table[name].unit
        try:
            factor = 1.0 if unit is None else units.Unit(unit).to(units.deg)
        except (units.UnitConversionError, ValueError, TypeError) as error:
            raise UsageError(f"Column {name}: {unit} is not an angle. Use degrees.") from error
        with_values(table, name, as_float(table[name]) * factor)
        table[name].unit = "deg"
    ra, dec = np.asarray(table["ra"]), np.asarray(table["dec"])
    usable = np.asarray((ra >= -360) & (ra < 720) & (np.abs(dec) <= 90))
    with_values(table, "ra", np.where(usable, wrapped(np.where(usable, ra, 0.0)), ra))
    return usable


def wrapped(ra: ArrayLike) -> NDArray[np.float64]:
    """Right ascensions in degrees, 0 <= ra < 360, unchanged where they are so already."""
    degrees = np.mod(np.asarray(ra, dtype=np.float64), 360.0)
    return np.where(degrees == 360.0, 0.0, degrees)  # of -1e-17, say


def with_values(table: Table, name: str, values: ArrayLike) -> None:
    """Replace a column's values; unit, description and metadata stay."""
    old = table[name]
    table[name] = values
    table[name].unit, table[name].description = old.unit, old.description
    table[name].meta = dict(old.meta)


def require_columns(table: Table, names: tuple[str, ...], where: object) -> None:
    """Refuse a table that lacks a column."""
    missing = [name for name in names if name not in table.colnames]
    if missing:
        raise UsageError(
            f"{where}: has no column {', '.join(missing)}; it has {', '.join(table.colnames[:20])}."
        )


def require_unique(objid: object, where: object) -> None:
    """Refuse repeated identifiers."""
    values, counts = np.unique(np.asarray(objid), return_counts=True)
    if (counts > 1).any():
        raise IntegrityError(
            f"{where}: {int((counts > 1).sum())} objid are repeated, such as "
            f"{values[counts > 1][0]}. Keep one row for each object."
        )


def too_large(path: Path) -> BadInputError:
    """The error for a file larger than `MAX_BYTES`."""
    return BadInputError(f"{path}: larger than {MAX_BYTES >> 30} GiB. Split it into parts.")
