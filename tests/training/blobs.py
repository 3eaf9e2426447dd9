"""A small store of blobs on sky noise in three classes, and a recipe that trains on it quickly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table

from gqs.cutouts import split as splits
from gqs.cutouts.shards import write_shard
from gqs.cutouts.store import CutoutStore, StoreWriter
from gqs.labels import CLASSES
from gqs.recipes import Recipe
from gqs.surveys.sdss import SKY_NOISE

N, BANDS = 240, "gri"


def sky(n: int, bands: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Blobs that differ by class in size (galaxies) and colour (quasars), on sky noise."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(3, size=n)
    y, x = np.mgrid[:50, :50]
    width = np.where(kind == 0, 3.5, 1.6)[:, None, None]
    spot = np.exp(-((y - 24.5) ** 2 + (x - 24.5) ** 2)[None] / (2 * width**2))
    images = np.empty((n, len(bands), 50, 50), np.float32)
    for i, band in enumerate(bands):
        colour = np.where(kind == 1, 1.0, 1.0 + 0.5 * i)[:, None, None]
        noise = SKY_NOISE[band] * rng.normal(size=(n, 50, 50))
        images[:, i] = spot * colour * rng.uniform(1, 5, (n, 1, 1)) + noise
    return images, np.array(CLASSES)[kind]


def make_store(path: Path, seed: int = 1) -> tuple[CutoutStore, Table]:
    """Write a store of N objects in 12 fields, and split it by field."""
    images, classes = sky(N, BANDS, seed)
    images[3, 1] = np.nan
    rows = Table(
        {
            "objid": np.arange(N, dtype=np.uint64) + 1000 * np.uint64(seed),
            "ra": 10 + 0.01 * np.arange(N),
            "dec": np.zeros(N),
            "x": np.full(N, 100.0),
            "y": np.full(N, 200.0),
            "run": np.full(N, 94),
            "camcol": np.full(N, 1),
            "field": np.arange(N) // 20,
            "class": classes,
            "flags": np.zeros(N, dtype=np.int32),
        }
    )
    with StoreWriter(path, BANDS, "flux", "pad", {"seed": seed}) as writer:
        for name, part in (("a", slice(0, 130)), ("b", slice(130, N))):
            write_shard(path, name, images[part], rows[part], "toy")
        store = writer.finish(["a", "b"])
    return store, splits.make_split(store.index, "grouped", "field", seed=2)


def recipe(**changes: object) -> Recipe:
    quick = Recipe(
        network="compact",
        arguments={"width": 4, "hidden": 16, "dropout": 0.05},
        optimizer="adamw",
        rate=5e-3,
        schedule="cosine",
        warmup=0.5,
        epochs=4,
        batch=32,
        average=0.9,
        clip=1.0,
        augment={"dihedral": True, "shift": 1, "band_dropout": 0.1},  # type: ignore[arg-type]
    )
    return quick.changed(**changes)
