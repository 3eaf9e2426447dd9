"""Rules for network access: retries, rate limits, and redirects to listed hosts only.

One `Line` stands for one server. Everybody who talks to it in this process shares the pauses that
it asks for, and the knowledge whether it can be reached at all. Waiting times grow exponentially
with full jitter (Brooker 2015, "Exponential backoff and jitter"); Retry-After is RFC 9110, 10.2.3.
"""

from __future__ import annotations

import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar
from urllib.parse import urljoin, urlsplit

from gqs.errors import NetworkError

T = TypeVar("T")

# Statuses that pass: RFC 9110, and 429 of RFC 6585.
PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
ABSENT: Final = frozenset({404, 410})
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS: Final = 5
_PORTS: Final = {"http": 80, "https": 443}
_SAME: Final = "The same command goes on from here."
_IN_VAIN: Final = "Asking again will not help: look at the release and the address."


@dataclass(frozen=True)
class Patience:
    """How long to wait and how often to try again."""

    connect_s: float = 4.0  # seconds for a connection to be made
    unreachable_s: float = 16.0  # seconds after which a host that never answers is given up
    tries: int = 6  # failures in a row after which one item is given up
    # seconds of the first wait at most, doubled with each failure, and the most of all
    first_wait_s: float = 0.5
    longest_wait_s: float = 16.0
    # seconds of Retry-After that are obeyed; a server that asks for more is left alone
    longest_pause_s: float = 300.0
    low_speed: float = 1024.0  # bytes a second under which a transfer is broken off
    # ... when it was slower for so long. A silence of this length counts as well.
    low_speed_s: float = 10.0


class UnreachableError(NetworkError):
    """A host that cannot be found or connected to: nothing else need be tried."""


class Stopped(Exception):  # noqa: N818 -- not an error: it was requested
    """Waiting was cut short, since the work is to end."""


class Failure(Exception):  # noqa: N818 -- no error yet: the next try may succeed
    """One try that failed."""

    def __init__(
        self,
        why: str,
        again: bool = True,
        after_s: float | None = None,
        reached: bool = True,
        progress: bool = False,
    ) -> None:
        super().__init__(why)
        self.why, self.again, self.after_s = why, again, after_s
        self.reached, self.progress = reached, progress


def backoff(tries: int, patience: Patience, chance: random.Random) -> float:
    """Draw the seconds to wait after some failures in a row."""
    most = min(patience.longest_wait_s, patience.first_wait_s * 2.0 ** (tries - 1))
    return chance.uniform(0.0, most)


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Read a Retry-After header: seconds, or an HTTP date."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError):
        return None
    if date.tzinfo is None:  # "-0000": UTC by RFC 5322
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def redirected(url: str, location: str, hosts: tuple[str, ...]) -> str:
    """Return where a redirect leads, if it may be followed."""
    before = urlsplit(url)
    try:
        to = urljoin(url, location)
        after = urlsplit(to)
    except ValueError:  # a bracket that does not close: no address at all
        to, after = location, urlsplit("")
    listed = {_host(f"{before.scheme}://{host}") for host in (before.netloc, *hosts)}
    unsafe = before.scheme == "https" and after.scheme != "https"
    if after.scheme not in _PORTS or unsafe or _host(to, before.scheme) not in listed:
        raise NetworkError(
            f"{before.netloc}: redirects to {to[:80]!r}, which is not this archive. Not followed; "
            "nothing was fetched from there. See whether the archive has moved."
        )
    return to


def _host(url: str, scheme: str = "") -> tuple[str, int]:
    """Host and port; a default port under another scheme counts as this one's."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        return "", 0
    return (parts.hostname or "").lower(), port or _PORTS.get(scheme or parts.scheme, 0)


def why(error: BaseException) -> tuple[str, bool]:
    """Say in a few words why a request failed, whatever library made it."""
    chain = list(_chain(error))
    names = " ".join(type(one).__name__ for one in chain)
    if any(isinstance(one, socket.gaierror) for one in chain) or "NameResolution" in names:
        return "cannot be found (no such name, or no name server)", False
    if any(isinstance(one, ssl.SSLError) for one in chain):
        return "cannot be trusted (its certificate or TLS failed)", False
    if any(isinstance(one, ConnectionRefusedError) for one in chain):
        return "refuses the connection", False
    if "ConnectTimeout" in names:
        return "does not answer", False
    if "ConnectError" in names or "NewConnectionError" in names:
        return f"cannot be reached ({_last_words(chain)})", False
    if "Timeout" in names or any(isinstance(one, TimeoutError) for one in chain):
        return "fell silent", True
    if any(isinstance(one, ConnectionResetError | BrokenPipeError) for one in chain):
        return "broke the connection off", True
    if "RemoteProtocolError" in names or "IncompleteRead" in names:
        return "ended its answer before it was whole", True
    return f"gave an answer that cannot be read ({_last_words(chain)})", True


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        for inner in error.args:  # requests and urllib3 wrap without `from`
            if isinstance(inner, BaseException):
                yield from _chain(inner)
        reason = getattr(error, "reason", None)
        if isinstance(reason, BaseException):
            yield from _chain(reason)
        error = error.__cause__ or error.__context__


def _last_words(chain: list[BaseException]) -> str:
    return " ".join(str(chain[-1]).split())[:80] or type(chain[-1]).__name__


class Line:
    """What all connections to one server share: its pauses, and whether it is there."""

    def __init__(
        self, host: str, patience: Patience | None = None, stop: threading.Event | None = None
    ) -> None:
        self.host, self.patience = host, patience or Patience()
        self.stop = stop or threading.Event()
        self._chance = random.Random()  # noqa: S311 -- jitter
        self._lock = threading.Lock()
        self._not_before = 0.0
        self._asked: float | None = None  # when the first call since the last answer began
        self._ever = False

    def reached(self) -> None:
        """Note that the server answered."""
        self._asked, self._ever = None, True

    def pause(self, seconds: float) -> None:
        """Allow no request to this host for so many seconds."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)

    def wait_turn(self) -> None:
        """Wait until the pauses that the server asked for are over; a call begins then."""
        while (left := self._not_before - time.monotonic()) > 0:
            self._sleep(left)
        self._sleep(0.0)
        self._asked = self._asked or time.monotonic()

    @property
    def overdue(self) -> bool:
        """Whether the first answer is so late that a name server or a proxy must hang."""
        late = self.patience.unreachable_s + 2 * self.patience.connect_s
        return not self._ever and self._silence() > late

    def _silence(self) -> float:
        """Seconds since requests to this host began to fail; 0 if none fail."""
        asked = self._asked
        return 0.0 if asked is None else time.monotonic() - asked

    def unreachable(self, words: str = "does not answer") -> UnreachableError:
        """Return the error that ends a command whose server is not there."""
        return UnreachableError(
            f"{self.host}: {words}. Look at the network and the address; then run the same "
            "command again."
        )

    def persist(self, call: Callable[[], T]) -> T:
        """Call until it succeeds, or until there is no use in trying again."""
        tries = 0
        while True:
            self.wait_turn()
            try:
                result = call()
            except Failure as failure:
                tries = 1 if failure.progress else tries + 1
                self._after(failure, tries)
            else:
                self.reached()
                return result

    def _after(self, failure: Failure, tries: int) -> None:
        """Wait as the failure asks, or give up."""
        if failure.reached:
            self.reached()
        if not failure.again:
            raise NetworkError(f"{self.host}: {failure.why}. {_IN_VAIN}")
        if failure.after_s is not None and failure.after_s > self.patience.longest_pause_s:
            raise NetworkError(
                f"{self.host}: {failure.why}, and asks to come back in "
                f"{failure.after_s / 60:.0f} minutes. Do so: the same command goes on from here."
            )
        wait = backoff(tries, self.patience, self._chance)
        gone = self._silence() + wait > self.patience.unreachable_s
        if not failure.reached and (tries >= self.patience.tries or gone):
            raise self.unreachable(failure.why)
        if tries >= self.patience.tries:
            often = f", {tries} times in a row" if tries > 1 else ""
            raise NetworkError(f"{self.host}: {failure.why}{often}. {_SAME}")
        if failure.after_s is not None:
            self.pause(failure.after_s)
        self._sleep(wait)

    def _sleep(self, seconds: float) -> None:
        if self.stop.wait(seconds) if seconds > 0 else self.stop.is_set():
            raise Stopped
