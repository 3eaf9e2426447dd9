"""Where SkyServer shows an object: a link for readers, which nothing here opens."""

from __future__ import annotations

from typing import Final

import numpy as np
from astropy.table import Table

from gqs import tables
from gqs.archive.releases import find

# As https://skyserver.sdss.org/dr16/en/help/docs/api.aspx lists its tools: Explore, by position.
_PATH: Final = "{server}/dr{release}/en/tools/explore/summary.aspx?ra={ra:.6f}&dec={dec:.6f}"
# SkyServer as it was rebuilt for DR17; DR17 to DR19 are linked so by pages and programs that use
# them (e.g. skyserver.sdss.org/dr17/VisualTools/explore/summary?id=...).
_REBUILT: Final = 17
_REBUILT_PATH: Final = "{server}/dr{release}/VisualTools/explore/summary?ra={ra:.6f}&dec={dec:.6f}"


def explore_url(ra: float, dec: float, release: int | str = 16) -> str:
    """Return the address of SkyServer's page on what lies at a position."""
    chosen = find(release)
    path = _PATH if chosen.number < _REBUILT else _REBUILT_PATH
    return path.format(server=chosen.sky_server, release=chosen.number, ra=ra, dec=dec)


def add_links(table: Table, release: int | str = 16) -> None:
    """Add the column `link`: the address of SkyServer's page on each row."""
    places = zip(np.asarray(table["ra"]).tolist(), np.asarray(table["dec"]).tolist(), strict=True)
    known = np.isfinite(np.asarray(table["ra"])) & np.isfinite(np.asarray(table["dec"]))
    links = [
        explore_url(ra, dec, release) if there else ""
        for (ra, dec), there in zip(places, known.tolist(), strict=True)
    ]
    table["link"] = np.array(links, dtype=str)
    tables.described(table)
