"""One frame's way into the folder: found there, or fetched, checked, and given its name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx

from gqs.archive import http, transfer
from gqs.archive.manifest import Row
from gqs.archive.partial_file import Part, part_of
from gqs.errors import BadInputError, GqsError, IntegrityError, NetworkError
from gqs.executors import cpu_count
from gqs.files import disk_errors, sha256
from gqs.surveys.sdss import FrameName

# Raises where a file is not the frame that it must be.
Check = Callable[[Path, FrameName], None]


class Job(NamedTuple):
    """A frame that is wanted: its name, where it goes, its row, and the row that it had before."""

    name: FrameName
    final: Path
    row: Row
    before: Row | None


@dataclass(frozen=True)
class Result:
    """What became of a job."""

    row: Row | None  # for the manifest; None where nothing can be said, since the server failed
    error: GqsError | None = None  # why the frame is set aside or missing
    fetched: bool = False  # whether it came over the network
    mtime_ns: int = 0  # of a file that is here


class Errand:
    """Fetches one job at a time for each thread that calls."""

    def __init__(
        self,
        client: httpx.Client,
        line: http.Line,
        hosts: tuple[str, ...],
        check: Check,
        received: Callable[[int], None],
    ) -> None:
        self._client, self._line, self._hosts = client, line, hosts
        self._check, self._received = check, received
        # A check holds a whole frame in memory; more of them than cores would only wait.
        self._at_check = threading.Semaphore(cpu_count())

    def run(self, job: Job) -> Result | None:
        """Bring one frame into the folder."""
        with disk_errors(job.final, "fetching a frame"), part_of(job.final) as part:
            if part is None:
                return None
            return self._found(job) or self._fetched(job, part)

    def _found(self, job: Job) -> Result | None:
        """Take a file that has its final name already, if it is what it must be."""
        if not job.final.exists():
            return None
        digest = sha256(job.final)
        if job.before is not None and digest == job.before.sha256:
            return self._here(job, digest, fetched=False)
        try:
            with self._at_check:
                self._check(job.final, job.name)
        except (BadInputError, IntegrityError):
            job.final.unlink(missing_ok=True)  # no wrong file keeps a frame's name
            return None
        return self._here(job, digest, fetched=False)

    def _fetched(self, job: Job, part: Part) -> Result:
        wrong: BadInputError | IntegrityError | None = None
        for _ in range(2):  # wrong content is fetched once more; what is absent is not
            try:
                self._line.persist(lambda: self._pull(job, part))
                with self._at_check:
                    self._check(part.path, job.name)
                    digest = sha256(part.path)
            except http.UnreachableError:
                raise
            except NetworkError as error:
                return Result(None, error)
            except transfer.AbsentError as error:
                part.restart()
                return self._aside(job, error, str(error))
            except (BadInputError, IntegrityError) as error:
                part.restart()
                wrong = error
                continue
            part.finish(job.final)
            return self._here(job, digest, fetched=True)
        assert wrong is not None
        said = str(wrong).removesuffix(" Fetch the frame again.").replace(f"{part.path}: ", "")
        return self._aside(job, wrong, f"{job.row.url}: {said.removeprefix(f'{job.row.url}: ')}")

    def _pull(self, job: Job, part: Part) -> None:
        transfer.pull(self._client, job.row.url, part, self._line, self._hosts, self._received)

    def _here(self, job: Job, digest: str, fetched: bool) -> Result:
        state = job.final.stat()
        row = job.row._replace(state="here", bytes=state.st_size, sha256=digest)
        return Result(row, fetched=fetched, mtime_ns=state.st_mtime_ns)

    def _aside(self, job: Job, error: GqsError, said: str) -> Result:
        reason = f"{said.rstrip('.')}."
        return Result(job.row._replace(state="set aside", reason=reason), type(error)(reason))
