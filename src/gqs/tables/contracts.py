"""What must be true of a table's columns, whatever file they came from."""

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
MAX_BYTES: Final = 4 << 30  # of a file, and of what it unfolds to
_OBJID_DIGITS: Final = 20  # of 2^64 - 1


class Flag(enum.IntFlag):
    """What is unusual about an object; the column `flags` is their sum."""

    EDGE = 1  # the cutout reaches over the frame's edge and is padded there
    MASKED = 2  # some of its pixels are bad or not covered in some band
    SATURATED = 4  # some of its pixels are saturated in some band, or photo interpolated over them
    MISSING_BAND = 8  # a band that the model takes is not there
    BLENDED = 16  # detection had to part it from a neighbour
    OUTSIDE = 32  # the position lies on none of the frames, or is no position
    NO_SIGNAL = 64  # the reference band is constant: there is nothing to see
    NOT_JUDGED = 128  # no class: centre invalid (3 px, r band), or over half of it masked
    UNLIKE = 256  # unlike what the model learned: an artefact, a blend, a halo, or something new
    NO_PRIOR = 512  # its r magnitude is not known, so the prior that was asked for did not reach it
    HALO = 1024  # in the halo of a bright star
    TRAIL = 2048  # a satellite's trail crosses it in r, or it is a piece of one
    COSMIC_RAY = 4096  # sharper in r than any point source is


def exact_objid(values: object, where: object = "catalogue") -> NDArray[np.uint64]:
    """Return identifiers as uint64, or refuse those that lost digits on the way: (n,) uint64."""
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
                f"{where}, row {row + 1}: objid {'' if masked[row] else value[:30]!r} is no whole "
                "number below 2^64. Export it as text or as a 64-bit integer."
            )
    return np.array([int(value) for value in text], dtype=np.uint64)


def as_float(column: object) -> NDArray[np.float64]:
    """Return a column as numbers; what is no number, or masked, is NaN: (n,) float64."""
    values = np.ma.getdata(column) if np.ma.isMaskedArray(column) else np.asarray(column)
    if values.dtype.kind in "fiu":
        numbers = values.astype(np.float64)
    else:
        numbers = np.array([_number(value) for value in values.tolist()], dtype=np.float64)
    if np.ma.isMaskedArray(column):
        numbers[np.ma.getmaskarray(column)] = np.nan
    return numbers


def _number(text: object) -> float:
    try:
        return float(text.decode() if isinstance(text, bytes) else str(text))
    except ValueError:
        return float("nan")


def positions_usable(table: Table) -> NDArray[np.bool_]:
    """Tell which rows have a position on the sky: (n,) bool."""
    for name in ("ra", "dec"):
        unit = table[name].unit
        try:
            factor = 1.0 if unit is None else units.Unit(unit).to(units.deg)
        except (units.UnitConversionError, ValueError, TypeError) as error:
            raise UsageError(f"Column {name}: {unit} is no angle. Give degrees.") from error
        with_values(table, name, as_float(table[name]) * factor)
        table[name].unit = "deg"
    ra, dec = np.asarray(table["ra"]), np.asarray(table["dec"])
    return np.asarray((ra >= 0) & (ra < 360) & (np.abs(dec) <= 90))


def with_values(table: Table, name: str, values: ArrayLike) -> None:
    """Give a column other values; what it is stays told."""
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
    """Refuse identifiers that come twice."""
    values, counts = np.unique(np.asarray(objid), return_counts=True)
    if (counts > 1).any():
        raise IntegrityError(
            f"{where}: {int((counts > 1).sum())} objid come more than once, "
            f"{values[counts > 1][0]} among them. Keep one row for each object."
        )


def too_large(path: Path) -> BadInputError:
    """Say that a file passes the limit on what is read at once."""
    return BadInputError(f"{path}: larger than {MAX_BYTES >> 30} GiB. Split it into parts.")
