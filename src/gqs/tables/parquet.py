"""Parquet files, with the description of the columns in the three forms that readers look for.

- pyarrow: `schema.field("ra").metadata` has unit, ucd and description;
- TOPCAT and astropy's `parquet.votable`: a VOTable without data, after the IVOA Note "Parquet in
  the VO" 1.0 (2025-01-14);
- astropy's plain Parquet reader: YAML.

The table's metadata are one JSON text, so that numbers and lists keep their types.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from astropy.table import MaskedColumn, Table
from astropy.table.meta import get_yaml_from_table

from gqs.tables import contracts
from gqs.tables.columns import UCD
from gqs.tables.meta import META, as_json, with_mappings
from gqs.tables.votable import without_data

_VOTABLE: Final = "IVOA.VOTable-Parquet."


def as_arrow(table: Table) -> Any:
    """Convert to an Arrow table with all metadata of the table and its columns in the schema."""
    arrays = [_array(table[name]) for name in table.colnames]
    fields = [
        pa.field(name, array.type, metadata=_column_metadata(table[name]))
        for name, array in zip(table.colnames, arrays, strict=True)
    ]
    return pa.table(arrays, schema=pa.schema(fields, metadata=_schema_metadata(table)))


def _array(column: Any) -> Any:
    mask = np.ma.getmaskarray(column) if isinstance(column, MaskedColumn) else None
    values = np.ma.getdata(column) if mask is not None else np.asarray(column)
    if values.ndim > 1:
        return pa.array(values.tolist())
    if values.dtype.kind in "OSU":
        text = pa.string() if values.dtype.kind == "U" else None  # also without rows
        return pa.array(values.tolist(), text, mask=mask)
    return pa.array(values, mask=mask)


def _column_metadata(column: Any) -> dict[str, str] | None:
    unit = str(column.unit) if column.unit else ""
    metadata = {"unit": unit, UCD: column.meta.get(UCD), "description": column.description}
    return {key: value for key, value in metadata.items() if value} or None


def _schema_metadata(table: Table) -> dict[str, str]:
    meta = {META: as_json(table.meta)}
    if not any(column.description or column.meta.get(UCD) for column in table.itercols()):
        return meta  # internal tables of gqs, which no other program reads
    bare = table[:0].copy()
    bare.meta = with_mappings(table.meta)
    return meta | {
        f"{_VOTABLE}version": "1.0",
        f"{_VOTABLE}content": without_data(table).decode(),
        "table_meta_yaml": "\n".join(get_yaml_from_table(bare)),
        **{
            f"table::len::{name}": str(table[name].dtype.itemsize // 4)
            for name in table.colnames
            if table[name].dtype.kind == "U"
        },
    }


def write_parquet(table: Table, buffer: io.BytesIO) -> None:
    """Write a Parquet file of one row group."""
    arrow = as_arrow(table)
    pyarrow.parquet.write_table(arrow, buffer, compression="zstd", write_page_checksum=True)


def read_parquet(path: Path) -> Table:
    """Read a Parquet file."""
    with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        cells = file.metadata.num_rows * file.metadata.num_columns
        size = max(8 * cells, sum(group.total_byte_size for group in groups))
        if size > contracts.MAX_BYTES:
            raise contracts.too_large(path)
        arrow = file.read()
    table = from_arrow(arrow)
    for field in arrow.schema:
        metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        column = table[field.name]
        column.unit, column.description = metadata.get("unit"), metadata.get("description")
        if UCD in metadata:
            column.meta[UCD] = metadata[UCD]
    for raw_key, raw_value in (arrow.schema.metadata or {}).items():
        key, value = raw_key.decode(), raw_value.decode()
        if key == META:
            table.meta.update(json.loads(value))
        elif key.startswith("unit.") and key[5:] in table.colnames:  # written by an older gqs
            table[key[5:]].unit = value
    return table


def from_arrow(arrow: Any) -> Table:
    """Convert an Arrow table; integers stay exact."""
    table = Table()
    for name in arrow.column_names:
        column = arrow[name]
        mask = None
        if column.null_count and pa.types.is_integer(column.type):
            # numpy would convert to float, in which large integers lose their last digits.
            mask, column = column.is_null().to_numpy(), column.fill_null(0)
        elif column.null_count and not pa.types.is_floating(column.type):
            mask = column.is_null().to_numpy()
        values = column.to_numpy()
        if pa.types.is_string(column.type) and not len(values):
            values = values.astype(str)
        if values.dtype == object and len(values):
            if any(isinstance(value, np.ndarray) for value in values):
                values = np.stack(values)
            elif all(isinstance(value, str) or value is None for value in values):
                values = np.array(["" if value is None else value for value in values])
        table[name] = values if mask is None else MaskedColumn(values, mask=mask)
    return table
