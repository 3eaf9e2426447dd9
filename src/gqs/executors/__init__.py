"""Work over many items: one interface, executed by local processes or by a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from gqs.errors import GqsError

# Reports progress: items done, items in total, a short note.
Progress = Callable[[int, int, str], None]

TIME_LIMIT_S = 600.0  # for one item


def no_progress(done: int, total: int, note: str) -> None:
    """Report no progress."""


def cpu_count() -> int:
    """Number of cores that this process may use, at least 1."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Outcome:
    """Result of one item, or the error for which it was set aside."""

    item: Any
    result: Any = None
    error: GqsError | None = None


@dataclass(frozen=True)
class Retry:
    """Returned by a function whose item should be run again."""

    reason: str


_step_listener: Callable[[str], None] | None = None


def report_step(name: str) -> None:
    """Report the current step of an item; shown where the executor listens to its workers."""
    if _step_listener is not None:
        _step_listener(name)


def listen_to_steps(listener: Callable[[str], None] | None) -> None:
    """Set what `report_step` calls in this process."""
    global _step_listener
    _step_listener = listener


class Executor(Protocol):
    """Runs a function on every item; an item whose process dies or hangs costs only itself."""

    def run(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
        """Yield an outcome for every item, in the order in which they finish.

        The function must be picklable (a module's function, or a partial of one), as must be the
        items; `str(item)` names an item in messages. An item for which the function returns
        `Retry` is run again.
        """

    def describe(self) -> str:
        """The workers as text, such as "2 workers"."""
