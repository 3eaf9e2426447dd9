"""One file over HTTP into a part file: resumed by Range, broken off when it crawls.

Ranges are asked for with If-Range (RFC 9110, 13.1.5), so that a file that changed upstream starts
anew instead of being pieced together from two.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Final

import httpx

from gqs import __version__
from gqs.archive import http
from gqs.archive.manifest import ABSENT
from gqs.archive.partial_file import Part
from gqs.errors import BadInputError

MAX_BYTES: Final = 64 << 20  # a compressed frame has 3 MB
_WORTH: Final = 1 << 16  # bytes that count as progress


class AbsentError(BadInputError):
    """A file that the archive does not have."""


def client(connections: int, patience: http.Patience) -> httpx.Client:
    """Open a client that keeps its connections, and follows no redirect by itself."""
    return httpx.Client(
        timeout=httpx.Timeout(patience.low_speed_s, connect=patience.connect_s, pool=None),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        headers={"User-Agent": f"gqs/{__version__}", "Accept-Encoding": "identity"},
    )


@contextlib.contextmanager
def ask(
    client: httpx.Client, method: str, url: str, hosts: tuple[str, ...], headers: dict[str, str]
) -> Iterator[httpx.Response]:
    """Ask for a file, following redirects to listed hosts only."""
    try:
        for _ in range(http.MAX_REDIRECTS + 1):
            with client.stream(method, url, headers=headers) as response:
                if response.status_code not in http.REDIRECTS:
                    _check_status(response)
                    yield response
                    return
                url = http.redirected(url, response.headers.get("Location", ""), hosts)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        words, reached = http.why(error)
        raise http.Failure(words, reached=reached) from error
    raise http.Failure(f"redirects more than {http.MAX_REDIRECTS} times", again=False)


def _check_status(response: httpx.Response) -> None:
    code = response.status_code
    if code in (200, 206, 416):
        return
    if code in http.ABSENT:
        raise AbsentError(f"{response.url}: the archive has no such file ({code}), {ABSENT}.")
    raise http.Failure(
        f"answers with {code} {response.reason_phrase}".rstrip(),
        again=code in http.PASSING,
        after_s=http.retry_after(response.headers.get("Retry-After")),
    )


def pull(
    client: httpx.Client,
    url: str,
    part: Part,
    line: http.Line,
    hosts: tuple[str, ...],
    received: Callable[[int], None],
) -> None:
    """Try once to bring a part to its end."""
    validator, at = part.validator(), part.size
    if at and not validator:
        part.restart()
        at = 0
    headers = {"Range": f"bytes={at}-", "If-Range": validator} if at else {}
    begun, got = at, 0
    try:
        with ask(client, "GET", url, hosts, headers) as response:
            line.reached()
            if response.status_code == 416 or (
                response.status_code == 206 and not _continues(response, at)
            ):
                part.restart()
                raise http.Failure("does not go on where the file was cut off")
            if response.status_code == 200:
                part.restart(_validator(response))
                at = 0
            _check_size(url, at + int(response.headers.get("Content-Length") or 0))
            for piece in _pieces(response, line):
                part.add(piece)
                got += len(piece)
                received(len(piece))
                _check_size(url, at + got)
    except http.Failure as failure:
        # Without a validator, or from the beginning again, nothing has been won.
        failure.progress = part.size - begun >= _WORTH and bool(part.validator())
        raise


def _pieces(response: httpx.Response, line: http.Line) -> Iterator[bytes]:
    """Yield the body; break off when it crawls, or when the work is to end."""
    patience = line.patience
    begin, arrived = time.monotonic(), 0
    for piece in response.iter_raw():
        yield piece
        if line.stop.is_set():
            raise http.Stopped
        arrived += len(piece)
        took = time.monotonic() - begin
        if took >= patience.low_speed_s:
            if arrived < patience.low_speed * took:
                raise http.Failure(f"sends less than {patience.low_speed:.0f} bytes a second")
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
    """Ask how large a file is, without fetching it."""
    with ask(client, "HEAD", url, hosts, {}) as response:
        said = response.headers.get("Content-Length", "")
    return int(said) if said.isascii() and said.isdigit() else None
