"""Local executor: child processes with limits; one that dies or hangs costs only its item."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
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
from gqs.executors import TIME_LIMIT_S, Outcome, Retry, cpu_count
from gqs.formatting import plural

MEMORY_LIMIT = 8 << 30
_LONGEST_NAME = 120  # characters of an item in a message
_KEPT = 1 << 30  # bytes of freed memory that a process keeps for its next item
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_STARTING = threading.Lock()


def keep_memory() -> None:
    """Keep freed memory, up to a GiB, in this process for its next item.

    Every field needs the same few hundred MiB. Memory that is returned to the system must be
    cleared page by page when it is needed again, above all under Dask's nanny, which makes malloc
    return everything at once (benchmarks/memory_kept.py). Without glibc this has no effect.
    """
    with contextlib.suppress(OSError, TypeError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _KEPT)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)


@dataclass(frozen=True)
class LocalExecutor:
    """Child processes on this machine, each with a time limit per item and a memory limit."""

    workers: int | None = None  # number of children; by default one per core
    time_limit_s: float = TIME_LIMIT_S
    memory_limit: int = MEMORY_LIMIT  # bytes of address space of a child

    def describe(self) -> str:
        """The workers as text."""
        return plural(self.workers or cpu_count(), "worker")

    def run(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
        """Yield an outcome for every item, in the order in which they finish.

        Children are reused from item to item. A child that is killed, exceeds its time or asks
        for more memory than its limit loses its item, which is set aside, and is replaced.
        """
        queue = list(reversed(list(items)))
        children: list[_Child] = []
        try:
            number = min(max(1, self.workers or cpu_count()), len(queue))
            children.extend(_Child(function, self.memory_limit) for _ in range(number))
            for child in children:
                child.start(queue.pop(), self.time_limit_s)
            while busy := [child for child in children if child.busy]:
                patience = max(0.0, min(child.deadline for child in busy) - time.monotonic())
                ready = wait([child.pipe for child in busy], timeout=patience)
                for child in busy:
                    if child.pipe in ready or child.pipe.poll():  # or it finished meanwhile
                        outcome = child.finish()
                    elif time.monotonic() >= child.deadline:
                        outcome = child.give_up(self.time_limit_s)
                    else:
                        continue
                    if isinstance(outcome.result, Retry):
                        queue.append(outcome.item)
                    else:
                        yield outcome
                    if queue:
                        child.start(queue.pop(), self.time_limit_s)
        finally:
            for child in children:
                child.stop()


class _Child:
    """A child process and its item."""

    def __init__(self, function: Callable[[Any], Any], memory_limit: int) -> None:
        self._function, self._memory_limit = function, memory_limit
        self.busy, self.deadline, self.item = False, 0.0, None
        self._start()

    def _start(self) -> None:
        # A fork would copy locks held by the parent's threads; the server forks a clean process.
        context = multiprocessing.get_context("forkserver")
        # The function's module is imported once, in the server, and not in every child.
        context.set_forkserver_preload([_inner(self._function).__module__])
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._function, self._memory_limit), daemon=True
        )
        with _no_main_module(self._function):
            self._process.start()
        theirs.close()

    def start(self, item: Any, time_limit_s: float) -> None:
        self.item, self.busy = item, True
        self.deadline = time.monotonic() + time_limit_s
        with contextlib.suppress(OSError):  # a child that is already dead is seen in finish()
            self.pipe.send(item)

    def finish(self) -> Outcome:
        self.busy = False
        try:
            result, error = self.pipe.recv()
        except Exception:  # the child is gone, or what it sent cannot be read
            self._process.join(timeout=1.0)
            return self._replaced(_exit_reason(self._process.exitcode))
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
    """Keep multiprocessing from importing the caller's script in children.

    The functions are in modules, so children need no `__main__`; a script that calls gqs without
    `if __name__ == "__main__"` would otherwise run itself again in every child.
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
    """The function inside a partial."""
    while isinstance(function, partial):
        function = function.func
    return function


def _exit_reason(code: int | None) -> str:
    if code is None:
        return "its result cannot be read"
    if code < 0:
        name = signal.Signals(-code).name
        return f"its process was killed by {name}" + (
            " (perhaps out of memory)" if name == "SIGKILL" else ""
        )
    return f"its process ended with code {code}"


def _name(item: Any) -> str:
    return " ".join(str(item).split())[:_LONGEST_NAME]


def _serve(pipe: Connection, function: Callable[[Any], Any], memory_limit: int) -> None:
    # Ctrl-C reaches the whole process group; the parent handles it by stopping its children.
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
        except Exception as error:  # of a class that only the parent knows, or too large
            pipe.send((None, BadInputError(f"An item cannot be read by a worker ({error}).")))
            continue
        answer = _call(function, item, limit)
        try:
            pipe.send(answer)
        except OSError:  # the parent is gone
            return
        except Exception as error:
            pipe.send((None, _set_aside(item, f"its result cannot be sent ({error})")))


def _call(function: Callable[[Any], Any], item: Any, limit: int) -> tuple[Any, GqsError | None]:
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
