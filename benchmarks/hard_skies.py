"""What detection and photometry make of skies that are hard: crowds, bright stars, trails, zeros.

    python benchmarks/hard_skies.py [--fields 3] [--kinds plain trails ...] [--save]

Simulated fields with their truth, drawn as `gqs simulate` draws them but with more on them: ten
and fifty times the sky's stars, a globular cluster, stars of r = 8 to 12, satellites' trails of 1.5
to 60 times the noise, and rows and blocks of zeros. A detection is true where a source that is not
fainter than it by more than a magnitude lies within 2 px; a source is found where a true detection
lies there. Magnitudes are compared for point sources whose profile is not saturated nor cut by the
frame's edge: the median difference from the truth, and the difference's scatter in its errors.
Then the real fields, on which nobody has told what is a trail: how many are found, and how many
sources a halo flags. Without --save the numbers are only shown.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.table import Table, vstack
from scipy.spatial import cKDTree

from gqs.cutouts.extract import cut_flux
from gqs.imaging.align import BandStack, align
from gqs.imaging.detect import find
from gqs.imaging.frames import read_frame
from gqs.imaging.photometry import local_sky
from gqs.imaging.psf import psf_magnitudes
from gqs.imaging.seeing import field_stars
from gqs.simulation import population
from gqs.simulation.conditions import BandConditions, FieldConditions, draw_conditions
from gqs.simulation.exposure import expose
from gqs.simulation.frame_files import compressed_frame
from gqs.simulation.layout import band_positions, place, plan, scatter, stream
from gqs.simulation.population import Mix
from gqs.simulation.rendering import Painter
from gqs.surveys import sdss
from gqs.surveys.sdss import BANDS, FRAME_SHAPE, FrameName
from gqs.tables import Flag
from measured import real_fields, rounded, save

MATCH: Final = 2.0  # pixels
FAINTER: Final = 1.0  # magnitudes by which a detection may outshine its source
SEED: Final = 20261123
BINS: Final = (7, 14, 18, 20, 21, 22, 22.5)  # true r
MEASURED: Final = ("plain", "crowded-10")  # in five bands, with their magnitudes
KINDS: Final = ("plain", "crowded-10", "crowded-50", "cluster", "bright", "trails", "zeros")
CLUSTER: Final = 6000  # stars to r = 23 of a globular cluster, Plummer's profile
CLUSTER_RADIUS: Final = 130.0  # pixels
BRIGHT_STARS: Final = (8.0, 9.0, 10.0, 11.0, 12.0)  # r
TRAILS: Final = (1.5, 3.0, 6.0, 15.0, 60.0)  # crests, in sigmas of the sky


def drawn(kind: str, number: int, bands: str, out: Path) -> tuple[dict[str, Path], Table]:
    """Write a field's frames; return them and the truth, with x and y on the r frame."""
    name = plan(number + 1)[number]
    conditions = draw_conditions(name, place(name), stream(SEED, number, 0), FRAME_SHAPE)
    who, where = stream(SEED, number, 1), stream(SEED, number, 2)
    stars = {"crowded-10": 10.0, "crowded-50": 50.0}.get(kind, 1.0)
    sources = scatter(name, conditions, Mix(stars=stars), None, who, where)
    if kind == "cluster":
        sources = vstack([sources, cluster(conditions, who, where)])
    if kind == "bright":
        sources = vstack([sources, bright(conditions, who, where)])
    canvases = {band: np.zeros(FRAME_SHAPE, np.float32) for band in bands}
    on_r = np.asarray(sources["x"]), np.asarray(sources["y"])
    Painter(conditions).paint(canvases, sources, on_r, band_positions(conditions, sources, bands))
    paths = {}
    for band in bands:
        own, rng = conditions.bands[band], stream(SEED, number, 10 + BANDS.index(band))
        if kind == "trails" and band == "r":
            paint_trails(canvases[band], own, rng)
        flux = expose(canvases[band], own, rng)
        if kind == "zeros":
            zero(flux)
        paths[band] = out / str(FrameName(band, name))
        paths[band].write_bytes(compressed_frame(flux, conditions, band))
    return paths, sources


def cluster(
    conditions: FieldConditions, who: np.random.Generator, where: np.random.Generator
) -> Table:
    """A globular cluster in the frame's middle: faint stars are many, the brightest has r = 13."""
    ny, nx = conditions.shape
    magnitudes = 23 + np.log10(who.uniform(1e-4, 1, CLUSTER)) / 0.4  # counts grow by 10^0.4 m
    stars = population.draw({"STAR": CLUSTER}, who, faint_alike=False)
    step = magnitudes - np.asarray(stars["r"])
    for band in BANDS:
        stars[band] = np.asarray(stars[band]) + step
    radius = CLUSTER_RADIUS / np.sqrt(where.uniform(0, 1, CLUSTER) ** -1.0 - 1 + 1e-9)
    angle = where.uniform(0, 2 * np.pi, CLUSTER)
    return placed(
        stars, conditions, nx / 2 + radius * np.cos(angle), ny / 2 + radius * np.sin(angle)
    )


def bright(
    conditions: FieldConditions, who: np.random.Generator, where: np.random.Generator
) -> Table:
    """Stars that saturate, bleed and shine over hundreds of pixels."""
    ny, nx = conditions.shape
    n = len(BRIGHT_STARS)
    stars = population.draw({"STAR": n}, who, faint_alike=False)
    step = np.array(BRIGHT_STARS) - np.asarray(stars["r"])
    for band in BANDS:
        stars[band] = np.asarray(stars[band]) + step
    x = (np.arange(n) + where.uniform(0.2, 0.8, n)) * nx / n
    return placed(stars, conditions, x, where.uniform(200, ny - 200, n))


def placed(stars: Table, conditions: FieldConditions, x: np.ndarray, y: np.ndarray) -> Table:
    """Put stars onto the r frame."""
    ny, nx = conditions.shape
    ra, dec = conditions.bands["r"].wcs.all_pix2world(x, y, 0)
    stars["ra"], stars["dec"], stars["x"], stars["y"] = ra, dec, x, y
    stars["in_frame"] = (x >= 0) & (x <= nx - 1) & (y >= 0) & (y <= ny - 1)
    return stars


def paint_trails(canvas: np.ndarray, own: BandConditions, rng: np.random.Generator) -> None:
    """Straight lines of a satellite's width."""
    ny, nx = canvas.shape
    y, x = np.arange(ny, dtype=np.float32)[:, None], np.arange(nx, dtype=np.float32)[None, :]
    for crest in TRAILS:
        angle, x0, y0 = rng.uniform(0, np.pi), rng.uniform(0, nx), rng.uniform(0, ny)
        width = max(own.psf.sigma * rng.uniform(1.0, 1.5), 1.5)
        across = (x - x0) * np.sin(angle) - (y - y0) * np.cos(angle)
        near = np.abs(across) < 5 * width
        canvas[near] += own.noise * crest * np.exp(-0.5 * (across[near] / width) ** 2)


def zero(flux: np.ndarray) -> None:
    """Rows, a block and a part of some rows without signal."""
    flux[600:640] = 0
    flux[200:450, 700:1100] = 0
    flux[1000:1040, :900] = 0


def zeroed(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which places `zero` has blotted out in r."""
    rows = (y > 598) & (y < 642)
    block = (y > 198) & (y < 452) & (x > 698) & (x < 1102)
    return rows | block | ((y > 998) & (y < 1042) & (x < 902))


def compared(found: Table, truth: Table, measured: np.ndarray) -> dict[str, Any]:
    """Completeness by magnitude, and detections that no source accounts for."""
    xy = np.column_stack([truth["x"], truth["y"]])
    ours = np.column_stack([found["x"], found["y"]])
    r = np.asarray(truth["r"])
    true, seen = np.zeros(len(found), dtype=bool), np.zeros(len(truth), dtype=bool)
    for i, near in enumerate(cKDTree(xy).query_ball_point(ours, MATCH)):
        fit = [k for k in near if r[k] < measured[i] + FAINTER]
        true[i] = bool(fit)
        if fit:
            seen[min(fit, key=lambda k: r[k])] = True
    bins = {}
    for low, high in pairwise(BINS):
        some = (r >= low) & (r < high)
        if some.any():
            bins[f"{low}-{high}"] = {"share": seen[some].mean(), "of": int(some.sum())}
    flags = np.asarray(found["flags"])
    odd = (flags & int(Flag.HALO | Flag.TRAIL)) > 0
    return {
        "sources": len(found),
        "found": bins,
        "false": int((~true).sum()),
        "false_unflagged": int((~true & ~odd).sum()),
        "flagged_halo": float(((flags & int(Flag.HALO)) > 0).mean()),
        "flagged_trail": float(((flags & int(Flag.TRAIL)) > 0).mean()),
    }


def magnitudes(
    stack: BandStack, found: Table, truth: Table, psf: tuple[np.ndarray, np.ndarray]
) -> dict[str, Any]:
    """PSF magnitudes of point sources beside the true ones, by band and magnitude."""
    point = (np.asarray(truth["class"]).astype(str) != "GALAXY") & (truth["host_fraction"] == 0)
    stars = truth[point]
    ours = np.column_stack([found["x"], found["y"]])
    apart, which = cKDTree(np.column_stack([stars["x"], stars["y"]])).query(ours)
    unlike = int(Flag.SATURATED | Flag.EDGE | Flag.TRAIL | Flag.HALO)
    whole = (apart < 1) & ((np.asarray(found["flags"]) & unlike) == 0)
    told: dict[str, Any] = {}
    for i, band in enumerate(stack.bands):
        flux = 10 ** (-0.4 * (np.asarray(stars[band], float) - sdss.ZERO_POINT))
        true = sdss.asinh_magnitude(flux, band)[which]
        off, error = psf[0][:, i] - true, psf[1][:, i]
        told[band] = {}
        for low, high in ((14, 17), (17, 18.5), (18.5, 20), (20, 21), (21, 22)):
            some = whole & (true >= low) & (true < high) & np.isfinite(off)
            if some.sum() < 10:
                continue
            pull = off[some] / error[some]
            told[band][f"{low}-{high}"] = {
                "of": int(some.sum()),
                "bias": np.median(off[some]),
                "scatter": 1.4826 * np.median(np.abs(off[some] - np.median(off[some]))),
                "pull": 1.4826 * np.median(np.abs(pull - np.median(pull))),
            }
    return told


def measured(
    stack: BandStack,
) -> tuple[Table, Any, tuple[np.ndarray, np.ndarray], dict[str, float]]:
    """Detect and measure one field; CPU seconds of both."""
    begin = time.process_time()
    found, light = find(stack)
    detected = time.process_time()
    images, _ = cut_flux(stack, found["x"], found["y"])
    sky = local_sky(images, stack.bands)
    stars = field_stars(stack, found)
    cut = time.process_time()
    psf = psf_magnitudes(stack, found, sky.level, found, stars)
    took = {"detect_cpu_s": detected - begin, "psf_cpu_s": time.process_time() - cut}
    return found, light, psf, took


def simulated(kind: str, number: int) -> dict[str, Any]:
    """One field of a kind, against its truth."""
    bands = BANDS if kind in MEASURED else "r"
    with tempfile.TemporaryDirectory(prefix="gqs-") as folder:
        paths, truth = drawn(kind, number, bands, Path(folder))
        stack = align({band: read_frame(path) for band, path in paths.items()}, bands)
    truth = truth[np.asarray(truth["in_frame"]).astype(bool)]
    if kind == "zeros":
        truth = truth[~zeroed(np.asarray(truth["x"]), np.asarray(truth["y"]))]
    found, light, psf, took = measured(stack)
    r = stack.bands.index("r")
    brightness = np.where(np.isfinite(psf[0][:, r]), psf[0][:, r], 99.0)
    told = compared(found, truth, brightness) | took | {"trails": len(light.trails)}
    return told | ({"psf": magnitudes(stack, found, truth, psf)} if kind in MEASURED else {})


def real() -> dict[str, Any]:
    """Real fields: trails, halos, and what PSF magnitudes cost in five bands."""
    told = {}
    for folder, frames in real_fields():
        stack = align(frames, BANDS)
        found, light, psf, took = measured(stack)
        flags = np.asarray(found["flags"])
        told[folder.name] = took | {
            "sources": len(found),
            "trails": len(light.trails),
            "flagged_halo": float(((flags & int(Flag.HALO)) > 0).mean()),
            "psf_measured": float(np.isfinite(psf[0]).mean()),
        }
    return told


def main() -> None:
    """Draw, detect, measure and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fields", type=int, default=1, help="of each kind")
    parser.add_argument("--kinds", nargs="+", choices=(*KINDS, "real"), default=[*KINDS, "real"])
    parser.add_argument("--save", action="store_true", help="keep the numbers in results/")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for kind in options.kinds:
        fields = (
            [real()] if kind == "real" else map(partial(simulated, kind), range(options.fields))
        )
        results[kind] = list(fields)
        print(kind, json.dumps(rounded(results[kind])), flush=True)
    if options.save:
        save("hard_skies", SEED, results)


if __name__ == "__main__":
    main()
