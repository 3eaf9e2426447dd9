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
    """

    store: Path
    number: int
    sources: Table
    bands: str
    form: str
    seed: int

    def __str__(self) -> str:
        return f"Simulated objects from {self.number * CHUNK + 1} on"


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
    source = files.hash_of(
        [rows_hash(task.sources), task.bands, task.form, task.seed, name, renderer_hash()]
    )
    there = committed(task.store, name, source)
    if there is not None:
        return there
    # Fields are numbered through the whole store, and each has its own stream of chance, so that
    # a shard is the same whoever renders it and when.
    first = task.number * CHUNK // OBJECTS_A_FIELD
    parts = list(render_cutouts(task.sources, task.seed, task.bands, first_field=first))
    images = np.concatenate([part for part, _ in parts])
    if task.form == "paper":
        images = colour_cutouts(images, task.bands)
    rows = vstack([part for _, part in parts], metadata_conflicts="silent")
    return write_shard(task.store, name, images, rows, source)
