"""A small store of colour pictures in three classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.table import Table

from gqs import labels
from gqs.cutouts.shards import write_shard
from gqs.cutouts.store import CutoutStore, StoreWriter

Made = Callable[..., Path]


def pictures(folder: Path, n: int, classes: np.ndarray | None = None) -> CutoutStore:
    """A paper-form store of n pictures, twelve a field, whose classes differ in size and colour."""
    rng = np.random.default_rng(1)
    kind = np.arange(n) % 3 if classes is None else classes
    y, x = np.mgrid[:50, :50]
    width = np.where(kind == 0, 3.5, 2.0)[:, None, None, None]
    colour = np.where(kind[:, None] == 1, [0.6, 0.8, 1.0], [1.0, 0.8, 0.6])[:, :, None, None]
    spot = np.exp(-((y - 24.5) ** 2 + (x - 24.5) ** 2) / (2 * width**2))
    light = 200 * rng.uniform(0.1, 1, (n, 1, 1, 1)) * colour * spot
    images = np.clip(light + rng.normal(20, 12, (n, 3, 50, 50)), 0, 255).astype(np.uint8)
    r = rng.uniform(15, 22, n)
    rows = Table(
        {
            "objid": np.arange(n, dtype=np.uint64) + np.uint64(100),
            "ra": 0.01 * np.arange(n) + 1,
            "dec": np.zeros(n),
            "x": np.zeros(n),
            "y": np.zeros(n),
            "run": np.full(n, 94),
            "camcol": np.ones(n, int),
            "field": np.arange(n) // 12,
            "class": np.array(labels.CLASSES)[kind],
            "flags": np.zeros(n, np.int32),
            **{b: r + rng.normal(0, 0.3, n) - 0.4 * i * (kind == 1) for i, b in enumerate("ugriz")},
        }
    )
    with StoreWriter(folder, "gri", "paper", "pad", {"seed": 1}) as writer:
        write_shard(folder, "all", images, rows, "toy")
        return writer.finish(["all"])
