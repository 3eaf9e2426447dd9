"""A real HTTP server on 127.0.0.1 that answers as routes say and misbehaves as a test says.

A route is a regular expression and a function from a request to an answer; `sas.py`,
`skyserver.py` and `casjobs.py` bring the archive's. HEAD, ranges (with If-Range) and ETags are
the server's own work. A fault holds for the paths that it names, as often as it says.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

FAULTS: Final = (
    "drop",  # the connection is reset before a byte is answered
    "reset",  # ... after `after` of the body (a share, or bytes)
    "short",  # the body ends after `after`, and the connection with it, in good order
    "stall",  # silence after `after` of the body, for `seconds`
    "slow",  # a byte every `seconds` from `after` of the body on
    "pace",  # a piece of `after` bytes every `seconds`: a line's speed
    "latency",  # `seconds` of waiting, then the answer as it should be
    "status",  # `status`, with `headers` and `body`: 404, 429, 503 ...
    "html",  # status 200, and a web page as body
    "instead",  # what `target` (another path) would answer
    "redirect",  # to `target`
    "body",  # `body` in place of the right one, status 200
)
PAGE: Final = (
    b"<!DOCTYPE html>\n<html><head><title>Service unavailable</title></head>"
    b"<body>Please try again later.</body></html>\n"
)


@dataclass
class Request:
    """What a client asked, and what status it got."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    at: float
    status: int = 0
    form: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a route gives back. `etag` is made from the body where a route names none."""

    body: bytes | memoryview = b""
    status: int = 200
    kind: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)
    etag: str | None = None


Route = Callable[[Request], Answer]


@dataclass
class Fault:
    """One way to misbehave; `times` counts down, None lasts."""

    kind: str
    path: re.Pattern[str]
    times: int | None = None
    after: float | int = 0.5
    seconds: float = 1.0
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    target: str = ""
    method: str = "GET"
    met: int = 0  # how often it happened


class LoopbackServer:
    """A threaded HTTP server that lives as long as its `with` block.

    Attributes
    ----------
    url : str
        As in http://127.0.0.1:40123, without a slash at the end.
    log : list of Request
        Everything asked, in order.
    """

    def __init__(self, port: int = 0) -> None:
        self.routes: list[tuple[re.Pattern[str], Route]] = []
        self.log: list[Request] = []
        self.faults: list[Fault] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.daemon = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LoopbackServer:
        self._thread.start()
        return self

    def __exit__(self, *what: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def route(self, path: str, answer: Route) -> None:
        """Let a function answer every path that the expression matches from its start."""
        self.routes.append((re.compile(path), answer))

    def fault(self, kind: str, path: str = "", times: int | None = None, **details: Any) -> Fault:
        """Misbehave on paths (with their query) in which the expression is found.

        By default on GET and POST; `method="HEAD"` for HEAD, `method=""` for all.
        """
        assert kind in FAULTS, kind
        made = Fault(kind, re.compile(path), times, **details)
        self.faults.append(made)
        return made

    def heal(self) -> None:
        """Answer everything as it should be again."""
        self.faults.clear()

    def asked(self, path: str = "", method: str = "") -> list[Request]:
        """Requests so far whose path has the expression in it."""
        return [one for one in self.log if re.search(path, one.path) and method in ("", one.method)]

    def wait(self, seconds: float) -> bool:
        """Sleep, but not longer than the server lives; tell whether it still does."""
        return not self._ended.wait(seconds)

    def answer_to(self, request: Request) -> Answer:
        """Return what the first fitting route answers; 404 where there is none."""
        for path, answer in self.routes:
            if path.match(request.path):
                return answer(request)
        return Answer(b"<html><body>404 Not Found</body></html>", 404, "text/html")

    def faults_for(self, request: Request, whole_path: str) -> list[Fault]:
        """Take the faults that this request meets, each once; it waits outside the lock."""
        found = []
        with self._lock:
            for one in self.faults:
                if one.times == 0 or not one.path.search(whole_path):
                    continue
                wanted = one.method or request.method
                if request.method != wanted and (wanted, request.method) != ("GET", "POST"):
                    continue
                if one.times is not None:
                    one.times -= 1
                one.met += 1
                found.append(one)
        return found


class _Server(ThreadingHTTPServer):
    owner: LoopbackServer
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet: clients that leave are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *what: Any) -> None:
        """Keep quiet; `LoopbackServer.log` has it all."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 -- the names http.server calls

    def _serve(self) -> None:
        owner, parts = self.server.owner, urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            method=self.command,
            path=parts.path,
            query={key: values[-1] for key, values in parse_qs(parts.query, True).items()},
            headers={key.lower(): value for key, value in self.headers.items()},
            body=self.rfile.read(length),
            at=time.monotonic(),
        )
        if "form-urlencoded" in request.headers.get("content-type", ""):
            form = parse_qs(request.body.decode(), True)
            request.form = {key: values[-1] for key, values in form.items()}
        owner.log.append(request)
        spoiling = None
        answer: Answer | None = None
        for fault in owner.faults_for(request, self.path):
            if fault.kind == "latency":
                owner.wait(fault.seconds)
            elif fault.kind == "status":
                answer = Answer(fault.body or PAGE, fault.status, "text/html", fault.headers)
            elif fault.kind == "html":
                answer = Answer(PAGE, 200, "text/html")
            elif fault.kind == "body":
                answer = Answer(fault.body, 200)
            elif fault.kind == "redirect":
                answer = Answer(b"", 302, "text/html", {"Location": fault.target})
            elif fault.kind == "instead":
                request.path = fault.target
            else:
                spoiling = fault
        with contextlib.suppress(OSError):
            self._send(request, answer or owner.answer_to(request), spoiling)

    def _send(self, request: Request, answer: Answer, fault: Fault | None) -> None:
        if fault and fault.kind == "drop":
            self._reset()
            return
        status, body, headers = _ranged(request, answer)
        request.status = status
        self.send_response(status)
        for key, value in {"Content-Type": answer.kind, **headers, **answer.headers}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if request.method == "HEAD":
            return
        if fault is None:
            self.wfile.write(body)
            return
        if fault.kind == "pace":
            for start in range(0, len(body), int(fault.after)):
                self.wfile.write(body[start : start + int(fault.after)])
                self.server.owner.wait(fault.seconds)
            return
        after = int(fault.after * len(body)) if isinstance(fault.after, float) else fault.after
        self.wfile.write(body[:after])
        if fault.kind == "reset":
            self.server.owner.wait(0.05)  # so that the client has read what was sent
            self._reset()
        elif fault.kind == "stall":
            self.server.owner.wait(fault.seconds)
            self.wfile.write(body[after:])
        elif fault.kind == "slow":
            for i in range(after, len(body)):
                if not self.server.owner.wait(fault.seconds):
                    break
                self.wfile.write(body[i : i + 1])
        self.close_connection = fault.kind != "slow"

    def _reset(self) -> None:
        """Close with RST, as a broken line or a restarted server does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


def _ranged(request: Request, answer: Answer) -> tuple[int, memoryview, dict[str, str]]:
    """Serve the part that Range asks for, if the validator still holds. RFC 9110, section 14."""
    body = memoryview(answer.body)
    if answer.status != 200:
        return answer.status, body, {}
    etag = answer.etag or f'"{hashlib.sha1(answer.body).hexdigest()[:16]}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes"}
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if asked is None or request.headers.get("if-range", etag) != etag:
        return 200, body, headers
    first, last = int(asked[1]), min(int(asked[2] or len(body) - 1), len(body) - 1)
    if first >= len(body):
        return 416, memoryview(b""), {**headers, "Content-Range": f"bytes */{len(body)}"}
    headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
    return 206, body[first : last + 1], headers
