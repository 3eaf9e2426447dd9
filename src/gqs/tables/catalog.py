"""Users' catalogues: rows that cannot be used are set aside with a reason, never changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import labels
from gqs.tables.contracts import (
    FIELD_COLUMNS,
    exact_objid,
    positions_usable,
    require_columns,
    require_unique,
    with_values,
)
from gqs.tables.formats import read


def read_catalog(
    path: Path, needs: tuple[str, ...] = ("objid", "ra", "dec", *FIELD_COLUMNS, "class")
) -> tuple[Table, list[str]]:
    """Read a catalogue and set aside the rows that cannot be used."""
    table, reasons = usable_rows(read(path, exact="objid" not in needs), path, needs)
    if "objid" in needs:
        require_unique(table["objid"], path)
    return table, reasons


def usable_rows(
    table: Table,
    where: object,
    needs: tuple[str, ...] = ("objid", "ra", "dec", *FIELD_COLUMNS, "class"),
) -> tuple[Table, list[str]]:
    """Set aside the rows of a catalogue without identifier, position or class."""
    require_columns(table, needs, where)
    keep, reasons = np.ones(len(table), dtype=bool), []
    if "objid" in needs:
        blank = _blank(table["objid"])
        for row in np.flatnonzero(blank):
            keep[row] = False
            reasons.append(f"{where}, row {row + 1}: has no objid; set aside.")
        if blank.any():
            filled = np.ma.getdata(table["objid"]).copy()
            filled[blank] = 0 if filled.dtype.kind in "iuf" else "0"
            with_values(table, "objid", filled)
        with_values(table, "objid", exact_objid(table["objid"], where))
    usable = positions_usable(table)
    for row in np.flatnonzero(~usable & keep):
        keep[row] = False
        reasons.append(f"{where}, row {row + 1}: ra or dec is not a valid position; set aside.")
    if "class" in needs:
        names = np.char.strip(np.ma.filled(table["class"].astype(str), ""))
        for row in np.flatnonzero(~np.isin(names, labels.CLASSES) & keep):
            keep[row] = False
            reasons.append(
                f"{where}, row {row + 1}: class {str(names[row])!r} is none of "
                f"{', '.join(labels.CLASSES)}; set aside."
            )
        with_values(table, "class", names)
    return table[keep], reasons


def _blank(objid: Any) -> NDArray[np.bool_]:
    """Whether each identifier is missing: masked, or empty text."""
    masked = np.ma.getmaskarray(objid) if np.ma.isMaskedArray(objid) else np.zeros(len(objid), bool)
    values = np.ma.getdata(objid)
    if values.dtype.kind not in "USO":
        return np.asarray(masked)
    texts = [v.decode("ascii", "replace") if isinstance(v, bytes) else v for v in values.tolist()]
    empty = [text is None or not str(text).strip(' \t"') for text in texts]
    return np.asarray(masked | np.array(empty, dtype=bool))
