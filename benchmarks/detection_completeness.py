"""Which of SDSS photo's sources does detection find, and what else? Part of benchmark 3.

The oracle is real field 003918-3-0213 with photo's 643 positions. Magnitudes are measured here
(the catalogue has none): once in a 3 px aperture above the sky around it, scaled to point
sources, and once in 7 px without local sky, in which shreds of a large galaxy and faint sources
beside bright stars count as bright. False detections: what is found in the sky turned upside down.
"""

from __future__ import annotations

import dataclasses
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import sep
from scipy.spatial import cKDTree

from gqs import tables
from gqs.imaging.align import BandStack, align
from gqs.imaging.detect import detect
from measured import cpu_seconds, real_fields, save

FIELD = "003918-3-0213"
MATCH = 3.0  # pixels
BINS = (10, 16, 18, 19, 20, 21, 21.5, 22, 22.5, 23)


def magnitudes(stack: BandStack, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Both readings of r at the oracle's positions."""
    flux = np.nan_to_num(stack.plane("r")).astype(float)
    small, _, _ = sep.sum_circle(flux, x, y, 3.0, bkgann=(9.0, 14.0))
    wide, _, _ = sep.sum_circle(flux, x, y, 7.0)
    local, plain = (22.5 - 2.5 * np.log10(np.maximum(f, 1e-3)) for f in (small, wide))
    stars = (plain > 15) & (plain < 19) & (local - plain < 0.5)
    return {"local": local - np.median((local - plain)[stars]), "wide": plain}


def completeness(found: np.ndarray, magnitude: np.ndarray) -> dict[str, Any]:
    """Share found by bin of magnitude, and to r < 21."""
    bins = {}
    for low, high in pairwise(BINS):
        some = (magnitude >= low) & (magnitude < high)
        if some.any():
            bins[f"{low}-{high}"] = {"share": found[some].mean(), "of": int(some.sum())}
    bright = magnitude < 21
    return {"to_r_21": found[bright].mean(), "of": int(bright.sum()), "bins": bins}


def main() -> None:
    """Detect on all real fields, compare on the one that has an oracle."""
    results: dict[str, Any] = {"fields": {}}
    for folder, frames in real_fields():
        stack = align(frames, "ugriz")
        sources = detect(stack)
        upside_down = dataclasses.replace(stack, flux=-stack.flux)
        results["fields"][folder.name] = {
            "sources": len(sources),
            "in_the_sky_upside_down": len(detect(upside_down)),
            "cpu_s": cpu_seconds(lambda stack=stack: detect(stack), 3),
        }
        if folder.name != FIELD:
            continue
        root = Path(os.environ["GQS_REAL_DATA"])
        catalog = tables.read(root / f"catalogs/field_{FIELD}_photo_types.csv")
        x, y = (np.asarray(catalog[name], dtype=float) for name in ("x_r", "y_r"))
        ours = np.column_stack([sources["x"], sources["y"]])
        theirs = np.column_stack([x, y])
        separation, nearest = cKDTree(ours).query(theirs)
        found = separation < MATCH
        r = magnitudes(stack, x, y)
        unmatched = cKDTree(theirs).query(ours)[0] >= MATCH
        results["completeness_local_sky"] = completeness(found, r["local"])
        results["completeness_wide_aperture"] = completeness(found, r["wide"])
        results["missed_to_r_21"] = [
            {"x": x[i], "y": y[i], "r_local": r["local"][i], "r_wide": r["wide"][i]}
            for i in np.flatnonzero(~found & (np.minimum(r["local"], r["wide"]) < 21))
        ]
        results["not_in_photo"] = {
            "number": int(unmatched.sum()),
            "brighter_than_r_21": int((unmatched & (np.asarray(sources["flux_r"]) > 4)).sum()),
        }
        off = ours[nearest[found]] - theirs[found]
        results["centroid_offset_median_px"] = np.median(off, axis=0)
    save("detection_completeness", None, results)


if __name__ == "__main__":
    main()
