"""Progress on standard error: a bar on a terminal, a line every half minute in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from gqs.executors import Progress
from gqs.formatting import duration

LINE_EVERY_S = 30.0


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Yield a callable (done, total, note) that shows progress and the time left."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield ProgressLines(title)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress
    from rich.table import Column

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("elapsed,"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    with RichProgress(*columns, console=console) as shown:
        task = shown.add_task(f"{title:<21}", total=None, note="")

        def update(done: int, total: int, note: str) -> None:
            shown.update(task, completed=done, total=total, note=note)

        yield update


class ProgressLines:
    """Progress as lines on standard error: the first, the last, and one every half minute."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.printed_at = float("-inf")
        # (time, items done) of the first call: a rerun starts with items that are done already.
        self.first: tuple[float, int] | None = None

    def __call__(self, done: int, total: int, note: str) -> None:
        """Print a line if one is due."""
        now = time.monotonic()
        begin, before = self.first = self.first or (now, done)
        if now - self.printed_at < LINE_EVERY_S and done < total:
            return
        self.printed_at = now
        if done == total:
            state = "done"
        elif done == before:
            state = "started"
        else:
            state = f"{duration((now - begin) * (total - done) / (done - before))} left"
        if note:
            state = f"{state}; {note}"
        print(f"{self.title}: {done}/{total}, {state}", file=sys.stderr, flush=True)
