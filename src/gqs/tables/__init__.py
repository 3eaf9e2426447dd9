"""What passes between the rooms as tables: catalogues and predictions; formats in and out."""

from gqs.tables.catalog import read_catalog, usable_rows
from gqs.tables.contracts import (
    FIELD_COLUMNS,
    UNITS,
    Flag,
    as_float,
    exact_objid,
    positions_usable,
    require_columns,
    require_unique,
)
from gqs.tables.formats import ENDINGS, MAX_BYTES, as_bytes, check_ending, read, write
from gqs.tables.judged import predictions

__all__ = [
    "ENDINGS",
    "FIELD_COLUMNS",
    "MAX_BYTES",
    "UNITS",
    "Flag",
    "as_bytes",
    "as_float",
    "check_ending",
    "exact_objid",
    "positions_usable",
    "predictions",
    "read",
    "read_catalog",
    "require_columns",
    "require_unique",
    "usable_rows",
    "write",
]
