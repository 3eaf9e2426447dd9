"""Are the galaxies of the rendered test as large and as concentrated as real ones of their r?

    python benchmarks/galaxy_sizes.py build/shipped

Bigger galaxies would buy accuracy. Measured alike, in r, on cutouts: the galaxies of the package's
test side, and those that SDSS's photo named in real field 003918-3-0213, to which no galaxy was
fitted (its seeing and noise are within the simulator's ranges, which are those of all four real
fields). Each is freed of its field's seeing: half-light radius and width (of the Gaussian with as
much of its light within 2 of 5 pixels), less the stars' own in quadrature.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import sep

from gqs import labels, tables
from gqs.cutouts.field import CutoutSpec, checked_positions, cut_field
from gqs.cutouts.store import CutoutStore
from gqs.imaging.frames import group_fields
from gqs.imaging.seeing import INNER, OUTER, seeing
from gqs.surveys.sdss import BANDS, PIXEL_SCALE, asinh_magnitude
from measured import real_folder, save
from real_field import FIELD

R = BANDS.index("r")
EDGES = ((16.0, 18.0), (18.0, 19.0), (19.0, 20.0), (20.0, 21.0), (21.0, 22.0))
WITHIN = 12.0  # pixels of the whole light
# Half-light radius over seeing: 0.5 for a Gaussian, more for a star, which has wings.
PSF_R50 = 0.55
LEVELS = (16, 50, 84)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path, help="as shipped/make.py wrote it")
    options = parser.parse_args()
    store = CutoutStore.open(options.store)
    members = tables.read(options.store / "members.parquet")
    test = np.asarray(members["side"]) == "test"
    galaxy = np.asarray(store.index["class"]) == labels.GALAXY
    rows = np.flatnonzero(test & galaxy & np.isfinite(store.index["seeing_r"]))
    rendered = sizes(store.images(rows)[:, R], np.asarray(store.index["seeing_r"][rows]))
    real = sizes(*real_galaxies())
    found = {}
    for low, high in EDGES:
        found[f"{low:g}-{high:g}"] = {
            name: quantiles(one, (one["r"] >= low) & (one["r"] < high))
            for name, one in (("rendered", rendered), ("real", real))
        }
    save("galaxy_sizes", None, {"field": FIELD, "store": store.hash, "by_r": found})


def real_galaxies() -> tuple[np.ndarray, np.ndarray]:
    """Return r cutouts of photo's galaxies, and their field's seeing."""
    data = real_folder()
    positions = tables.read(data / "catalogs" / f"field_{FIELD}_photo_types.csv")
    (files,) = group_fields(sorted((data / "frames" / FIELD).glob("frame-*.fits.bz2")))[0].values()
    cutouts = cut_field(files, CutoutSpec(BANDS, "flux"), checked_positions(positions, "photo"))
    galaxy = np.asarray(positions["class"]).astype(str) == labels.GALAXY
    width = np.asarray(cutouts.objects["seeing_r"], dtype=np.float64)
    return cutouts.images[galaxy, R], width[galaxy]


def sizes(planes: np.ndarray, told: np.ndarray) -> dict[str, np.ndarray]:
    """Magnitude within 12 pixels; half-light radius and width, arcsec, the seeing taken out."""
    light, width, half = (np.full(len(planes), np.nan) for _ in range(3))
    for i, plane in enumerate(planes):
        clean = np.ascontiguousarray(np.nan_to_num(plane), dtype=np.float32)
        x, y, _ = sep.winpos(clean, [24.5], [24.5], [2.0])
        inner, outer = (sep.sum_circle(clean, x, y, a, subpix=5)[0] for a in (INNER, OUTER))
        width[i] = seeing(inner, np.maximum(outer, inner))[0]
        light[i] = sep.sum_circle(clean, x, y, WITHIN, subpix=5)[0][0]
        whole = light[i : i + 1]
        half[i] = sep.flux_radius(clean, x, y, [WITHIN], 0.5, normflux=whole, subpix=5)[0][0]
    half *= PIXEL_SCALE
    return {
        "r": asinh_magnitude(light, "r"),
        "half_light_radius": freed(half, PSF_R50 * told),
        "width": freed(width, told),
    }


def freed(size: np.ndarray, of_star: np.ndarray) -> np.ndarray:
    """Take a star's size out in quadrature; of what is smaller the lack, with a minus."""
    square = size**2 - of_star**2
    return np.sign(square) * np.sqrt(np.abs(square))


def quantiles(found: dict[str, np.ndarray], here: np.ndarray) -> dict[str, object]:
    """Quantiles of each size, arcsec."""
    told: dict[str, object] = {"of": int(here.sum())}
    for name in ("half_light_radius", "width"):
        told[name] = np.nanpercentile(found[name][here], LEVELS).tolist()
    return told


if __name__ == "__main__":
    main()
