"""The loop over fields that all runs share, on any executor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from gqs.errors import GqsError
from gqs.executors import Executor, Progress
from gqs.runs.field_task import FATAL, FieldTask, RunOptions, classify_task, frame_states, set_aside
from gqs.runs.run_store import DONE, SET_ASIDE, Record, RunStore


def unfinished(store: RunStore, tasks: Sequence[FieldTask]) -> list[FieldTask]:
    """The fields without rows, or with rows of frames that were replaced since."""
    return [task for task in tasks if not _is_done(store.record(task.name), task)]


def _is_done(record: Record | None, task: FieldTask) -> bool:
    return (
        record is not None
        and record["status"] == DONE
        and record.get("frames") == frame_states(task)
    )


def run_tasks(
    executor: Executor,
    options: RunOptions,
    tasks: Sequence[FieldTask],
    waiting: Sequence[FieldTask],
    progress: Progress,
) -> None:
    """Classify the waiting fields of a run; each leaves its rows and its record in the store."""
    done, aside = len(tasks) - len(waiting), 0

    def note() -> str:
        return ", ".join(filter(None, (executor.describe(), f"{aside} set aside" * bool(aside))))

    progress(done, len(tasks), note())
    for outcome in executor.run(partial(classify_task, options), waiting):
        if isinstance(outcome.error, FATAL):
            raise outcome.error
        record = outcome.result
        if isinstance(outcome.error, GqsError):  # its process died before it could write a record
            record = set_aside(options, outcome.item, outcome.error)
        done += 1
        aside += record["status"] == SET_ASIDE
        progress(done, len(tasks), note())
