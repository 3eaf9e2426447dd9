"""A catalogue in pages by objid: counted first, each page kept, a cut one never taken for whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from astropy.table import Table, vstack

from gqs import tables
from gqs.archive import csv_response
from gqs.errors import IntegrityError, UsageError
from gqs.executors import Progress
from gqs.files import hash_of, only_writer, sha256, write_json

PAGE_ROWS: Final = 50_000  # a tenth of SkyServer's limit of 500,000 rows (its help page on limits)
# Units of the columns that have one; u g r i z are magnitudes unless they are gqs's own fluxes.

Ask = Callable[[str], bytes]


class Query(Protocol):
    """What can be asked in pages: `gqs.archive.query.Spectroscopic` is one."""

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
    """Fetch all rows of a query; pages that a former run kept in the folder are not asked again."""
    host = origin["server"]
    with only_writer(folder):
        total = _retried(lambda: csv_response.count(ask(query.count_sql()), host))
        kept = _Kept.open(folder, hash_of(origin), total)
        progress(kept.rows, total, f"rows from {host}")
        while kept.rows < total:
            first, expected = kept.next, min(rows, total - kept.rows)
            page = _retried(
                lambda first=first, expected=expected: _page(  # type: ignore[misc]
                    ask(query.sql(first, rows)), columns, host, first, expected
                )
            )
            last = int(page["objid"][-1])
            if len(page) < total - kept.rows:  # the last object's other spectra may come next
                page = page[np.asarray(page["objid"]) < last]
                if not len(page):
                    raise UsageError(f"Pages of {rows} rows hold no whole object: take more rows.")
            kept.add(page, last)
            progress(kept.rows, total, f"rows from {host}")
        pages = [csv_response.typed({name: [] for name in columns}, host), *kept.read()]
    return vstack(pages, join_type="exact", metadata_conflicts="silent")


@dataclass
class _Kept:
    """Pages in a folder, and pages.json: whose they are, their hashes, where each ends."""

    folder: Path
    pin: str
    total: int
    pages: list[dict[str, Any]]

    @classmethod
    def open(cls, folder: Path, pin: str, total: int) -> _Kept:
        """Take up what a former run kept; a page that was changed goes, and those after it."""
        fresh = cls(folder, pin, total, [])
        try:
            found = json.loads((folder / "pages.json").read_text("utf-8"))
            counted, ours, pages = int(found["total"]), str(found["pin"]), found["pages"]
            pages = [{key: page[key] for key in ("sha256", "rows", "next")} for page in pages]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return fresh
        if ours != pin:
            raise IntegrityError(
                f"{folder}: holds pages of another query, release or server. "
                "Delete it, or name another --out."
            )
        if counted != total:
            raise IntegrityError(
                f"{folder}: the archive counted {counted} rows when these pages came and {total} "
                "now, so it has changed between. Delete the folder and begin again."
            )
        for page in pages:
            path = fresh._path(len(fresh.pages))
            if not path.is_file() or sha256(path) != page["sha256"]:
                break
            fresh.pages.append(page)
        return fresh

    @property
    def rows(self) -> int:
        """Rows so far."""
        return sum(page["rows"] for page in self.pages)

    @property
    def next(self) -> int:
        """Objid at which the next page begins."""
        return int(self.pages[-1]["next"]) if self.pages else 0

    def add(self, page: Table, following: int) -> None:
        """Keep a page: first the page, then that it is there."""
        path = tables.write(page, self._path(len(self.pages)))
        self.pages.append({"sha256": sha256(path), "rows": len(page), "next": following})
        state = {"pin": self.pin, "total": self.total, "pages": self.pages}
        write_json(self.folder / "pages.json", state)

    def read(self) -> list[Table]:
        """Return all pages."""
        return [tables.read(self._path(number)) for number in range(len(self.pages))]

    def _path(self, number: int) -> Path:
        return self.folder / f"page-{number:05d}.parquet"


def _page(body: bytes, columns: tuple[str, ...], host: str, first: int, expected: int) -> Table:
    page = csv_response.typed(csv_response.read_rows(body, columns, host), host)
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
    """Make a Catalogue of pulled rows: one row an object, what cannot be used set aside."""
    usable, set_aside = tables.usable_rows(rows, where)
    usable, repeats = _one_each(usable, where)
    usable["class"] = usable["class"].astype("U6")
    tables.described(usable)
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
