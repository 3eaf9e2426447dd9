"""PSF magnitudes: fluxes fitted with the profile of the field's stars.

A simple form of photo's PSF magnitudes (Lupton et al. 2001, ASP Conf. Ser. 238, 269; Stoughton et
al. 2002, section 4.4.5). There is one profile per field and band. The fluxes of all sources of the
field are fitted together at their positions in r, so that flux of neighbours is shared, and an
aperture correction that varies over the field normalises them to the flux within 7.43 arcsec. For
a point source this is the magnitude with the least noise; for a galaxy it misses the flux outside
the profile.

The profile has photo's form, two Gaussians and a power law, here elliptical, with the second
Gaussian twice as wide as the first. It is sampled at pixel centres, so it includes the pixel
response.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy import ndimage, optimize, sparse
from scipy.sparse.linalg import cg
from scipy.spatial import KDTree

from gqs.imaging.align import BandStack
from gqs.imaging.photometry import ELECTRON, magnitudes
from gqs.imaging.seeing import Stars, seeing_of
from gqs.surveys.sdss import PIXEL_SCALE

FEWEST: Final = 5  # stars needed to fit a band's profile
WHOLE: Final = 7.43 / PIXEL_SCALE  # pixels: the aperture of SDSS's magnitudes
SAME: Final = 1.5  # pixels: a closer position and detection are the same source
NEAR: Final = 12.0  # pixels within which sources share flux
LEAST_SEEN: Final = 0.5  # of a profile's weight that must not be masked
_CLEAN: Final = 0.02  # largest flux of neighbours, relative to a star used for corrections
_MOST: Final = 80  # stars used for corrections
_RING: Final = (30.0, 40.0)  # pixels: sky around those stars
_STAMP: Final = 40
_CHUNK: Final = 4096  # sources whose pixels are in memory at a time
_FLOOR: Final = 0.003  # smallest relative error of a correction
HALF: Final = 7  # pixels on each side of a source that are fitted
APERTURE: Final = 7.5  # pixels, radius within which a profile has unit flux
STARS: Final = 25  # brightest stars to which a profile is fitted
# Radius of the wing in pixels, linear in the width of the first Gaussian; from stacked stars of
# real frames, see `gqs.simulation.profiles`.
_WING: Final = (1.2, 0.5)
_LIMITS: Final = (  # ln sigma, ellipticity (2), offset (2), second Gaussian, wing
    (math.log(0.6), -0.3, -0.3, -1.0, -1.0, 0.0, 0.0),
    (math.log(5.0), 0.3, 0.3, 1.0, 1.0, 0.6, 0.6),
)
_FIRST: Final = (0.09, 0.10)
_MODEL_ERROR: Final = 0.02  # relative error of the profile: no formula fits a star's core exactly
_LAGS: Final = 16  # pixels to which overlaps of profiles are tabulated


@dataclass(frozen=True)
class Profile:
    """Profile of a point source."""

    sigma: float  # of the first Gaussian, pixels
    e1: float = 0.0  # ellipticity (a - b) / (a + b) along x and along the diagonal
    e2: float = 0.0
    dx: float = 0.0  # offset from the r band's position, pixels
    dy: float = 0.0
    second: float = _FIRST[0]  # amplitudes against the first Gaussian's
    wing: float = _FIRST[1]

    def at(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float32]:
        """Flux per pixel at offsets (pixels) from the r band's position, for unit total flux."""
        x, y = np.asarray(x - self.dx, np.float32), np.asarray(y - self.dy, np.float32)
        e1, e2, s2 = self.e1, self.e2, self.sigma**2
        norm = 1 / (1 - e1 * e1 - e2 * e2)
        xx, yy, xy = ((1 - e1) ** 2 + e2**2, (1 + e1) ** 2 + e2**2, -4 * e2)
        r2 = np.float32(norm * xx) * x * x + np.float32(norm * yy) * y * y
        r2 = r2 + np.float32(norm * xy) * x * y
        first = np.exp(r2 * np.float32(-0.5 / s2))
        second = np.sqrt(np.sqrt(first))  # twice as wide
        base = 1 + r2 * np.float32(1 / self._wing2)
        light = first + np.float32(self.second) * second
        light += np.float32(self.wing) / (base * np.sqrt(base))
        return np.asarray(light * np.float32(1 / self._light))

    @property
    def _wing2(self) -> float:
        radius = _WING[0] + _WING[1] * self.sigma
        return radius * radius

    @property
    def _light(self) -> float:
        """Integral of the three parts within the aperture."""
        s2, wing2, far = self.sigma**2, self._wing2, APERTURE**2
        total = s2 * (1 - math.exp(-far / (2 * s2)))
        total += self.second * 4 * s2 * (1 - math.exp(-far / (8 * s2)))
        total += self.wing * wing2 * (1 - (1 + far / wing2) ** -0.5)
        return float(2 * math.pi * total)

    def overlap(self, dx: NDArray[Any], dy: NDArray[Any]) -> NDArray[np.float64]:
        """Sum over pixels of the product of two profiles at distances (dx, dy) pixels, (n,)."""
        step = np.arange(-_LAGS, _LAGS) + 0.5
        light = self.at(step + self.dx, (step + self.dy)[:, None]).astype(np.float64)
        transform = np.fft.rfft2(light, (4 * _LAGS, 4 * _LAGS))
        table = np.fft.fftshift(np.fft.irfft2(np.abs(transform) ** 2))
        where = np.stack([dy, dx]) + 2 * _LAGS
        return np.asarray(ndimage.map_coordinates(table, where, order=3))


def fitted(
    stamps: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    noise: float,
    electron: float,
    seeing: float,
) -> Profile:
    """Fit a profile to stamps of stars (n, 15, 15) at sub-pixel offsets (x, y)."""
    step = np.arange(-HALF, HALF + 1, dtype=np.float32)
    dx = (step - x[:, None]).astype(np.float32)[:, None, :]
    dy = (step - y[:, None]).astype(np.float32)[:, :, None]
    known = np.isfinite(stamps)
    light = np.where(known, stamps, 0)
    peak = light.max(axis=(1, 2), keepdims=True)
    variance = noise**2 + electron * np.maximum(light, 0) + (_MODEL_ERROR * light) ** 2
    variance += (0.002 * peak) ** 2
    weight = np.where(known, 1 / np.sqrt(variance), 0).astype(np.float32)
    weighted = weight * light

    def residuals(values: NDArray[np.float64]) -> NDArray[np.float64]:
        model = weight * _profile(values).at(dx, dy)
        flux = (model * weighted).sum(axis=(1, 2)) / (model * model).sum(axis=(1, 2))
        off = weighted - flux[:, None, None] * model
        return np.asarray(off.ravel(), dtype=np.float64)

    first = [math.log(np.clip(seeing / 2.6, 0.7, 4.0)), 0.0, 0.0, 0.0, 0.0, *_FIRST]
    found = optimize.least_squares(
        residuals,
        first,
        bounds=_LIMITS,
        loss="soft_l1",
        f_scale=3.0,
        diff_step=1e-3,  # float32
        ftol=1e-4,
        xtol=1e-4,
        max_nfev=12,
        x_scale=(0.1, 0.03, 0.03, 0.1, 0.1, 0.05, 0.05),
    )
    return _profile(found.x)


def _profile(values: NDArray[np.float64]) -> Profile:
    sigma, *rest = map(float, values)
    return Profile(math.exp(sigma), *rest)


@dataclass(frozen=True)
class _Places:
    """Positions of sources in a field, and the windows of 15 pixels around them."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]

    @property
    def column(self) -> NDArray[np.intp]:
        return np.rint(self.x).astype(np.intp)

    @property
    def row(self) -> NDArray[np.intp]:
        return np.rint(self.y).astype(np.intp)

    def windows(self, plane: NDArray[np.float32], half: int) -> NDArray[np.float32]:
        """Windows (n, 2 half + 1, 2 half + 1), NaN outside the frame."""
        step = np.arange(-half, half + 1)
        rows, columns = self.row[:, None] + step, self.column[:, None] + step
        ny, nx = plane.shape
        off_rows, off_columns = (rows < 0) | (rows >= ny), (columns < 0) | (columns >= nx)
        cut = plane[np.clip(rows, 0, ny - 1)[:, :, None], np.clip(columns, 0, nx - 1)[:, None, :]]
        cut[off_rows] = np.nan
        cut.transpose(0, 2, 1)[off_columns] = np.nan
        return np.asarray(cut)

    def light(self, profile: Profile) -> NDArray[np.float32]:
        """Profile of each source on its window, (n, 15, 15)."""
        step = np.arange(-HALF, HALF + 1)
        x = step - (self.x - self.column)[:, None]
        y = step - (self.y - self.row)[:, None]
        return profile.at(x[:, None, :], y[:, :, None])

    def __getitem__(self, some: NDArray[np.generic] | slice) -> _Places:
        return _Places(self.x[some], self.y[some])


def psf_magnitudes(
    stack: BandStack,
    objects: Table,
    sky: NDArray[np.float64],
    sources: Table,
    stars: Stars,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """PSF magnitudes and errors of objects at their positions in r, (n, band) each."""
    all_places, all_sky, calibrators = _together(objects, sky, sources, stars)
    n = len(objects)
    flux = np.full((n, len(stack.bands)), np.nan)
    error = np.full_like(flux, np.nan)
    here = np.flatnonzero(np.isfinite(np.asarray(objects["x"], dtype=float)))
    if len(calibrators) >= FEWEST:
        pairs = _pairs(all_places)
        for i, band in enumerate(stack.bands):
            width = float(seeing_of(stars)[i]) / PIXEL_SCALE
            seen = np.isfinite(stars.widths[i][stars.chosen])
            if not np.isfinite(width) or seen.sum() < FEWEST:
                continue
            frame = _Band(stack.flux[i], float(stack.noise[i]), ELECTRON[band])
            found, sigma = frame.measured(
                all_places, all_sky[:, i], calibrators[seen], pairs, width
            )
            flux[here, i], error[here, i] = found[: len(here)], sigma[: len(here)]
    return magnitudes(flux, error, stack.bands)


def _together(
    objects: Table, sky: NDArray[np.float64], sources: Table, stars: Stars
) -> tuple[_Places, NDArray[np.float64], NDArray[np.intp]]:
    """Objects and all other detections, their sky, and which of them are the selected stars."""
    x, y = (np.asarray(objects[name], dtype=np.float64) for name in ("x", "y"))
    here = np.isfinite(x) & np.isfinite(y)
    own = np.column_stack([x[here], y[here]])
    theirs = np.column_stack([sources["x"], sources["y"]]).astype(np.float64).reshape(-1, 2)
    if not len(own) or not len(theirs):
        return _Places(*own.T), sky[here], np.empty(0, dtype=np.intp)
    apart, nearest = KDTree(own).query(theirs)
    others = np.flatnonzero(apart > SAME)
    at = np.asarray(nearest, dtype=np.intp)
    at[others] = len(own) + np.arange(len(others))
    both = np.concatenate([own, theirs[others]])
    # Frames are sky-subtracted: the residual is far below the flux of a source.
    level = np.concatenate([np.nan_to_num(sky[here]), np.zeros((len(others), sky.shape[1]))])
    return _Places(*both.T), level, at[stars.chosen]


def _pairs(places: _Places) -> NDArray[np.intp]:
    """Pairs of sources that share flux, (m, 2)."""
    tree = KDTree(np.column_stack([places.x, places.y]))
    return np.asarray(tree.query_pairs(NEAR, output_type="ndarray"), dtype=np.intp).reshape(-1, 2)


@dataclass(frozen=True)
class _Band:
    """One band of a field."""

    plane: NDArray[np.float32]
    noise: float
    electron: float

    def measured(
        self,
        places: _Places,
        sky: NDArray[np.float64],
        stars: NDArray[np.intp],
        pairs: NDArray[np.intp],
        width: float,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Flux and error of all sources, within 7.43 arcsec."""
        profile = self._profile(places[stars], sky[stars], width)
        own, photons, seen = self._weighed(places, sky, profile)
        dx, dy = (axis[pairs[:, 1]] - axis[pairs[:, 0]] for axis in (places.x, places.y))
        square = float(profile.overlap(np.zeros(1), np.zeros(1))[0])
        shared = profile.overlap(dx, dy) / square
        flux, inflation = _solved(own, pairs, shared)
        correct, scatter = self._corrections(places, stars, pairs, flux)
        # Inflation: the fluxes of two neighbours are less certain than their sum.
        sigma = np.sqrt(inflation * (self.noise**2 / square + photons))
        sigma = np.hypot(sigma, scatter * flux)
        flux, sigma = flux * correct, sigma * correct
        flux[seen < LEAST_SEEN], sigma[seen < LEAST_SEEN] = np.nan, np.nan
        return flux, sigma

    def _profile(self, stars: _Places, sky: NDArray[np.float64], width: float) -> Profile:
        """Fit the profile to the brightest of the stars."""
        stamps = stars.windows(self.plane, HALF) - sky[:, None, None].astype(np.float32)
        light = np.nan_to_num(stamps).sum(axis=(1, 2))
        best = np.argsort(-light, kind="stable")[:STARS]
        best = best[light[best] > 0]
        dx, dy = stars.x - stars.column, stars.y - stars.row
        return fitted(stamps[best], dx[best], dy[best], self.noise, self.electron, width)

    def _weighed(
        self, places: _Places, sky: NDArray[np.float64], profile: Profile
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Flux of each source alone, its photon variance, visible fraction of its profile."""
        flux, photons, seen = (np.empty(len(places.x)) for _ in range(3))
        for start in range(0, len(places.x), _CHUNK):
            some = slice(start, start + _CHUNK)
            model = places[some].light(profile)
            pixels = places[some].windows(self.plane, HALF)
            pixels -= sky[some, None, None].astype(np.float32)
            known = np.isfinite(pixels)
            pixels = np.where(known, pixels, 0)
            squares = (model * model).sum(axis=(1, 2))
            valid = model * known
            norm = np.maximum((valid * model).sum(axis=(1, 2)), 1e-12)
            seen[some] = norm / squares
            flux[some] = (valid * pixels).sum(axis=(1, 2)) / norm
            light = (valid * valid * pixels).sum(axis=(1, 2))
            photons[some] = self.electron * np.maximum(light, 0) / norm**2
        return flux, photons, seen

    def _corrections(
        self,
        places: _Places,
        stars: NDArray[np.intp],
        pairs: NDArray[np.intp],
        flux: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], float]:
        """Flux within 7.43 arcsec over that of the profile at each source, and its scatter."""
        dirt = np.zeros(len(flux))
        light = np.maximum(flux, 0)
        np.add.at(dirt, pairs[:, 0], light[pairs[:, 1]])
        np.add.at(dirt, pairs[:, 1], light[pairs[:, 0]])
        dirt = dirt[stars] / np.maximum(light[stars], 1e-9)
        clean = stars[np.argsort(dirt, kind="stable")]
        clean = clean[: max(int((dirt < _CLEAN).sum()), FEWEST)]
        clean = clean[np.argsort(-flux[clean], kind="stable")][:_MOST]
        clean = clean[flux[clean] > 0]
        inner, whole = self._apertures(places[clean])
        noise = self.noise * np.sqrt(np.pi) / flux[clean]  # per pixel of radius
        with np.errstate(invalid="ignore"):
            # The sky ring contains a seventh of the aureole; faint neighbours add as much.
            growth = _middle(whole / inner, noise * WHOLE)
            ratio = inner / flux[clean]
        spread = np.sqrt((noise * APERTURE) ** 2 + self.electron / flux[clean] + 1e-4**2)
        ny, nx = self.plane.shape
        at = np.column_stack([places.x / nx - 0.5, places.y / ny - 0.5])
        smooth, scatter = _surface(at[clean], ratio, spread, at)
        return growth * smooth, max(scatter, _FLOOR)

    def _apertures(self, stars: _Places) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Flux within 7.5 and within 18.8 pixels of stars, sky subtracted."""
        stamps = stars.windows(self.plane, _STAMP).astype(np.float64)
        step = np.arange(-_STAMP, _STAMP + 1)
        x = step - (stars.x - stars.column)[:, None]
        y = step - (stars.y - stars.row)[:, None]
        radius = np.hypot(x[:, None, :], y[:, :, None])
        ring = (radius > _RING[0]) & (radius < _RING[1])
        stamps -= np.nanmedian(np.where(ring, stamps, np.nan), axis=(1, 2), keepdims=True)
        inner, whole = (np.clip(limit + 0.5 - radius, 0, 1) for limit in (APERTURE, WHOLE))
        # A star with a masked pixel stays NaN and is not used.
        return (
            np.where(inner > 0, inner * stamps, 0).sum(axis=(1, 2)),
            np.where(whole > 0, whole * stamps, 0).sum(axis=(1, 2)),
        )


def _solved(
    own: NDArray[np.float64], pairs: NDArray[np.intp], shared: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fluxes of all sources fitted together, and the inflation of their variances."""
    n = len(own)
    inflation = np.ones(n)
    if not len(pairs):
        return own, inflation
    rows, columns = (np.concatenate([pairs[:, a], pairs[:, 1 - a]]) for a in (0, 1))
    values = np.concatenate([shared, shared])
    np.subtract.at(inflation, rows, values**2)  # exact for two sources, nearly so for more
    matrix = sparse.csr_matrix((values, (rows, columns)), shape=(n, n))
    # The thousandth keeps the system regular if one source is detected twice.
    matrix = matrix + sparse.identity(n) * 1.001
    flux, _ = cg(matrix, own, x0=own, rtol=1e-6, maxiter=200)
    return np.asarray(flux), 1 / np.clip(inflation, 0.02, 1)


def _middle(values: NDArray[np.float64], sigma: NDArray[np.float64]) -> float:
    """Weighted median; 1 without valid values."""
    known = np.isfinite(values) & np.isfinite(sigma) & (sigma > 0)
    if not known.any():
        return 1.0
    order = np.argsort(values[known])
    weight = np.cumsum(1 / (sigma[known][order] ** 2 + 0.005**2))
    return float(values[known][order][np.searchsorted(weight, 0.5 * weight[-1])])


def _surface(
    at: NDArray[np.float64],
    ratio: NDArray[np.float64],
    sigma: NDArray[np.float64],
    where: NDArray[np.float64],
) -> tuple[NDArray[np.float64], float]:
    """Fit a low-order polynomial of position to ratios; its values at `where`, and the scatter."""
    known = np.isfinite(ratio)
    at, ratio, sigma = at[known], ratio[known], np.hypot(sigma[known], 0.005)
    if len(ratio) < FEWEST:
        return np.ones(len(where)), 0.0
    terms = 1 if len(ratio) < 12 else 3 if len(ratio) < 30 else 5

    def powers(p: NDArray[np.float64]) -> NDArray[np.float64]:
        one = np.ones(len(p))
        return np.column_stack([one, p[:, 0], p[:, 1], p[:, 0] ** 2, p[:, 1] ** 2])[:, :terms]

    keep = np.asarray(np.abs(ratio - np.median(ratio)) < 0.25)
    fit: NDArray[Any] = np.zeros(terms)
    for _ in range(4):
        weight = keep / sigma
        fit = np.linalg.lstsq(powers(at) * weight[:, None], ratio * weight, rcond=None)[0]
        off = (ratio - powers(at) @ fit) / sigma
        spread = 1.4826 * float(np.median(np.abs(off[keep]))) if keep.any() else 1.0
        keep = np.asarray(np.abs(off) < 3 * max(spread, 1.0))
    # Scatter of the stars beyond their noise.
    excess = (off[keep] * sigma[keep]) ** 2 - sigma[keep] ** 2 + 0.005**2
    weight = 1 / sigma[keep] ** 4
    scatter = np.sqrt(max(float((excess * weight).sum() / weight.sum()), 0.0))
    inside = np.clip(where, -0.5, 0.5)
    return powers(inside) @ fit, scatter
