"""Predictions, truths and sources drawn from known distributions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table

from gqs import labels
from gqs.surveys.sdss import SKY_NOISE

NAMES = np.array(labels.CLASSES)


def predictions(probability: np.ndarray, fields: int = 7, **columns: np.ndarray) -> Table:
    """A Predictions table with the given probabilities (n, 3); rows of NaN have no class."""
    n = len(probability)
    judged = np.isfinite(probability).all(axis=1)
    table = Table({"objid": np.arange(n, dtype=np.uint64) + np.uint64(2**60 + 1)})
    for name in ("ra", "dec", "x", "y"):
        table[name] = np.linspace(1, 40, n)
    table["run"], table["camcol"] = np.full(n, 3430), np.full(n, 3)
    table["field"] = np.arange(n) % fields
    for i, name in enumerate(labels.PROBABILITY_COLUMNS):
        table[name] = probability[:, i]
    best = np.where(judged[:, None], probability, 0).argmax(axis=1)
    table["class"] = np.where(judged, NAMES[best], "").astype("U6")
    table["flags"] = np.where(judged, 0, 128).astype(np.int32)
    for name, values in columns.items():
        table[name] = values
    return table


def truth_of(table: Table, index: np.ndarray, **columns: np.ndarray) -> Table:
    """The true classes of a Predictions table's objects."""
    truth = Table({"objid": table["objid"], "class": NAMES[index]})
    for name, values in columns.items():
        truth[name] = values
    return truth


def sample(n: int = 600, seed: int = 0, skill: float = 2.0) -> tuple[Table, Table]:
    """Predictions of a network of some skill, calibrated by construction, and their truth."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3)) * skill
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    index = (rng.uniform(size=(n, 1)) > probability.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    table = predictions(probability)
    redshift = np.where(index == 1, rng.uniform(0, 5, n), rng.uniform(0, 0.5, n))
    return table, truth_of(table, index, r=rng.uniform(14.2, 22.8, n), redshift=redshift)


def from_confusion(confusion: list[list[int]]) -> tuple[Table, Table]:
    """Certain predictions whose confusion matrix is the given one."""
    pairs = [(i, j) for i in range(3) for j in range(3) for _ in range(confusion[i][j])]
    index, decided = np.array(pairs).T
    table = predictions(np.eye(3)[decided] * 0.94 + 0.02)
    return table, truth_of(table, index)


def stars(n: int, seed: int = 5) -> np.ndarray:
    """Gaussian sources on sky noise, (n, 5, 50, 50) nanomaggies."""
    rng = np.random.default_rng(seed)
    noise = np.array([SKY_NOISE[band] for band in "ugriz"])[:, None, None]
    y, x = np.mgrid[:50, :50] - 24.5
    shape = np.exp(-(x**2 + y**2) / (2 * 1.5**2)) / (2 * np.pi * 1.5**2)
    flux = rng.uniform(2, 50, (n, 5, 1, 1)) * shape
    return (flux + rng.normal(0, 1, (n, 5, 50, 50)) * noise).astype(np.float32)


def frames(survey: Path, number: int) -> list[Path]:
    """Frames of one field of a simulated survey, in the order of the bands' letters."""
    return sorted(sorted((survey / "frames").iterdir())[number].iterdir())
