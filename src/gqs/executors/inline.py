"""Inline executor: items one after the other in this process, which needs no second start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from gqs.errors import BadInputError, GqsError
from gqs.executors import Outcome, Retry, listen_to_steps


@dataclass(frozen=True)
class InlineExecutor:
    """Runs items in this process, without limits of time and memory: for a single item."""

    on_step: Callable[[str], None] | None = None  # called with each step of an item

    def describe(self) -> str:
        """Nothing to describe."""
        return ""

    def run(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
        """Yield an outcome for every item, in their order."""
        listen_to_steps(self.on_step)
        try:
            for item in items:
                result: Any = Retry("not yet run")
                while isinstance(result, Retry):
                    try:
                        result = function(item)
                    except GqsError as error:
                        yield Outcome(item, error=error)
                        break
                    except MemoryError:
                        yield Outcome(item, error=BadInputError(f"{item}: not enough memory."))
                        break
                else:
                    yield Outcome(item, result)
        finally:
            listen_to_steps(None)
