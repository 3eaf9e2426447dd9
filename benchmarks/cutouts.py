"""Are our cutouts astropy's Cutout2D(mode="partial"), and how many times faster? Benchmark 4."""

from __future__ import annotations

import numpy as np
from astropy.nddata import Cutout2D

from gqs.cutouts.extract import cut_flux
from gqs.imaging.align import BandStack, align
from measured import cpu_seconds, real_fields, save

SEED = 7
NUMBERS = (100, 1000, 5000)


def by_astropy(stack: BandStack, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cut the same pixels with the oracle, a cutout and a band at a time."""
    return np.array(
        [
            [
                Cutout2D(plane, place, 50, mode="partial", fill_value=np.nan).data
                for plane in stack.flux
            ]
            for place in zip(x, y, strict=True)
        ]
    )


def main() -> None:
    """Cut at random positions of one real field, edges included."""
    _, frames = next(real_fields())
    stack = align(frames, "ugriz")
    ny, nx = stack.flux.shape[1:]
    rng = np.random.default_rng(SEED)
    timings = {}
    for n in NUMBERS:
        x, y = rng.uniform(-0.5, nx - 0.5, n), rng.uniform(-0.5, ny - 0.5, n)
        ours = cpu_seconds(lambda x=x, y=y: cut_flux(stack, x, y))
        theirs = cpu_seconds(lambda x=x, y=y: by_astropy(stack, x, y), 3)
        timings[n] = {
            "cpu_s_ours": ours,
            "cpu_s_cutout2d": theirs,
            "times_faster": theirs / ours,
            "equal": bool(
                np.array_equal(cut_flux(stack, x, y)[0], by_astropy(stack, x, y), equal_nan=True)
            ),
        }
    save("cutouts", SEED, {"bands": len(stack.bands), "positions": timings})


if __name__ == "__main__":
    main()
