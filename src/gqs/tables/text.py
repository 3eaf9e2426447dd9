"""Text tables: ECSV, which preserves all metadata, and CSV, which preserves values only."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.csv
from astropy.table import MaskedColumn, Table

from gqs import labels
from gqs.errors import BadInputError
from gqs.tables import contracts
from gqs.tables.meta import META, as_json, from_json
from gqs.tables.parquet import from_arrow

# Read as text: identifiers may exceed 2^63, where a reader that guesses types uses floats.
_TEXT: Final = ("objid", "specobjid", "class")
# How a catalogue's numbers are written as CSV, by the start of the column's name.
_FORMATS: Final = {
    "p_": "%.7g",
    "mag": "%.4f",
    "psf_mag": "%.4f",
    "seeing": "%.4f",
    "unlike": "%.4f",
}
_POSITIONS: Final = {"ra": "%.8f", "dec": "%.8f", "x": "%.4f", "y": "%.4f"}


def write_ecsv(table: Table, buffer: IO[bytes]) -> None:
    """Write ECSV."""
    if table.meta:  # astropy's reader loses line breaks in YAML texts
        table.meta = {**table.meta, META: as_json(table.meta)}
    _write_text(table, buffer, "ascii.ecsv")


def write_csv(table: Table, buffer: IO[bytes]) -> None:
    """Write CSV with a header line; values only, rounded if it is a catalogue of predictions."""
    formats = {}
    if set(labels.PROBABILITY_COLUMNS) <= set(table.colnames):
        for name in table.colnames:
            by_start = (form for start, form in _FORMATS.items() if name.startswith(start))
            form = _POSITIONS.get(name) or next(by_start, None)
            if form and table[name].dtype.kind == "f":
                formats[name] = form
    _write_text(table, buffer, "ascii.csv", formats=formats)


def _write_text(table: Table, buffer: IO[bytes], form: str, **options: Any) -> None:
    text = io.StringIO()
    table.write(text, format=form, **options)
    buffer.write(text.getvalue().encode())


def read_ecsv(path: Path) -> Table:
    """Read ECSV."""
    table = Table.read(path.read_text("utf-8-sig").splitlines(), format="ascii.ecsv")
    table.meta = from_json(str(table.meta.get(META, ""))) or table.meta
    for column in table.itercols():
        if isinstance(column, MaskedColumn) and column.dtype.kind == "U":
            table.replace_column(column.name, column.filled(""))  # ECSV reads blank text as masked
    return table


def read_csv(path: Path) -> Table:
    """Read CSV with a header line; comment lines such as SkyServer's `#Table1` are skipped."""
    with pa.input_stream(path, compression="gzip" if path.suffix == ".gz" else None) as stream:
        data = stream.read(contracts.MAX_BYTES + 1)
    if len(data) > contracts.MAX_BYTES:
        raise contracts.too_large(path)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise BadInputError(f"{path}: is UTF-16. Save it as UTF-8.")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data.lstrip()[:1] == b"<":
        raise BadInputError(
            f"{path}: is HTML or XML instead of CSV, perhaps an error page. Export it again."
        )
    if b"\x00" in data:
        raise BadInputError(f"{path}: contains NUL bytes, so it is not text. Export it again.")
    if data.count(b'"') % 2:  # quotes inside a text are doubled
        raise BadInputError(f"{path}: a quote is never closed. Export it again.")
    while data.startswith(b"#"):
        data = data.partition(b"\n")[2]
    header = data.partition(b"\n")[0].decode("utf-8", "replace")
    names = next(csv.reader([header.strip("\r")]), [])
    exact = {name: pa.string() for name in names if name.strip().strip('"').lower() in _TEXT}
    options = pa.csv.ConvertOptions(column_types=exact, strings_can_be_null=False)
    return from_arrow(pa.csv.read_csv(io.BytesIO(data), convert_options=options))
