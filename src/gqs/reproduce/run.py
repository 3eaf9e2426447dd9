"""From a store to the paper's tables: plan, train, predict the test side, write. Paper, section 4.

Every training is a child process `gqs train`, which resumes by itself and writes its own model
folder; several run side by side, spread over the GPUs. One that fails, is killed or runs out of
memory costs only itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from astropy.table import Table

from gqs.cutouts.store import CutoutStore, Objects
from gqs.errors import BadInputError, GqsError, IntegrityError, UsageError, worst
from gqs.executors import Progress, no_progress
from gqs.files import only_writer
from gqs.reproduce.aggregate import gather
from gqs.reproduce.document import write_documents
from gqs.reproduce.kept import KeptResults
from gqs.reproduce.plan import Job, Options, Plan, epochs_done, make_plan
from gqs.reproduce.predictions import predict_test_side
from gqs.reproduce.results import Results
from gqs.reproduce.splits import FOLDER, open_split, require_scheme, saved_splits
from gqs.training import machine

Bar = Callable[[str], AbstractContextManager[Progress]]

COMMAND: Final = (sys.executable, "-P", "-m", "gqs.cli", "train")
LOGS: Final = "logs"
CHECK_EVERY_S: Final = 1.0  # of the running trainings
STOPPING_S: Final = 60.0  # time for a training to write its checkpoint when it is stopped
_LIBC: Final = ctypes.CDLL(None)  # loaded before any fork
_PDEATHSIG: Final = 1  # prctl(2)


class SetAside(NamedTuple):
    """A training that failed: the reason, and the exit code for it, 3 or 7."""

    sentence: str
    code: int = BadInputError.exit_code


@dataclass(frozen=True)
class Reproduction:
    """Result of a reproduction.

    Attributes
    ----------
    results : Results
        All numbers.
    page : Path
        The HTML page.
    set_aside : sequence of SetAside
        Trainings that failed, with reasons.
    """

    results: Results
    page: Path
    set_aside: Sequence[SetAside]

    @property
    def code(self) -> int:
        """Exit code: 0, 3 if trainings failed, 7 if data are damaged or contradict each other."""
        return worst({item.code for item in self.set_aside})


def prepare(
    store: CutoutStore,
    out: Path,
    options: Options,
    progress: Progress = no_progress,
) -> tuple[dict[str, Table], Plan]:
    """Open or make the splits, and plan the trainings."""
    _refuse_torchrun()
    options.recipes()  # unknown networks are refused before a split is written
    machine.device_of(options.device)
    splits = {name: open_split(store, out, name, options) for name in dict.fromkeys(options.splits)}
    return splits, make_plan(store, out, splits, options, progress)


def reproduce(
    store: CutoutStore,
    out: Path,
    options: Options,
    splits: Mapping[str, Table],
    plan: Plan,
    bar: Bar,
) -> Reproduction:
    """Train what is not trained yet, predict the test side, and write tables and figures.

    Parameters
    ----------
    store : CutoutStore
        The data.
    out : Path
        Folder to write; the same call continues an interrupted one.
    options : Options
        What to reproduce.
    splits, plan
        As `prepare` returns them.
    bar : callable
        Gives, for the name of a step, a context with a progress callable.

    Returns
    -------
    Reproduction
        All numbers, and the page that shows them.

    Raises
    ------
    ResourceError
        If another process works in this folder, or the disk is too small.
    """
    plan.require_disk()
    with only_writer(out):
        with bar("Training") as progress:
            failed = Trainings(store, out, splits, options).run(plan.jobs, progress)
        with bar("Measuring") as progress:
            reasons = [item.sentence for item in failed]
            both = {**splits, **saved_splits(store, out)}  # the first is shown
            results = gather(store, out, both, reasons, options.seed, progress)
            page = write_documents(results, out)
    return Reproduction(results, page, failed)


def tabulate(
    objects: Objects, out: Path, schemes: Sequence[str], seed: int, bar: Bar
) -> Reproduction:
    """Write tables and figures of the finished trainings; nothing is trained.

    The trainings are those of `out`, or of the results that were kept (`KeptResults`).
    """
    _refuse_torchrun()
    for name in schemes:
        require_scheme(name)
    trained = objects.path if isinstance(objects, KeptResults) else out
    saved = saved_splits(objects, trained)
    if not saved:
        raise UsageError(
            f"{trained}: has no splits of {objects.path}. Train first, or choose another folder."
        )
    for name, split in saved.items():
        if split.meta["seed"] != seed:
            raise UsageError(
                f"{trained}: its {name} split has seed {split.meta['seed']}. "
                f"Use --seed {split.meta['seed']}."
            )
    order = [name for name in schemes if name in saved]
    splits = {name: saved[name] for name in dict.fromkeys([*order, *saved])}
    with bar("Measuring") as progress:
        results = gather(objects, trained, splits, [], seed, progress)
        page = write_documents(results, out)
    return Reproduction(results, page, [])


def _refuse_torchrun() -> None:
    if machine.process_count() > 1:
        raise UsageError(
            "`gqs reproduce` starts its trainings itself: run it without torchrun, and use --jobs "
            "for several at a time. torchrun is for a single network with `gqs train`."
        )


@dataclass
class _Training:
    """A running `gqs train`."""

    job: Job
    slot: int
    device: str | None
    log: Path  # its standard error
    process: subprocess.Popen[bytes]

    def fraction(self) -> float:
        """Fraction of the epochs left at the start that are done now."""
        done, _ = epochs_done(self.job.folder)
        return max(0, done - self.job.done) / max(1, self.job.recipe.epochs - self.job.done)

    def last_line(self) -> str:
        """Last line that it wrote to standard error: its progress, or why it failed."""
        lines = self.log.read_text("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def failure(self) -> SetAside | None:
        """The reason why it ended without a model, or None."""
        code = self.process.returncode
        if code == 0:
            return None
        if code < 0:
            name = signal.Signals(-code).name
            memory = " (perhaps out of memory)" if name == "SIGKILL" else ""
            reason = f"killed by {name}{memory}; the same command continues from its checkpoint."
        else:
            reason = self.last_line().removeprefix("gqs: ") or f"ended with exit code {code}."
        damaged = code == IntegrityError.exit_code
        exit_code = IntegrityError.exit_code if damaged else BadInputError.exit_code
        return SetAside(f"{self.job.name}: {reason}", exit_code)


@dataclass
class Trainings:
    """Runs `gqs train` for every job of a plan, and predicts the test side of each."""

    store: CutoutStore
    out: Path
    splits: Mapping[str, Table]
    options: Options

    def run(self, jobs: Sequence[Job], progress: Progress) -> list[SetAside]:
        """Run jobs in their order, `options.jobs` at a time; returns those that failed.

        When this process is stopped by a signal, every training writes a checkpoint first.
        """
        waiting = [job for job in jobs if not (job.unable or job.finished)]
        seconds = _seconds_left(jobs)
        total, done = sum(seconds.values()), 0.0
        failed = [SetAside(f"{job.name}: {job.unable}") for job in jobs if job.unable]
        to_predict = [(job, self.options.devices()[0]) for job in jobs if job.finished]
        running: list[_Training] = []
        try:
            while waiting or running or to_predict:
                for training in [item for item in running if item.process.poll() is not None]:
                    running.remove(training)
                    if reason := training.failure():
                        failed.append(reason)
                        done += seconds[training.job.name]
                    else:
                        to_predict.append((training.job, training.device))
                while waiting and len(running) < self.options.jobs:
                    running.append(self._start(waiting.pop(0), running))
                if to_predict:  # in this process, while the others train
                    job, device = to_predict.pop(0)
                    note = f"{job.network}, seed {job.seed}: predicting the test side"
                    progress(round(done), max(1, round(total)), note)
                    if reason := self._predict(job, device):
                        failed.append(reason)
                    done += seconds[job.name]
                elif running:
                    time.sleep(CHECK_EVERY_S)
                part = sum(seconds[item.job.name] * item.fraction() for item in running)
                progress(round(done + part), max(1, round(total)), _note(running))
        finally:
            _stop([item.process for item in running])
        return failed

    def _start(self, job: Job, running: Sequence[_Training]) -> _Training:
        slot = min(set(range(self.options.jobs)) - {item.slot for item in running})
        devices = self.options.devices()
        device = devices[slot % len(devices)]
        log = self.out / LOGS / f"{job.folder.parent.name}-{job.folder.name}-{job.split}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        # Variables of this shell must not change the trainings that were planned.
        variables = {k: v for k, v in os.environ.items() if not k.startswith("GQS_TRAIN_")}
        with log.open("wb") as errors:
            process = subprocess.Popen(
                self.command(job, device),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=variables,
                # Ctrl-C reaches a whole group; this process alone handles it and stops the others.
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        return _Training(job, slot, device, log, process)

    def command(self, job: Job, device: str | None) -> list[str]:
        """Command line of a training."""
        optional = {
            "--epochs": self.options.epochs,
            "--batch": self.options.batch,
            "--precision": self.options.precision,
            "--threads": self.options.threads_each(),
            "--device": device,
        }
        return [
            *COMMAND,
            str(self.store.path),
            *("--out", str(job.folder)),
            *("--split", str(self.out / FOLDER / f"{job.split}.parquet")),
            *("--network", job.network),
            *("--recipe", self.options.recipe),
            *("--seed", str(job.seed)),
            *(word for key, value in optional.items() if value for word in (key, str(value))),
        ]

    def _predict(self, job: Job, device: str | None) -> SetAside | None:
        """Predict the test side with a finished model; the reason if that fails."""
        try:
            predict_test_side(job.folder, self.store, self.splits[job.split], device)
        except (GqsError, RuntimeError, MemoryError) as error:  # torch's errors are RuntimeErrors
            damaged = isinstance(error, IntegrityError)
            code = IntegrityError.exit_code if damaged else BadInputError.exit_code
            return SetAside(f"{job.name}: {' '.join(str(error).split())}", code)
        return None


def _seconds_left(jobs: Sequence[Job]) -> dict[str, float]:
    """Estimated seconds of each job, at least one; the median if a job could not be timed."""
    known = [job.left_s for job in jobs if np.isfinite(job.left_s) and job.left_s > 0]
    typical = float(np.median(known)) if known else 1.0
    return {
        job.name: max(1.0, job.left_s if np.isfinite(job.left_s) else typical)
        for job in jobs
        if not job.unable
    }


def _note(running: Sequence[_Training]) -> str:
    """Progress of the training that started first."""
    if not running:
        return ""
    job = running[0].job
    note = running[0].last_line().partition("; ")[2]  # after the time left
    return f"{job.network}, seed {job.seed}: {note or 'starting'}"


def _end_with_parent() -> None:
    """Have the kernel end this process when its parent ends, even by SIGKILL.

    A training loses nothing but time: it continues from its checkpoint, and must not go on writing
    in a folder that the next command needs.
    """
    _LIBC.prctl(_PDEATHSIG, signal.SIGKILL)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        with contextlib.suppress(OSError):
            process.terminate()
    for process in processes:
        try:
            process.wait(STOPPING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
