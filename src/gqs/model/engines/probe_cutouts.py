"""Cutouts for testing an engine: simulated sources, including rare and numerically hard ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gqs import labels
from gqs.cutouts.preprocessing import Preprocessing
from gqs.imaging import seeing
from gqs.surveys.sdss import BANDS, like

COUNT: Final = 384
SEED: Final = 2023
# One in EVERY is as bright, one as faint as the survey's extremes, and one saturated.
EVERY: Final = 12
BRIGHT: Final = ("r", 14.0)
FAINT: Final = ("u", 24.0)
SATURATED: Final = ("r", 11.5)


@dataclass(frozen=True)
class ProbeCutouts:
    """Cutouts with known classes."""

    # (n, band, 50, 50) nanomaggies, NaN where masked; (n, 3, 50, 50) uint8 for the form `paper`
    images: NDArray[Any]
    seeing: NDArray[np.float64]  # (n, band) arcsec, NaN where not known
    truth: NDArray[np.int64]  # (n,) positions in `labels.CLASSES`

    def __len__(self) -> int:
        return len(self.truth)


def specimens(
    preprocessing: Preprocessing, count: int = COUNT, seed: int = SEED, harmed: bool = True
) -> ProbeCutouts:
    """Simulate cutouts for a model."""
    # Imported here: loading a model seldom needs the simulation.
    from gqs.imaging.composite import colour_cutouts
    from gqs.simulation import population
    from gqs.simulation.stamps import render_cutouts

    rng = np.random.default_rng(seed)
    a_class, more = divmod(count, 3)
    counts = {name: a_class + (i < more) for i, name in enumerate(labels.CLASSES)}
    sources = population.draw(counts, rng)
    if harmed:
        for first, (band, magnitude) in enumerate((BRIGHT, FAINT, SATURATED)):
            rows = np.arange(first, count, EVERY)
            shift = magnitude - np.asarray(sources[band])[rows]
            for other in BANDS:
                sources[other][rows] += shift
    parts = list(render_cutouts(sources, seed, BANDS))
    images = np.concatenate([part for part, _ in parts])
    truth = np.array([labels.index(str(name)) for name in sources["class"]], dtype=np.int64)
    widths = np.concatenate([seeing.seeing_columns(rows, preprocessing.bands) for _, rows in parts])
    if preprocessing.form == "paper":
        return ProbeCutouts(colour_cutouts(images, BANDS), widths, truth)
    images = images[:, [BANDS.index(like(band)) for band in preprocessing.bands]]
    if harmed:
        _harm(images, widths, preprocessing.bands)
    return ProbeCutouts(images, widths, truth)


def _harm(images: NDArray[np.float32], widths: NDArray[np.float64], bands: str) -> None:
    """Mask parts of some cutouts in place, but never the centre of r or half of the pixels."""
    away = [i for i, band in enumerate(bands) if band != "r"]
    for i in range(3, len(images), EVERY):
        images[i, :, :11] = np.nan  # beyond the frame's edge
        if i + 1 < len(images) and away:
            images[i + 1, away[i % len(away)]] = np.nan  # a band is missing
        if i + 2 < len(images):
            images[i + 2, :, 30:33, 7:40] = np.inf  # a satellite trail
        if i + 3 < len(images) and away:
            images[i + 3, away[i % len(away)], 22:28, 22:28] = np.nan  # a saturated core
        if i + 4 < len(images):
            widths[i + 4] = np.nan
