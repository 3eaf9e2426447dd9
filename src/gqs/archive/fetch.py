"""Many frames at once: planned, fetched over a few connections, checked, and noted.

A file has its final name only when it is whole and is the frame that was asked for. Threads fetch
and check (decompression leaves the interpreter's lock); this module's main loop alone writes the
manifest. A file that another process is fetching is left to it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from gqs.archive import http, transfer
from gqs.archive.fetch_one import Check, Job
from gqs.archive.fetch_report import FetchReport
from gqs.archive.manifest import NAME, Manifest, Row, may_write
from gqs.archive.partial_file import begun, discard, sweep
from gqs.archive.pool import Crew
from gqs.archive.releases import DEFAULT, Release, checked_address, find
from gqs.errors import GqsError, IntegrityError, ResourceError, UsageError
from gqs.executors import Progress, no_progress
from gqs.files import disk_errors, sha256
from gqs.formatting import size
from gqs.surveys.sdss import FrameName

CONNECTIONS: Final = 8
MEAN_BYTES: Final = 3_387_000  # of the twenty frames of four DR17 fields, 2.9 to 3.8 MB
_ASKED: Final = 20  # files whose size a plan asks for; the others count as their mean
_GIVEN_UP: Final = 3  # files in a row after which a server is left alone
_TELL_S: Final = 0.2
_ABSENT: Final = -1  # in place of a size


@dataclass(frozen=True)
class Plan:
    """What a fetch would do."""

    wanted: int  # frames asked for, and how many of them the folder has
    here: int
    bytes: int  # to come; a part that is here already counts as fetched
    # files whose size the archive gave; the others count as the mean of these, or of twenty real
    # frames
    asked: int
    # frames that the archive did not have when it was last asked. A fetch asks once more, but
    # counts on no byte of theirs.
    absent: int

    @property
    def to_come(self) -> int:
        """Frames that the folder lacks and that the archive, as far as is known, has."""
        return self.wanted - self.here - self.absent


def frames_folder() -> Path:
    """Where frames are kept when no folder is named."""
    own, shared = os.environ.get("GQS_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own)
    return (Path(shared) if shared else Path.home() / ".cache") / "gqs"


def plan(
    frames: Sequence[FrameName],
    folder: Path,
    release: int | str | Release = DEFAULT,
    mirror: str | None = None,
    patience: http.Patience | None = None,
    connections: int = CONNECTIONS,
) -> Plan:
    """Tell what a fetch would bring, without writing anything."""
    jobs, at_hand = _jobs(frames, Path(folder), find(release), mirror)
    lacking = [job for job in jobs if job.row.path not in at_hand]
    missing = [job for job in lacking if job.before is None or not job.before.absent]
    here, absent = len(jobs) - len(lacking), len(lacking) - len(missing)
    if not missing:
        return Plan(len(jobs), here, 0, 0, absent)
    asked = missing[:: -(-len(missing) // _ASKED)]
    line, hosts = _line(find(release), mirror, patience)

    def size(job: Job) -> int | None:
        try:
            return line.persist(lambda: _asked_size(client, job, hosts))
        except transfer.AbsentError:
            return _ABSENT

    with (
        transfer.client(connections, line.patience) as client,
        ThreadPoolExecutor(connections) as pool,
    ):
        try:
            found = list(pool.map(size, asked))
        finally:  # however it ends, no thread goes on waiting for a pause or starts another file
            line.stop.set()
            pool.shutdown(cancel_futures=True)
    gone = found.count(_ABSENT)
    known = [size for size in found if size is not None and size != _ABSENT]
    mean = round(sum(known) / len(known)) if known else MEAN_BYTES
    total = sum(known) + mean * (len(missing) - len(known) - gone)
    return Plan(len(jobs), here, total, len(known), absent + gone)


def fetch(
    frames: Sequence[FrameName],
    folder: Path,
    *,
    check: Check,
    release: int | str | Release = DEFAULT,
    mirror: str | None = None,
    connections: int = CONNECTIONS,
    patience: http.Patience | None = None,
    progress: Progress = no_progress,
) -> FetchReport:
    """Bring frames into a folder; what is there already stays, and what was begun goes on.

    Parameters
    ----------
    frames : sequence of FrameName
        Wanted; repeated ones count once.
    folder : Path
        FOLDER/dr16/301/RUN/CAMCOL/frame-....fits.bz2, and FOLDER/manifest.sqlite. One that may
        not be written serves as it is, if it holds every frame that is wanted.
    check : callable
        Gets a file's path and what it must be; raises BadInputError or IntegrityError where it
        is not, as `gqs.imaging.frames.check_frame` does.
    release : int or str or Release
        Data release.
    mirror : str, optional
        Address of another server with the archive's paths.
    connections : int
        To the server, at once.
    patience : Patience, optional
        How long to wait and how often to try again.
    progress : callable
        Called with frames done, frames in all, and a note with bytes and speed.

    Returns
    -------
    FetchReport
        Every frame is in `paths` or has a sentence in `set_aside`, as in FOLDER/set_aside.csv.

    Raises
    ------
    IntegrityError
        If one of these ends it after a frame came that is not what its name says.
    NetworkError
        If the archive cannot be reached, or frames are missing for its faults.
    ResourceError
        If the disk is full, or frames are missing in a folder that may not be written.
    """
    if not 1 <= connections <= 64:
        raise UsageError(f"{connections} connections: use 1 to 64; the archive serves others too.")
    begin, folder, chosen = time.monotonic(), Path(folder), find(release)
    jobs, at_hand = _jobs(frames, folder, chosen, mirror)
    todo = [job for job in jobs if job.row.path not in at_hand]
    report = FetchReport()
    if not may_write(folder):
        if todo:
            raise _not_ours(folder, len(todo), len(jobs))
        report.paths = {job.name: job.final for job in jobs}
        report.seconds = round(time.monotonic() - begin, 3)
        return report
    with disk_errors(folder, "fetching frames"), Manifest(folder) as manifest:
        sweep(folder)
        manifest.put([job.row for job in todo])
        line, hosts = _line(chosen, mirror, patience)
        crew = Crew(todo, min(connections, len(todo)), line, hosts, check)
        try:
            missing = _collect(crew, manifest, report, len(jobs), progress)
            manifest.list_set_aside()
        except ResourceError as error:
            crew.close()
            for job in todo:  # free the disk space
                discard(job.final)
            if report.code == IntegrityError.exit_code:
                raise report.wrong(error) from error
            raise
        finally:
            crew.close()
    report.paths = {job.name: job.final for job in jobs if job.final.exists()}
    report.bytes, report.seconds = crew.bytes, round(time.monotonic() - begin, 3)
    if missing:
        raise report.incomplete(missing[0], len(jobs))
    return report


def _jobs(
    frames: Sequence[FrameName], folder: Path, release: Release, mirror: str | None
) -> tuple[list[Job], set[str]]:
    """Every frame once, and the paths of those that are in the folder unchanged."""
    known: dict[str, tuple[Row, int | None]] = {}
    jobs, at_hand = [], set()
    with disk_errors(folder, "looking for frames"):
        if (folder / NAME).exists():
            with Manifest(folder) as manifest:
                known = manifest.known()
        ours = may_write(folder)
        for name in dict.fromkeys(frames):
            path, url = release.frame_path(name), release.frame_url(name, mirror)
            row, mtime = known.get(path, (None, None))
            final = folder / path
            if row and _unchanged(final, row, mtime, ours):
                at_hand.add(path)
            wanted = Row(path, release.number, name.band, *name.field, url)
            jobs.append(Job(name, final, wanted, row))
    return jobs, at_hand


def _unchanged(path: Path, row: Row, mtime: int | None, ours: bool) -> bool:
    """Whether a file is the one in the manifest; files that gqs wrote are checked more closely."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return False
    if row.bytes != state.st_size:
        return False
    return mtime == state.st_mtime_ns or (not ours and row.sha256 == sha256(path))


def _line(
    release: Release, mirror: str | None, patience: http.Patience | None
) -> tuple[http.Line, tuple[str, ...]]:
    """The server that is asked, and the hosts that may answer for it."""
    server = urlsplit(checked_address(mirror) if mirror else release.sas).netloc
    return http.Line(server, patience), (server, *release.hosts)


def _asked_size(client: Any, job: Job, hosts: tuple[str, ...]) -> int | None:
    size = transfer.size_of(client, job.row.url, hosts)
    return size if size is None else max(0, size - begun(job.final))


def _collect(
    crew: Crew, manifest: Manifest, report: FetchReport, total: int, progress: Progress
) -> list[GqsError]:
    """Note results until all are in; return why frames are missing."""
    missing: list[GqsError] = []
    begin, reported, in_a_row = time.monotonic(), 0.0, 0
    while crew.left:
        try:
            batch = crew.take()
        except http.UnreachableError as error:
            return [error, *missing]
        good = [one for one in batch if one.row is not None]
        manifest.put(
            [one.row for one in good if one.row],
            [(one.row.path, one.mtime_ns) for one in good if one.row and one.mtime_ns],
        )
        for one in batch:
            crew.left -= 1
            if one.fetched and one.row:
                report.fetched += 1
                report.size += one.row.bytes or 0
            if one.row is None and one.error is not None:
                missing.append(one.error)
                in_a_row += 1
            else:
                in_a_row = 0
            if one.row and one.error:
                report.put_aside(one.error)
        if in_a_row >= _GIVEN_UP and crew.left:
            break
        now = time.monotonic()
        if now - reported >= _TELL_S or not crew.left:
            reported = now
            speed = crew.bytes / max(now - begin, 1e-3) / 1e6
            aside = f", {len(report.set_aside)} set aside" if report.set_aside else ""
            note = f"{size(crew.bytes)}, {speed:,.1f} MB/s{aside}"
            progress(total - crew.left, total, note)
    return missing


def _not_ours(folder: Path, lacking: int, total: int) -> ResourceError:
    return ResourceError(
        f"{folder}: {lacking} of {total} frames are not there as its manifest says, and it may "
        "not be written. Name another folder, or have its owner fetch them."
    )
