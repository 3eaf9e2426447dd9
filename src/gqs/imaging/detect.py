"""Detection of sources in the r band of a field, with `sep` (Bertin & Arnouts 1996).

A source is 5 connected pixels above 5 sigma of the sky, both smoothed with a Gaussian of 2.5 px,
the threshold of SDSS's photo. On real frames this reaches r of about 22.5, with almost no detection
on the negative images. Satellite trails are subtracted first, and sources in trails or halos of
bright stars are flagged (`stray_light`); so are saturated stars, by their flat cores, and cosmic
rays, by their sharpness (`cores`).

In a globular cluster or in the Galactic plane isophotes merge, and a star may contribute only a
thousandth of a blend's flux. There the field is searched again with a kernel of zero sum (a narrow
minus a wide Gaussian), which separates a blend into its peaks. Elsewhere that kernel would find
knots in galaxies and rings around bright stars.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import sep
from astropy.table import Table
from numpy.typing import NDArray
from scipy.spatial import KDTree

from gqs.errors import BadInputError
from gqs.imaging import cores, stray_light
from gqs.imaging.align import BandStack
from gqs.imaging.stray_light import StrayLight, Trail
from gqs.surveys.sdss import CUTOUT_SIZE, REFERENCE_BAND, detection_objid
from gqs.tables import UNITS, Flag

THRESHOLD: Final = 5.0  # sigmas of the smoothed sky
AREA: Final = 5  # pixels
FILTER_FWHM: Final = 2.5  # pixels: narrower than the seeing, so that close pairs are separated
BACKGROUND: Final = 128  # pixels, side of the meshes in which the residual sky is measured
LEVELS: Final = 64  # deblending thresholds between an object's base and its peak
# Least fraction of a blend's flux that makes a separate source. With 0.001 a third of the stars of
# r = 19 in a crowd are lost; with 0.00001 bright stars and galaxies are split.
CONTRAST: Final = 0.0001
SUB_OBJECTS: Final = 16384  # sep's default, 1024, overflows on globular clusters
WINDOW: Final = 1.7  # px, sigma of the window that refines centroids
# Diffraction spikes: elongated detections along a row or column through a bright star.
_SPIKE_ROUND: Final = 0.6
_SPIKE_SHARE: Final = 0.01
_SPIKE_REACH: Final = 300.0  # pixels
MOST_TRAILS: Final = 6  # in a field; more are not satellites
CROWD: Final = 15  # sources within CROWD_RADIUS, including itself; typically 2 in an ordinary field
CROWD_RADIUS: Final = 64.0  # pixels
FEWEST_CROWDED: Final = 50  # crowded sources, below which the field is not searched again
APART: Final = 2.0  # pixels: closer peaks are one source
SURROUNDINGS: Final = 5.0  # pixels, FWHM of the Gaussian that is subtracted from the kernel


def detect(stack: BandStack) -> Table:
    """Detect the sources of a field.

    Parameters
    ----------
    stack : BandStack
        Must contain the r band.

    Returns
    -------
    Table
        One row per source, sorted by `objid`: `objid`, `ra`, `dec` (degrees), `x`, `y` (0-based
        pixels), `run`, `camcol`, `field`, `flags` (sum of `tables.Flag`), `flux_r` (isophotal,
        nanomaggies), `a`, `b`, `theta` (pixels and radians), `npix`, `radius` (half-light radius,
        pixels).

    Raises
    ------
    BadInputError
        If there is no r band, or it has no valid pixel.
    """
    return find(stack)[0]


def find(stack: BandStack) -> tuple[Table, StrayLight]:
    """Detect the sources of a field, and its trails and halos."""
    if REFERENCE_BAND not in stack.bands:
        raise BadInputError(
            f"Field {stack.field}: sources are detected in the {REFERENCE_BAND} band, which is "
            "missing. Add its frame."
        )
    index = stack.bands.index(REFERENCE_BAND)
    masked = ~stack.covered[index]
    if masked.all():
        raise BadInputError(f"Field {stack.field}: its {REFERENCE_BAND} band has no valid pixel.")
    noise = float(stack.noise[index])
    flux = np.where(masked, np.float32(0), stack.flux[index])
    flux -= sep.Background(flux, mask=masked, bw=BACKGROUND, bh=BACKGROUND).back()
    flux[masked] = 0
    saturated = np.asarray(stack.saturated.any(axis=0))
    found, full = _extract(flux, masked, noise, saturated)
    lines: list[Trail] = []
    while len(lines) < MOST_TRAILS:
        line = stray_light.find_line(found[~_on_spikes(found)])
        if line is None:
            break
        trail = stray_light.subtract_trail(flux, masked, line, noise)
        if trail is None:
            break
        lines.append(trail)
        found, full = _extract(flux, masked, noise, saturated)
    if crowded(found).sum() >= FEWEST_CROWDED:
        found, full = _with_hidden(flux, masked, noise, saturated, (found, full))
    found, full = cores.join_pieces(flux, found, full)
    flat, sharp = cores.flat_and_sharp(stack, found["x"], found["y"])
    full |= flat
    light = StrayLight(tuple(lines), stray_light.halos(found, full))
    keep = ~_on_spikes(found)
    sources = _table(stack, flux, found[keep], (full[keep], sharp[keep]), light)
    return sources, light


def _extract(
    flux: NDArray[np.float32],
    masked: NDArray[np.bool_],
    noise: float,
    saturated: NDArray[np.bool_],
    surroundings: float | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Run sep's extraction with limits for crowded fields; without deblending if it overflows.

    Returns the detections, and whether each has saturated pixels.
    """
    sep.set_extract_pixstack(flux.size)
    sep.set_sub_object_limit(SUB_OBJECTS)
    kernel = _gaussian(FILTER_FWHM)
    if surroundings is not None:
        kernel = _gaussian(FILTER_FWHM, 15) - _gaussian(surroundings, 15)
    threshold = THRESHOLD * noise * float(np.sqrt((kernel**2).sum()))
    options = {
        "mask": masked,
        "minarea": AREA,
        "filter_kernel": kernel,
        "filter_type": "conv",
        "segmentation_map": True,
    }
    try:
        found, segments = sep.extract(
            flux, threshold, deblend_nthresh=LEVELS, deblend_cont=CONTRAST, **options
        )
    except Exception as error:  # sep raises bare Exception
        if "overflow" not in str(error) and "limit" not in str(error):
            raise
        found, segments = sep.extract(
            flux, threshold, deblend_nthresh=1, deblend_cont=1.0, **options
        )
    full = np.zeros(len(found) + 1, dtype=bool)
    full[segments[saturated]] = True
    return found, full[1:]


def _with_hidden(
    flux: NDArray[np.float32],
    masked: NDArray[np.bool_],
    noise: float,
    saturated: NDArray[np.bool_],
    known: tuple[NDArray[Any], NDArray[np.bool_]],
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Add the peaks hidden in blends, flagged as blended."""
    peaks, full = _extract(flux, masked, noise, saturated, SURROUNDINGS)
    new = hidden(known[0], peaks)
    peaks["flag"] |= sep.OBJ_MERGED
    return np.concatenate([known[0], peaks[new]]), np.concatenate([known[1], full[new]])


def crowded(found: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each detection is in a crowd, (n,) bool."""
    if len(found) < FEWEST_CROWDED:
        return np.zeros(len(found), dtype=bool)
    return _neighbours(_positions(found), _positions(found)) >= CROWD


def hidden(found: NDArray[Any], peaks: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each peak is a new source, (peaks,) bool: in a crowd, more than 2 px from every
    detection, and not on a bright star.
    """
    if not len(peaks) or not len(found):
        return np.zeros(len(peaks), dtype=bool)
    at = _positions(peaks)
    new = _neighbours(_positions(found), at) >= CROWD
    new &= KDTree(_positions(found)).query(at)[0] > APART
    for star in found[found["flux"] > cores.BRIGHT]:
        reach = np.sqrt(star["npix"] / np.pi)
        new &= np.hypot(peaks["x"] - star["x"], peaks["y"] - star["y"]) > reach
    return np.asarray(new)


def _positions(found: NDArray[Any]) -> NDArray[np.float64]:
    return np.column_stack([found["x"], found["y"]]).astype(np.float64)


def _neighbours(of: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.intp]:
    counts = KDTree(of).query_ball_point(at, CROWD_RADIUS, return_length=True)
    return np.asarray(counts, dtype=np.intp)


def _gaussian(fwhm: float, size: int = 9) -> NDArray[np.float32]:
    step = np.arange(size) - size // 2
    row = np.exp(-4 * np.log(2) * (step / fwhm) ** 2)
    kernel = np.outer(row, row)
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def _on_spikes(found: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each detection is part of a bright star's diffraction spike, (n,) bool."""
    on = np.zeros(len(found), dtype=bool)
    thin = found["b"] < _SPIKE_ROUND * found["a"]
    for star in np.flatnonzero(found["flux"] > cores.BRIGHT):
        dx, dy = found["x"] - found["x"][star], found["y"] - found["y"][star]
        along, across = np.maximum(abs(dx), abs(dy)), np.minimum(abs(dx), abs(dy))
        # theta is measured from the x axis.
        tilt = np.where(abs(dx) > abs(dy), abs(np.sin(found["theta"])), abs(np.cos(found["theta"])))
        faint = found["flux"] < _SPIKE_SHARE * found["flux"][star]
        near = (along < _SPIKE_REACH) & (across < 5 + 0.06 * along)
        on |= near & thin & faint & (tilt < 0.35)
    return on


def _table(
    stack: BandStack,
    flux: NDArray[np.float32],
    found: NDArray[Any],
    tops: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    light: StrayLight,
) -> Table:
    saturated, sharp = tops
    x, y = _centroids(flux, found)
    ra, dec = stack.wcs.all_pix2world(x, y, 0) if len(x) else (x, y)
    ny, nx = flux.shape
    first_x, first_y = np.ceil(x - CUTOUT_SIZE // 2), np.ceil(y - CUTOUT_SIZE // 2)
    over = (first_x < 0) | (first_y < 0)
    over |= (first_x + CUTOUT_SIZE > nx) | (first_y + CUTOUT_SIZE > ny)
    flags = light.flags(x, y)
    flags[over] |= int(Flag.EDGE)
    flags[saturated] |= int(Flag.SATURATED)
    flags[sharp] |= int(Flag.COSMIC_RAY)
    flags[(found["flag"] & sep.OBJ_MERGED) > 0] |= int(Flag.BLENDED)
    table = Table(
        {"objid": detection_objid(stack.field, x, y), "ra": ra, "dec": dec, "x": x, "y": y}
    )
    for name, value in stack.field._asdict().items():
        table[name] = np.full(len(table), value, dtype=np.int32)
    table["flags"] = flags
    table["flux_r"] = found["flux"].astype(np.float32)
    for name in ("a", "b", "theta", "npix"):
        table[name] = found[name].astype(np.int32 if name == "npix" else np.float32)
    reach = np.minimum(6 * found["a"], 60.0)
    table["radius"] = sep.flux_radius(flux, x, y, reach, 0.5, subpix=5)[0].astype(np.float32)
    for name, unit in (UNITS | {"a": "pix", "b": "pix", "theta": "rad", "radius": "pix"}).items():
        table[name].unit = unit
    table["flux_r"].unit = "nmgy"
    table.sort("objid")
    return table


def _centroids(
    flux: NDArray[np.float32], found: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Windowed centroids; isophotal ones where a neighbour shifted the window."""
    if not len(found):
        return np.empty(0), np.empty(0)
    x, y, _ = sep.winpos(flux, found["x"], found["y"], np.full(len(found), WINDOW))
    away = ~(np.hypot(x - found["x"], y - found["y"]) < 1.5)
    return np.where(away, found["x"], x), np.where(away, found["y"], y)
