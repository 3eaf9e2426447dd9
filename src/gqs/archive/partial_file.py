"""A partial file: hidden, beside its final name, and locked by the process that fetches it.

The lock goes with its process, however that ends; what it had fetched stays, and the next one goes
on from there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from gqs.errors import ResourceError
from gqs.files import disk_errors

STALE_AFTER_S: Final = 7 * 86400.0
_PART: Final = ".part"
_TAG: Final = ".tag"


@contextlib.contextmanager
def part_of(final: Path) -> Iterator[Part | None]:
    """Open a file's part, if no other process or thread has it open."""
    final.parent.mkdir(parents=True, exist_ok=True)
    path = _part_path(final)
    while True:
        with path.open("a+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            # The one who had it may have given it its final name just before we got the lock.
            try:
                same = os.fstat(file.fileno()).st_ino == path.stat().st_ino
            except FileNotFoundError:
                same = False
            if same:
                part = Part(path, file)
                try:
                    yield part
                finally:
                    part.tidy()
                return


class Part:
    """A file on its way: locked by its process, and kept for the next one where it is cut off."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self._file = path, file
        self._tag = path.with_name(path.name + _TAG)
        self._done = False

    @property
    def size(self) -> int:
        """Bytes so far."""
        return os.fstat(self._file.fileno()).st_size

    def validator(self) -> str:
        """What the server said that identifies these bytes; empty where it did not."""
        try:
            return self._tag.read_text("ascii")
        except (OSError, UnicodeDecodeError):
            return ""

    def restart(self, validator: str = "") -> None:
        """Forget all bytes; those to come are the validator's."""
        self._file.truncate(0)
        if validator:
            self._tag.write_text(validator, "ascii")
        else:
            self._tag.unlink(missing_ok=True)

    def add(self, data: bytes) -> None:
        """Append bytes; where the disk is full, those before are given up as well."""
        view = memoryview(data)
        try:
            with disk_errors(self.path, "fetching a frame"):
                while view:
                    view = view[self._file.write(view) :]
        except ResourceError:
            self.restart()
            raise

    def finish(self, final: Path) -> None:
        """Give the whole file its name, flushed to disk before."""
        os.fsync(self._file.fileno())
        self._tag.unlink(missing_ok=True)  # first, so that a kill between leaves no tag alone
        self.path.replace(final)
        self._done = True
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def tidy(self) -> None:
        """Leave nothing where there is nothing to go on from."""
        if not self._done and not self.size:
            self.path.unlink(missing_ok=True)
            self._tag.unlink(missing_ok=True)


def begun(final: Path) -> int:
    """Bytes of a file that an earlier transfer left, to go on from."""
    try:
        return _part_path(final).stat().st_size
    except OSError:
        return 0


def discard(final: Path) -> None:
    """Remove what an earlier transfer left, unless another process is writing it."""
    if begun(final):
        with contextlib.suppress(OSError), part_of(final) as part:
            if part is not None:
                part.restart()


def _part_path(final: Path) -> Path:
    return final.parent / f".{final.name}{_PART}"


def sweep(folder: Path) -> int:
    """Remove this user's partial files that are unlocked and unchanged for a week."""
    removed = 0
    for path in folder.rglob(f".*{_PART}"):
        with contextlib.suppress(OSError):
            state = path.stat()
            if state.st_uid != os.getuid() or time.time() - state.st_mtime < STALE_AFTER_S:
                continue
            with path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                path.with_name(path.name + _TAG).unlink(missing_ok=True)
                removed += 1
    return removed
