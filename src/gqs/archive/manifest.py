"""What a folder of frames holds: of every file whether it is wanted, here, or set aside and why.

SQLite in WAL mode: several processes may write, and a killed one leaves the last state that it
committed. Nothing in a row depends on when or how often a file was asked for, so that a folder
that was filled in ten attempts has the manifest of one that was filled in one.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from gqs.errors import ResourceError
from gqs.files import write_bytes

NAME: Final = "manifest.sqlite"
SET_ASIDE: Final = "set_aside.csv"
ABSENT: Final = "absent upstream"  # the reason ends so for a file that no server has
_WAIT_S: Final = 30.0  # for another process's commit
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY,
    release INTEGER NOT NULL,
    band TEXT NOT NULL,
    run INTEGER NOT NULL,
    camcol INTEGER NOT NULL,
    field INTEGER NOT NULL,
    url TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('wanted', 'here', 'set aside')),
    reason TEXT NOT NULL DEFAULT '',
    bytes INTEGER,
    sha256 TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (path TEXT PRIMARY KEY, mtime_ns INTEGER NOT NULL) WITHOUT ROWID;
"""


class Row(NamedTuple):
    """One file of the manifest; `path` is relative to the folder."""

    path: str
    release: int
    band: str
    run: int
    camcol: int
    field: int
    url: str
    state: Literal["wanted", "here", "set aside"] = "wanted"
    reason: str = ""
    bytes: int | None = None
    sha256: str | None = None

    @property
    def absent(self) -> bool:
        """Whether the archive had no such file when it was last asked."""
        return self.state == "set aside" and self.reason.rstrip(".").endswith(ABSENT)


_COLUMNS: Final = ", ".join(Row._fields)
_PLACES: Final = ", ".join("?" * len(Row._fields))
_REPLACE: Final = f"INSERT OR REPLACE INTO files ({_COLUMNS}) VALUES ({_PLACES})"  # noqa: S608


def may_write(folder: Path) -> bool:
    """Tell whether this process may write a folder of frames, or begin one there."""
    there = [path for path in (Path(folder), Path(folder) / NAME) if path.exists()]
    own = os.access in os.supports_effective_ids
    return all(os.access(path, os.W_OK, effective_ids=own) for path in there)


class Manifest:
    """The manifest of one folder, open; for reading alone where the folder may not be written."""

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / NAME
        if not may_write(folder):
            with self._sentence():
                self._db = self._connected(self._as_it_is())
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._sentence():
            self._db = self._connected("")
            try:
                self._use_wal()
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._db.executescript(_SCHEMA)
            except BaseException:
                self._db.close()
                raise

    def _connected(self, query: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self.path.absolute().as_uri()}{query}",
            timeout=_WAIT_S,
            isolation_level=None,
            uri=True,
        )

    def _as_it_is(self) -> str:
        """Ask for a file that needs no lock, unless another process's commits lie beside it."""
        try:
            beside = self.path.with_name(f"{NAME}-wal").stat().st_size
        except FileNotFoundError:
            beside = 0
        return "?mode=ro" if beside else "?mode=ro&immutable=1"

    def _use_wal(self) -> None:
        """Switch to WAL; where two processes do so at once, SQLite's own waiting does not help."""
        until = time.monotonic() + _WAIT_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *what: object) -> None:
        self._db.close()

    @contextlib.contextmanager
    def _sentence(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise ResourceError(
                f"{self.path}: cannot be used as the folder's manifest ({error}). If no other "
                "process is at it, delete it; the frames here are checked and listed anew."
            ) from error

    def rows(self) -> list[Row]:
        """Return every file, in the order of paths."""
        with self._sentence():
            found = self._db.execute(f"SELECT {_COLUMNS} FROM files ORDER BY path")  # noqa: S608
            return [Row(*row) for row in found]

    def known(self) -> dict[str, tuple[Row, int | None]]:
        """Return what became of files, with the time at which each was last found unchanged."""
        query = (
            f"SELECT {', '.join('files.' + name for name in Row._fields)}, mtime_ns FROM files "  # noqa: S608
            "LEFT JOIN seen USING (path) WHERE state != 'wanted'"
        )
        with self._sentence():
            return {row[0]: (Row(*row[:-1]), row[-1]) for row in self._db.execute(query)}

    def list_set_aside(self) -> None:
        """Write set_aside.csv beside the manifest, `path,url,reason`; remove it where none is."""
        query = (
            "SELECT path, url, rtrim(replace(reason, url || ': ', ''), '.') FROM files "
            "WHERE state = 'set aside' ORDER BY path"
        )
        with self._sentence():
            rows = self._db.execute(query).fetchall()
        path = self.path.with_name(SET_ASIDE)
        if not rows:
            path.unlink(missing_ok=True)
            return
        text = io.StringIO(newline="")
        csv.writer(text).writerows([("path", "url", "reason"), *rows])
        write_bytes(path, text.getvalue().encode())

    def put(self, rows: Iterable[Row], mtimes: Iterable[tuple[str, int]] = ()) -> None:
        """Note that files are wanted, or what became of them."""
        with self._sentence():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(_REPLACE, rows)
                self._db.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", mtimes)
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
