"""CasJobs: a batch job into MyDB, waited for, fetched and dropped. Paper 3.1; Li & Thakar 2008."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from astropy.table import Table

from gqs.archive import csv_response, http, paging, query
from gqs.archive.releases import DEFAULT, Release
from gqs.archive.sciserver import CANCELED, FAILED, FINISHED, STATES, Server, Token
from gqs.archive.skyserver import keep
from gqs.errors import BadInputError, IntegrityError, NetworkError, UsageError
from gqs.executors import Progress, no_progress
from gqs.files import hash_of, only_writer, write_json

WAIT_S: Final = 24 * 3600.0  # a job may take as long as CasJobs' own queue of a day
POLL_S: Final = (5.0, 30.0)  # first and longest; SciServer's scripts ask every 5 s at most


@dataclass(frozen=True)
class _Stored:
    """What a job left in MyDB, as a query in pages."""

    table: str

    def sql(self, first: int | None = None, rows: int | None = None) -> str:
        return query.bind("mydb", {"first": first, "rows": rows}, {"table": self.table})

    def count_sql(self) -> str:
        return query.counting(self.sql())


def pull(
    request: query.Spectroscopic,
    *,
    token: Token,
    release: int | str | Release = DEFAULT,
    server: str | None = None,
    folder: Path | None = None,
    page_rows: int = paging.PAGE_ROWS,
    wait_s: float = WAIT_S,
    poll_s: tuple[float, float] = POLL_S,
    progress: Progress = no_progress,
    patience: http.Patience | None = None,
) -> Table:
    """Pull a catalogue by a batch job; a job that a former run submitted is picked up."""
    asked = Server(token, release, server, patience)
    meta = {
        "sql": request.sql(),
        "release": str(asked.release),
        "server": asked.address,
        "via": "casjobs",
        "magnitudes": request.magnitudes,
    }

    def work(kept: Path) -> Table:
        with only_writer(kept / "job"):
            memory = _Memory(kept / "job" / "job.json", hash_of(meta))
            table = _job(asked, request, memory, wait_s, poll_s, progress)
            try:
                rows = paging.pull(
                    asked.query, _Stored(table), request.columns(), meta, kept, page_rows, progress
                )
            except csv_response.RefusedError as error:
                if "invalid object" in error.why.lower():
                    memory.forget()  # the table is gone; the next run submits again
                raise
            _drop(asked, table)
            memory.forget()
        return paging.catalogue(rows, meta, f"{asked.host}, {asked.release}")

    return keep(folder, work)


def count(
    request: query.Spectroscopic,
    *,
    token: Token,
    release: int | str | Release = DEFAULT,
    server: str | None = None,
    patience: http.Patience | None = None,
) -> int:
    """Ask how many rows a query has."""
    asked = Server(token, release, server, patience)
    return csv_response.count(asked.query(request.count_sql(), str(asked.release)), asked.host)


@dataclass
class _Memory:
    """What was submitted: written before the job is, so that no job is ever lost or doubled."""

    path: Path
    pin: str

    def read(self) -> tuple[str | None, int | None]:
        """Return the table and the job of a former run."""
        if not self.path.exists():
            return None, None
        try:
            found = json.loads(self.path.read_text("utf-8"))
            pin, table, job = found["pin"], str(found["table"]), found["job"]
            query.bind("drop", {}, {"table": table})
        except (ValueError, KeyError, TypeError) as error:
            raise BadInputError(f"{self.path}: is damaged. Delete it to submit again.") from error
        if pin != self.pin:
            raise IntegrityError(
                f"{self.path}: is of another query, release or server. "
                "Delete its folder, or name another --out."
            )
        return table, None if job is None else int(job)

    def write(self, table: str, job: int | None) -> None:
        """Remember."""
        write_json(self.path, {"pin": self.pin, "table": table, "job": job})

    def forget(self) -> None:
        """Forget."""
        self.path.unlink(missing_ok=True)


def _job(
    asked: Server,
    request: query.Spectroscopic,
    memory: _Memory,
    wait_s: float,
    poll_s: tuple[float, float],
    progress: Progress,
) -> str:
    """Return the table of MyDB that a job, new or a former run's, has filled."""
    table, job = memory.read()
    if table is not None and job is None:  # stopped between remembering and hearing its number
        job = asked.find_job(table)
    if table is None or job is None:
        table = table or f"gqs_{memory.pin[:8]}_{os.urandom(4).hex()}"
        memory.write(table, None)
        job = asked.submit(request.sql(table=table), table)
    memory.write(table, job)
    _wait(asked, job, memory.forget, wait_s, poll_s, progress)
    return table


def _wait(
    asked: Server,
    job: int,
    forget: Callable[[], None],
    wait_s: float,
    poll_s: tuple[float, float],
    progress: Progress,
) -> None:
    begin, pause = time.monotonic(), poll_s[0]
    while True:
        state, message = asked.state(job)
        if state == FINISHED:
            return
        if state in (CANCELED, FAILED):
            forget()
            status = f"{asked.host}: CasJobs job {job} {STATES[state]}"
            status += f" ({message})" if message else ""
            if state == FAILED:  # by its SQL, or by a limit that it met
                raise UsageError(
                    f"{status}. See the SQL with --show-sql; ask for less, or otherwise."
                )
            raise NetworkError(f"{status}. The same command submits it again.")
        waited = time.monotonic() - begin
        if waited + pause > wait_s:
            raise NetworkError(
                f"{asked.host}: CasJobs job {job} is still {STATES[state]}{_after(waited)}. "
                "It goes on there; the same command looks again."
            )
        progress(0, 1, f"CasJobs job {job} is {STATES[state]}")
        asked.line.stop.wait(pause)
        pause = min(poll_s[1], pause * 1.5)


def _after(seconds: float) -> str:
    """Report how long the job has waited, if that is long."""
    for size, unit in ((3600, "hours"), (60, "minutes"), (1, "seconds")):
        if seconds >= 2 * size:
            return f" after {seconds / size:.0f} {unit}"
    return ""


def _drop(asked: Server, table: str) -> None:
    try:
        asked.query(query.bind("drop", {}, {"table": table}))
    except csv_response.RefusedError as error:
        if "not exist" not in error.why.lower():
            raise
