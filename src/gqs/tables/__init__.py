"""Catalogues and predictions as astropy tables: columns, checks, and file formats in and out."""

from gqs.tables.catalog import read_catalog, usable_rows
from gqs.tables.columns import UCD, UNITS, described
from gqs.tables.contracts import (
    FIELD_COLUMNS,
    MAX_BYTES,
    Flag,
    as_float,
    exact_objid,
    float_column,
    positions_usable,
    require_columns,
    require_unique,
    wrapped,
)
from gqs.tables.formats import ENDINGS, as_bytes, check_ending, read, write
from gqs.tables.hats import HATS
from gqs.tables.parquet import as_arrow
from gqs.tables.predictions import predictions

__all__ = [
    "ENDINGS",
    "FIELD_COLUMNS",
    "HATS",
    "MAX_BYTES",
    "UCD",
    "UNITS",
    "Flag",
    "as_arrow",
    "as_bytes",
    "as_float",
    "check_ending",
    "described",
    "exact_objid",
    "float_column",
    "positions_usable",
    "predictions",
    "read",
    "read_catalog",
    "require_columns",
    "require_unique",
    "usable_rows",
    "wrapped",
    "write",
]
