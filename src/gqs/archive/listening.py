"""One request in a thread of its own, which neither a name server nor a slow body can block.

A database may take minutes before it responds, but must then keep sending. httpx has the same
limit for both, and none for the resolution of names.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from gqs.archive import http
from gqs.errors import NetworkError

ANSWER_S: Final = 610.0  # SkyServer itself ends a query after 600 s
MAX_BYTES: Final = 1 << 30  # of one response
CHUNK: Final = 4096  # small, so that a slow transfer is seen to proceed
_LOOK_S: Final = 0.02


@dataclass
class Reply:
    """A response whose body is still to be read."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]
    close: Callable[[], None]


def listen(
    line: http.Line, address: str, send: Callable[[], Reply]
) -> tuple[int, Mapping[str, str], bytes]:
    """Send a request and read the response: status, headers and body."""
    request = _Request(address, send)
    request.start()
    try:
        _watch(request, line)
    finally:
        request.given_up = True
    error, request.error = request.error, None
    if isinstance(error, NetworkError):
        raise error
    if error is not None:
        # Not raised from it: the library's error contains the request, which may contain a token.
        words, reached = http.why(error)
        raise http.Failure(words, reached=reached)
    if request.size > MAX_BYTES:
        raise http.Failure(f"sends more than {MAX_BYTES >> 20} MiB", again=False)
    assert request.reply is not None
    return request.reply.status, request.reply.headers, b"".join(request.parts)


class _Request(threading.Thread):
    def __init__(self, address: str, send: Callable[[], Reply]) -> None:
        super().__init__(daemon=True)
        self.address, self.send = address, send
        self.found = False
        self.reply: Reply | None = None
        self.parts: list[bytes] = []
        self.size = 0
        self.given_up = False
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._fetch()
        except BaseException as error:
            self.error = error

    def _fetch(self) -> None:
        parts = urlsplit(self.address)
        host = parts.hostname or ""
        if parts.scheme not in getproxies() or proxy_bypass(host):  # a proxy resolves names itself
            socket.getaddrinfo(parts.hostname, parts.port or parts.scheme)
        self.found = True
        self.reply = self.send()
        try:
            for chunk in self.reply.chunks:
                self.parts.append(chunk)
                self.size += len(chunk)
                if self.given_up or self.size > MAX_BYTES:
                    break
        finally:
            self.reply.close()


def _watch(request: _Request, line: http.Line) -> None:
    """Wait until the request has ended; raise an error if waiting longer is pointless."""
    patience = line.patience
    asked = mark = time.monotonic()
    at = 0
    while request.is_alive():
        request.join(_LOOK_S)
        now = time.monotonic()
        if line.stop.is_set():
            raise http.Stopped
        if not request.found and now - asked > patience.unreachable_s:
            raise line.unreachable("cannot be found (no name server answers)")
        if request.reply is None:
            mark = now
            if now - asked > ANSWER_S + patience.connect_s:
                raise http.Failure("gave no response")
        elif now - mark > patience.low_speed_s:
            slow = request.size - at < patience.low_speed * patience.low_speed_s
            if slow and request.is_alive():
                raise http.Failure("stopped in the middle of its response")
            mark, at = now, request.size
