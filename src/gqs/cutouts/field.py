"""Cutouts of one field: the one way from frames and positions to what a network sees.

Building a training set and classifying a field both call `cut_field`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.spatial import KDTree

from gqs import tables
from gqs.cutouts.extract import cut_flux, cut_picture, pixel_positions
from gqs.cutouts.quality import quality_flags
from gqs.errors import BadInputError, IntegrityError, UsageError
from gqs.imaging import seeing
from gqs.imaging.align import BandStack, align
from gqs.imaging.bad_pixels import NoSignalError
from gqs.imaging.composite import colour_picture
from gqs.imaging.detect import find
from gqs.imaging.frames import Frame, read_frame
from gqs.imaging.photometry import aperture_magnitudes, local_sky
from gqs.imaging.psf import psf_magnitudes
from gqs.imaging.seeing import Stars, field_stars, seeing_of
from gqs.surveys.sdss import REFERENCE_BAND, FieldId
from gqs.tables import Flag

FrameFiles = Mapping[str, Path]  # a field's frame files by band
STEPS: Final = ("read", "align", "detect", "cut")  # what `cut_field` reports of its progress
NO_FIELD: Final = -1  # run, camcol and field of a position that lies on no given field
_SAME_SOURCE: Final = 3.0  # pixels (1.2 arcsec) within which a position is that of a detection


@dataclass(frozen=True)
class CutoutSpec:
    """How cutouts are made; a classifier's are made like those of its training set."""

    bands: str  # bands wanted, in the survey's order
    form: str  # "flux" (nanomaggies) or "paper" (8-bit colour picture)
    edge: str = "pad"  # edge policy, "pad" or "paper"
    star_shift: bool = False  # whether bands are also aligned by their stars
    magnitudes: bool = True  # whether magnitudes are measured; a training set does not keep them


@dataclass(frozen=True)
class FieldCutouts:
    """Objects of one field with their cutouts and flags; one row for each position."""

    objects: Table  # objid ra dec x y run camcol field, seeing by band, magnitudes if wanted
    flux: NDArray[np.float32]  # (n, band, 50, 50) nanomaggies, NaN where masked
    picture: NDArray[np.uint8] | None  # (n, 3, 50, 50) red, green, blue for the form "paper"
    bands: str  # bands of `flux`
    blank: str  # bands whose frames show no signal; they count as missing
    flags: NDArray[np.int32]  # (n,) sums of `Flag`: everything known about the object
    cut_flags: NDArray[np.int32]  # (n,) sums of `Flag`: what the cutout in its form shows
    noise: NDArray[np.float64]  # (band,) sky sigma of a pixel, nanomaggies
    shape: tuple[int, int]  # rows and columns of the r frame
    corners: NDArray[np.float64]  # (4, 2) right ascension and declination of its corners, degrees

    @property
    def images(self) -> NDArray[Any]:
        """Cutouts in the form that was asked for: the picture, or else the flux."""
        return self.flux if self.picture is None else self.picture

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which cutouts can be classified or learned from, (n,)."""
        return np.asarray((self.flags & int(Flag.NOT_JUDGED)) == 0)

    @property
    def seeing(self) -> NDArray[np.float64]:
        """Seeing of each object's field by band, (n, band) arcsec; NaN where not measured."""
        return seeing.seeing_columns(self.objects, self.bands)

    def select(self, rows: Any) -> FieldCutouts:
        """Return some of the objects only."""
        return replace(
            self,
            objects=self.objects[rows],
            flux=self.flux[rows],
            picture=None if self.picture is None else self.picture[rows],
            flags=self.flags[rows],
            cut_flags=self.cut_flags[rows],
        )


def _no_report(step: str) -> None:
    """Report no progress."""


def cut_field(
    files: FrameFiles,
    spec: CutoutSpec,
    positions: Table | None = None,
    *,
    keep_outside: bool = True,
    name: FieldId | None = None,
    on_step: Callable[[str], None] = _no_report,
) -> FieldCutouts:
    """Read a field's frames, align them, detect or place its objects, and cut them out.

    A band that is missing, or whose frame shows no signal, is left out and flagged MISSING_BAND; r
    is always needed. With `name`, frames of another field or band are refused. `on_step` is called
    with each of `STEPS` as it begins.
    """
    on_step("read")
    frames, blank = _read_frames(files, spec.bands, name)
    bands = "".join(frames)
    on_step("align")
    stack = align(frames, bands, star_shift=spec.star_shift)
    on_step("detect")
    sources, light = find(stack)
    stars = field_stars(stack, sources)
    objects = sources.copy() if positions is None else _placed(stack, positions)
    for band, width in zip(bands, seeing_of(stars), strict=True):
        objects[f"seeing_{band}"] = np.full(len(objects), width)
        objects[f"seeing_{band}"].unit = "arcsec"
    if not keep_outside:
        objects = objects[objects["run"] != NO_FIELD]
    on_step("cut")
    x, y = np.asarray(objects["x"]), np.asarray(objects["y"])
    flux, cut_flags = cut_flux(stack, x, y, spec.edge)
    missing = np.int32(Flag.MISSING_BAND if len(bands) < len(spec.bands) else 0)
    calibrated = all(frame.calibrated for frame in frames.values())
    estimated = np.int32(0 if calibrated else Flag.NOISE_ESTIMATED)
    flags = cut_flags | quality_flags(flux, bands) | light.flags(x, y) | missing | estimated
    flags |= np.asarray(
        sources["flags"] if positions is None else _flags_of_detections(sources, objects)
    )
    if spec.magnitudes:
        _add_magnitudes(objects, flux, flags, stack, sources, stars)
    picture = None
    if spec.form == "paper":
        covered = np.asarray(stack.covered.all(axis=0))
        picture, cut_flags = cut_picture(colour_picture(stack), covered, x, y, spec.edge)
    return FieldCutouts(
        objects,
        flux,
        picture,
        bands,
        blank,
        flags,
        cut_flags | missing,
        stack.noise,
        stack.flux.shape[1:],
        _corners(stack),
    )


def _read_frames(
    files: FrameFiles, bands: str, name: FieldId | None
) -> tuple[dict[str, Frame], str]:
    """Read a field's frames; also return the bands, other than r, that show no signal."""
    if REFERENCE_BAND not in files:
        folder = next(iter(files.values())).parent if files else "no frames"
        raise BadInputError(
            f"{folder}: the {REFERENCE_BAND} frame is missing, onto whose grid the other bands "
            "go. Add it."
        )
    frames, blank = {}, ""
    for band in (band for band in bands if band in files):
        try:
            frames[band] = read_frame(files[band])
        except NoSignalError:
            if band == REFERENCE_BAND:
                raise
            blank += band
    for band, frame in frames.items() if name is not None else ():
        if (frame.field, frame.band) != (name, band):
            raise IntegrityError(
                f"{files[band]}: is named as field {name} in {band}, but its header says "
                f"{frame.field} in {frame.band}. Rename it, or fetch it again."
            )
    return frames, blank


def _add_magnitudes(
    objects: Table,
    flux: NDArray[np.float32],
    flags: NDArray[np.int32],
    stack: BandStack,
    sources: Table,
    stars: Stars,
) -> None:
    """Add aperture and PSF magnitudes with their errors to the objects."""
    sky = local_sky(flux, stack.bands)
    aperture = aperture_magnitudes(flux, stack.bands, sky=sky)
    point = psf_magnitudes(stack, objects, sky.level, sources, stars)
    # The error of a profile fitted to a flat top is unknown.
    point[1][(flags & Flag.SATURATED) != 0] = np.nan
    for i, band in enumerate(stack.bands):
        objects[f"mag_{band}"], objects[f"magerr_{band}"] = (a[:, i] for a in aperture)
        objects[f"psf_mag_{band}"], objects[f"psf_mag_err_{band}"] = (p[:, i] for p in point)


def _corners(stack: BandStack) -> NDArray[np.float64]:
    """Right ascension and declination of the four corners of the grid, (4, 2) degrees."""
    ny, nx = stack.flux.shape[1:]
    ends = np.array([[-0.5, -0.5], [nx - 0.5, -0.5], [nx - 0.5, ny - 0.5], [-0.5, ny - 0.5]])
    return np.column_stack(stack.wcs.all_pix2world(*ends.T, 0))


def _placed(stack: BandStack, positions: Table) -> Table:
    """Put positions on a field's pixels."""
    objects = Table({name: positions[name] for name in ("objid", "ra", "dec")})
    x, y = pixel_positions(stack.wcs, np.asarray(objects["ra"]), np.asarray(objects["dec"]))
    objects["x"], objects["y"] = x, y
    ny, nx = stack.flux.shape[1:]
    on_field = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
    for name, value in stack.field._asdict().items():
        objects[name] = np.where(on_field, value, NO_FIELD).astype(np.int32)
    objects["flags"] = np.zeros(len(objects), dtype=np.int32)
    return objects


def _flags_of_detections(sources: Table, objects: Table) -> NDArray[np.int32]:
    """Flags of the detected source within 3 px of each object, (n,) sums of `Flag`; else 0."""
    flags = np.zeros(len(objects), dtype=np.int32)
    on_field = np.flatnonzero(np.asarray(objects["run"]) != NO_FIELD)
    if len(sources) and len(on_field):
        places = [
            np.column_stack([table["x"], table["y"]]) for table in (sources, objects[on_field])
        ]
        away, nearest = KDTree(places[0]).query(places[1])
        near = away < _SAME_SOURCE
        flags[on_field[near]] = np.asarray(sources["flags"])[nearest[near]]
    return flags


def checked_positions(positions: Table, where: object) -> Table:
    """Check a user's positions: unique objid (counted from 1 if absent), ra and dec in degrees.

    A row without a usable position is kept with NaN; a table without any is refused.
    """
    tables.require_columns(positions, ("ra", "dec"), where)
    if not len(positions):
        raise UsageError(f"{where}: holds no rows.")
    if "objid" in positions.colnames:
        objid = tables.exact_objid(positions["objid"], where)
    else:
        objid = np.arange(1, len(positions) + 1, dtype=np.uint64)
    tables.require_unique(objid, where)
    checked = Table({"objid": objid, "ra": positions["ra"], "dec": positions["dec"]})
    usable = tables.positions_usable(checked)
    if not usable.any():
        raise UsageError(
            f"{where}: not one row has a position. Give ra and dec in decimal degrees."
        )
    for name in ("ra", "dec"):
        checked[name][~usable] = np.nan
    return checked


def missing_positions(checked: Table, where: object) -> list[str]:
    """Name the rows that have no position."""
    rows = np.flatnonzero(~np.isfinite(np.asarray(checked["ra"])))
    return [f"{where}, row {row + 1}: ra or dec is no position on the sky." for row in rows]
