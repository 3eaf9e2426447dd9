"""What will run, in the order of the claims that it settles: done already, and how long yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from gqs.errors import ResourceError
from gqs.formatting import duration
from gqs.recipes import Recipe

MODELS: Final = "models"


@dataclass(frozen=True)
class Job:
    """One training, and where it lies."""

    split: str  # what tells it from the others
    network: str
    seed: int
    recipe: Recipe  # how it is trained
    folder: Path  # its model folder
    done: int = 0  # epochs that are finished already
    finished: bool = False  # whether nothing is left to train
    seconds: float = float("nan")  # estimated time of an epoch; NaN where nothing could be measured
    estimated_from: str = ""  # "its epochs", "another training", or "a few steps"
    parameters: int = 0  # of the network; 0 where it cannot be built
    unable: str = ""  # why it cannot run here

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
    """All that a command will do."""

    jobs: Sequence[Job]  # in the order in which they run
    objects: Mapping[str, Mapping[str, int]]  # by split, then by side: how many
    at_once: int  # trainings side by side
    disk: int  # bytes that will be written and kept, and at most needed at a time
    free: int  # bytes that are free where they go

    @property
    def seconds(self) -> float:
        """Estimated time until all is done, as far as it could be measured."""
        left = [job.left_s for job in self.jobs if np.isfinite(job.left_s)]
        return max([sum(left) / self.at_once, *left]) if left else 0.0

    def lines(self) -> list[str]:
        """Write the plan."""
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
        side = f", {self.at_once} side by side" if self.at_once > 1 else ""
        lines.append(
            f"{todo} of {len(self.jobs)} to train{side}: about {duration(self.seconds)}; "
            f"disk: {self.disk / 1e9:.1f} GB at most, {self.free / 1e9:.0f} GB free."
        )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON holds it."""
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
        """Refuse to begin what the disk cannot hold."""
        if self.disk > self.free:
            raise ResourceError(
                f"The plan needs {self.disk / 1e9:.1f} GB of disk and {self.free / 1e9:.1f} GB are "
                "free. Make room, or ask for fewer --networks or --seeds at a time."
            )
