"""One file over HTTP into a part file: resumed by Range, broken off when it crawls.

Ranges are asked for with If-Range (RFC 9110, 13.1.5), so that a file that changed upstream starts
anew instead of being pieced together from two.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

import httpx

from gqs import __version__
from gqs.errors import BadInputError, ResourceError
from gqs.files import disk_errors
from gqs.survey import web

MAX_BYTES: Final = 64 << 20  # a compressed frame has 3 MB
STALE_AFTER_S: Final = 7 * 86400.0
_WORTH: Final = 1 << 16  # bytes that count as progress
_PART: Final = ".part"
_TAG: Final = ".tag"


class AbsentError(BadInputError):
    """A file that the archive does not have."""


def client(connections: int, patience: web.Patience) -> httpx.Client:
    """Open a client that keeps its connections, and follows no redirect by itself.

    Parameters
    ----------
    connections : int
        At most at once.
    patience : Patience
        Its time limits.

    Returns
    -------
    httpx.Client
        To be closed; may be used by several threads.
    """
    return httpx.Client(
        timeout=httpx.Timeout(patience.low_speed_s, connect=patience.connect_s, pool=None),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        headers={"User-Agent": f"gqs/{__version__}", "Accept-Encoding": "identity"},
    )


@contextlib.contextmanager
def ask(
    client: httpx.Client, method: str, url: str, hosts: tuple[str, ...], headers: dict[str, str]
) -> Iterator[httpx.Response]:
    """Ask for a file, following redirects to listed hosts only.

    Parameters
    ----------
    client : httpx.Client
        Of `client`.
    method : str
        GET or HEAD.
    url : str
        The file's address.
    hosts : tuple of str
        Hosts that may answer.
    headers : dict
        Of the request.

    Yields
    ------
    httpx.Response
        Status 200, 206 or 416; its body is not read yet.

    Raises
    ------
    AbsentError
        If the archive has no such file.
    Failure
        If the server does not answer, or not as it should.
    NetworkError
        If a redirect leads elsewhere.
    """
    try:
        for _ in range(web.MAX_REDIRECTS + 1):
            with client.stream(method, url, headers=headers) as response:
                if response.status_code not in web.REDIRECTS:
                    _check_status(response)
                    yield response
                    return
                url = web.redirected(url, response.headers.get("Location", ""), hosts)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        words, reached = web.why(error)
        raise web.Failure(words, reached=reached) from error
    raise web.Failure(f"redirects more than {web.MAX_REDIRECTS} times", again=False)


def _check_status(response: httpx.Response) -> None:
    code = response.status_code
    if code in (200, 206, 416):
        return
    if code in web.ABSENT:
        raise AbsentError(
            f"{response.url}: the archive has no such file ({code}); absent upstream."
        )
    raise web.Failure(
        f"answers with {code} {response.reason_phrase}".rstrip(),
        again=code in web.PASSING,
        after_s=web.retry_after(response.headers.get("Retry-After")),
    )


@contextlib.contextmanager
def part_of(final: Path) -> Iterator[Part | None]:
    """Open a file's part, if no other process or thread has it open.

    Parameters
    ----------
    final : Path
        Name that the file will have.

    Yields
    ------
    Part or None
        None where somebody else is fetching the file.
    """
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
    """A file on its way: locked by its process, and kept for the next one where it is cut off.

    Attributes
    ----------
    path : Path
        Hidden, beside the final name.
    """

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
        self.path.replace(final)
        self._done = True
        self._tag.unlink(missing_ok=True)
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


def pull(
    client: httpx.Client,
    url: str,
    part: Part,
    line: web.Line,
    hosts: tuple[str, ...],
    told: Callable[[int], None],
) -> None:
    """Try once to bring a part to its end.

    Parameters
    ----------
    client : httpx.Client
        Of `client`.
    url : str
        The file's address.
    part : Part
        Continued where its server still has the same file.
    line : Line
        The server's; its `stop` breaks the transfer off.
    hosts : tuple of str
        Hosts that may answer.
    told : callable
        Gets the number of bytes that arrive, piece by piece.

    Raises
    ------
    AbsentError
        If the archive has no such file.
    Failure
        If it did not arrive whole; what did arrive is kept.
    BadInputError
        If it is larger than any frame.
    """
    validator, at = part.validator(), part.size
    if at and not validator:
        part.restart()
        at = 0
    headers = {"Range": f"bytes={at}-", "If-Range": validator} if at else {}
    got = 0
    try:
        with ask(client, "GET", url, hosts, headers) as response:
            line.reached()
            if response.status_code == 416 or (
                response.status_code == 206 and not _continues(response, at)
            ):
                part.restart()
                raise web.Failure("does not go on where the file was cut off")
            if response.status_code == 200:
                part.restart(_validator(response))
                at = 0
            _check_size(url, at + int(response.headers.get("Content-Length") or 0))
            for piece in _pieces(response, line):
                part.add(piece)
                got += len(piece)
                told(len(piece))
                _check_size(url, at + got)
    except web.Failure as failure:
        failure.progress = got >= _WORTH
        raise


def _pieces(response: httpx.Response, line: web.Line) -> Iterator[bytes]:
    """Yield the body; break off when it crawls, or when the work is to end."""
    patience = line.patience
    begin, arrived = time.monotonic(), 0
    for piece in response.iter_raw():
        yield piece
        if line.stop.is_set():
            raise web.Stopped
        arrived += len(piece)
        took = time.monotonic() - begin
        if took >= patience.low_speed_s:
            if arrived < patience.low_speed * took:
                raise web.Failure(f"sends less than {patience.low_speed:.0f} bytes a second")
            begin, arrived = time.monotonic(), 0


def _continues(response: httpx.Response, at: int) -> bool:
    said = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    return said is not None and int(said[1]) == at


def _validator(response: httpx.Response) -> str:
    """A strong ETag, or the date of the last change, which serves as well."""
    etag = str(response.headers.get("ETag", ""))
    known = etag if etag.startswith('"') else str(response.headers.get("Last-Modified", ""))
    return known if known.isascii() else ""


def _check_size(url: str, size: int) -> None:
    if size > MAX_BYTES:
        raise BadInputError(f"{url}: has over {MAX_BYTES >> 20} MiB, more than any frame.")


def size_of(client: httpx.Client, url: str, hosts: tuple[str, ...]) -> int | None:
    """Ask how large a file is, without fetching it.

    Parameters
    ----------
    client : httpx.Client
        Of `client`.
    url : str
        The file's address.
    hosts : tuple of str
        Hosts that may answer.

    Returns
    -------
    int or None
        Bytes; None where the server does not say.

    Raises
    ------
    AbsentError
        If the archive has no such file.
    Failure
        If the server does not answer.
    """
    with ask(client, "HEAD", url, hosts, {}) as response:
        said = response.headers.get("Content-Length", "")
    return int(said) if said.isascii() and said.isdigit() else None


def begun(final: Path) -> int:
    """Bytes of a file that an earlier transfer left, to go on from.

    Parameters
    ----------
    final : Path
        Name that the file will have.

    Returns
    -------
    int
        0 where there are none.
    """
    try:
        return _part_path(final).stat().st_size
    except OSError:
        return 0


def _part_path(final: Path) -> Path:
    return final.parent / f".{final.name}{_PART}"


def sweep(folder: Path) -> int:
    """Remove parts of this user's that nobody has touched for a week and nobody holds.

    Parameters
    ----------
    folder : Path
        Looked through at any depth.

    Returns
    -------
    int
        How many were removed.
    """
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
