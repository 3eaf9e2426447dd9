"""Trainings as child processes, one at a time or several side by side, spread over the GPUs.

A child that dies, is killed or runs out of memory costs only its own training. When this process
is told to stop, every child writes a checkpoint first.
"""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import numpy as np

from gqs.errors import BadInputError, IntegrityError
from gqs.executors import Progress, no_progress
from gqs.reproduce.plan import Job

PATIENCE_S: Final = 60.0  # for the checkpoints of children that were told to stop
COMMAND: Final = (sys.executable, "-P", "-m", "gqs.reproduce.child")


class SetAside(NamedTuple):
    """A training that failed: why, and the exit code that it asks for, 3 or 7."""

    sentence: str
    code: int = BadInputError.exit_code


@dataclass
class _Child:
    """A running training."""

    job: Job
    slot: int
    process: subprocess.Popen[str]
    share: float = 0.0  # of its work that is done
    failed: str = ""
    code: int = BadInputError.exit_code


@dataclass
class Crew:
    """Runs jobs in their order, as many at once as there are slots."""

    store: Path  # the data, and the folder of the saved splits
    splits: Path
    slots: int  # trainings side by side
    # slot i computes on device i modulo their number; None leaves the choice to the training
    devices: Sequence[str | None]
    threads: int | None  # of one operation
    _said: queue.SimpleQueue[tuple[_Child, dict[str, Any] | None]] = field(
        default_factory=queue.SimpleQueue
    )

    def run(self, jobs: Sequence[Job], progress: Progress = no_progress) -> list[SetAside]:
        """Run jobs."""
        waiting = list(reversed([job for job in jobs if not job.unable]))
        weights = _weights(jobs)
        failed = [SetAside(f"{job.name}: {job.unable}") for job in jobs if job.unable]
        children: list[_Child] = []
        behind, total = 0.0, sum(weights[job.name] for job in waiting)
        try:
            while waiting or children:
                while waiting and len(children) < self.slots:
                    free = min(set(range(self.slots)) - {child.slot for child in children})
                    children.append(self._start(waiting.pop(), free))
                child, said = self._hear()
                if child is None:
                    continue
                if said is None:
                    children.remove(child)
                    behind += weights[child.job.name]
                    if reason := _why(child):
                        failed.append(SetAside(f"{child.job.name}: {reason}", child.code))
                elif "failed" in said:
                    child.failed = str(said["failed"])
                    if said.get("code") == IntegrityError.exit_code:
                        child.code = IntegrityError.exit_code
                else:
                    child.share = said["done"] / max(1, said["total"])
                done = behind + sum(weights[c.job.name] * c.share for c in children)
                note = f"{child.job.network}, seed {child.job.seed}: " + (
                    "ended" if said is None else str(said.get("note", "failed"))
                )
                progress(round(done), max(1, round(total)), note)
        finally:
            _stop(children)
        return failed

    def _start(self, job: Job, slot: int) -> _Child:
        task = {
            "store": str(self.store),
            "split": str(self.splits / f"{job.split}.parquet"),
            "folder": str(job.folder),
            "finished": job.finished,
            "recipe": job.recipe.model_dump(),
            "seed": job.seed,
            "threads": self.threads,
            "device": self.devices[slot % len(self.devices)],
        }
        process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C reaches a whole group; the parent alone answers, by telling its children.
            start_new_session=True,
        )
        child = _Child(job, slot, process)
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
        except OSError:  # it is dead already, which its exit code tells
            pass
        threading.Thread(target=self._listen, args=(child, process.stdout), daemon=True).start()
        return child

    def _listen(self, child: _Child, lines: IO[str]) -> None:
        for line in lines:
            try:
                said = json.loads(line)
            except ValueError:  # a library's own words
                continue
            if isinstance(said, dict):
                self._said.put((child, said))
        child.process.wait()
        self._said.put((child, None))

    def _hear(self) -> tuple[_Child | None, dict[str, Any] | None]:
        try:  # a wait without an end would not let signals through
            return self._said.get(timeout=1.0)
        except queue.Empty:
            return None, None


def _weights(jobs: Sequence[Job]) -> dict[str, float]:
    """Work of each job in estimated seconds; one that is only judged still counts a little."""
    known = [job.left_s for job in jobs if np.isfinite(job.left_s) and job.left_s > 0]
    usual = float(np.median(known)) if known else 1.0
    return {job.name: max(1.0, job.left_s if np.isfinite(job.left_s) else usual) for job in jobs}


def _why(child: _Child) -> str:
    """Say why a child ended without its result; nothing where it has one."""
    code = child.process.returncode
    if child.failed or code == 0:
        return child.failed
    if code < 0:
        name = signal.Signals(-code).name
        memory = " (perhaps for want of memory)" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{memory}; the same command goes on from there."
    return f"its process ended with code {code}; the same command goes on from there."


def _stop(children: Sequence[_Child]) -> None:
    for child in children:
        child.process.terminate()
    for child in children:
        try:
            child.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
