"""Atomic files (temporary name, fsync, rename), hashes, and locks for one writer per folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from gqs.errors import IntegrityError, ResourceError

STALE_AFTER_S = 3600.0
_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would exceed the file size limit",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EIO: "the disk has an error",
    errno.EISDIR: "a folder is where a file should be",
    errno.ENOTDIR: "a file is where a folder should be",
    errno.EEXIST: "a file is where a folder should be",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EMFILE: "too many files are open",
    errno.ENOLCK: "the file system has no locks",
    errno.ELOOP: "a symbolic link is where a file should be",
}


@contextlib.contextmanager
def disk_errors(path: Path, stage: str) -> Iterator[None]:
    """Turn errors of the file system into a sentence that names file, stage and next step."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        raise ResourceError(
            f"{path}: {_DISK[error.errno]} while {stage}. "
            "Make room or choose another folder, and run the same command again."
        ) from error


def write_atomically(path: Path, write: Callable[[IO[bytes]], None]) -> Path:
    """Write a file under a temporary name, flush it to disk, and rename it."""
    path = Path(path)
    with disk_errors(path, "writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{path.name}.{os.getpid()}.{os.urandom(3).hex()}.tmp"
        try:
            with temporary.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    return path


def write_bytes(path: Path, data: bytes | memoryview) -> Path:
    """Write bytes atomically."""

    def write(file: IO[bytes]) -> None:
        file.write(data)

    return write_atomically(path, write)


def write_json(path: Path, value: Any) -> Path:
    """Write a value as indented JSON, atomically."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return write_bytes(path, text.encode())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON: equal values, equal hashes."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def sweep(folder: Path, older_than_s: float = STALE_AFTER_S) -> int:
    """Remove temporary files that a killed process of this user left; returns their number."""
    removed = 0
    for path in Path(folder).glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            state = path.stat()
            if state.st_uid == os.getuid() and time.time() - state.st_mtime > older_than_s:
                path.unlink()
                removed += 1
    return removed


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold a folder's writer lock, which ends with the process however that ends."""
    folder = Path(folder)
    with disk_errors(folder, "locking the folder"):
        folder.mkdir(parents=True, exist_ok=True)
        # A link would have another file emptied.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.fdopen(os.open(folder / ".lock", flags, 0o666), "r+")
    with handle:
        with disk_errors(folder, "locking the folder"):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                handle.seek(0)
                raise ResourceError(
                    f"{folder}: {handle.read().strip() or 'another process'} is writing here. "
                    "Wait until it has finished, or choose another folder."
                ) from error
            handle.truncate(0)
            handle.write(f"process {os.getpid()} on {socket.gethostname()}")
            handle.flush()
            sweep(folder, older_than_s=0.0)
        yield


def check_hash(path: Path, expected: str) -> None:
    """Refuse a file whose hash is not the one in its manifest."""
    found = sha256(path)
    if found != expected:
        raise IntegrityError(
            f"{path}: its SHA-256 is {found[:12]}..., its manifest says {expected[:12]}...: "
            "the file was changed or damaged. Delete it and run the command that wrote it again."
        )


def below(folder: Path) -> list[Path]:
    """List the files in a folder at any depth, following links."""
    found, seen = [], {os.path.realpath(folder)}
    for here, folders, names in os.walk(folder, followlinks=True):
        found += [Path(here, name) for name in names if Path(here, name).is_file()]
        new = {os.path.realpath(Path(here, name)): name for name in sorted(folders, reverse=True)}
        folders[:] = sorted(name for real, name in new.items() if real not in seen)
        seen |= new.keys()
    return sorted(found)
