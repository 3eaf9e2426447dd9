"""Links to SkyServer's pages: of the release that was asked for, one a row."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from astropy.table import Table

from gqs import tables
from gqs.archive.explore import add_links, explore_url
from gqs.errors import UsageError


@pytest.mark.parametrize("ending", [".parquet", ".fits", ".vot", ".ecsv", ".csv"])
def test_each_row_has_the_page_of_its_position(tmp_path: Path, ending: str) -> None:
    table = Table({"ra": [185.4, np.nan, 0.0000004], "dec": [-12.7034567, 3.0, 89.5]})
    add_links(table, "dr17")
    back = tables.read(tables.write(table, tmp_path / f"t{ending}"))
    links = ["" if link is None else str(link) for link in np.ma.filled(back["link"], "").tolist()]
    assert links[1] == ""
    for row in (0, 2):
        parts = urlsplit(links[row])
        assert (parts.scheme, parts.netloc) == ("https", "skyserver.sdss.org")
        assert parts.path == "/dr17/VisualTools/explore/summary"
        asked = parse_qs(parts.query)
        assert float(asked["ra"][0]) == pytest.approx(float(table["ra"][row]), abs=6e-7)
        assert float(asked["dec"][0]) == pytest.approx(float(table["dec"][row]), abs=6e-7)
    assert table["link"].meta[tables.UCD] == "meta.ref.url"


def test_no_rows_and_no_such_release() -> None:
    empty = Table({"ra": np.zeros(0), "dec": np.zeros(0)})
    add_links(empty)
    assert empty["link"].dtype.kind == "U"
    with pytest.raises(UsageError, match="not known"):
        add_links(Table({"ra": [1.0], "dec": [2.0]}), 3)


def test_older_releases_have_the_older_page() -> None:
    url = "https://skyserver.sdss.org/dr16/en/tools/explore/summary.aspx?ra=1.500000&dec=-2.000000"
    assert explore_url(1.5, -2.0) == explore_url(1.5, -2.0, "DR16") == url
