"""Alignment: all bands of a field on the r band's pixel grid, by one cubic spline. Paper 3.2.

SDSS's bands are offset by up to 6 px in x and 12 px in y, and not by a pure shift (0.4 to 1.4 px
more at one edge than at the other). A 6-parameter affine transformation fitted to the two WCS is
accurate to about 1e-5 px; if it is not (distortion in another survey), `reproject` is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sep
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import ndimage

from gqs.errors import BadInputError
from gqs.imaging.frames import Frame
from gqs.imaging.resample import affine_cubic, affine_mask
from gqs.surveys.sdss import REFERENCE_BAND, FieldId, check_bands

AFFINE_LIMIT: Final = 1e-3  # pixels, largest residual of the affine transformation
STARS_LIMIT: Final = 2.0  # pixels, largest offset of stars from the WCS
_STAR_SIGNAL: Final = 25.0  # sky sigmas: centroids are accurate to some hundredths of a pixel
_MOST_STARS: Final = 300  # brightest stars that are used
_SEARCH: Final = 60.0  # pixels, largest offset that is searched
_PAIR: Final = 1.5  # pixels, largest separation of a matched pair
_FEWEST_PAIRS: Final = 6
_ROUND: Final = 0.6  # least axis ratio of a star: the PSF itself goes down to 0.75

Positions = NDArray[np.float64]  # (n, 2): x, y in 0-based pixels


@dataclass(frozen=True)
class BandStack:
    """The bands of one field on the r band's pixel grid.

    Attributes
    ----------
    field : FieldId
        Run, camera column and field.
    bands : str
        Bands in the order of the first axis.
    flux : ndarray
        (band, ny, nx) float32 nanomaggies per pixel, NaN where not `covered`.
    covered : ndarray
        (band, ny, nx) bool: inside the band's frame, and no bad pixel contributes.
    saturated : ndarray
        (band, ny, nx) bool.
    wcs : WCS
        The r band's.
    noise : ndarray
        (band,) sky sigma, nanomaggies per pixel of the band's own frame.
    star_shift : ndarray
        (band, 2) x and y offset of stars from the WCS in pixels; NaN where not measured.
    shift_removed : bool
        Whether the flux has been corrected for it.
    """

    field: FieldId
    bands: str
    flux: NDArray[np.float32]
    covered: NDArray[np.bool_]
    saturated: NDArray[np.bool_]
    wcs: WCS
    noise: NDArray[np.float64]
    star_shift: NDArray[np.float64]
    shift_removed: bool = False

    def plane(self, band: str) -> NDArray[np.float32]:
        """Flux of one band, (ny, nx) nanomaggies."""
        return np.asarray(self.flux[self.bands.index(band)])


def align(frames: Mapping[str, Frame], bands: str, *, star_shift: bool = False) -> BandStack:
    """Resample a field's frames to the pixel grid of its r band.

    Parameters
    ----------
    frames : mapping of str to Frame
        A frame for each band, including r.
    bands : str
        Bands to align, in any order.
    star_shift : bool
        Also correct the error of the WCS between the bands (0.06-0.26 px in SDSS), measured from
        stars. The shifts are recorded in any case.

    Returns
    -------
    BandStack
        The bands in the order u g r i z; flux is conserved if pixel areas differ.

    Raises
    ------
    BadInputError
        If r or another required band is missing, frames are of different fields or reruns, or
        stars show that a band's WCS is wrong by more than 2 px.
    UsageError
        If a band is unknown.
    """
    bands = check_bands(bands)
    reference = _checked(frames, bands)
    noise = {band: _sky_noise(frames[band]) for band in {*bands, REFERENCE_BAND}}
    stars = star_positions(reference, noise[REFERENCE_BAND])
    shape = (len(bands), *reference.flux.shape)
    flux = np.empty(shape, dtype=np.float32)
    covered, saturated = np.empty(shape, dtype=bool), np.empty(shape, dtype=bool)
    shifts = np.full((len(bands), 2), np.nan)
    for i, band in enumerate(bands):
        frame = frames[band]
        if band == REFERENCE_BAND:
            flux[i], covered[i], saturated[i] = frame.flux, ~frame.bad, frame.saturated
            shifts[i] = 0.0
            continue
        matrix, residual = fit_affine(reference.wcs, frame.wcs, reference.flux.shape)
        shifts[i] = _star_shift(frame, stars, noise[band], matrix)
        if star_shift and np.isfinite(shifts[i]).all():
            matrix = matrix.copy()
            matrix[:, 2] += matrix[:, :2] @ shifts[i]
        elif residual > AFFINE_LIMIT:
            flux[i], covered[i], saturated[i] = _reprojected(frame, reference)
            continue
        flux[i], covered[i], saturated[i] = _resampled(frame, matrix, reference.flux.shape)
    flux[~covered] = np.nan
    sigmas = np.array([noise[band] for band in bands])
    return BandStack(
        reference.field, bands, flux, covered, saturated, reference.wcs, sigmas, shifts, star_shift
    )


def fit_affine(onto: WCS, of: WCS, shape: tuple[int, ...]) -> tuple[NDArray[np.float64], float]:
    """Fit the affine (2, 3) from one image's pixels to another's; also its residual in pixels."""
    ny, nx = shape[-2:]
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, nx - 1, 9), np.linspace(0, ny - 1, 7)))
    target = np.column_stack(of.all_world2pix(*onto.all_pix2world(x, y, 0), 0))
    grid = np.column_stack([x, y, np.ones_like(x)])
    solution = np.linalg.lstsq(grid, target, rcond=None)[0]
    residual = float(np.hypot(*(grid @ solution - target).T).max())
    return np.asarray(solution.T), residual


def _checked(frames: Mapping[str, Frame], bands: str) -> Frame:
    if REFERENCE_BAND not in frames:
        raise BadInputError(
            f"The {REFERENCE_BAND} frame is missing, which defines the pixel grid. Add it."
        )
    reference = frames[REFERENCE_BAND]
    for band in (*bands, REFERENCE_BAND):
        if band not in frames:
            raise BadInputError(
                f"Field {reference.field}: the {band} frame is missing. Add it, or use the bands "
                f"{''.join(b for b in bands if b in frames)}."
            )
        frame = frames[band]
        if frame.band != band:
            raise BadInputError(
                f"{frame.path}: is a frame in band {frame.band}, not {band}. Swap them."
            )
        if frame.field != reference.field:
            raise BadInputError(
                f"{frame.path}: is of field {frame.field}, but the {REFERENCE_BAND} frame is of "
                f"{reference.field}. Use frames of one field."
            )
        if frame.rerun != reference.rerun:
            raise BadInputError(
                f"{frame.path}: is of rerun {frame.rerun!r}, the {REFERENCE_BAND} frame of "
                f"{reference.rerun!r}. Fetch both from the same release."
            )
    return reference


def _sky_noise(frame: Frame) -> float:
    """Median sigma of a pixel; every third row and column gives four digits."""
    return float(np.sqrt(np.nanmedian(frame.variance[::3, ::3])))


def _star_shift(
    frame: Frame, stars: NDArray[np.float64], noise: float, matrix: NDArray[np.float64]
) -> tuple[float, float]:
    """Offset (x, y) of a band's stars on the r grid in pixels; NaN if there are too few stars."""
    in_band = star_positions(frame, noise)
    on_grid = np.asarray(np.linalg.solve(matrix[:, :2], (in_band - matrix[:, 2]).T).T, dtype=float)
    shift = shift_between(stars, on_grid)
    if shift is None:
        return np.nan, np.nan
    if np.hypot(*shift[:2]) > STARS_LIMIT:
        raise BadInputError(
            f"{frame.path}: {shift[2]} stars are {shift[0]:+.1f}, {shift[1]:+.1f} px from their "
            f"positions in the {REFERENCE_BAND} band by the WCS. Solve its astrometry again."
        )
    return shift[:2]


def _resampled(
    frame: Frame, matrix: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Flux, coverage and saturation of a frame on the grid."""
    flux = affine_cubic(_filled(frame), matrix, shape)
    flux *= np.float32(abs(np.linalg.det(matrix[:, :2])))
    return flux, *_masks(frame, flux, lambda mask: affine_mask(mask, matrix, shape))


def _masks(
    frame: Frame, flux: NDArray[np.float32], moved: Any
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Coverage and saturation; a cubic spline extends two pixels to each side."""
    covered = np.isfinite(flux)
    saturated = np.zeros(flux.shape, dtype=bool)
    if frame.bad.any():
        covered &= ~moved(ndimage.maximum_filter(frame.bad, size=5))
    if frame.saturated.any():
        saturated = moved(ndimage.maximum_filter(frame.saturated, size=3))
    return covered, saturated


def _filled(frame: Frame) -> NDArray[np.float32]:
    """Fill bad pixels with their nearest good neighbour, so that the spline does not ring."""
    if not frame.bad.any():
        return frame.flux
    nearest = ndimage.distance_transform_edt(frame.bad, return_distances=False, return_indices=True)
    return np.asarray(frame.flux[tuple(nearest)])


def _reprojected(
    frame: Frame, reference: Frame
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Resample with `reproject`, for distortions that no affine transformation describes."""
    from reproject import reproject_interp

    def moved(image: NDArray[Any], order: str) -> NDArray[Any]:
        return np.asarray(
            reproject_interp(
                (image, frame.wcs),
                reference.wcs,
                shape_out=reference.flux.shape,
                order=order,
                return_footprint=False,
                roundtrip_coords=False,
            )
        )

    matrix, _ = fit_affine(reference.wcs, frame.wcs, reference.flux.shape)
    flux = moved(_filled(frame), "bicubic") * abs(np.linalg.det(matrix[:, :2]))
    flux = flux.astype(np.float32)

    def mask(image: NDArray[Any]) -> NDArray[np.bool_]:
        return np.asarray(np.nan_to_num(moved(image.astype("f4"), "nearest-neighbor")) > 0)

    return flux, *_masks(frame, flux, mask)


def star_positions(frame: Frame, noise: float) -> Positions:
    """Windowed centroids of a frame's bright, round, unsaturated sources, (n, 2) x and y in its own
    pixels, brightest first (as SExtractor's XWIN and YWIN).
    """
    flux = np.where(frame.bad, np.float32(0), frame.flux)
    sep.set_extract_pixstack(max(flux.size // 2, 300_000))
    try:
        found = sep.extract(
            flux,
            _STAR_SIGNAL * noise,
            minarea=9,
            filter_kernel=None,
            deblend_nthresh=1,
            deblend_cont=1.0,
            clean=False,
        )
    except Exception:  # sep overflows if the whole frame is a source
        return np.empty((0, 2))
    ny, nx = flux.shape
    good = (found["b"] > _ROUND * found["a"]) & (found["a"] < 6)
    good &= (found["xmin"] > 3) & (found["xmax"] < nx - 4)
    good &= (found["ymin"] > 3) & (found["ymax"] < ny - 4)
    rows, columns = found["ypeak"], found["xpeak"]
    good &= ~frame.saturated[rows, columns]
    found = found[good]
    found = found[np.argsort(-found["flux"])][:_MOST_STARS]
    if not len(found):
        return np.empty((0, 2))
    x, y, flag = sep.winpos(flux, found["x"], found["y"], np.full(len(found), 1.7))
    steady = np.hypot(x - found["x"], y - found["y"]) < 1.0
    return np.asarray(np.column_stack([x, y])[steady & (flag & sep.APER_TRUNC == 0)])


def shift_between(reference: Positions, moved: Positions) -> tuple[float, float, int] | None:
    """Offset (x, y) between two sets of stars and the number of pairs, without identifications.

    The offsets of all pairs within 60 px are counted in cells of 2 px; the fullest cell gives the
    offset, and the median of the pairs near it refines it.
    """
    if min(len(reference), len(moved)) < _FEWEST_PAIRS:
        return None
    offsets = (moved[:, None] - reference[None]).reshape(-1, 2)
    offsets = offsets[(np.abs(offsets) < _SEARCH).all(axis=1)]
    edges = np.arange(-_SEARCH, _SEARCH + 1, 2.0)
    counts = np.histogram2d(offsets[:, 0], offsets[:, 1], bins=(edges, edges))[0]
    # Sums of adjacent cells, so that a peak on the border of two cells is not split.
    sums = counts[:-1, :-1] + counts[1:, :-1] + counts[:-1, 1:] + counts[1:, 1:]
    i, j = np.unravel_index(np.argmax(sums), sums.shape)
    centre = np.array([edges[i + 1], edges[j + 1]])
    chance = float(sums.mean())
    if sums[i, j] < max(_FEWEST_PAIRS, chance + 5 * np.sqrt(chance) + 3):
        return None
    for reach in (2 * _PAIR, _PAIR):
        near = offsets[np.hypot(*(offsets - centre).T) < reach]
        if len(near) < _FEWEST_PAIRS:
            return None
        centre = np.median(near, axis=0)
    return float(centre[0]), float(centre[1]), len(near)
