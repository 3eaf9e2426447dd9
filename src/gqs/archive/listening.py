"""One request, listened to in a thread of its own: no name server and no slow body can hold us.

A database may think for minutes before it answers; once it answers, it must go on. requests and
httpx know only one limit for both, and none for the finding of a name.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from gqs.archive import http
from gqs.errors import NetworkError

ANSWER_S: Final = 610.0  # SkyServer itself ends a query after 600 s
MAX_BYTES: Final = 1 << 30  # of one answer
CHUNK: Final = 4096  # small, so that a slow line is seen to move
_LOOK_S: Final = 0.02


@dataclass
class Reply:
    """An answer whose body is still to be read."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]
    close: Callable[[], None]


def listen(
    line: http.Line, address: str, send: Callable[[], Reply]
) -> tuple[int, Mapping[str, str], bytes]:
    """Send a request and wait for its answer, as long as it comes at all."""
    errand = _Errand(address, send)
    errand.start()
    try:
        _watch(errand, line)
    finally:
        errand.given_up = True
    error, errand.error = errand.error, None
    if isinstance(error, NetworkError):
        raise error
    if error is not None:
        # Not raised from it: a library's error holds the request, and that may hold a token.
        words, reached = http.why(error)
        raise http.Failure(words, reached=reached)
    if errand.size > MAX_BYTES:
        raise http.Failure(f"sends more than {MAX_BYTES >> 20} MiB", again=False)
    assert errand.reply is not None
    return errand.reply.status, errand.reply.headers, b"".join(errand.parts)


class _Errand(threading.Thread):
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
        from requests.utils import get_environ_proxies

        if not get_environ_proxies(self.address):  # a proxy finds names itself
            parts = urlsplit(self.address)
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


def _watch(errand: _Errand, line: http.Line) -> None:
    """Return when the errand has ended; raise where waiting longer has no use."""
    patience = line.patience
    asked = mark = time.monotonic()
    at = 0
    while errand.is_alive():
        errand.join(_LOOK_S)
        now = time.monotonic()
        if line.stop.is_set():
            raise http.Stopped
        if not errand.found and now - asked > patience.unreachable_s:
            raise line.unreachable("cannot be found (no name server answers)")
        if errand.reply is None:
            mark = now
            if now - asked > ANSWER_S + patience.connect_s:
                raise http.Failure("gave no answer")
        elif now - mark > patience.low_speed_s:
            slow = errand.size - at < patience.low_speed * patience.low_speed_s
            if slow and errand.is_alive():
                raise http.Failure("fell silent in the middle of its answer")
            mark, at = now, errand.size
