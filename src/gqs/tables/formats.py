"""Tables from files and into them: Parquet, FITS, VOTable, ECSV, CSV. Exact, bounded, offline."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from astropy.io import fits
from astropy.io.votable import from_table, parse
from astropy.io.votable.tree import Info
from astropy.table import MaskedColumn, Table

from gqs.errors import BadInputError, IntegrityError, UsageError
from gqs.files import write_bytes
from gqs.tables.contracts import FIELD_COLUMNS, exact_objid

ENDINGS: Final = (".parquet", ".fits", ".vot", ".ecsv", ".csv")
# Read as text: identifiers pass 2^63, where a reader that guesses turns to floats.
_TEXT: Final = ("objid", "specobjid", "class")
MAX_BYTES: Final = 4 << 30  # of a file, and of what it unfolds to
META: Final = "gqs"  # under which every format but CSV keeps all of `meta`, as JSON
_CARD: Final = 68  # letters of a FITS card's text


def read(path: Path, exact: bool = True) -> Table:
    """Read a table, its format told by its ending: .parquet, .fits, .vot, .ecsv or .csv.

    Identifiers stay exact: a column `objid` is uint64, never read through a float. Nothing is
    fetched from a network and nothing is unpickled.

    Parameters
    ----------
    path : Path
        The file.
    exact : bool
        Whether to refuse a table in which any `objid` is missing; else the column is left as it
        was read, for `usable_rows` to set such rows aside.

    Returns
    -------
    Table
        Column names in lower case where they are objid, ra, dec, class, run, camcol or field.

    Raises
    ------
    BadInputError
        If the file is no table of its ending.
    IntegrityError
        If `objid` holds anything but whole numbers from 0 to 2^64 - 1.
    UsageError
        If there is no such file, or its ending is unknown.
    """
    path = Path(path)
    reader = {
        ".parquet": _read_parquet,
        ".fits": _read_fits,
        ".vot": _read_votable,
        ".ecsv": _read_ecsv,
        ".csv": _read_csv,
        ".gz": _read_csv,
    }.get(path.suffix.lower())
    if reader is None:
        raise UsageError(
            f"{path}: unknown ending. Tables end in {', '.join(ENDINGS)} (or .csv.gz)."
        )
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file.")
    if path.stat().st_size > MAX_BYTES:
        raise _too_large(path)
    try:
        table = reader(path)
    except (BadInputError, IntegrityError):
        raise
    except Exception as error:  # every library has its own errors for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise BadInputError(
            f"{path}: cannot be read as {path.suffix} ({reason}). Export it again."
        ) from error
    _tidy(table, path, exact)
    return table


def check_ending(path: Path) -> str:
    """Refuse a name whose ending tells no format, before any work is done for it.

    Parameters
    ----------
    path : Path
        Where a table is to be written.

    Returns
    -------
    str
        The ending in lower case.

    Raises
    ------
    UsageError
        If the ending is unknown.
    """
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise UsageError(f"{path}: unknown ending. Tables end in {', '.join(ENDINGS)}.")
    return ending


def write(table: Table, path: Path) -> Path:
    """Write a table whole or not at all, its format told by its ending.

    Parameters
    ----------
    table : Table
        Any columns; meta goes along where the format holds it (all but CSV).
    path : Path
        Ending in .parquet, .fits, .vot, .ecsv or .csv.

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
    return write_bytes(path, as_bytes(table, ending))


def as_bytes(table: Table, ending: str) -> memoryview:
    """Return the bytes that `write` writes: equal tables, equal bytes (but in FITS and VOTable).

    Parameters
    ----------
    table : Table
        Any columns.
    ending : str
        One of `ENDINGS`.

    Returns
    -------
    memoryview
        The whole file.
    """
    table = table.copy(copy_data=False)
    if ending == ".vot":  # VOTable has no unsigned 64-bit integers
        for name in table.colnames:
            if table[name].dtype == np.uint64:
                table[name] = table[name].astype(str)
    buffer = io.BytesIO()
    if ending == ".parquet":
        _write_parquet(table, buffer)
    elif ending == ".fits":
        _write_fits(table, buffer)
    elif ending == ".vot":
        _write_votable(table, buffer)
    else:
        if ending == ".ecsv" and table.meta:  # astropy's reader loses line breaks in YAML's texts
            table.meta = {**table.meta, META: _as_json(table.meta)}
        text = io.StringIO()
        table.write(text, format="ascii.ecsv" if ending == ".ecsv" else "ascii.csv")
        buffer.write(text.getvalue().encode())
    return buffer.getbuffer()


def _write_fits(table: Table, buffer: io.BytesIO) -> None:
    for name in table.colnames:  # FITS knows bytes
        if table[name].dtype.kind == "O":
            table[name] = table[name].astype(str)
    # All of it as JSON, in one card with CONTINUE; what fits a card of its own is there for people.
    # Quotes and ampersands, which cards double or end in, are spelled as JSON's escapes.
    told = _as_json(table.meta).replace("'", "\\u0027").replace("&", "\\u0026")
    cards = {
        key.upper(): value
        for key, value in table.meta.items()
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,7}", key)
        and key != META
        and (isinstance(value, int) or _short(value))
    }
    table.meta = {**cards, META.upper(): told} if table.meta else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units that FITS does not know, and reserved keys
        table.write(buffer, format="fits")


def _short(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _CARD and bool(re.fullmatch(r"[ -~]+", value))


def _write_votable(table: Table, buffer: io.BytesIO) -> None:
    meta, table.meta = dict(table.meta), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units that VOTable does not know
        made = from_table(table)
        infos = made.get_first_table().infos
        for key, value in meta.items():  # one INFO each, for people and other programs
            if isinstance(value, str | int | float):
                infos.append(Info(name=key, value=" ".join(str(value).split())))
        if meta:
            infos.append(Info(name=META, value=_as_json(meta)))
        made.to_xml(buffer)


def _as_json(meta: dict[str, Any]) -> str:
    return json.dumps(dict(meta), default=str)


def _from_json(text: str) -> dict[str, Any]:
    """Return what was kept as JSON; nothing where another program uses the name for its own."""
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return {}


def _write_parquet(table: Table, buffer: io.BytesIO) -> None:
    columns = {}
    for name in table.colnames:
        column = table[name]
        mask = np.ma.getmaskarray(column) if isinstance(column, MaskedColumn) else None
        values = np.ma.getdata(column) if mask is not None else np.asarray(column)
        if values.ndim > 1:
            columns[name] = pa.array(values.tolist())
        elif values.dtype.kind in "OSU":
            columns[name] = pa.array(values.tolist(), mask=mask)
        else:
            columns[name] = pa.array(values, mask=mask)
    # All of the metadata as one JSON text, so that numbers and lists come back as such.
    meta = {META: _as_json(table.meta)}
    units = {name: str(table[name].unit) for name in table.colnames if table[name].unit}
    meta |= {f"unit.{name}": unit for name, unit in units.items()}
    arrow = pa.table(columns).replace_schema_metadata(meta)
    pyarrow.parquet.write_table(arrow, buffer, compression="zstd", write_page_checksum=True)


def _read_parquet(path: Path) -> Table:
    with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        cells = file.metadata.num_rows * file.metadata.num_columns
        if max(8 * cells, sum(group.total_byte_size for group in groups)) > MAX_BYTES:
            raise _too_large(path)
        arrow = file.read()
    table = _from_arrow(arrow)
    for raw_key, raw_value in (arrow.schema.metadata or {}).items():
        key, value = raw_key.decode(), raw_value.decode()
        if key == META:
            table.meta.update(json.loads(value))
        elif key.startswith("unit.") and key[5:] in table.colnames:
            table[key[5:]].unit = value
    return table


def _too_large(path: Path) -> BadInputError:
    return BadInputError(f"{path}: larger than {MAX_BYTES >> 30} GiB. Split it into parts.")


def _from_arrow(arrow: Any) -> Table:
    table = Table()
    for name in arrow.column_names:
        column = arrow[name]
        mask = None
        if column.null_count and pa.types.is_integer(column.type):
            # Through a float, as numpy has it, large integers would lose their last digits.
            mask, column = column.is_null().to_numpy(), column.fill_null(0)
        elif column.null_count and not pa.types.is_floating(column.type):
            mask = column.is_null().to_numpy()
        values = column.to_numpy()
        if values.dtype == object and len(values):
            if any(isinstance(value, np.ndarray) for value in values):
                values = np.stack(values)
            elif all(isinstance(value, str) or value is None for value in values):
                values = np.array(["" if value is None else value for value in values])
        table[name] = values if mask is None else MaskedColumn(values, mask=mask)
    return table


def _read_fits(path: Path) -> Table:
    with path.open("rb") as file:
        if file.read(9) != b"SIMPLE  =":  # astropy would unpack an archive of any size
            raise BadInputError(f"{path}: is no FITS file, or a packed one. Unpack it first.")
    with warnings.catch_warnings(), fits.open(path, memmap=False, lazy_load_hdus=True) as units:
        warnings.simplefilter("ignore")  # what they warn of is refused
        header = units[1].header
        rows, width = int(header["NAXIS2"]), int(header["NAXIS1"])
        if rows < 0 or width < 0 or rows * width > path.stat().st_size:
            raise BadInputError(
                f"{path}: claims {rows} rows of {width} bytes, more than it holds. Export it again."
            )
        table = Table.read(units, format="fits", hdu=1, character_as_bytes=False)
    table.meta = _from_json(str(table.meta.get(META.upper(), ""))) or table.meta
    for column in table.itercols():  # FITS is big-endian, most libraries are not
        if column.dtype.byteorder == ">":
            native = column.astype(column.dtype.newbyteorder("="))
            table.replace_column(column.name, native)
    return table


def _read_ecsv(path: Path) -> Table:
    table = Table.read(path.read_text("utf-8-sig").splitlines(), format="ascii.ecsv")
    table.meta = _from_json(str(table.meta.get(META, ""))) or table.meta
    for column in table.itercols():
        if isinstance(column, MaskedColumn) and column.dtype.kind == "U":
            table.replace_column(column.name, column.filled(""))  # ECSV has no blank text
    return table


def _read_votable(path: Path) -> Table:
    text = path.read_bytes()
    if b"\x00" in text:  # UTF-16 and the like would hide what is looked for below
        raise BadInputError(f"{path}: is no UTF-8 text. Save it as UTF-8.")
    for forbidden, what in (
        (rb"<!doctype", "a DOCTYPE"),
        (rb"<!entity", "an entity"),
        (rb"<(\w+:)?stream[^>]*href", "a link to its data"),
    ):
        if re.search(forbidden, text, re.IGNORECASE):
            raise BadInputError(f"{path}: holds {what}, which gqs does not follow. Save it inline.")
    for claim in re.findall(rb"(?:nrows|arraysize)\s*=\s*[\"']([\dx*\s]+)", text):
        if np.prod([int(n) for n in re.findall(rb"\d+", claim)], dtype=float) > len(text):
            raise BadInputError(
                f"{path}: claims {claim.decode()} rows or elements, more than it holds. "
                "Export it again."
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units and the like: values are checked by whoever asks
        found = parse(io.BytesIO(text)).get_first_table()
        table = found.to_table(use_names_over_ids=True)
    told = next((str(info.value) for info in found.infos if info.name == META), "")
    table.meta = _from_json(told) or table.meta
    return table


def _read_csv(path: Path) -> Table:
    """CSV with a header line; SkyServer's first line `#Table1` is passed over."""
    with pa.input_stream(path, compression="gzip" if path.suffix == ".gz" else None) as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _too_large(path)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise BadInputError(f"{path}: is UTF-16. Save it as UTF-8.")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data.lstrip()[:1] == b"<":
        raise BadInputError(
            f"{path}: is HTML or XML, not CSV: perhaps an error page. Export it again."
        )
    if b"\x00" in data:
        raise BadInputError(f"{path}: holds NUL bytes, so it is no text. Export it again.")
    if data.count(b'"') % 2:  # one within a text is doubled
        raise BadInputError(f"{path}: a quote is opened and never closed. Export it again.")
    while data.startswith(b"#"):
        data = data.partition(b"\n")[2]
    header = data.partition(b"\n")[0].decode("utf-8", "replace")
    names = next(csv.reader([header.strip("\r")]), [])
    exact = {name: pa.string() for name in names if _plain(name) in _TEXT}
    options = pa.csv.ConvertOptions(column_types=exact, strings_can_be_null=False)
    return _from_arrow(pa.csv.read_csv(io.BytesIO(data), convert_options=options))


def _plain(name: str) -> str:
    return name.strip().strip('"').lower()


def _tidy(table: Table, path: Path, exact: bool) -> None:
    for name in list(table.colnames):
        plain = _plain(name)
        known = ("objid", "specobjid", "ra", "dec", "class", *FIELD_COLUMNS)
        if plain in known and name != plain and plain not in table.colnames:
            table.rename_column(name, plain)
    if "objid" in table.colnames and exact:
        table["objid"] = exact_objid(table["objid"], path)
    if "specobjid" in table.colnames and table["specobjid"].dtype.kind in "iuUSO":
        with contextlib.suppress(IntegrityError):  # not every row may have a spectrum: text stays
            table["specobjid"] = exact_objid(table["specobjid"], path)
