"""SQL on SkyServer, through astroquery.sdss: at most a query a second, resumed page by page.

astroquery's own habits are put aside: nothing is cached, no redirect is followed but to the same
host, and no answer is waited for without end. Limits: SkyServer's help page on query limits.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import numpy as np
from astropy.table import Table

from gqs.archive import csv_response, http, paging, query
from gqs.archive.listening import ANSWER_S, CHUNK, Reply, listen
from gqs.archive.releases import DEFAULT, Release, checked_address, find
from gqs.errors import NetworkError, UsageError
from gqs.executors import Progress, no_progress
from gqs.surveys.sdss import FRAME_SHAPE, FieldId

PAUSE_S: Final = 1.0  # 60 queries a minute from one client
# ASP.NET's default for a query string, which SkyServer enforces (astroquery's issue 2211).
MAX_ADDRESS: Final = 2048
FIELD_RADIUS: Final = 9.0  # arcmin; half a field's diagonal is 8.4


class Server:
    """SkyServer as one release's database sees it."""

    def __init__(
        self,
        release: int | str | Release = DEFAULT,
        server: str | None = None,
        patience: http.Patience | None = None,
    ) -> None:
        self.release = find(release)
        self.address = checked_address(server or self.release.sky_server)
        self.host = urlsplit(self.address).netloc
        self.line = http.Line(self.host, patience)

    def ask(self, sql: str) -> bytes:
        """Run a query."""
        length = len(urlencode({"cmd": sql, "format": "csv", "searchtool": "SQL"}))
        if length > MAX_ADDRESS:
            raise UsageError(
                f"The query takes {length} characters as a web address, SkyServer reads "
                f"{MAX_ADDRESS}. Name fewer runs at a time, or use --via casjobs."
            )
        return self.line.persist(lambda: self._try(sql))

    def _try(self, sql: str) -> bytes:
        self.line.pause(PAUSE_S)
        status, headers, body = listen(
            self.line, self.address, lambda: _through_astroquery(self, sql)
        )
        if status in http.PASSING:
            wait = http.retry_after(headers.get("Retry-After"))
            raise http.Failure(f"is busy (HTTP {status})", after_s=wait)
        if status != 200:
            raise NetworkError(
                f"{self.host}: answers no SQL for {self.release} (HTTP {status}). "
                "Name another --release or --server."
            )
        try:
            csv_response.refuse_errors(body[:8000].decode("utf-8", "replace"), self.host)
        except csv_response.RefusedError as error:
            if not error.busy:
                raise
            raise http.Failure(error.why) from error
        return body


def _through_astroquery(server: Server, sql: str) -> Reply:
    """Send a query as astroquery.sdss does; the answer is not yet read."""
    from astroquery.sdss import SDSSClass, conf

    class Archive(SDSSClass):  # type: ignore[misc]
        """SkyServer through astroquery, with neither cache nor unlisted redirects."""

        def _request(self, method: str, url: str, **details: Any) -> Any:
            wait = (server.line.patience.connect_s, ANSWER_S)
            details |= {"cache": False, "stream": True, "allow_redirects": False, "timeout": wait}
            for _ in range(http.MAX_REDIRECTS):
                response = super()._request(method, url, **details)
                if response.status_code not in http.REDIRECTS:
                    return response
                response.close()
                url = http.redirected(response.url, response.headers.get("Location", ""), ())
                details["params"] = None  # the new address has them
            raise NetworkError(f"{server.host}: redirects in a circle. Try again later.")

    with conf.set_temp("skyserver_baseurl", server.address):
        got = Archive().query_sql_async(
            sql, data_release=server.release.number, cache=False, timeout=ANSWER_S
        )
    return Reply(got.status_code, got.headers, got.iter_content(CHUNK), got.close)


def pull(
    request: query.Spectroscopic,
    *,
    release: int | str | Release = DEFAULT,
    server: str | None = None,
    folder: Path | None = None,
    page_rows: int = paging.PAGE_ROWS,
    progress: Progress = no_progress,
    patience: http.Patience | None = None,
) -> Table:
    """Pull a catalogue: counted first, then page by page.

    Parameters
    ----------
    request : Spectroscopic
        What to ask.
    release : int or str or Release
        Data release.
    server : str, optional
        Takes the place of SkyServer's address.
    folder : Path, optional
        Where pages are kept, for the same call to go on from; else nothing is kept.
    page_rows : int
        Rows of a page.
    progress : callable
        Told rows here, rows in all, and a note.
    patience : Patience, optional
        How long and how often to try.

    Returns
    -------
    Table
        A Catalogue; `meta` has sql, release, server, magnitudes, retrieved, rows, repeats and
        set_aside.

    Raises
    ------
    NetworkError
        If the server cannot be reached or refuses.
    IntegrityError
        If answers are cut, or pages belong to another query or release.
    """
    asked = Server(release, server, patience)
    meta = {
        "sql": request.sql(),
        "release": str(asked.release),
        "server": asked.address,
        "via": "skyserver",
        "magnitudes": request.magnitudes,
    }
    return keep(
        folder,
        lambda kept: paging.catalogue(
            paging.pull(asked.ask, request, request.columns(), meta, kept, page_rows, progress),
            meta,
            f"{asked.host}, {asked.release}",
        ),
    )


def keep(folder: Path | None, work: Callable[[Path], Table]) -> Table:
    """Work in a folder that stays, or in one that goes."""
    if folder is not None:
        return work(folder)
    with tempfile.TemporaryDirectory(prefix="gqs-") as passing:
        return work(Path(passing))


def count(
    request: query.Spectroscopic,
    *,
    release: int | str | Release = DEFAULT,
    server: str | None = None,
    patience: http.Patience | None = None,
) -> int:
    """Ask how many rows a query has."""
    asked = Server(release, server, patience)
    return csv_response.count(asked.ask(request.count_sql()), asked.host)


def fields_at(
    ra: float,
    dec: float,
    release: int | str | Release = DEFAULT,
    server: str | None = None,
    patience: http.Patience | None = None,
) -> list[FieldId]:
    """Find the fields that a position lies on, by the r band's astrometry."""
    if not (0 <= ra < 360 and -90 <= dec <= 90):
        raise UsageError(f"Position {ra}, {dec}: ra is 0 to 360, dec -90 to 90 degrees.")
    values = {"ra": float(ra), "dec": float(dec), "radius": FIELD_RADIUS, "rows": 2000}
    sql = query.bind("fields_near", values, {})
    asked = Server(release, server, patience)
    cells = csv_response.read_rows(asked.ask(sql), query.columns_of(sql), asked.host)
    rows = csv_response.typed(cells, asked.host)
    found: dict[FieldId, float] = {}
    for row in rows:
        y, x = _pixel(ra, dec, {name: float(row[name]) for name in (*"abcdef", "node", "incl")})
        if 0 <= y < FRAME_SHAPE[0] and 0 <= x < FRAME_SHAPE[1]:
            field = FieldId(int(row["run"]), int(row["camcol"]), int(row["field"]))
            found[field] = math.hypot(y - FRAME_SHAPE[0] / 2, x - FRAME_SHAPE[1] / 2)
    return sorted(found, key=lambda field: (found[field], field))


def _pixel(ra: float, dec: float, terms: dict[str, float]) -> tuple[float, float]:
    """Row and column of a position, by the great-circle system of a run (schema of Frame)."""
    a, d, tilt = (math.radians(x) for x in (ra - terms["node"], dec, terms["incl"]))
    x, y, z = math.cos(d) * math.cos(a), math.cos(d) * math.sin(a), math.sin(d)
    along = y * math.cos(tilt) + z * math.sin(tilt)
    across = z * math.cos(tilt) - y * math.sin(tilt)
    mu = math.degrees(math.atan2(along, x)) + terms["node"]
    nu = math.degrees(math.asin(max(-1.0, min(1.0, across))))
    away = np.array([(mu - terms["a"] + 180) % 360 - 180, nu - terms["d"]])
    matrix = np.array([[terms["b"], terms["c"]], [terms["e"], terms["f"]]])
    row, column = np.linalg.solve(matrix, away)
    return float(row), float(column)
