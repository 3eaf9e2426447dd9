"""What will run, in the order of the claims that it settles; what is finished; how long it takes.

OUT/splits/SPLIT.parquet, OUT/models/SPLIT/NETWORK/seed-S: the folders of `gqs train`, which may
have made them as well.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.table import Table

from gqs import labels, tables, workers
from gqs.dataset.preprocess import Preprocessing
from gqs.dataset.split import split_hash
from gqs.dataset.store import CutoutStore
from gqs.errors import GqsError, ResourceError, UsageError
from gqs.model_folder import CARD, read_card
from gqs.networks import zoo
from gqs.recipes import Recipe
from gqs.reproduce import claims, pace
from gqs.training import checkpoints, machine
from gqs.training.outcome import HISTORY

MODELS: Final = "models"
# Of the weights' size: while a network trains two checkpoints (weights and an optimizer with two
# numbers a weight), the best epoch of each; when it is done, the weights alone.
TRAINING_COPIES: Final = 8


@dataclass(frozen=True)
class Job:
    """One training, and where it lies.

    Attributes
    ----------
    split, network, seed
        What tells it from the others.
    recipe : Recipe
        How it is trained.
    folder : Path
        Its model folder.
    done : int
        Epochs that are finished already.
    finished : bool
        Whether nothing is left to train.
    seconds : float
        Estimated time of an epoch; NaN where nothing could be measured.
    estimated_from : str
        "its epochs", "another training", or "a few steps".
    parameters : int
        Of the network; 0 where it cannot be built.
    unable : str
        Why it cannot run here.
    """

    split: str
    network: str
    seed: int
    recipe: Recipe
    folder: Path
    done: int = 0
    finished: bool = False
    seconds: float = float("nan")
    estimated_from: str = ""
    parameters: int = 0
    unable: str = ""

    @property
    def name(self) -> str:
        """Network, seed and split in words."""
        return f"{self.network}, seed {self.seed}, {self.split} split"

    @property
    def left_s(self) -> float:
        """Estimated seconds until it is done."""
        return 0.0 if self.finished else self.seconds * max(0, self.recipe.epochs - self.done)


@dataclass(frozen=True)
class Plan:
    """All that a command will do.

    Attributes
    ----------
    jobs : sequence of Job
        In the order in which they run.
    objects : dict
        By split, then by side: how many.
    at_once : int
        Trainings side by side.
    disk : int
        Bytes that will be written and kept, and at most needed at a time.
    free : int
        Bytes that are free where they go.
    """

    jobs: Sequence[Job]
    objects: Mapping[str, Mapping[str, int]]
    at_once: int
    disk: int
    free: int

    @property
    def seconds(self) -> float:
        """Estimated time until all is done, as far as it could be measured."""
        left = [job.left_s for job in self.jobs if np.isfinite(job.left_s)]
        return max([sum(left) / self.at_once, *left]) if left else 0.0

    def lines(self) -> list[str]:
        """Write the plan.

        Returns
        -------
        list of str
            A line a training, and what it all takes.
        """
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
        todo = sum(not job.finished for job in self.jobs)
        side = f", {self.at_once} side by side" if self.at_once > 1 else ""
        lines.append(
            f"{todo} of {len(self.jobs)} to train{side}: about {duration(self.seconds)}; "
            f"disk: {self.disk / 1e9:.1f} GB at most, {self.free / 1e9:.0f} GB free."
        )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON holds it.

        Returns
        -------
        dict
            What json.dumps takes.
        """
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

    def require_room(self) -> None:
        """Refuse to begin what the disk cannot hold.

        Raises
        ------
        ResourceError
            If less is free than is needed.
        """
        if self.disk > self.free:
            raise ResourceError(
                f"The plan needs {self.disk / 1e9:.1f} GB of disk and {self.free / 1e9:.1f} GB are "
                "free. Make room, or ask for fewer --networks or --seeds at a time."
            )


def duration(seconds: float) -> str:
    """Write a time in the unit that fits it.

    Parameters
    ----------
    seconds : float
        May be NaN.

    Returns
    -------
    str
        Such as "40 s", "12 min", "3.5 h"; "?" where it is not known.
    """
    if not np.isfinite(seconds):
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def make_plan(
    store: CutoutStore,
    out: Path,
    splits: Mapping[str, Table],
    recipes: Mapping[str, Recipe],
    seeds: Sequence[int],
    at_once: int,
    device: str | None,
    threads: int | None,
    progress: workers.Progress = workers.silent,
) -> Plan:
    """Plan every network x seed x split; measure what no epoch tells yet.

    Parameters
    ----------
    store : CutoutStore
        The data.
    out : Path
        Folder of everything.
    splits : mapping
        By name.
    recipes : mapping
        By network, in the order of `claims.networks`.
    seeds : sequence of int
        Of the trainings.
    at_once : int
        Trainings side by side.
    device, threads
        As for `gqs.training.train`.
    progress : callable
        Told as networks are measured.

    Returns
    -------
    Plan
        The networks that settle the paper's claims come first, with all their seeds and splits.

    Raises
    ------
    UsageError
        If a folder holds another training than the one that is asked for.
    """
    jobs = [
        Job(split, network, seed, recipe, model_folder(out, split, network, seed))
        for first in (True, False)
        for split in splits
        for seed in seeds
        for network, recipe in recipes.items()
        if (network in claims.FIRST) is first
    ]
    objects = {name: _sides(split) for name, split in splits.items()}
    where = machine.device_of(device)
    known: dict[str, float] = {}  # seconds of an epoch, an object of the training side
    found = []
    for job in jobs:
        identity = identity_of(store, splits[job.split], job, where)
        done, finished, seconds = _status(job, identity)
        if seconds:
            known[job.network] = float(np.median(seconds)) / objects[job.split]["train"]
        from_own = "its epochs" if seconds else ""
        own = float(np.median(seconds)) if seconds else float("nan")
        found.append(_with(job, done=done, finished=finished, seconds=own, estimated_from=from_own))
    paces: dict[str, pace.Pace | str] = {}
    channels = Preprocessing(store.form, store.bands, "asinh").channels
    for i, job in enumerate(found):
        if job.finished or job.estimated_from:
            continue
        if job.network in known:
            own = known[job.network] * objects[job.split]["train"]
            found[i] = _with(job, seconds=own, estimated_from="another training")
            continue
        if job.network not in paces:
            progress(i, len(found), f"measuring {job.network}")
            try:
                paces[job.network] = pace.measure(job.recipe, channels, device, threads)
            except GqsError as error:
                paces[job.network] = str(error)
        measured = paces[job.network]
        if isinstance(measured, str):
            found[i] = _with(job, unable=measured)
            continue
        sides = objects[job.split]
        seconds_an_epoch = measured.epoch(sides["train"], sides["validation"])
        found[i] = _with(job, seconds=seconds_an_epoch, estimated_from="a few steps")
    progress(len(found), len(found), "planned")
    found = [_with(job, parameters=_parameters(job, channels)) for job in found]
    out.mkdir(parents=True, exist_ok=True)
    return Plan(found, objects, at_once, _disk(found, at_once), shutil.disk_usage(out).free)


def model_folder(out: Path, split: str, network: str, seed: int) -> Path:
    """Return where a training lies.

    Parameters
    ----------
    out : Path
        Folder of everything.
    split, network, seed
        Which training.

    Returns
    -------
    Path
        Its model folder; the colon of `timm:NAME` becomes a dash.
    """
    return out / MODELS / split / network.replace(":", "-").replace("/", "-") / f"seed-{seed}"


def identity_of(store: CutoutStore, split: Table, job: Job, device: Any) -> dict[str, Any]:
    """Return what a training is, as `gqs.training.train` writes it into its checkpoints.

    Parameters
    ----------
    store, split : CutoutStore, Table
        The data.
    job : Job
        The training.
    device : torch.device
        It decides what the precision "auto" is.

    Returns
    -------
    dict
        data, split, classes, seed, recipe.
    """
    recipe = job.recipe.changed(precision=machine.precision_of(job.recipe.precision, device))
    return {
        "data": store.hash,
        "split": split_hash(split),
        "classes": list(labels.CLASSES),
        "seed": job.seed,
        "recipe": recipe.model_dump(exclude={"about"}),
    }


def _status(job: Job, identity: dict[str, Any]) -> tuple[int, bool, list[float]]:
    """Epochs done, whether it is finished, and the seconds of its epochs."""
    if (job.folder / CARD).is_file():
        card = read_card(job.folder)
        checkpoints.require_same(job.folder, card.training.get("identity", {}), identity)
        took = tables.read(job.folder / HISTORY)["seconds"]
        return int(card.training["epochs"]), True, [float(seconds) for seconds in took]
    for manifest in sorted(job.folder.glob("checkpoints/?????-??????.json"), reverse=True):
        try:
            saved = json.loads(manifest.read_text("utf-8"))
            epoch, history = int(saved["epoch"]), saved["history"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the training itself says so, loudly, and uses the one before
        checkpoints.require_same(job.folder, saved.get("identity", {}), identity)
        return epoch, False, [float(row["seconds"]) for row in history]
    return 0, False, []


def _with(job: Job, **changes: Any) -> Job:
    return Job(**{**job.__dict__, **changes})


def _sides(split: Table) -> dict[str, int]:
    return {side: sum(found.values()) for side, found in split.meta["counts"].items()}


def _parameters(job: Job, channels: int) -> int:
    if job.unable:
        return 0
    try:
        return zoo.parameters(job.network, channels, **job.recipe.arguments)
    except (UsageError, ImportError, RuntimeError):  # what cannot be built without its weights
        return 0


def _disk(jobs: Sequence[Job], at_once: int) -> int:
    """Bytes at the fullest moment: all models done, and the largest still in training."""
    sizes = sorted((4 * job.parameters for job in jobs if not job.finished), reverse=True)
    return sum(sizes) + TRAINING_COPIES * sum(sizes[:at_once])
