"""Read and write tables: Parquet, FITS, VOTable, ECSV and CSV; write HATS. Exact and offline."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Final

from astropy.table import Table

from gqs.errors import BadInputError, IntegrityError, UsageError
from gqs.files import write_bytes
from gqs.tables import contracts
from gqs.tables.contracts import FIELD_COLUMNS, exact_objid, with_values
from gqs.tables.fits import read_fits, write_fits
from gqs.tables.hats import HATS, check_hats, write_hats
from gqs.tables.parquet import read_parquet, write_parquet
from gqs.tables.text import read_csv, read_ecsv, write_csv, write_ecsv
from gqs.tables.votable import read_votable, write_votable

ENDINGS: Final = (".parquet", ".fits", ".vot", ".ecsv", ".csv")
_READERS: Final = {
    ".parquet": read_parquet,
    ".fits": read_fits,
    ".vot": read_votable,
    ".ecsv": read_ecsv,
    ".csv": read_csv,
    ".gz": read_csv,
}
_WRITERS: Final = {
    ".parquet": write_parquet,
    ".fits": write_fits,
    ".vot": write_votable,
    ".ecsv": write_ecsv,
    ".csv": write_csv,
}


def read(path: Path, exact: bool = True) -> Table:
    """Read a table; the format follows from the ending: .parquet, .fits, .vot, .ecsv or .csv.

    A column `objid` is read as uint64, never through a float. Nothing is fetched from a network
    and nothing is unpickled.

    Parameters
    ----------
    path : Path
        The file.
    exact : bool
        Whether to refuse a table with a missing `objid`; otherwise the column is left as it was
        read, and `usable_rows` sets such rows aside.

    Returns
    -------
    Table
        The names objid, ra, dec, class, run, camcol and field are in lower case.

    Raises
    ------
    BadInputError
        If the file is not a table in the format of its ending.
    IntegrityError
        If `objid` contains anything but whole numbers from 0 to 2^64 - 1.
    UsageError
        If there is no such file, or its ending is unknown.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(
            f"{path}: unknown ending. Tables end in {', '.join(ENDINGS)} (or .csv.gz)."
        )
    if not path.is_file():
        raise UsageError(f"{path}: no such file.")
    if path.stat().st_size > contracts.MAX_BYTES:
        raise contracts.too_large(path)
    try:
        table = reader(path)
    except (BadInputError, IntegrityError):
        raise
    except Exception as error:  # every library has its own errors for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise BadInputError(
            f"{path}: cannot be read as {path.suffix} ({reason}). Export it again."
        ) from error
    _normalise(table, path, exact)
    return table


def check_ending(path: Path) -> str:
    """Return a file name's ending; refuse an unknown one before any work is done."""
    ending = Path(path).suffix.lower()
    if ending == HATS:
        check_hats(Path(path))
    elif ending not in ENDINGS:
        raise UsageError(f"{path}: unknown ending. Tables end in {', '.join(ENDINGS)} or {HATS}.")
    return ending


def write(table: Table, path: Path) -> Path:
    """Write a table atomically; the format follows from the ending.

    Parameters
    ----------
    table : Table
        Any columns; meta is written in all formats but CSV.
    path : Path
        Ends in .parquet, .fits, .vot, .ecsv or .csv, or in .hats for a folder.

    Returns
    -------
    Path
        The same path.

    Raises
    ------
    UsageError
        If the ending is unknown.
    """
    path, ending = Path(path), check_ending(path)
    if ending == HATS:
        return write_hats(table, path)
    return write_bytes(path, as_bytes(table, ending))


def as_bytes(table: Table, ending: str) -> memoryview:
    """The content of the file: equal for equal tables (except in FITS and VOTable)."""
    buffer = io.BytesIO()
    _WRITERS[ending](table.copy(copy_data=False), buffer)
    return buffer.getbuffer()


def _normalise(table: Table, path: Path, exact: bool) -> None:
    """Lower the case of known column names, and make identifiers exact."""
    for name in list(table.colnames):
        plain = name.strip().strip('"').lower()
        known = ("objid", "specobjid", "ra", "dec", "class", *FIELD_COLUMNS)
        if plain in known and name != plain and plain not in table.colnames:
            table.rename_column(name, plain)
    if "objid" in table.colnames and exact:
        with_values(table, "objid", exact_objid(table["objid"], path))
    if "specobjid" in table.colnames and table["specobjid"].dtype.kind in "iuUSO":
        with contextlib.suppress(IntegrityError):  # rows without a spectrum: the text stays
            with_values(table, "specobjid", exact_objid(table["specobjid"], path))
