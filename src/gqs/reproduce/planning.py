"""The plan: folders looked into, networks timed, the disk looked at.

OUT/splits/SPLIT.parquet, OUT/models/SPLIT/NETWORK/seed-S: the folders of `gqs train`, which may
have made them as well.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from astropy.table import Table

from gqs import labels, tables
from gqs.cutouts.preprocessing import Preprocessing
from gqs.cutouts.split import split_hash
from gqs.cutouts.store import CutoutStore
from gqs.errors import GqsError, UsageError
from gqs.executors import Progress, no_progress
from gqs.model.folder import CARD, read_card
from gqs.networks import zoo
from gqs.recipes import Recipe
from gqs.reproduce import hypotheses as claims
from gqs.reproduce import timing as pace
from gqs.reproduce.plan import MODELS, Job, Plan
from gqs.training import checkpoints, machine
from gqs.training.result import HISTORY

# Of the weights' size: while a network trains two checkpoints (weights and an optimizer with two
# numbers a weight), the best epoch of each; when it is done, the weights alone.
TRAINING_COPIES: Final = 8


def make_plan(
    store: CutoutStore,
    out: Path,
    splits: Mapping[str, Table],
    recipes: Mapping[str, Recipe],
    seeds: Sequence[int],
    at_once: int,
    device: str | None,
    threads: int | None,
    progress: Progress = no_progress,
) -> Plan:
    """Plan every network x seed x split; measure what no epoch tells yet."""
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
    found = [_looked_into(job, identity_of(store, splits[job.split], job, where)) for job in jobs]
    channels = Preprocessing(store.form, store.bands, "asinh").channels
    found = _timed(found, objects, channels, device, threads, progress)
    out.mkdir(parents=True, exist_ok=True)
    return Plan(found, objects, at_once, _disk(found, at_once), shutil.disk_usage(out).free)


def _timed(
    jobs: Sequence[Job],
    objects: Mapping[str, Mapping[str, int]],
    channels: int,
    device: str | None,
    threads: int | None,
    progress: Progress,
) -> list[Job]:
    """Estimate epochs: from their own, from another training of the network, from a few steps."""
    known = {  # seconds of an epoch, an object of the training side
        job.network: job.seconds / objects[job.split]["train"]
        for job in jobs
        if np.isfinite(job.seconds)
    }
    paces: dict[str, pace.Pace | str] = {}
    found = []
    for i, job in enumerate(jobs):
        sides = objects[job.split]
        if not job.finished and not job.estimated_from:
            if job.network in known:
                seconds = known[job.network] * sides["train"]
                job = replace(job, seconds=seconds, estimated_from="another training")
            else:
                progress(i, len(jobs), f"measuring {job.network}")
                if job.network not in paces:
                    paces[job.network] = _pace(job, channels, device, threads)
                measured = paces[job.network]
                if isinstance(measured, str):
                    job = replace(job, unable=measured)
                else:
                    seconds = measured.epoch(sides["train"], sides["validation"])
                    job = replace(job, seconds=seconds, estimated_from="a few steps")
        found.append(replace(job, parameters=_parameters(job, channels)))
    progress(len(jobs), len(jobs), "planned")
    return found


def _pace(job: Job, channels: int, device: str | None, threads: int | None) -> pace.Pace | str:
    try:
        return pace.measure(job.recipe, channels, device, threads)
    except GqsError as error:
        return str(error)


def model_folder(out: Path, split: str, network: str, seed: int) -> Path:
    """Return where a training lies."""
    return out / MODELS / split / network.replace(":", "-").replace("/", "-") / f"seed-{seed}"


def identity_of(store: CutoutStore, split: Table, job: Job, device: torch.device) -> dict[str, Any]:
    """Return what a training is, as `gqs.training.train` writes it into its checkpoints."""
    recipe = job.recipe.changed(precision=machine.precision_of(job.recipe.precision, device))
    return {
        "data": store.hash,
        "split": split_hash(split),
        "classes": list(labels.CLASSES),
        "seed": job.seed,
        "recipe": recipe.identity(),
    }


def _looked_into(job: Job, identity: dict[str, Any]) -> Job:
    """Note how far a training is, and how long its epochs took."""
    done, finished, seconds = 0, False, []
    if (job.folder / CARD).is_file():
        card = read_card(job.folder)
        then = dict(card.training.get("identity", {}))
        then.pop("processes", None)  # what torchrun trained in several is as good as ours
        checkpoints.require_same(job.folder, then, identity)
        done, finished = int(card.training["epochs"]), True
        seconds = [float(value) for value in tables.read(job.folder / HISTORY)["seconds"]]
    for manifest in sorted(job.folder.glob("checkpoints/?????-??????.json"), reverse=True):
        if finished:
            break
        try:
            saved = json.loads(manifest.read_text("utf-8"))
            done, history = int(saved["epoch"]), saved["history"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the training itself says so, loudly, and uses the one before
        checkpoints.require_same(job.folder, saved.get("identity", {}), identity)
        seconds = [float(row["seconds"]) for row in history]
        break
    if not seconds:
        return replace(job, done=done, finished=finished)
    median = float(np.median(seconds))
    return replace(job, done=done, finished=finished, seconds=median, estimated_from="its epochs")


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
