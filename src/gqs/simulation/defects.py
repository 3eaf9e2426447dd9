"""What else crosses a frame: now and then, a satellite."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gqs.simulation.conditions import BandConditions


def add_trails(
    canvas: NDArray[np.float32],
    conditions: BandConditions,
    probability: float,
    rng: np.random.Generator,
) -> int:
    """Draw a satellite's trail with some probability; in one band, since bands follow in time."""
    chance, angle, brightness = rng.random(), rng.uniform(0, math.pi), rng.uniform(math.log(1.5), 4)
    ny, nx = canvas.shape
    x0, y0 = rng.uniform(0, nx), rng.uniform(0, ny)
    if chance >= probability:
        return 0
    # Out of focus, since it is near: a flat top a few pixels wide through the seeing.
    width = max(conditions.psf.sigma * 1.3, 1.5)
    crest = conditions.noise * math.exp(brightness)
    y, x = np.arange(ny, dtype=np.float32)[:, None], np.arange(nx, dtype=np.float32)[None, :]
    across = (x - x0) * math.sin(angle) - (y - y0) * math.cos(angle)
    near = np.abs(across) < 5 * width
    canvas[near] += crest * np.exp(-0.5 * (across[near] / width) ** 2)
    return 1
