"""CasJobs' REST interface, as SciServer's own scripts use it (SciScript-Python, CasJobs.py).

PUT contexts/DR16/jobs, GET jobs/ID, POST contexts/MyDB/query; a job asked of a release names its
table MyDB.x, as those scripts' tests do. The token is sent to that server alone; no message, file
or error holds it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from gqs import __version__
from gqs.archive import csv_response, http
from gqs.archive.listening import ANSWER_S, CHUNK, Reply, listen
from gqs.archive.releases import DEFAULT, Release, checked_address, find
from gqs.errors import NetworkError, UsageError

if TYPE_CHECKING:
    import httpx

TOKEN_VARIABLE: Final = "GQS_CASJOBS_TOKEN"  # noqa: S105 -- where the token is, not what
PATH: Final = "/CasJobs/RestApi"
# Job states, as SciScript-Python's getJobStatus names them.
READY, STARTED, CANCELING, CANCELED, FAILED, FINISHED = range(6)
STATES: Final = ("queued", "running", "being cancelled", "cancelled", "failed", "finished")


class Token:
    """A SciServer token that does not show itself."""

    def __init__(self, value: str) -> None:
        if not re.fullmatch(r"[\x21-\x7e]{8,4096}", value):
            raise UsageError("The CasJobs token is no token: it is one word of 8 letters or more.")
        self._value = value

    def __repr__(self) -> str:
        return "Token(...)"

    @classmethod
    def find(cls, file: Path | None = None) -> Token:
        """Read the token from a file, or from the variable GQS_CASJOBS_TOKEN."""
        text = os.environ.get(TOKEN_VARIABLE, "")
        if file is not None:
            try:
                text = Path(file).read_text("utf-8")
            except (OSError, UnicodeDecodeError):
                raise UsageError(f"{file}: the token cannot be read from there.") from None
        if not text.split():
            raise UsageError(
                f"CasJobs needs a SciServer token: put it into {TOKEN_VARIABLE}, or into a file "
                "that --token-file names."
            )
        return cls(text.split()[0])

    @property
    def header(self) -> dict[str, str]:
        """The header that carries it."""
        return {"X-Auth-Token": self._value}

    def hide(self, body: bytes) -> bytes:
        """Return a server's answer without the token, should it say it back."""
        return body.replace(self._value.encode(), b"***")


def _short(text: str) -> str:
    return " ".join(text.split())[:200]


class Server:
    """CasJobs, as one user sees it."""

    def __init__(
        self,
        token: Token,
        release: int | str | Release = DEFAULT,
        server: str | None = None,
        patience: http.Patience | None = None,
    ) -> None:
        import httpx

        self.release, self._token = find(release), token
        self.address = checked_address(server or self.release.sky_server)
        parts = urlsplit(self.address)
        self.host = parts.netloc
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise UsageError(f"{self.address}: a token is sent over https only.")
        self.line = http.Line(self.host, patience)
        self._client = httpx.Client(
            timeout=httpx.Timeout(ANSWER_S, connect=self.line.patience.connect_s),
            headers={"User-Agent": f"gqs/{__version__}", "Accept-Encoding": "identity"},
            follow_redirects=False,
        )

    def call(self, method: str, path: str, sql: str | None = None, name: str = "") -> bytes:
        """Call the interface."""
        return self.line.persist(lambda: self._try(method, path, sql, name))

    def _try(self, method: str, path: str, sql: str | None, name: str) -> bytes:
        request = self._client.build_request(
            method,
            self.address + PATH + path,
            json=None if sql is None else {"Query": sql, "TaskName": name or "gqs"},
            headers={**self._token.header, "Accept": "text/plain, application/json"},
        )
        status, headers, body = listen(self.line, self.address, lambda: self._send(request))
        body = self._token.hide(body)
        said = _short(body[:2000].decode("utf-8", "replace"))
        if status in (401, 403):
            raise UsageError(
                f"{self.host}: CasJobs does not accept the token (HTTP {status}). "
                "Fetch a new one from SciServer."
            )
        if status in http.REDIRECTS:
            raise NetworkError(
                f"{self.host}: redirects to another address, where the token is not taken. "
                "See whether CasJobs has moved; --server names its address."
            )
        page = body.lstrip()[:1] == b"<"
        if status in http.PASSING and (status != 500 or page):  # CasJobs' 500 is SQL's own refusal
            wait = http.retry_after(headers.get("Retry-After"))
            raise http.Failure(f"is busy (HTTP {status})", after_s=wait)
        if status != 200:
            raise csv_response.RefusedError(
                self.host, f"refuses (HTTP {status}: {said})", busy=False
            )
        if method != "POST" and page:
            raise http.Failure("sent a web page instead of an answer")
        if method == "POST" and said:
            try:
                csv_response.refuse_errors(said, self.host)
            except csv_response.RefusedError as error:
                if not error.busy:
                    raise
                raise http.Failure(error.why) from None
        return body

    def _send(self, request: httpx.Request) -> Reply:
        got = self._client.send(request, stream=True)
        return Reply(got.status_code, got.headers, got.iter_bytes(CHUNK), got.close)

    def query(self, sql: str, context: str = "MyDB") -> bytes:
        """Run a short query at once."""
        return self.call("POST", f"/contexts/{context}/query", sql)

    def submit(self, sql: str, table: str) -> int:
        """Submit a batch job; one that an earlier, broken try has submitted is found instead."""
        tried = False

        def once() -> int:
            nonlocal tried
            known = self.find_job(table) if tried else None
            tried = True
            if known is not None:
                return known
            return self._number(self._try("PUT", f"/contexts/{self.release}/jobs", sql, table))

        return self.line.persist(once)

    def find_job(self, table: str) -> int | None:
        """Find the job that fills a table."""
        jobs = self._json(self.call("GET", "/jobs/"))
        for job in jobs if isinstance(jobs, list) else []:
            if isinstance(job, dict) and any(table in str(value) for value in job.values()):
                return self._number(str(job.get("JobID", "")).encode())
        return None

    def state(self, job: int) -> tuple[int, str]:
        """Ask how a job is."""
        found = self._json(self.call("GET", f"/jobs/{job}"))
        state = found.get("Status") if isinstance(found, dict) else None
        if str(state) not in tuple("012345"):
            raise NetworkError(
                f"{self.host}: the state of CasJobs job {job} is unknown ({str(state)[:40]!r})."
            )
        return int(str(state)), _short(str(found.get("Message", "")))

    def _json(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except ValueError:
            raise NetworkError(
                f"{self.host}: CasJobs' answer is no JSON. Run the same command again later."
            ) from None

    def _number(self, body: bytes) -> int:
        text = body.decode("ascii", "replace").strip().strip('"')
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise NetworkError(f"{self.host}: CasJobs gave no job's number ({text[:40]!r}).")
        return int(text)
