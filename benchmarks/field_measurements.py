"""Measure the sources of a field's five frames, real or simulated, in one and the same way.

Detection in r, fixed apertures in all bands at the positions that the WCS gives, corrected to
the whole light of a star; radii and concentration in r.
"""

from __future__ import annotations

import bz2
import io
from pathlib import Path

import numpy as np
import sep
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from gqs.surveys import sdss

APERTURE = 4.0  # pixels: 1.6 arcsec, for colours
WIDE = 15.0  # pixels: 5.9 arcsec, nearly all of a star's light
BORDER = 30


def frame_paths(folder: Path) -> dict[str, Path]:
    return {b: next(iter(sorted(folder.glob(f"frame-{b}-*.fits.bz2")))) for b in sdss.BANDS}


def open_frame(path: Path) -> tuple[np.ndarray, WCS]:
    with fits.open(io.BytesIO(bz2.decompress(path.read_bytes())), memmap=False) as hdus:
        data = hdus[0].data.astype(np.float32)
        header = hdus[0].header
    return np.nan_to_num(data), WCS(header)


def sums(data: np.ndarray, x, y, radius: float) -> np.ndarray:
    return sep.sum_circle(data, x, y, radius, subpix=5)[0]


def measure(folder: Path, faintest: float = 22.5) -> tuple[Table, dict]:
    """Sources of a field (Table); its noise, FWHM and the sky left in it (in noise) by band."""
    images = {band: open_frame(path) for band, path in frame_paths(folder).items()}
    noise = {b: pixel_noise(image) for b, (image, _) in images.items()}
    skies = {b: sep.Background(image, bw=128, bh=128) for b, (image, _) in images.items()}
    left = {b: float(np.median(skies[b].back())) / noise[b] for b in images}
    images = {b: (image - skies[b].back(), wcs) for b, (image, wcs) in images.items()}
    data, wcs = images["r"]
    sep.set_extract_pixstack(3_000_000)
    sep.set_sub_object_limit(4096)
    found = sep.extract(np.ascontiguousarray(data), 1.5, err=noise["r"], minarea=6)
    x, y = found["x"], found["y"]
    inside = (
        (x > BORDER) & (x < data.shape[1] - BORDER) & (y > BORDER) & (y < data.shape[0] - BORDER)
    )
    found = found[inside & (found["a"] > 0.3) & (found["b"] > 0.3)]
    x, y = found["x"], found["y"]
    a, b, theta = found["a"], found["b"], np.clip(found["theta"], -np.pi / 2, np.pi / 2)
    kron, _ = sep.kron_radius(data, x, y, a, b, theta, 6.0)
    kron = np.clip(np.nan_to_num(kron, nan=2.0), 1.5, 6)
    total, _, _ = sep.sum_ellipse(data, x, y, a, b, theta, 2.5 * kron, subpix=5)
    small = 2.5 * kron * np.sqrt(a * b) < 5
    total = np.where(small, sums(data, x, y, 5.0), total)
    table = Table({"x": x, "y": y, "flag": found["flag"], "ellipticity": 1 - b / a})
    radius, _ = sep.flux_radius(data, x, y, 6 * a, [0.5, 0.9], normflux=total, subpix=5)
    table["r50"], table["r90"] = (sdss.PIXEL_SCALE * radius).T
    table["r_total"] = sdss.asinh_magnitude(total, "r")
    inner, outer = sums(data, x, y, 2.0), sums(data, x, y, 5.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        table["concentration"] = 2.5 * np.log10(outer / inner)
    nearest = neighbour_distance(x, y)
    stars = stellar(table, nearest)
    psf_r50 = float(np.median(table["r50"][stars & (table["r_total"] < 19)]))
    # A star's light in an aperture depends on the band's seeing, a big galaxy's does not.
    like_star = np.clip((psf_r50 / np.asarray(table["r50"])) ** 2, 0, 1)
    ra, dec = wcs.all_pix2world(x, y, 0)
    fwhm, corrections = {}, {}
    for band in ("r", *"ugiz"):
        image, its_wcs = images[band]
        px, py = its_wcs.all_world2pix(ra, dec, 0)
        near = sums(image, px, py, APERTURE)
        good = stars & (table["r_total"] < 18.5)
        if band == "u":
            good = stars & (table["r_total"] < 17.8)
        correction = np.median((sums(image, px, py, WIDE) / near)[good])
        corrections[band] = correction
        ratio = correction / corrections["r"]
        flux = near * corrections["r"] * (1 + (ratio - 1) * like_star)
        table[band] = sdss.asinh_magnitude(flux, band)
        error = correction * np.sqrt(
            np.pi * APERTURE**2 * noise[band] ** 2 + np.clip(near, 0, None) * 1e-3
        )
        table[f"{band}_error"] = np.hypot(
            1.0857 * error / np.sqrt(flux**2 + 4e18 * sdss.SOFTENING[band] ** 2), 0.02
        )
        fwhm[band] = stellar_fwhm(image, px[good], py[good])
    table["star"] = stars
    table["nearest"] = nearest
    table["psf_concentration"] = np.median(table["concentration"][stars & (table["r_total"] < 19)])
    table["psf_r50"] = psf_r50
    table["ra"], table["dec"] = ra, dec
    return table[table["r_total"] < faintest], {
        "noise": noise,
        "fwhm": fwhm,
        "sky_left": left,
    }


def neighbour_distance(x, y) -> np.ndarray:
    from scipy.spatial import cKDTree

    points = np.stack([x, y], 1)
    return cKDTree(points).query(points, k=2)[0][:, 1]


def stellar(table: Table, nearest: np.ndarray) -> np.ndarray:
    """Bright, isolated, unsaturated sources as concentrated as most of the concentrated ones."""
    bright = (table["r_total"] > 15.2) & (table["r_total"] < 19.5) & (table["flag"] == 0)
    c = np.asarray(table["concentration"])
    histogram, edges = np.histogram(c[bright], np.arange(0.2, 2.5, 0.02))
    smooth = np.convolve(histogram, np.ones(3), "same")
    mode = edges[np.argmax(smooth)] + 0.01
    return np.asarray(bright & (np.abs(c - mode) < 0.08) & (nearest > 12))


def stellar_fwhm(image, x, y) -> float:
    """FWHM in arcsec of a Gaussian with the stars' flux within 2 and 5 pixels."""
    ratio = np.median(sums(image, x, y, 2.0) / sums(image, x, y, 5.0))
    widths = np.linspace(0.6, 4, 500)
    model = (1 - np.exp(-2 / widths**2)) / (1 - np.exp(-12.5 / widths**2))
    return float(2.3548 * sdss.PIXEL_SCALE * np.interp(-ratio, -model, widths))


def pixel_noise(image: np.ndarray) -> float:
    """Scatter of the sky's pixels, from the differences of neighbours two apart and clipping."""
    middle = np.median(image)
    low = image[image < middle]
    return float(1.4826 * np.median(middle - low))
