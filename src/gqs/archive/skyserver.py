"""SQL queries to SkyServer, page by page, at most one per second.

Redirects are followed to the same host only. Limits: SkyServer's help page on query limits.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

import httpx
import numpy as np
from astropy.table import Table

from gqs import __version__
from gqs.archive import csv_response, http, paging, query
from gqs.archive.listening import ANSWER_S, CHUNK, Reply, listen
from gqs.archive.releases import DEFAULT, Release, checked_address, find
from gqs.errors import NetworkError, UsageError
from gqs.executors import Progress, no_progress
from gqs.surveys.sdss import FRAME_SHAPE, FieldId
from gqs.tables import wrapped

PAUSE_S: Final = 1.0  # SkyServer allows 60 queries per minute and client
# ASP.NET's default for a query string, which SkyServer enforces (issue 2211 of astroquery).
MAX_ADDRESS: Final = 2048
FIELD_RADIUS: Final = 9.0  # arcmin; half a field's diagonal is 8.4


class Server:
    """SkyServer for one data release."""

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
        self._client = httpx.Client(
            timeout=httpx.Timeout(ANSWER_S, connect=self.line.patience.connect_s),
            headers={"User-Agent": f"gqs/{__version__}"},
            follow_redirects=False,
        )

    def ask(self, sql: str) -> bytes:
        """Run a query; returns the CSV response."""
        query_string = _query_string(sql, self.release.number)
        if len(query_string) > MAX_ADDRESS:
            raise UsageError(
                f"The query takes {len(query_string)} characters as a web address; SkyServer "
                f"reads {MAX_ADDRESS}. Use fewer runs at a time, or --via casjobs."
            )
        return self.line.persist(lambda: self._try(query_string))

    def _try(self, query_string: str) -> bytes:
        self.line.pause(PAUSE_S)
        status, headers, body = listen(self.line, self.address, lambda: self._send(query_string))
        if status in http.PASSING:
            wait = http.retry_after(headers.get("Retry-After"))
            raise http.Failure(f"is busy (HTTP {status})", after_s=wait)
        if status != 200:
            raise NetworkError(
                f"{self.host}: does not accept SQL for {self.release} (HTTP {status}). "
                "Use another --release or --server."
            )
        try:
            csv_response.refuse_errors(body[:8000].decode("utf-8", "replace"), self.host)
        except csv_response.RefusedError as error:
            if not error.busy:
                raise
            raise http.Failure(error.why) from error
        return body

    def _send(self, query_string: str) -> Reply:
        """Send a query, following redirects to the same host; the body is not yet read."""
        url = f"{self.address}{_path(self.release.number)}?{query_string}"
        for _ in range(http.MAX_REDIRECTS):
            response = self._client.send(self._client.build_request("GET", url), stream=True)
            if response.status_code not in http.REDIRECTS:
                return Reply(
                    response.status_code,
                    response.headers,
                    response.iter_bytes(CHUNK),
                    response.close,
                )
            response.close()
            url = http.redirected(url, response.headers.get("Location", ""), ())
        raise NetworkError(f"{self.host}: redirects in a circle. Try again later.")


def _path(release: int) -> str:
    """Path of the SQL form of a release, as in astroquery.sdss 0.4.11 (`_get_query_url`)."""
    page = "x_sql.asp" if release < 10 else "x_sql.aspx" if release == 10 else "x_results.aspx"
    return f"/dr{release}/en/tools/search/{page}"


def _query_string(sql: str, release: int) -> str:
    """The query on one line without comments, and the parameters of the form."""
    line = "".join(f" {line.split('--')[0]}" for line in sql.split("\n"))
    values = {"cmd": line, "format": "csv"}
    if release > 11:
        values["searchtool"] = "SQL"
    return urlencode(values)


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
    """Query a catalogue: rows are counted first and then read page by page.

    Parameters
    ----------
    request : Spectroscopic
        The query.
    release : int or str or Release
        Data release.
    server : str, optional
        Address to use instead of SkyServer's.
    folder : Path, optional
        Folder that keeps pages, so that an interrupted query is continued.
    page_rows : int
        Rows per page.
    progress : callable
        Called with rows read, rows in total, and a note.
    patience : Patience, optional
        Time limits and number of tries.

    Returns
    -------
    Table
        The catalogue; `meta` has sql, release, server, magnitudes, retrieved, rows, repeats and
        set_aside.

    Raises
    ------
    NetworkError
        If the server cannot be reached or refuses.
    IntegrityError
        If responses are truncated, or pages belong to another query or release.
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
    """Run in a folder that is kept, or in a temporary one."""
    if folder is not None:
        return work(folder)
    with tempfile.TemporaryDirectory(prefix="gqs-") as temporary:
        return work(Path(temporary))


def count(
    request: query.Spectroscopic,
    *,
    release: int | str | Release = DEFAULT,
    server: str | None = None,
    patience: http.Patience | None = None,
) -> int:
    """Number of rows of a query."""
    asked = Server(release, server, patience)
    return csv_response.count(asked.ask(request.count_sql()), asked.host)


def fields_at(
    ra: float,
    dec: float,
    release: int | str | Release = DEFAULT,
    server: str | None = None,
    patience: http.Patience | None = None,
) -> list[FieldId]:
    """Fields that contain a position by the r band's astrometry, the most central first."""
    if not (-360 <= ra < 720 and -90 <= dec <= 90):
        raise UsageError(f"Position {ra}, {dec}: ra is 0 to 360, dec -90 to 90 degrees.")
    values = {"ra": float(wrapped(ra)), "dec": float(dec), "radius": FIELD_RADIUS, "rows": 2000}
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
    """Row and column of a position in a run's great-circle coordinates (table Frame)."""
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
