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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from gqs.errors import (
    BadInputError,
    GqsError,
    IntegrityError,
    NetworkError,
    ResourceError,
    UsageError,
    worst,
)
from gqs.files import disk_errors
from gqs.survey import web
from gqs.survey.archive import transfer
from gqs.survey.archive.crew import Crew
from gqs.survey.archive.errand import Check, Job
from gqs.survey.archive.manifest import NAME, Manifest, Row
from gqs.survey.archive.part import begun, discard, sweep
from gqs.survey.releases import DEFAULT, Release, checked_address, find
from gqs.survey.sdss import FrameName
from gqs.workers import Progress, silent

CONNECTIONS: Final = 8
MEAN_BYTES: Final = 3_387_000  # of the twenty frames of four DR17 fields, 2.9 to 3.8 MB
_ASKED: Final = 20  # files whose size a plan asks for; the others count as their mean
_GIVEN_UP: Final = 3  # files in a row after which a server is left alone
_TELL_S: Final = 0.2
_ABSENT: Final = -1  # in place of a size


@dataclass(frozen=True)
class Plan:
    """What a fetch would do.

    Attributes
    ----------
    wanted, here : int
        Frames asked for, and how many of them the folder has.
    bytes : int
        To come; a part that is here already counts as fetched.
    asked : int
        Files whose size the archive told; the others count as the mean of these, or of
        twenty real frames.
    absent : int
        Frames that the archive did not have when it was last asked. A fetch asks once more, but
        counts on no byte of theirs.
    """

    wanted: int
    here: int
    bytes: int
    asked: int
    absent: int

    @property
    def to_come(self) -> int:
        """Frames that the folder lacks and that the archive, as far as is known, has."""
        return self.wanted - self.here - self.absent


@dataclass
class FetchReport:
    """What a fetch did.

    Attributes
    ----------
    paths : dict
        Of the frames that are in the folder now.
    set_aside : list of str
        A sentence for each frame that the archive does not have, or has wrong.
    code : int
        0, 3 where frames are set aside, 7 where one of them is not what its name says.
    fetched : int
        Frames that were not there before.
    size : int
        Bytes of those.
    bytes : int
        That came over the network: fewer where a part was here, more where one came twice.
    seconds : float
        It took.
    """

    paths: dict[FrameName, Path] = field(default_factory=dict)
    set_aside: list[str] = field(default_factory=list)
    code: int = 0
    fetched: int = 0
    size: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def refuse_none(self) -> None:
        """Refuse to go on where not one frame came.

        Raises
        ------
        IntegrityError
            If one of them is not what its name says.
        BadInputError
            If the archive has none of them.
        """
        if not self.paths:
            wrong = self.code == IntegrityError.exit_code
            refuse = IntegrityError if wrong else BadInputError
            raise refuse(f"The archive gave none of the frames. {self.set_aside[0]}")

    def as_dict(self) -> dict[str, Any]:
        """Return what machines want to know.

        Returns
        -------
        dict
            With paths as text.
        """
        return {**self.__dict__, "paths": [str(path) for path in self.paths.values()]}


def frames_folder() -> Path:
    """Where frames are kept when no folder is named.

    Returns
    -------
    Path
        $GQS_CACHE, else gqs in $XDG_CACHE_HOME, else ~/.cache/gqs.
    """
    own, shared = os.environ.get("GQS_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own)
    return (Path(shared) if shared else Path.home() / ".cache") / "gqs"


def plan(
    frames: Sequence[FrameName],
    folder: Path,
    release: int | str | Release = DEFAULT,
    mirror: str | None = None,
    patience: web.Patience | None = None,
    connections: int = CONNECTIONS,
) -> Plan:
    """Tell what a fetch would bring, without writing anything.

    Parameters
    ----------
    frames : sequence of FrameName
        Wanted; repeated ones count once.
    folder : Path
        Of frames.
    release : int or str or Release
        Data release.
    mirror : str, optional
        Address of another server with the archive's paths.
    patience : Patience, optional
        How long to wait for the server.
    connections : int
        To the server, at once.

    Returns
    -------
    Plan
        Files and bytes.

    Raises
    ------
    NetworkError
        If the archive cannot be reached.
    """
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
        finally:  # however it ends, nobody waits for a pause, nor asks for the next
            line.stop.set()
            pool.shutdown(cancel_futures=True)
    gone = found.count(_ABSENT)
    told = [size for size in found if size is not None and size != _ABSENT]
    mean = round(sum(told) / len(told)) if told else MEAN_BYTES
    total = sum(told) + mean * (len(missing) - len(told) - gone)
    return Plan(len(jobs), here, total, len(told), absent + gone)


def fetch(
    frames: Sequence[FrameName],
    folder: Path,
    *,
    check: Check,
    release: int | str | Release = DEFAULT,
    mirror: str | None = None,
    connections: int = CONNECTIONS,
    patience: web.Patience | None = None,
    progress: Progress = silent,
) -> FetchReport:
    """Bring frames into a folder; what is there already stays, and what was begun goes on.

    Parameters
    ----------
    frames : sequence of FrameName
        Wanted; repeated ones count once.
    folder : Path
        FOLDER/dr16/301/RUN/CAMCOL/frame-....fits.bz2, and FOLDER/manifest.sqlite.
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
        Told frames done, frames in all, and a note with bytes and speed.

    Returns
    -------
    FetchReport
        Every frame is in `paths` or has a sentence in `set_aside`, as in FOLDER/set_aside.csv.

    Raises
    ------
    NetworkError
        If the archive cannot be reached, or frames are missing for its faults.
    ResourceError
        If the disk is full or may not be written.
    """
    if not 1 <= connections <= 64:
        raise UsageError(f"{connections} connections: use 1 to 64; the archive serves others too.")
    begin, folder, chosen = time.monotonic(), Path(folder), find(release)
    jobs, at_hand = _jobs(frames, folder, chosen, mirror)
    report = FetchReport()
    with disk_errors(folder, "fetching frames"), Manifest(folder) as manifest:
        sweep(folder)
        todo = [job for job in jobs if job.row.path not in at_hand]
        manifest.put([job.row for job in todo])
        line, hosts = _line(chosen, mirror, patience)
        crew = Crew(todo, min(connections, len(todo)), line, hosts, check)
        try:
            missing = _collect(crew, manifest, report, len(jobs), progress)
            manifest.list_set_aside()
        except ResourceError:
            crew.close()
            for job in todo:  # give the disk its room back
                discard(job.final)
            raise
        finally:
            crew.close()
    report.paths = {job.name: job.final for job in jobs if job.final.exists()}
    report.bytes, report.seconds = crew.bytes, round(time.monotonic() - begin, 3)
    if missing:
        raise _incomplete(missing, len(jobs), report)
    return report


def _jobs(
    frames: Sequence[FrameName], folder: Path, release: Release, mirror: str | None
) -> tuple[list[Job], set[str]]:
    """Every frame once, and the paths of those that are in the folder unchanged."""
    known: dict[str, tuple[Row, int | None]] = {}
    if (folder / NAME).exists():
        with disk_errors(folder, "reading the manifest"), Manifest(folder) as manifest:
            known = manifest.known()
    jobs, at_hand = [], set()
    for name in dict.fromkeys(frames):
        path, url = release.frame_path(name), release.frame_url(name, mirror)
        row, mtime = known.get(path, (None, None))
        final = folder / path
        if row and (state := _state(final)) and (row.bytes, mtime) == state:
            at_hand.add(path)
        wanted = Row(path, release.number, name.band, *name.field, url)
        jobs.append(Job(name, final, wanted, row))
    return jobs, at_hand


def _state(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_size, state.st_mtime_ns


def _line(
    release: Release, mirror: str | None, patience: web.Patience | None
) -> tuple[web.Line, tuple[str, ...]]:
    """The server that is asked, and the hosts that may answer for it."""
    server = urlsplit(checked_address(mirror) if mirror else release.sas).netloc
    return web.Line(server, patience), (server, *release.hosts)


def _asked_size(client: Any, job: Job, hosts: tuple[str, ...]) -> int | None:
    size = transfer.size_of(client, job.row.url, hosts)
    return size if size is None else max(0, size - begun(job.final))


def _collect(
    crew: Crew, manifest: Manifest, report: FetchReport, total: int, progress: Progress
) -> list[GqsError]:
    """Note results until all are in; return why frames are missing."""
    missing: list[GqsError] = []
    begin, told, in_a_row = time.monotonic(), 0.0, 0
    while crew.left:
        batch = crew.take()
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
                report.set_aside.append(str(one.error))
                report.code = worst({report.code, one.error.exit_code} - {0})
        if in_a_row >= _GIVEN_UP and crew.left:
            break
        now = time.monotonic()
        if now - told >= _TELL_S or not crew.left:
            told = now
            speed = crew.bytes / max(now - begin, 1e-3) / 1e6
            aside = f", {len(report.set_aside)} set aside" if report.set_aside else ""
            note = f"{crew.bytes / 1e6:,.1f} MB, {speed:,.1f} MB/s{aside}"
            progress(total - crew.left, total, note)
    return missing


def _incomplete(missing: list[GqsError], total: int, report: FetchReport) -> GqsError:
    here = len(report.paths)
    sentence = f"{here} of {total} frames are here. {missing[0]}"
    if report.code == IntegrityError.exit_code:
        return IntegrityError(f"{sentence} Besides: {report.set_aside[0]}")
    return NetworkError(sentence)
