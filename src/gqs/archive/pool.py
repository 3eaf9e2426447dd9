"""The threads that fetch: each takes the next frame, until none is left or the work is to end."""

from __future__ import annotations

import queue
import threading
import time
from typing import Final

from gqs.archive import http, transfer
from gqs.archive.fetch_one import Check, Errand, Job, Result

_LOOK_S: Final = 0.2
_LAST_WORDS_S: Final = 2.0


class Crew:
    """Threads that take jobs and put results; they end with the process, whatever they do."""

    def __init__(
        self,
        jobs: list[Job],
        size: int,
        line: http.Line,
        hosts: tuple[str, ...],
        check: Check,
    ) -> None:
        self.line, self.bytes = line, 0
        self._results: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
        self.left = len(jobs)
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for job in jobs:
            self._jobs.put(job)
        self._client = transfer.client(max(1, size), line.patience)
        self._errand = Errand(self._client, line, hosts, check, self._arrived)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(size)]
        for thread in self._threads:
            thread.start()

    def _arrived(self, count: int) -> None:
        with self._lock:
            self.bytes += count

    def _work(self) -> None:
        while not self.line.stop.is_set():
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            try:
                result = self._errand.run(job)
                if result is None:  # another process is at it: look again when the rest is done
                    self._jobs.put(job)
                    self.line.stop.wait(_LOOK_S)
                    continue
                self._results.put(result)
            except http.Stopped:
                return
            except BaseException as error:  # passed to the main loop, which raises it
                self._results.put(error)
                return

    def take(self) -> list[Result]:
        """Return results that are in by now, after waiting a moment for the first."""
        found: list[Result] = []
        try:
            one = self._results.get(timeout=_LOOK_S)
            while True:
                if isinstance(one, BaseException):
                    if not found:
                        raise one
                    self._results.put(one)  # raised by the next call: what is found comes first
                    return found
                found.append(one)
                one = self._results.get_nowait()
        except queue.Empty:
            if not found and self.line.overdue:
                raise self.line.unreachable() from None
            return found

    def close(self) -> None:
        """End all waiting and fetching; what is under way is kept for the next run."""
        self.line.stop.set()
        deadline = time.monotonic() + _LAST_WORDS_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if not any(thread.is_alive() for thread in self._threads):
            self._client.close()
