"""A function over many items in child processes: a child that dies or hangs costs only its item."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from gqs.errors import BadInputError, GqsError

# How progress is told to whoever shows it: items done, items in all, a few words.
Progress = Callable[[int, int, str], None]

MEMORY_LIMIT = 8 << 30
TIME_LIMIT_S = 600.0


def silent(done: int, total: int, note: str) -> None:
    """Tell nobody: the progress of those who do not ask for one.

    Parameters
    ----------
    done, total : int
        Items done and items in all.
    note : str
        What is being done.
    """


def cores() -> int:
    """Return how many cores this process may use.

    Returns
    -------
    int
        At least 1.
    """
    return len(os.sched_getaffinity(0))


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

    The children live on from item to item. One that is killed, runs past its time or asks for
    more memory than its limit loses its item, which is reported as set aside, and is replaced.

    Parameters
    ----------
    function : callable
        Picklable (a module's function, or a partial of one); gets one item.
    items : iterable
        Picklable items.
    workers : int, optional
        Number of children; by default one a core.
    time_limit_s : float
        Seconds that one item may take.
    memory_limit : int
        Bytes of address space that one child may take.

    Yields
    ------
    Outcome
        In the order in which items end.
    """
    queue = list(reversed(list(items)))
    crew = [_Child(function, memory_limit) for _ in range(min(workers or cores(), len(queue)))]
    try:
        for child in crew:
            child.give(queue.pop(), time_limit_s)
        while busy := [child for child in crew if child.busy]:
            patience = max(0.0, min(child.deadline for child in busy) - time.monotonic())
            ready = wait([child.pipe for child in busy], timeout=patience)
            for child in busy:
                if child.pipe in ready:
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
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._function, self._memory_limit), daemon=True
        )
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
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            self._start()
            return Outcome(
                self.item,
                error=BadInputError(f"{self.item}: its process ended with code {code}; set aside."),
            )
        return Outcome(self.item, result, error)

    def give_up(self, time_limit_s: float) -> Outcome:
        self.busy = False
        self.stop()
        self._start()
        return Outcome(
            self.item,
            error=BadInputError(f"{self.item}: took longer than {time_limit_s:.0f} s; set aside."),
        )

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _serve(pipe: Connection, function: Callable[[Any], Any], memory_limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    while True:
        try:
            item = pipe.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        try:
            answer: tuple[Any, GqsError | None] = (function(item), None)
        except GqsError as error:
            answer = (None, error)
        except MemoryError:
            limit = f"{memory_limit >> 20} MiB"
            answer = (None, BadInputError(f"{item}: needs more memory than {limit}; set aside."))
        except KeyboardInterrupt:
            return
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__} ({error}) at {Path(last.filename).name}:{last.lineno}"
            answer = (None, BadInputError(f"{item}: {what}; set aside."))
        pipe.send(answer)
