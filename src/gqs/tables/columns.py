"""Unit, UCD and description of each column of a catalogue, from columns.toml."""

from __future__ import annotations

import functools
import tomllib
from importlib import resources
from typing import Any, Final, NamedTuple

from astropy.table import Table

from gqs.tables.contracts import Flag

UCD: Final = "ucd"  # key in a column's meta, the same as in astropy's VOTable readers


class ColumnInfo(NamedTuple):
    """Unit, UCD and description of a column."""

    unit: str  # in VOUnits; blank if there is none
    ucd: str  # UCD1+
    about: str  # one line


@functools.cache
def _source() -> dict[str, Any]:
    return tomllib.loads(resources.files("gqs.tables").joinpath("columns.toml").read_text("utf-8"))


def bands() -> tuple[str, ...]:
    """Bands with columns in catalogues, in order."""
    return tuple(_source()["band"])


@functools.cache
def known_columns() -> dict[str, ColumnInfo]:
    """All columns that catalogues of gqs may have, by name."""
    columns: dict[str, ColumnInfo] = {}
    for name, entry in _source()["column"].items():
        info = ColumnInfo(entry.get("unit", ""), entry["ucd"], entry["about"])
        if "{band}" not in name:
            columns[name] = info
            continue
        for band, em in _source()["band"].items():
            filled = (text.format(band=band, em=em) for text in info)
            columns[name.format(band=band)] = ColumnInfo(*filled)
    return columns


def flag_lines() -> dict[str, str]:
    """Meaning of each bit of `flags`, for a catalogue's metadata."""
    meanings = _source()["flag"]
    return {f"flag{int(flag)}": f"{flag.name}: {meanings[flag.name]}" for flag in Flag}


def described(table: Table) -> Table:
    """Add unit, UCD and description to the known columns of a table that lack them."""
    for name, row in known_columns().items():
        if name not in table.colnames:
            continue
        column = table[name]
        if row.unit and column.unit is None:
            column.unit = row.unit
        if not column.description:
            column.description = row.about
        column.meta.setdefault(UCD, row.ucd)
    return table


UNITS: Final = {name: known_columns()[name].unit for name in ("ra", "dec", "x", "y")}
