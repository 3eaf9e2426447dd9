"""The plan of a reproduction: which trainings, how far each is, and what time and disk they need.

OUT/splits/SPLIT.parquet and OUT/models/SPLIT/NETWORK/seed-S are split files and model folders as
`gqs train` takes and writes them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from astropy.table import Table

from gqs import recipes, tables
from gqs.cutouts.preprocessing import Preprocessing
from gqs.cutouts.split import split_hash
from gqs.cutouts.store import CutoutStore
from gqs.errors import GqsError, ResourceError, UsageError
from gqs.executors import Progress, cpu_count, no_progress
from gqs.formatting import duration, size
from gqs.model.folder import CARD, read_card
from gqs.networks import zoo
from gqs.recipes import Recipe
from gqs.reproduce import hypotheses, timing
from gqs.training import checkpoints, machine
from gqs.training.loop import training_identity
from gqs.training.result import HISTORY

MODELS: Final = "models"
# Disk space in units of a network's weights. In training: two checkpoints (weights, and an
# optimizer with two numbers a weight) and the best epoch of each; afterwards the weights alone.
TRAINING_COPIES: Final = 8


@dataclass(frozen=True)
class Options:
    """What to reproduce, and how.

    Attributes
    ----------
    networks : sequence of str
        Names of networks and of groups of them (`hypotheses.GROUPS`).
    seeds : sequence of int
        Seeds with which each network is trained.
    splits : sequence of str
        "grouped", "paper"; the tables show the first.
    by : str
        What the grouped split keeps on one side: "field" or "run".
    limit : int, optional
        Number of objects, a third of each class, drawn before the split.
    train_limit : int, optional
        Number of training objects, a third of each class; validation and test stay whole.
    recipe : str
        Recipe of the trainings.
    epochs, batch, precision
        Override the recipe.
    device, threads
        As for `gqs.training.train`.
    jobs : int
        Trainings at a time.
    seed : int
        Seed of splits, bootstraps and boosted trees.
    """

    networks: Sequence[str] = ("all",)
    seeds: Sequence[int] = (1,)
    splits: Sequence[str] = ("grouped",)
    by: str = "field"
    limit: int | None = None
    train_limit: int | None = None
    recipe: str = "paper"
    epochs: int | None = None
    batch: int | None = None
    precision: str | None = None
    device: str | None = None
    threads: int | None = None
    jobs: int = 1
    seed: int = 1

    def recipes(self) -> dict[str, Recipe]:
        """Recipe of each network, as `gqs train` uses it."""
        return {
            name: recipes.load(self.recipe, name).changed(
                epochs=self.epochs, batch=self.batch, precision=self.precision
            )
            for name in hypotheses.networks(self.networks)
        }

    def threads_each(self) -> int | None:
        """Threads of each training; None leaves the choice to a single training at a time."""
        if self.threads or self.jobs == 1:
            return self.threads
        return max(1, cpu_count() // self.jobs)

    def devices(self) -> list[str | None]:
        """One device for all trainings; with several at a time, all visible GPUs in turn."""
        count = torch.cuda.device_count() if self.device in (None, "cuda") else 0
        if count > 1 and self.jobs > 1:
            return [f"cuda:{i}" for i in range(count)]
        return [self.device]


@dataclass(frozen=True)
class Job:
    """One training."""

    split: str
    network: str
    seed: int
    recipe: Recipe
    folder: Path  # the model folder
    done: int = 0  # epochs that are finished already
    finished: bool = False
    seconds: float = float("nan")  # estimated time of an epoch; NaN if it could not be measured
    estimated_from: str = ""  # "its epochs", "another training", or "a few steps"
    parameters: int = 0  # of the network; 0 if it cannot be built
    unable: str = ""  # why the network cannot be trained here

    @property
    def name(self) -> str:
        """Network, seed and split."""
        return f"{self.network}, seed {self.seed}, {self.split} split"

    @property
    def left_s(self) -> float:
        """Estimated seconds until it is finished."""
        return 0.0 if self.finished else self.seconds * max(0, self.recipe.epochs - self.done)


@dataclass(frozen=True)
class Plan:
    """All trainings of a command, with their estimated time and disk space."""

    jobs: Sequence[Job]  # in the order in which they run
    objects: Mapping[str, Mapping[str, int]]  # number by split and side
    at_once: int  # trainings at a time
    disk: int  # bytes needed at the fullest moment
    free: int  # bytes free on that disk

    @property
    def seconds(self) -> float:
        """Estimated time of all trainings that could be measured."""
        left = [job.left_s for job in self.jobs if np.isfinite(job.left_s)]
        return max([sum(left) / self.at_once, *left]) if left else 0.0

    def lines(self) -> list[str]:
        """Lines of the plan to print."""
        lines = [
            f"{split} split: " + ", ".join(f"{count:,} {side}" for side, count in sides.items())
            for split, sides in self.objects.items()
        ]
        lines.append(
            f"{'network':<28} {'seed':>4} {'split':<8} {'epochs':>9} {'left':>9}  estimated from"
        )
        for job in self.jobs:
            epochs = f"{job.done}/{job.recipe.epochs}"
            left = "done" if job.finished else duration(job.left_s)
            why = job.unable or job.estimated_from
            lines.append(
                f"{job.network:<28} {job.seed:>4} {job.split:<8} {epochs:>9} {left:>9}  {why}"
            )
        todo = sum(not (job.finished or job.unable) for job in self.jobs)
        at_once = f", {self.at_once} at a time" if self.at_once > 1 else ""
        lines.append(
            f"{todo} of {len(self.jobs)} to train{at_once}: about {duration(self.seconds)}; "
            f"disk: {size(self.disk)} at most, {size(self.free)} free."
        )
        return lines

    def to_json(self) -> dict[str, Any]:
        """JSON form of the plan."""
        jobs = [
            {
                "network": job.network,
                "seed": job.seed,
                "split": job.split,
                "epochs": job.recipe.epochs,
                "epochs_done": job.done,
                "finished": job.finished,
                "seconds_left": round(job.left_s, 1) if np.isfinite(job.left_s) else None,
                "estimated_from": job.estimated_from,
                "unable": job.unable,
            }
            for job in self.jobs
        ]
        return {
            "jobs": jobs,
            "objects": {split: dict(sides) for split, sides in self.objects.items()},
            "at_once": self.at_once,
            "seconds": round(self.seconds, 1),
            "disk": self.disk,
            "free": self.free,
        }

    def require_disk(self) -> None:
        """Refuse to start if the disk is too small."""
        if self.disk > self.free:
            raise ResourceError(
                f"The plan needs {size(self.disk)} of disk, but {size(self.free)} "
                "are free. Free some space, or train fewer --networks or --seeds at a time."
            )


def make_plan(
    store: CutoutStore,
    out: Path,
    splits: Mapping[str, Table],
    options: Options,
    progress: Progress = no_progress,
) -> Plan:
    """Plan every network, seed and split; time a few steps of networks not trained before.

    Networks that decide the paper's hypotheses come first.
    """
    jobs = [
        Job(split, network, seed, recipe, model_folder(out, split, network, seed))
        for deciding in (True, False)
        for split in splits
        for seed in options.seeds
        for network, recipe in options.recipes().items()
        if (network in hypotheses.FIRST) is deciding
    ]
    objects = {
        name: {side: sum(counts.values()) for side, counts in split.meta["counts"].items()}
        for name, split in splits.items()
    }
    device = machine.device_of(options.device)
    jobs = [_with_progress(job, identity_of(store, splits[job.split], job, device)) for job in jobs]
    channels = Preprocessing(store.form, store.bands, "asinh").channels
    jobs = _with_times(jobs, objects, channels, options, progress)
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    return Plan(jobs, objects, options.jobs, _disk(jobs, options.jobs), free)


def model_folder(out: Path, split: str, network: str, seed: int) -> Path:
    """Model folder of a training."""
    return out / MODELS / split / network.replace(":", "-").replace("/", "-") / f"seed-{seed}"


def identity_of(store: CutoutStore, split: Table, job: Job, device: torch.device) -> dict[str, Any]:
    """Identity of a job's training, as `gqs train` records it."""
    recipe = job.recipe.changed(precision=machine.precision_of(job.recipe.precision, device))
    return training_identity(store.hash, split_hash(split), recipe, job.seed)


def epochs_done(folder: Path) -> tuple[int, dict[str, Any]]:
    """Finished epochs and content of the newest readable checkpoint of a training; 0 without."""
    for manifest in checkpoints.manifests(folder / checkpoints.FOLDER):
        try:
            progress = json.loads(manifest.read_text("utf-8"))
            return int(progress["epoch"]), progress
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the training warns of it, and uses the one before
    return 0, {}


def _with_progress(job: Job, identity: dict[str, Any]) -> Job:
    """Add how far a training is and the time of its epochs; refuse another training's folder."""
    if (job.folder / CARD).is_file():
        card = read_card(job.folder)
        then = dict(card.training.get("identity", {}))
        then.pop("processes", None)  # a training of several processes under torchrun counts too
        checkpoints.require_same(job.folder, then, identity)
        seconds = [float(value) for value in tables.read(job.folder / HISTORY)["seconds"]]
        job = replace(job, done=int(card.training["epochs"]), finished=True)
    else:
        done, progress = epochs_done(job.folder)
        if progress:
            checkpoints.require_same(job.folder, progress.get("identity", {}), identity)
        seconds = [float(row["seconds"]) for row in progress.get("history", [])]
        job = replace(job, done=done)
    if not seconds:
        return job
    return replace(job, seconds=float(np.median(seconds)), estimated_from="its epochs")


def _with_times(
    jobs: Sequence[Job],
    objects: Mapping[str, Mapping[str, int]],
    channels: int,
    options: Options,
    progress: Progress,
) -> list[Job]:
    """Estimate the time of an epoch: from another training of the network, or from a few steps."""
    known = {  # seconds of an epoch per training object
        job.network: job.seconds / objects[job.split]["train"]
        for job in jobs
        if np.isfinite(job.seconds)
    }
    measured: dict[str, timing.Pace | str] = {}
    timed = []
    for i, job in enumerate(jobs):
        sides = objects[job.split]
        if not job.finished and not job.estimated_from:
            if job.network in known:
                seconds = known[job.network] * sides["train"]
                job = replace(job, seconds=seconds, estimated_from="another training")
            else:
                progress(i, len(jobs), f"measuring {job.network}")
                if job.network not in measured:
                    measured[job.network] = _pace(job.recipe, channels, options)
                pace = measured[job.network]
                if isinstance(pace, str):
                    job = replace(job, unable=pace)
                else:
                    seconds = pace.epoch(sides["train"], sides["validation"])
                    job = replace(job, seconds=seconds, estimated_from="a few steps")
        timed.append(replace(job, parameters=_parameters(job, channels)))
    progress(len(jobs), len(jobs), "planned")
    return timed


def _pace(recipe: Recipe, channels: int, options: Options) -> timing.Pace | str:
    """Speed of a network, or the reason why it cannot be trained here."""
    try:
        return timing.measure_pace(recipe, channels, options.device, options.threads_each())
    except GqsError as error:
        return str(error)


def _parameters(job: Job, channels: int) -> int:
    if job.unable:
        return 0
    try:
        return zoo.parameters(job.network, channels, **job.recipe.arguments)
    except (UsageError, ImportError, RuntimeError):  # cannot be built without its weights
        return 0


def _disk(jobs: Sequence[Job], at_once: int) -> int:
    """Bytes at the fullest moment: all models finished, and the largest still in training."""
    sizes = sorted((4 * job.parameters for job in jobs if not job.finished), reverse=True)
    return sum(sizes) + TRAINING_COPIES * sum(sizes[:at_once])
