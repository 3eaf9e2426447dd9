"""Do the bands lie on one grid, and at what cost? Benchmark 1.

On real fields: how far resampling moves a centroid from where the WCS puts it; how far the WCS
itself is off between the bands, and what is left after the star-based shift; the difference from
reproject's bicubic interpolation. On simulated fields: how far the bands' centroids disagree.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import sep
from reproject import reproject_interp

from gqs import tables
from gqs.imaging.align import BandStack, align, fit_affine, star_positions
from gqs.imaging.frames import Frame, group_fields, read_frame
from measured import cpu_seconds, real_fields, save

SEED = 20240601
WINDOW = 1.7


def centroids(plane: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Windowed centroids that start at given positions; NaN where they run away."""
    flux = np.nan_to_num(np.ascontiguousarray(plane))
    x, y, _ = sep.winpos(flux, *positions.T, np.full(len(positions), WINDOW))
    found = np.column_stack([x, y])
    found[np.hypot(*(found - positions).T) > 2] = np.nan
    return found


def moved_by_resampling(frame: Frame, reference: Frame, stack: BandStack) -> np.ndarray:
    """Distance from a star's resampled centroid to its native one, carried over by the WCS."""
    noise = float(stack.noise[stack.bands.index(frame.band)])
    own = star_positions(frame, noise)
    there = np.column_stack(reference.wcs.all_world2pix(*frame.wcs.all_pix2world(*own.T, 0), 0))
    ny, nx = reference.flux.shape
    inside = (there > 15).all(axis=1) & (there < [nx - 15, ny - 15]).all(axis=1)
    off = centroids(stack.plane(frame.band), there[inside]) - there[inside]
    return np.hypot(*off.T)


def beside_reproject(frame: Frame, reference: Frame, stack: BandStack) -> dict[str, float]:
    """Largest difference from reproject in units of each star's peak, and both times."""
    shape = reference.flux.shape

    def theirs() -> np.ndarray:
        return reproject_interp(
            (frame.flux, frame.wcs),
            reference.wcs,
            shape_out=shape,
            order="bicubic",
            return_footprint=False,
            roundtrip_coords=False,
        )

    matrix, residual = fit_affine(reference.wcs, frame.wcs, shape)
    oracle = theirs() * abs(np.linalg.det(matrix[:, :2]))
    ours = stack.plane(frame.band)
    worst = []
    for x, y in np.rint(star_positions(reference, 0.03)).astype(int):
        part = np.s_[max(y - 8, 0) : y + 9, max(x - 8, 0) : x + 9]
        peak = np.nanmax(ours[part]) if np.isfinite(ours[part]).all() else np.nan
        high = ours[part] > 0.1 * peak
        if high.any():
            worst.append(np.abs(ours[part] - oracle[part])[high].max() / peak)
    pair = {frame.band: frame, "r": reference}
    return {
        "affine_residual_px": residual,
        "largest_difference_of_peak": max(worst),
        "stars": len(worst),
        "cpu_s_ours": cpu_seconds(lambda: align(pair, frame.band), 3),
        "cpu_s_reproject": cpu_seconds(theirs, 1),
    }


def on_real_fields() -> dict[str, Any]:
    """Measure everything that needs no truth."""
    moved, shift, left, reprojected = {}, {}, {}, {}
    for folder, frames in real_fields():
        stack = align(frames, "ugriz")
        removed = align(frames, "ugriz", star_shift=True)
        reference = frames["r"]
        stars = star_positions(reference, float(stack.noise[2]))
        for i, band in enumerate(stack.bands):
            if band == "r":
                continue
            key = f"{folder.name} {band}"
            off = moved_by_resampling(frames[band], reference, stack)
            moved[key] = {
                "median_px": np.nanmedian(off),
                "p95_px": np.nanpercentile(off, 95),
                "stars": int(np.isfinite(off).sum()),
            }
            shift[key] = stack.star_shift[i].tolist()
            rest = centroids(removed.plane(band), stars) - stars
            left[key] = np.nanmedian(rest, axis=0).tolist()
        reprojected[folder.name] = beside_reproject(frames["g"], reference, stack)
    sizes = [float(np.hypot(*pair)) for pair in shift.values()]
    return {
        "resampling_moves_centroids_median_px": max(one["median_px"] for one in moved.values()),
        "resampling_moves_centroids": moved,
        "wcs_error_between_bands_px": {"least": min(sizes), "most": max(sizes), "each": shift},
        "left_after_star_shift_px": {
            "most": max(float(np.hypot(*pair)) for pair in left.values()),
            "each": left,
        },
        "beside_reproject_g_onto_r": reprojected,
    }


def on_simulated_fields(n_fields: int = 2) -> dict[str, Any]:
    """Centroids of bright simulated stars in each band less those in r."""
    from gqs.simulation.fields import simulate
    from gqs.simulation.population import Mix

    off: dict[str, list[np.ndarray]] = {band: [] for band in "ugiz"}
    with tempfile.TemporaryDirectory() as folder:
        # Four times the sky's stars, since few are bright enough in u to say more than their noise.
        simulate(Path(folder), n_fields, SEED, Mix(stars=4.0), trails=0.0)
        fields, _ = group_fields(sorted(Path(folder).glob("frames/*/*.bz2")))
        for field, paths in fields.items():
            stack = align({band: read_frame(path) for band, path in paths.items()}, "ugriz")
            truth = tables.read(Path(folder) / f"sources/{field}.csv")
            ny, nx = stack.flux.shape[1:]
            place = np.column_stack([truth["x"], truth["y"]])
            inside = (place > 20).all(axis=1) & (place < [nx - 20, ny - 20]).all(axis=1)
            point = np.asarray(truth["class"]) != "GALAXY"
            for band in off:
                bright = np.asarray(truth[band]) < {"u": 17.3, "z": 17.5}.get(band, 18.5)
                bright &= (np.asarray(truth["r"]) > 14.5) & (np.asarray(truth["r"]) < 18.5)
                some = place[inside & point & bright]
                there = centroids(stack.plane(band), some) - centroids(stack.plane("r"), some)
                off[band].append(there)
    joined = {band: np.concatenate(parts) for band, parts in off.items()}
    return {
        "fields": n_fields,
        "centroids_between_bands_median_px": {
            band: np.nanmedian(np.hypot(*each.T)) for band, each in joined.items()
        },
        "systematic_px": {band: np.nanmedian(each, axis=0) for band, each in joined.items()},
        "stars": {band: int(np.isfinite(each[:, 0]).sum()) for band, each in joined.items()},
    }


if __name__ == "__main__":
    save("alignment", SEED, {"real": on_real_fields(), "simulated": on_simulated_fields()})
