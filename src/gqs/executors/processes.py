"""A function over many items in child processes: a child that dies or hangs costs only its item."""

from __future__ import annotations

import contextlib
import ctypes
import math
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from gqs.errors import BadInputError, GqsError

# How progress is told to whoever shows it: items done, items in all, a few words.
Progress = Callable[[int, int, str], None]

MEMORY_LIMIT = 8 << 30
TIME_LIMIT_S = 600.0
_LONGEST_NAME = 120  # characters of an item in a sentence
_KEPT = 1 << 30  # bytes of freed memory that a process may keep for its next item
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_STARTING = threading.Lock()


def silent(done: int, total: int, note: str) -> None:
    """Tell nobody: the progress of those who do not ask for one."""


def duration(seconds: float) -> str:
    """Write a time in the unit that fits it."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def keep_memory() -> None:
    """Have this process keep the memory that it frees, up to a GiB, for what comes next.

    Every field needs the same few hundred MiB. Given back to the system they come again page by
    page, each page cleared, most of all under Dask's nanny, which has malloc give all back at once
    (benchmarks/memory_kept.py). Where the C library is not glibc nothing changes.
    """
    with contextlib.suppress(OSError, TypeError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _KEPT)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)


@dataclass(frozen=True)
class Outcome:
    """What became of one item: its result, or the error that set it aside."""

    item: Any
    result: Any = None
    error: GqsError | None = None


def run(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    workers: int | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    memory_limit: int = MEMORY_LIMIT,
) -> Iterator[Outcome]:
    """Call a function on every item, each in a child process with limits.

    The children live on from item to item. One that is killed, runs past its time or asks for more
    memory than its limit loses its item, which is reported as set aside, and is replaced.
    """
    queue = list(reversed(list(items)))
    crew: list[_Child] = []
    try:
        number = min(max(1, workers or cores()), len(queue))
        crew.extend(_Child(function, memory_limit) for _ in range(number))
        for child in crew:
            child.give(queue.pop(), time_limit_s)
        while busy := [child for child in crew if child.busy]:
            patience = max(0.0, min(child.deadline for child in busy) - time.monotonic())
            ready = wait([child.pipe for child in busy], timeout=patience)
            for child in busy:
                if child.pipe in ready or child.pipe.poll():  # done while the caller was at work
                    yield child.take()
                elif time.monotonic() >= child.deadline:
                    yield child.give_up(time_limit_s)
                if not child.busy and queue:
                    child.give(queue.pop(), time_limit_s)
    finally:
        for child in crew:
            child.stop()


class _Child:
    """One child process and the item that it holds."""

    def __init__(self, function: Callable[[Any], Any], memory_limit: int) -> None:
        self._function, self._memory_limit = function, memory_limit
        self.busy, self.deadline, self.item = False, 0.0, None
        self._start()

    def _start(self) -> None:
        # A fork would copy the parent's threads' locks; the server forks from a clean process.
        context = multiprocessing.get_context("forkserver")
        # What the first function needs is imported once, there, and not in every child.
        context.set_forkserver_preload([_inner(self._function).__module__])
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._function, self._memory_limit), daemon=True
        )
        with _no_main_module(self._function):
            self._process.start()
        theirs.close()

    def give(self, item: Any, time_limit_s: float) -> None:
        self.item, self.busy = item, True
        self.deadline = time.monotonic() + time_limit_s
        with contextlib.suppress(OSError):  # a child that is already dead is seen in take()
            self.pipe.send(item)

    def take(self) -> Outcome:
        self.busy = False
        try:
            result, error = self.pipe.recv()
        except Exception:  # the child is gone, or what it sent cannot be read
            self._process.join(timeout=1.0)
            return self._replaced(_how_it_ended(self._process.exitcode))
        return Outcome(self.item, result, error)

    def give_up(self, time_limit_s: float) -> Outcome:
        self.busy = False
        return self._replaced(f"took longer than {time_limit_s:.0f} s")

    def _replaced(self, why: str) -> Outcome:
        self.stop()
        self._start()
        return Outcome(self.item, error=_set_aside(self.item, why))

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()


@contextlib.contextmanager
def _no_main_module(function: Callable[[Any], Any]) -> Iterator[None]:
    """Keep children from running the caller's script again, as multiprocessing would have it.

    Our functions live in modules, so children need no `__main__`; and a script that calls gqs
    without `if __name__ == "__main__"` would otherwise start itself anew in every child.
    """
    if _inner(function).__module__ == "__main__":
        yield
        return
    with _STARTING:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def _inner(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the function itself, out of a partial."""
    while isinstance(function, partial):
        function = function.func
    return function


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "its result cannot be read"
    if code < 0:
        name = signal.Signals(-code).name
        return f"its process was killed by {name}" + (
            " (perhaps for want of memory)" if name == "SIGKILL" else ""
        )
    return f"its process ended with code {code}"


def _name(item: Any) -> str:
    return " ".join(str(item).split())[:_LONGEST_NAME]


def _serve(pipe: Connection, function: Callable[[Any], Any], memory_limit: int) -> None:
    # Ctrl-C reaches the whole group of processes; the parent alone answers, by stopping these.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = memory_limit if hard == resource.RLIM_INFINITY else min(memory_limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    keep_memory()
    while True:
        try:
            item = pipe.recv()
        except (EOFError, OSError):
            return
        except Exception as error:  # of a class that only the parent has, or too large
            pipe.send((None, BadInputError(f"An item cannot be read by a child ({error}).")))
            continue
        answer = _answer(function, item, limit)
        try:
            pipe.send(answer)
        except OSError:  # nobody listens any more
            return
        except Exception as error:
            pipe.send((None, _set_aside(item, f"its result cannot be sent ({error})")))


def _answer(function: Callable[[Any], Any], item: Any, limit: int) -> tuple[Any, GqsError | None]:
    try:
        return function(item), None
    except GqsError as error:
        return None, error
    except MemoryError:
        return None, _set_aside(item, f"needs more memory than {limit >> 20} MiB")
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(str(error).split())[:200]
        return None, _set_aside(
            item, f"{type(error).__name__} ({reason}) at {Path(last.filename).name}:{last.lineno}"
        )


def _set_aside(item: Any, why: str) -> BadInputError:
    return BadInputError(f"{_name(item)}: {why}; set aside.")
