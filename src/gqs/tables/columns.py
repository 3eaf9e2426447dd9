"""What each column of a catalogue is: its unit, UCD and a line of words. Table: columns.toml."""

from __future__ import annotations

import functools
import tomllib
from importlib import resources
from typing import Any, Final, NamedTuple

from astropy.table import Table

from gqs.tables.contracts import Flag

UCD: Final = "ucd"  # under which a column's meta keeps it, as astropy's VOTable readers have it


class Described(NamedTuple):
    """What a column is."""

    unit: str  # as VOUnits writes it; blank where it has none
    ucd: str  # UCD1+
    about: str  # one line


@functools.cache
def _source() -> dict[str, Any]:
    return tomllib.loads(resources.files("gqs.tables").joinpath("columns.toml").read_text("utf-8"))


def bands() -> tuple[str, ...]:
    """Return the bands that catalogues have columns of, in their order."""
    return tuple(_source()["band"])


@functools.cache
def known_columns() -> dict[str, Described]:
    """Return all columns that gqs's catalogues may have, those of the bands one by one."""
    found: dict[str, Described] = {}
    for name, told in _source()["column"].items():
        row = Described(told.get("unit", ""), told["ucd"], told["about"])
        if "{band}" not in name:
            found[name] = row
            continue
        for band, em in _source()["band"].items():
            filled = (text.format(band=band, em=em) for text in row)
            found[name.format(band=band)] = Described(*filled)
    return found


def flag_lines() -> dict[str, str]:
    """Say what the bits of `flags` mean, as a catalogue's metadata keep it."""
    meanings = _source()["flag"]
    return {f"flag{int(flag)}": f"{flag.name}: {meanings[flag.name]}" for flag in Flag}


def described(table: Table) -> Table:
    """Give the columns that are known their unit, UCD and line of words, where they have none."""
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
