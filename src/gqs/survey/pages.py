"""A catalogue in pages by objid: counted first, each page kept, a cut one never taken for whole."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from astropy.table import Table, vstack

from gqs import tables
from gqs.errors import GqsError, IntegrityError, UsageError
from gqs.files import hash_of, only_writer
from gqs.survey import answer
from gqs.workers import Progress

PAGE_ROWS: Final = 50_000  # a tenth of SkyServer's limit of 500,000 rows (its help page on limits)
# Units of the columns that have one; u g r i z are magnitudes unless they are gqs's own fluxes.
_MAGNITUDES: Final = (*"ugriz", "psfmag_r", "cmodelmag_r")

Ask = Callable[[str], bytes]


class Query(Protocol):
    """What can be asked in pages: `gqs.survey.query.Spectroscopic` is one."""

    def sql(self, first: int | None = None, rows: int | None = None) -> str:
        """Return the SQL of a page."""

    def count_sql(self) -> str:
        """Return the SQL that counts all rows."""


def pull(
    ask: Ask,
    query: Query,
    columns: tuple[str, ...],
    origin: dict[str, str],
    folder: Path,
    rows: int,
    progress: Progress,
) -> Table:
    """Fetch all rows of a query; pages that a former run kept in the folder are not asked again.

    Parameters
    ----------
    ask : callable
        Gets SQL, returns the body of the answer.
    query : Query
        What to ask.
    columns : tuple of str
        Names of its columns.
    origin : dict of str
        What pages must have in common to belong together: SQL, release, server.
    folder : Path
        Where pages are kept.
    rows : int
        Rows of a page.
    progress : callable
        Told rows here, rows in all, and a note.

    Returns
    -------
    Table
        Rows in the order of objid.

    Raises
    ------
    IntegrityError
        If pages of another query or release lie there, the archive's count has changed, or an
        answer is cut twice.
    """
    host = origin["server"]
    with only_writer(folder):
        total = _retried(lambda: answer.count(ask(query.count_sql()), host))
        pin = hash_of(origin)
        pages, first, kept = _kept(folder, pin, total)
        progress(kept, total, f"rows from {host}")
        while kept < total:
            expected = min(rows, total - kept)
            page = _retried(
                lambda first=first, expected=expected: _page(  # type: ignore[misc]
                    ask(query.sql(first, rows)), columns, host, first, expected
                )
            )
            last = int(page["objid"][-1])
            if len(page) < total - kept:  # the last object's other spectra may be on the next page
                page = page[np.asarray(page["objid"]) < last]
                if not len(page):
                    raise UsageError(f"Pages of {rows} rows hold no whole object: take more rows.")
            page.meta = {"pin": pin, "total": total, "first": first, "next": last}
            tables.write(page, _path(folder, len(pages)))
            pages.append(page)
            first, kept = last, kept + len(page)
            progress(kept, total, f"rows from {host}")
    for page in pages:
        page.meta = {}
    if not pages:
        return answer.typed({name: [] for name in columns}, host)
    return vstack(pages, join_type="exact")


def _path(folder: Path, number: int) -> Path:
    return folder / f"page-{number:05d}.parquet"


def _kept(folder: Path, pin: str, total: int) -> tuple[list[Table], int, int]:
    """Return the pages that a former run kept, where the next begins, and rows so far."""
    pages: list[Table] = []
    first, kept = 0, 0
    while (path := _path(folder, len(pages))).exists():
        try:
            page = tables.read(path)
        except GqsError:  # damaged: this page and what follows are asked for again
            break
        if page.meta.get("pin") != pin:
            raise IntegrityError(
                f"{folder}: holds pages of another query, release or server. "
                "Delete it, or name another --out."
            )
        if page.meta["total"] != total:
            raise IntegrityError(
                f"{folder}: the archive counted {page.meta['total']} rows when these pages came "
                f"and {total} now, so it has changed between. Delete the folder and begin again."
            )
        if page.meta["first"] != first:
            break
        pages.append(page)
        first, kept = page.meta["next"], kept + len(page)
    return pages, first, kept


def _page(body: bytes, columns: tuple[str, ...], host: str, first: int, expected: int) -> Table:
    page = answer.typed(answer.read_rows(body, columns, host), host)
    if len(page) != expected:
        raise IntegrityError(
            f"{host}: sent {len(page)} rows where {expected} were due"
            + (": a limit on rows was met. Ask for smaller pages with --page-rows."
               if len(page) < expected else "; the archive has changed. Begin again.")
        )  # fmt: skip
    objid = np.asarray(page["objid"])
    if objid[0] < first or (objid[1:] < objid[:-1]).any():
        raise IntegrityError(f"{host}: rows are not in the order of objid, so none can be missed.")
    return page


def _retried(ask: Callable[[], Any]) -> Any:
    """Ask once more where an answer was not whole; what is cut twice is refused."""
    try:
        return ask()
    except IntegrityError:
        return ask()


def catalogue(rows: Table, meta: dict[str, Any], where: str) -> Table:
    """Make a Catalogue of pulled rows: one row an object, what cannot be used set aside.

    Parameters
    ----------
    rows : Table
        As `pull` returns them.
    meta : dict
        SQL, release and server.
    where : str
        Named in sentences.

    Returns
    -------
    Table
        Unique objid; `class` one of the three; in meta also `retrieved` (UTC), `rows`,
        `repeats` (further spectra of an object, left out) and `set_aside`, a list of sentences.

    Raises
    ------
    IntegrityError
        If one spectrum comes twice.
    """
    usable, set_aside = tables.usable_rows(rows, where)
    usable, repeats = _one_each(usable, where)
    for name in usable.colnames:
        if name in _MAGNITUDES or name.startswith(("magerr_", "extinction_")):
            usable[name].unit = "mag"
    usable.meta = {
        **meta,
        "retrieved": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": len(usable),
        "repeats": repeats,
        "set_aside": set_aside,
    }
    return usable


def _one_each(rows: Table, where: str) -> tuple[Table, int]:
    """Keep an object's best spectrum: the one SDSS calls primary, else the first."""
    pairs = np.stack([np.asarray(rows["objid"]), np.asarray(rows["specobjid"])], axis=1)
    if len(np.unique(pairs, axis=0)) != len(pairs):
        raise IntegrityError(f"{where}: one spectrum comes twice. Begin again in another folder.")
    best = np.asarray(rows["best"]) if "best" in rows.colnames else np.ones(len(rows), np.int32)
    order = np.lexsort((pairs[:, 1], -best, pairs[:, 0]))
    _, first = np.unique(pairs[order, 0], return_index=True)
    chosen = rows[order[first]]
    if "best" in chosen.colnames:
        chosen.remove_column("best")
    return chosen, len(rows) - len(chosen)
