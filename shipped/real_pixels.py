"""Real pixels to learn from: quasars, the stars and galaxies of real fields, and real sky.

Cutouts are in nanomaggies, rows as a store wants them; sky comes with the seeing and the bands'
offsets that a source drawn onto it must have. The field that is held out is never opened here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import sep
from astropy.coordinates import SkyCoord
from astropy.table import Table

from gqs import tables
from gqs.cutouts.extract import cut_flux
from gqs.imaging.align import BandStack, align
from gqs.imaging.detect import detect
from gqs.imaging.frames import read_frame
from gqs.imaging.seeing import INNER, OUTER, field_seeing, seeing
from gqs.labels import GALAXY, QSO, STAR
from gqs.surveys.sdss import BANDS, CUTOUT_SIZE, FieldId, asinh_magnitude, photo_objid
from gqs.tables import Flag

HELD_OUT: Final = "003918-3-0213"
R: Final = BANDS.index("r")
# Seeing of a band relative to r, for cutouts with too little signal in the band to measure it.
SEEING: Final = np.array([1.12, 1.08, 1.0, 0.95, 0.93])
ERASED: Final = 12.0  # pixels about the middle of a quasar's cutout that are given back to the sky
# A source is a star where its light within 5 and 2 pixels is in the ratio of most bright sources,
# in magnitudes, and a galaxy where the ratio is so much larger; fainter than r = 20.5 neither.
STELLAR, EXTENDED, FAINTEST = 0.08, 0.20, 20.5
FILLED: Final = 26.0  # fainter magnitudes in the table of quasars are one and the same number
SCATTER: Final = 0.03  # of a star's width about its field's seeing, relative
BLUE: Final = 0.7  # u - g: point sources as blue are not called stars, for they may be quasars


class Sky(NamedTuple):
    """Pieces of real sky with nothing in their middle."""

    images: np.ndarray  # (n, 5, 50, 50)
    fwhm: np.ndarray  # (n, 5) arcsec
    offset: np.ndarray  # (n, 5, 2) pixels
    rows: Table


def quasars(data: Path) -> tuple[np.ndarray, Table]:
    """Return the quasars with cutouts: (n, 5, 50, 50) float32 and rows.

    Their own catalogue has no objid; run, camcol, field and a number make one.
    """
    with np.load(data / "cutouts/quasars_ugriz_50x50.npz", allow_pickle=False) as file:
        images, specobjid = file["images"].astype(np.float32), file["specobjid"]
    rows = tables.read(data / "cutouts/quasars.csv")
    assert [int(number) for number in rows["specobjid"]] == specobjid.tolist()
    kept = Table({name: rows[name] for name in ("ra", "dec", "redshift", *BANDS)})
    for name in ("run", "camcol", "field"):
        kept[name] = np.asarray(rows[name]).astype(np.int32)
    kept["objid"] = objids(kept, 40_000)
    kept["class"] = QSO
    kept["x"] = kept["y"] = np.float64(24.5)
    kept["flags"] = np.int32(0)
    for band in BANDS:
        kept[band] = np.where(np.asarray(kept[band]) < FILLED, kept[band], np.nan)
    # The seeing of a field comes from many stars, never from the source itself.
    fwhm = _seen(images)[0]
    near = np.exp(SCATTER * np.random.default_rng(1).standard_normal(len(fwhm)))
    for i, band in enumerate(BANDS):
        kept[f"seeing_{band}"] = fwhm[:, i] * near
    return images, kept


def sky_of_quasars(images: np.ndarray, rows: Table) -> Sky:
    """Take the quasar out of the middle of each cutout; its corners fill the place."""
    step = CUTOUT_SIZE // 2
    y, x = np.mgrid[:CUTOUT_SIZE, :CUTOUT_SIZE] - 24.5
    edge = 1 / (1 + np.exp((np.hypot(x, y) - ERASED) / 0.5))
    corners = np.roll(images, (step, step), axis=(2, 3))
    # Noise of two blended pixels is less than theirs: the rim of two pixels is made up for.
    blend = (images * (1 - edge) + corners * edge) / np.sqrt(edge**2 + (1 - edge) ** 2)
    fwhm, offset = _seen(images)
    # What came from the corners must be sky: no light to speak of in r's middle 8 pixels.
    middle = blend[:, R, 21:29, 21:29].sum(axis=(1, 2))
    empty = np.abs(middle) < 4 * 8 * np.array([_noise(image[R]) for image in images])
    return Sky(blend.astype(np.float32)[empty], fwhm[empty], offset[empty], rows[empty])


def _seen(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Seeing of each cutout, from its quasar in r, and how far each band lies off r."""
    n = len(images)
    fwhm, centres = np.empty(n), np.full((n, len(BANDS), 2), np.nan)
    for k, image in enumerate(np.nan_to_num(images)):
        plane = np.ascontiguousarray(image[R])
        x, y, _ = sep.winpos(plane, [24.5], [24.5], [1.7])
        inner, outer = (sep.sum_circle(plane, x, y, a, subpix=5)[0] for a in (INNER, OUTER))
        fwhm[k] = seeing(inner, np.maximum(outer, inner))[0]
        for i in range(len(BANDS)):
            band = np.ascontiguousarray(image[i])
            bx, by, flag = sep.winpos(band, x, y, [1.7])
            light, error = sep.sum_circle(band, bx, by, 3.0, err=_noise(band))[:2]
            if not flag[0] and light[0] > 30 * error[0]:
                centres[k, i] = bx[0] - x[0], by[0] - y[0]
    usual = np.nanmedian(fwhm)
    fwhm = np.where((fwhm > 0.9) & (fwhm < 2.1), fwhm, usual)
    near = np.abs(centres).max(axis=2) < 1.0
    centres[~near] = np.nan
    # A band that shows nothing lies off as it does in some other cutout.
    rng = np.random.default_rng(0)
    for i in range(len(BANDS)):
        known = np.flatnonzero(np.isfinite(centres[:, i, 0]))
        lost = np.flatnonzero(~np.isfinite(centres[:, i, 0]))
        centres[lost, i] = centres[rng.choice(known, len(lost)), i]
    return fwhm[:, None] * SEEING, centres


def _noise(plane: np.ndarray) -> float:
    middle = np.median(plane)
    return float(1.4826 * np.median(np.abs(plane - middle)))


def field_stacks(data: Path) -> list[BandStack]:
    """Align every real field but the one that is held out."""
    stacks = []
    for folder in sorted((data / "frames").iterdir()):
        if folder.name == HELD_OUT:
            continue
        frames = {p.name[6]: read_frame(p) for p in sorted(folder.glob("frame-?-*.fits.bz2"))}
        stacks.append(align(frames, BANDS))
    return stacks


def stars_and_galaxies(stack: BandStack, known: Table) -> tuple[np.ndarray, Table]:
    """Return sources whose shape leaves no doubt, with SDSS's word nowhere needed.

    Parameters
    ----------
    stack : BandStack
        A real field.
    known : Table
        `ra dec` of objects with spectra, which are left out with all within 5 arcsec.
    """
    found, magnitude, excess = _measured(stack)
    flags = np.asarray(found["flags"])
    plain = (flags & int(Flag.EDGE) == 0) & (magnitude < FAINTEST)
    u, g = (_light(stack.plane(band), found, 5.0) for band in "ug")
    blue = asinh_magnitude(u, "u") - asinh_magnitude(g, "g") < BLUE
    star = plain & (np.abs(excess) < STELLAR) & ~(blue & (magnitude > 17))
    star |= plain & (flags & int(Flag.SATURATED) > 0) & (magnitude < 15) & (excess < 1.0)
    galaxy = plain & (excess > EXTENDED) & (magnitude > 15.5) & ~_beside_bright(found, magnitude)
    galaxy &= flags & int(Flag.SATURATED | Flag.BLENDED) == 0
    here = SkyCoord(found["ra"], found["dec"], unit="deg")
    there = SkyCoord(known["ra"], known["dec"], unit="deg")
    apart = here.match_to_catalog_sky(there)[1].arcsec > 5
    keep = np.flatnonzero((star | galaxy) & apart)
    rows = found[keep]["ra", "dec", "x", "y", "run", "camcol", "field", "flags"]
    rows["class"] = np.where(star[keep], STAR, GALAXY)
    rows["r"] = magnitude[keep]
    _tell(rows, field_seeing(stack, found))
    rows["objid"] = objids(rows, 50_000)
    return cut_flux(stack, rows["x"], rows["y"])[0], rows


def _beside_bright(found: Table, magnitude: np.ndarray) -> np.ndarray:
    """Tell what lies in the halo of a bright star, where shapes deceive."""
    bright = found[magnitude < 14.5]
    dx = np.asarray(found["x"])[:, None] - np.asarray(bright["x"])
    dy = np.asarray(found["y"])[:, None] - np.asarray(bright["y"])
    return np.asarray((np.hypot(dx, dy) < 75).any(axis=1))


def sky_of_field(stack: BandStack, n: int, rng: np.random.Generator) -> Sky:
    """Return pieces of a real field whose middle is 8 pixels from any source, or farther."""
    found = detect(stack)
    ny, nx = stack.flux.shape[1:]
    x, y = rng.uniform(30, nx - 30, 20 * n), rng.uniform(30, ny - 30, 20 * n)
    near = np.min(
        np.hypot(
            x[:, None] - np.asarray(found["x"])[None], y[:, None] - np.asarray(found["y"])[None]
        ),
        axis=1,
    )
    keep = np.flatnonzero(near > 8)[:n]
    fwhm = field_seeing(stack, found)
    images, flags = cut_flux(stack, x[keep], y[keep])
    ra, dec = stack.wcs.all_pix2world(x[keep], y[keep], 0)
    rows = Table({"ra": ra, "dec": dec, "x": x[keep], "y": y[keep], "flags": flags})
    for name, value in stack.field._asdict().items():
        rows[name] = np.full(len(rows), value, np.int32)
    _tell(rows, fwhm)
    # The alignment follows the WCS, which is off by so much itself (benchmarks/alignment.py).
    offset = rng.normal(0, 0.1, (1, len(BANDS), 2)) * (np.arange(len(BANDS)) != R)[:, None]
    offset = offset + rng.normal(0, 0.03, (len(keep), len(BANDS), 2))
    return Sky(images, np.tile(fwhm, (len(keep), 1)), offset, rows)


def _tell(rows: Table, fwhm: np.ndarray) -> None:
    for band, width in zip(BANDS, fwhm, strict=True):
        rows[f"seeing_{band}"] = np.full(len(rows), width)


def _measured(stack: BandStack) -> tuple[Table, np.ndarray, np.ndarray]:
    """Sources of a field, r within 5 pixels, and their excess over a star's concentration."""
    found = detect(stack)
    inner, outer = (np.maximum(_light(stack.plane("r"), found, a), 1e-3) for a in (2.0, 5.0))
    ratio = 2.5 * np.log10(outer / inner)
    magnitude = asinh_magnitude(outer, "r")
    bright = (magnitude > 15.2) & (magnitude < 19.5)
    counts, edges = np.histogram(ratio[bright], np.arange(0.2, 2.0, 0.02))
    mode = edges[np.convolve(counts, np.ones(3), "same").argmax()] + 0.01
    return found, magnitude, ratio - np.median(ratio[bright & (np.abs(ratio - mode) < 0.06)])


def _light(plane: np.ndarray, found: Table, radius: float) -> np.ndarray:
    plane = np.ascontiguousarray(np.nan_to_num(plane), dtype=np.float32)
    return np.asarray(sep.sum_circle(plane, found["x"], found["y"], radius, subpix=5)[0])


def objids(rows: Table, first: int) -> np.ndarray:
    """Identifiers as SDSS builds them, numbered from `first`, which no field of SDSS reaches."""
    fields = zip(*(rows[name].tolist() for name in ("run", "camcol", "field")), strict=True)
    objid = [photo_objid(FieldId(*at), np.array([first + k]))[0] for k, at in enumerate(fields)]
    return np.array(objid, np.uint64)
