"""One shard of simulated objects, rendered as stamps without frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from astropy.table import Table, vstack

from gqs import files
from gqs.dataset.shards import Shard, committed, rows_hash, write_shard
from gqs.imaging.composite import colour_cutouts
from gqs.survey.simulated.drawn_by import renderer_hash
from gqs.survey.simulated.stamps import OBJECTS_A_FIELD, render_cutouts

_OTHERS: Final = 4000  # fields from which stores of one's own begin
CHUNK: Final = 512  # objects a shard: four fields


@dataclass(frozen=True)
class RenderTask:
    """What one child needs to make one shard of simulated objects.

    Attributes
    ----------
    store : Path
        The store's folder.
    number : int
        Of the shard.
    sources : Table
        As `gqs.survey.simulated.population` draws them.
    bands : str
        To render.
    form : str
        "flux", or "paper" for the colour picture.
    seed : int
        The store's.
    stretch : int
        Fields of the simulated sky that lie before the store's first.
    """

    store: Path
    number: int
    sources: Table
    bands: str
    form: str
    seed: int
    stretch: int = 0

    def __str__(self) -> str:
        return f"Simulated objects from {self.number * CHUNK + 1} on"


def stretch_of(seed: int) -> int:
    """Choose a stretch of the simulated sky, so that stores of two seeds show two skies.

    Parameters
    ----------
    seed : int
        A store's.

    Returns
    -------
    int
        Fields before its first: beyond those of the package's own model, and 50 or more away from
        where most other seeds begin.
    """
    return _OTHERS + 50 * int(
        np.random.SeedSequence(seed, spawn_key=(22,)).generate_state(1)[0] % 1200
    )


def render_chunk(task: RenderTask) -> Shard:
    """Render one shard, or find that it is there already; runs in a child.

    Parameters
    ----------
    task : RenderTask
        What to render.

    Returns
    -------
    Shard
        What was committed.

    Raises
    ------
    ResourceError
        If the disk refuses.
    """
    name = f"simulated-{task.number:06d}"
    parts_of = [rows_hash(task.sources), task.bands, task.form, task.seed, name, renderer_hash()]
    source = files.hash_of(parts_of + [task.stretch] * (task.stretch > 0))
    there = committed(task.store, name, source)
    if there is not None:
        return there
    # Fields are numbered through the whole store, and each has its own stream of chance, so that
    # a shard is the same whoever renders it and when.
    first = task.stretch + task.number * CHUNK // OBJECTS_A_FIELD
    parts = list(render_cutouts(task.sources, task.seed, task.bands, first_field=first))
    images = np.concatenate([part for part, _ in parts])
    if task.form == "paper":
        images = colour_cutouts(images, task.bands)
    rows = vstack([part for _, part in parts], metadata_conflicts="silent")
    return write_shard(task.store, name, images, rows, source)
