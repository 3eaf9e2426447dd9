"""The figure of simulated beside real fields."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from astropy.table import vstack
from astropy.visualization import make_lupton_rgb

from field_measurements import frame_paths, open_frame
from gqs.surveys import sdss

REAL, SIMULATED = "#0072B2", "#D55E00"
CUTOUTS, SIDE = 14, 25


def draw_figure(path: Path, real: tuple, simulated: tuple, quantities) -> None:
    """Colour-colour, counts, noise, seeing, shapes against r, and two rows of cutouts."""
    figure = plt.figure(figsize=(17, 17), constrained_layout=True)
    rows = figure.subfigures(2, 1, height_ratios=[3.1, 1.35])
    axes = rows[0].subplots(3, 4)
    sets = [("real", REAL, real), ("simulated", SIMULATED, simulated)]
    tables = [vstack(list(s[2][0]), metadata_conflicts="silent") for s in sets]
    values = [quantities(table) for table in tables]
    shown = min(int((v["r_total"] < 21.2).sum()) for v in values)
    for v, (label, colour, _) in zip(values, sets, strict=True):
        chosen = np.flatnonzero(v["r_total"] < 21.2)
        chosen = np.random.default_rng(0).permutation(chosen)[:shown]
        point = v["concentration"][chosen] < 0.1
        for row, kind in ((0, point), (1, ~point)):
            k = chosen[kind]
            for column, (a, b) in enumerate((("g-r", "u-g"), ("g-r", "r-i"), ("r-i", "i-z"))):
                axes[row, column].plot(v[a][k], v[b][k], ".", ms=2.5, color=colour, label=label)
                name = "point sources" if row == 0 else "extended"
                axes[row, column].set(xlabel=a, ylabel=b, title=f"{name}, r < 21.2")
        bins = np.arange(14, 23, 0.5)
        weight = np.full(len(v["r_total"]), 1 / len(sets[0 if label == "real" else 1][2][0]))
        axes[0, 3].hist(v["r_total"], bins, weights=weight, histtype="step", color=colour, lw=2)
        for axis, name in ((axes[2, 0], "concentration"), (axes[2, 1], "r50")):
            k = np.flatnonzero((v["r_total"] > 15) & (v["r_total"] < 22.2))
            k = np.random.default_rng(0).permutation(k)[: min(1400, len(k))]
            axis.plot(v["r_total"][k], v[name][k], ".", ms=2, color=colour, alpha=0.6)
    for axis, limits in zip(
        axes[:2, :3].flat, [(-1, 4), (-0.6, 2.3), (-0.8, 1.3)] * 2, strict=True
    ):
        axis.set_ylim(*limits)
        axis.set_xlim(-0.6, 2.2)
    axes[0, 3].set(yscale="log", xlabel="r", ylabel="sources a field and 0.5 mag")
    axes[2, 0].set(ylim=(-0.4, 1.4), xlabel="r", ylabel="concentration less the PSF's, mag")
    axes[2, 1].set(yscale="log", ylim=(0.6, 8), xlabel="r", ylabel="half-light radius / PSF's")
    legend(axes[0, 0])
    by_band(axes[1, 3], sets, "noise", "sky noise, nanomaggies a pixel")
    axes[1, 3].set_yscale("log")
    by_band(axes[2, 2], sets, "fwhm", "FWHM, arcsec")
    histogram_of_shapes(axes[2, 3], values)
    cutouts(rows[1], sets, quantities)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=75)
    plt.close(figure)


def legend(axis) -> None:
    axis.legend(markerscale=5, frameon=False)


def by_band(axis, sets, name: str, label: str) -> None:
    for shift, (_, colour, (_, info, _)) in zip((-0.1, 0.1), sets, strict=True):
        for k, band in enumerate(sdss.BANDS):
            y = [field[name][band] for field in info]
            axis.plot(np.full(len(y), k + shift), y, "o", ms=4, color=colour)
    axis.set_xticks(range(5), list(sdss.BANDS))
    axis.set_ylabel(label)


def histogram_of_shapes(axis, values) -> None:
    for v, colour in zip(values, (REAL, SIMULATED), strict=True):
        k = (v["r_total"] > 20) & (v["r_total"] < 21.5)
        axis.hist(v["concentration"][k], np.arange(-0.3, 1.2, 0.06), density=True,
                  histtype="step", color=colour, lw=2)  # fmt: skip
    axis.set(xlabel="concentration less the PSF's, 20 < r < 21.5", ylabel="density")


def cutouts(figure, sets, quantities) -> None:
    """Rows of pictures: extended and point sources, real above simulated."""
    axes = figure.subplots(4, CUTOUTS)
    for extended in (True, False):
        for below, (label, colour, (tables, _, folders)) in enumerate(sets):
            row = axes[(0 if extended else 2) + below]
            chosen = picks(tables, quantities, extended)
            for axis, (field, index) in zip(row, chosen, strict=False):
                axis.imshow(picture(folders[field], tables[field][index]), origin="lower")
            for axis in row:
                axis.set(xticks=[], yticks=[])
                for spine in axis.spines.values():
                    spine.set(color=colour, lw=2)
            row[0].set_ylabel(f"{label}\n{'extended' if extended else 'points'}", color=colour)


def picks(tables, quantities, extended: bool) -> list[tuple[int, int]]:
    """One source at each of so many magnitudes, from the fields in turn."""
    chosen = []
    for k, wanted in enumerate(np.linspace(17.0, 21.3, CUTOUTS)):
        field = k % len(tables)
        v = quantities(tables[field])
        kind = (v["concentration"] > 0.15) == extended
        distance = np.where(kind, np.abs(v["r_total"] - wanted), 99)
        chosen.append((field, int(np.argmin(distance))))
    return chosen


def picture(folder: Path, source) -> np.ndarray:
    """(50, 50, 3) Lupton picture of a source, bands shifted by whole pixels."""
    planes = []
    for band in "irg":
        image, wcs = open_frame(frame_paths(folder)[band])
        x, y = wcs.all_world2pix(float(source["ra"]), float(source["dec"]), 0)
        x, y = round(float(x)), round(float(y))
        plane = np.zeros((2 * SIDE, 2 * SIDE))
        part = image[max(y - SIDE, 0) : y + SIDE, max(x - SIDE, 0) : x + SIDE]
        plane[: part.shape[0], : part.shape[1]] = part
        planes.append(plane)
    return make_lupton_rgb(*planes, Q=8, stretch=0.4)
