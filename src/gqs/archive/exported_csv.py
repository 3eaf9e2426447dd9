"""Read a CSV exported from SkyServer's or CasJobs' web page as a catalogue."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

from astropy.table import Table

from gqs import tables
from gqs.archive import csv_response
from gqs.archive.releases import Release, find
from gqs.errors import BadInputError, IntegrityError, UsageError
from gqs.files import sha256

ROW_LIMIT: Final = 500_000  # of SkyServer's pages (its help page on query limits)


def read_export(path: Path, release: int | str | Release) -> Table:
    """Read a CSV exported by hand, with SkyServer's first line `#Table1` or without."""
    path = Path(path)
    if path.suffix.lower() != ".csv":
        raise UsageError(f"{path}: an export ends in .csv. Other tables need no import.")
    if path.is_file():
        _whole(path)
    table, set_aside = tables.read_catalog(path)
    table.meta = {
        "source": path.name,
        "sha256": sha256(path),
        "release": str(find(release)),
        "via": "csv",
        "rows": len(table),
        "set_aside": set_aside,
    }
    return table


def _whole(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(8000)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in start:
        return  # no UTF-8: `tables.read` says so
    try:
        csv_response.refuse_errors(start.decode("utf-8", "replace"), str(path))
    except csv_response.RefusedError as error:
        words = error.why.replace("sent", "is").replace("refuses the query", "holds an error")
        raise BadInputError(f"{path}: {words}. Export it again.") from error
    width = rows = 0
    cut = False
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        lines = (line for line in text if line.strip() and not line.startswith("#"))
        try:
            for row in csv.reader(lines):
                cut = bool(width) and len(row) < width
                if not width:
                    _refuse_lone_z([name.strip().lower() for name in row], path)
                width, rows = width or len(row), rows + 1
        except csv.Error as error:  # a quote that does not close takes in the rest of the file
            raise BadInputError(f"{path}: is no CSV ({error}). Export it again.") from error
    if cut:
        raise IntegrityError(f"{path}: its last row is cut, so it is not whole. Export it again.")
    if rows - 1 == ROW_LIMIT:
        raise IntegrityError(
            f"{path}: has exactly {ROW_LIMIT:,} rows, SkyServer's limit, so it was cut there. "
            "Export it in parts, or let gqs query pull it."
        )


def _refuse_lone_z(names: list[str], path: Path) -> None:
    """Refuse what Figure 9's slip makes: s.z, the redshift, and p.z, the magnitude, both as z."""
    lone = "z" in names and "redshift" not in names and not {"u", "g", "r", "i"} <= set(names)
    if lone or names.count("z") > 1:
        raise UsageError(
            f"{path}: its column z may be the redshift or the magnitude, as in the paper's "
            "Figure 9, which asks for both by that name. Name the redshift redshift, or export "
            "the magnitudes u, g, r and i as well."
        )
