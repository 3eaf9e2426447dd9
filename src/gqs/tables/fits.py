"""FITS tables. UCDs and descriptions are in TUCDn and TCOMMn, as in TOPCAT's files.

The cards: Starlink's STIL, BintableStarTable.java. Unsigned 64-bit integers are columns of type K
with TZERO = 2^63, which astropy reads as uint64 and TOPCAT as text.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import IO, Any, Final

from astropy.io import fits
from astropy.table import Table

from gqs.errors import BadInputError
from gqs.tables.columns import UCD
from gqs.tables.meta import META, as_json, from_json

_CARD: Final = 68  # longest text of a card


def write_fits(table: Table, buffer: IO[bytes]) -> None:
    """Write a table as the first extension of a FITS file."""
    for name in table.colnames:  # FITS has no object columns
        if table[name].dtype.kind == "O":
            column = table[name].astype(str)
            table[name] = column
    # All metadata are JSON in one card with CONTINUE; short entries also have their own cards.
    # Quotes and ampersands, which cards double or end in, are written as JSON escapes.
    text = as_json(table.meta).replace("'", "\\u0027").replace("&", "\\u0026")
    cards = {
        key.upper(): value
        for key, value in table.meta.items()
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,7}", key)
        and key != META
        and (isinstance(value, int) or _short(value))
    }
    meta = {**cards, META.upper(): text} if table.meta else {}
    for i, column in enumerate(table.itercols(), 1):
        for card, value in (("TUCD", column.meta.get(UCD)), ("TCOMM", column.description)):
            if value and _short(value):
                meta[f"{card}{i}"] = value
    table.meta = meta
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about units that FITS does not know, and reserved keys
        table.write(buffer, format="fits")


def _short(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _CARD and bool(re.fullmatch(r"[ -~]+", value))


def read_fits(path: Path) -> Table:
    """Read the table in a FITS file's first extension."""
    with path.open("rb") as file:
        if file.read(9) != b"SIMPLE  =":  # astropy would decompress an archive of any size
            raise BadInputError(
                f"{path}: is not a FITS file, or is compressed. Decompress it first."
            )
    with warnings.catch_warnings(), fits.open(path, memmap=False, lazy_load_hdus=True) as units:
        warnings.simplefilter("ignore")  # the same problems are refused below
        header = units[1].header
        rows, width = int(header["NAXIS2"]), int(header["NAXIS1"])
        if rows < 0 or width < 0 or rows * width > path.stat().st_size:
            raise BadInputError(
                f"{path}: declares {rows} rows of {width} bytes, more than it contains. "
                "Export it again."
            )
        table = Table.read(units, format="fits", hdu=1, character_as_bytes=False)
    for i, name in enumerate(table.colnames, 1):
        _describe(table[name], table.meta.pop(f"TUCD{i}", ""), table.meta.pop(f"TCOMM{i}", ""))
    table.meta = from_json(str(table.meta.get(META.upper(), ""))) or table.meta
    for column in table.itercols():  # FITS is big-endian, most libraries are not
        if column.dtype.byteorder == ">":
            native = column.astype(column.dtype.newbyteorder("="))
            table.replace_column(column.name, native)
    return table


def _describe(column: Any, ucd: object, about: object) -> None:
    """Set UCD and description from the cards that astropy does not read."""
    if ucd:
        column.meta.setdefault(UCD, str(ucd))
    if about and not column.description:
        column.description = str(about)
