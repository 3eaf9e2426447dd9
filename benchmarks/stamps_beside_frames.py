"""Are cutouts rendered directly the same in distribution as those cut from frames?

The same sources go both ways: drawn onto whole fields, written, read, aligned and cut; and
rendered straight to cutouts. Kolmogorov-Smirnov tests compare what is measured on both. One
difference is there by construction: on a frame the 128 sources are each other's neighbours too,
7 % more than the sky alone has. Writes
results/stamps_beside_frames.json. Run as

    python benchmarks/stamps_beside_frames.py [--fields 8]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from astropy.table import Table
from scipy.stats import ks_2samp

from gqs import tables
from gqs.cutouts.extract import cut_flux, pixel_positions
from gqs.imaging.align import align
from gqs.imaging.frames import group_fields, read_frame
from gqs.imaging.photometry import aperture_magnitudes
from gqs.simulation import population
from gqs.simulation.fields import simulate
from gqs.simulation.stamps import render_cutouts
from gqs.surveys.sdss import BANDS
from measured import save

SEED = 23
A_FIELD = 128
EDGE = 40  # pixels: cutouts that a frame's edge pads are left out


def through_frames(sources: Table, fields: int, folder: Path) -> tuple[np.ndarray, Table]:
    """Cut every source out of written frames: (n, band, 50, 50) and its catalogue rows."""
    simulate(folder, fields, SEED, catalog=sources, trails=0.0)
    catalog = tables.read(folder / "catalog.csv")
    grouped, _ = group_fields(sorted((folder / "frames").glob("*/*.bz2")))
    images, rows = [], []
    for name, paths in grouped.items():
        stack = align({band: read_frame(path) for band, path in paths.items()}, BANDS)
        here = catalog[np.all([catalog[k] == v for k, v in name._asdict().items()], axis=0)]
        x, y = pixel_positions(stack.wcs, here["ra"], here["dec"])
        ny, nx = stack.flux.shape[1:]
        inner = (x > EDGE) & (x < nx - EDGE) & (y > EDGE) & (y < ny - EDGE)
        images.append(cut_flux(stack, x[inner], y[inner])[0])
        rows.append(np.asarray(here["row"])[inner])
    return np.concatenate(images), np.concatenate(rows)


def measures(images: np.ndarray, true: Table) -> dict[str, np.ndarray]:
    """What is compared, a number a cutout and band; (n, band) each."""
    magnitude, _ = aperture_magnitudes(images, BANDS)
    truth = np.stack([np.asarray(true[band]) for band in BANDS], axis=1)
    corner = images[:, :, :9, :]
    # Between the 10th and 90th percentiles: pixels are whole counts, and a median would jump.
    low, high = np.percentile(corner, (10, 90), axis=(2, 3))
    spread = (high - low) / 2.5631
    centred = corner - corner.mean(axis=(2, 3), keepdims=True)
    shifted = (centred[..., 1:] * centred[..., :-1]).mean(axis=(2, 3))
    down = (centred[:, :, 1:] * centred[:, :, :-1]).mean(axis=(2, 3))
    yy, xx = np.mgrid[:50, :50] - 24.5
    near = np.hypot(xx, yy)
    core, wide = (images[:, :, near < radius].sum(axis=2) for radius in (2.5, 6.0))
    return {
        "magnitude_less_true": magnitude - truth,
        "noise": spread,
        "noise_along_rows": shifted / centred.var(axis=(2, 3)),
        "noise_along_columns": down / centred.var(axis=(2, 3)),
        "light_within_2.5_of_6_px": core / wide,
    }


def main() -> None:
    """Compare both ways, by band; sharpness and magnitudes of what is brighter than r = 20."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fields", type=int, default=12)
    fields = parser.parse_args().fields
    third = fields * A_FIELD // 3
    rng = np.random.default_rng(SEED)
    sources = population.draw({"GALAXY": third, "QSO": third, "STAR": third}, rng)
    with tempfile.TemporaryDirectory() as folder:
        cut, rows = through_frames(sources, fields, Path(folder))
    # As many fields as there were frames, of the same seed: the same seeing, sky and noise.
    dealt = np.concatenate([np.arange(k, len(sources), fields) for k in range(fields)])
    parts = [
        images
        for k in range(fields)
        for images, _ in render_cutouts(sources[k::fields], SEED, first_field=k)
    ]
    ways = measures(cut, sources[rows]), measures(np.concatenate(parts), sources[dealt])
    bright = [np.asarray(sources["r"])[chosen] < 20 for chosen in (rows, dealt)]
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name in ways[0]:
        only = name in ("magnitude_less_true", "light_within_2.5_of_6_px")
        for i, band in enumerate(BANDS):
            a, b = (
                way[name][chosen if only else slice(None), i]
                for way, chosen in zip(ways, bright, strict=True)
            )
            a, b = a[np.isfinite(a)], b[np.isfinite(b)]
            test = ks_2samp(a, b)
            results.setdefault(name, {})[band] = {
                "frames_median": float(np.median(a)),
                "stamps_median": float(np.median(b)),
                "ks_distance": float(test.statistic),
                "p": float(test.pvalue),
            }
    save("stamps_beside_frames", SEED, {"objects": [len(cut), len(dealt)], "by_band": results})


if __name__ == "__main__":
    main()
