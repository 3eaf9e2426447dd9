"""A field classified: frames in, a row for each source out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import tables
from gqs.cutouts.extract import cut_flux, cut_picture
from gqs.cutouts.positions import NO_FIELD, checked_positions, flags_there, placed
from gqs.cutouts.quality import faults
from gqs.errors import BadInputError, IntegrityError
from gqs.imaging import seeing
from gqs.imaging.align import align
from gqs.imaging.bad_pixels import NoSignalError
from gqs.imaging.composite import colour_picture
from gqs.imaging.detect import find
from gqs.imaging.frames import Frame, group_fields, read_frame
from gqs.imaging.photometry import aperture_magnitudes, local_sky
from gqs.imaging.psf import psf_magnitudes
from gqs.imaging.seeing import field_stars, seeing_of
from gqs.surveys.sdss import REFERENCE_BAND, FieldId
from gqs.tables import Flag

if TYPE_CHECKING:
    from gqs.model.classifier import Classifier

FrameFiles = Mapping[str, Path]


@dataclass(frozen=True)
class How:
    """How a model wants its cutouts: as those were made that it was trained on."""

    bands: str  # bands it takes; `flux` or `paper`
    form: str
    edge: str = "pad"  # edge policy, `pad` or `paper`
    star_shift: bool = False  # whether bands are aligned by their stars too

    @classmethod
    def of(cls, classifier: Classifier) -> How:
        """Read it from a model's card."""
        card = classifier.card
        return cls(classifier.bands, classifier.form, card["edge"], card["star_shift"])


@dataclass(frozen=True)
class Prepared:
    """One field made ready for the network: its objects, their cutouts and flags."""

    objects: Table  # `objid ra dec x y run camcol field`, aperture and PSF magnitudes, (n,) rows
    # (n, band, 50, 50) float32 nanomaggies, or (n, 3, 50, 50) uint8 for the form `paper`
    images: NDArray[Any]
    bands: str  # bands of `images`
    flags: NDArray[np.int32]  # (n,) sums of `Flag`
    shape: tuple[int, int]  # rows and columns of the r frame
    corners: NDArray[np.float64]  # (4, 2) right ascension and declination of its corners, degrees


def prepare(
    files: FrameFiles,
    how: How,
    positions: Table | None = None,
    keep_outside: bool = True,
    name: FieldId | None = None,
) -> Prepared:
    """Read a field's frames, align them, find or place its objects and cut them out."""
    if REFERENCE_BAND not in files:
        raise BadInputError(
            f"{_where(files)}: the {REFERENCE_BAND} frame is missing, onto whose grid the "
            "other bands go. Add it."
        )
    frames = _frames(files, how.bands)
    here = "".join(frames)
    for band, frame in frames.items() if name is not None else ():
        if (frame.field, frame.band) != (name, band):
            raise IntegrityError(
                f"{files[band]}: is named as field {name} in {band}, but its header says "
                f"{frame.field} in {frame.band}. Rename it, or fetch it again."
            )
    stack = align(frames, here, star_shift=how.star_shift)
    sources, light = find(stack)
    stars = field_stars(stack, sources)
    objects = sources.copy() if positions is None else placed(stack, positions)
    for band, width in zip(here, seeing_of(stars), strict=True):
        objects[f"seeing_{band}"] = np.full(len(objects), width)
        objects[f"seeing_{band}"].unit = "arcsec"
    if not keep_outside:
        objects = objects[objects["run"] != NO_FIELD]
    x, y = np.asarray(objects["x"]), np.asarray(objects["y"])
    images, flags = cut_flux(stack, x, y, how.edge)
    flags = flags | faults(images, here)
    flags = flags | light.flags(x, y)
    flags |= np.asarray(
        flags_there(sources, objects) if positions is not None else sources["flags"]
    )
    if len(here) < len(how.bands):
        flags = flags | np.int32(Flag.MISSING_BAND)
    sky = local_sky(images, here)
    aperture = aperture_magnitudes(images, here, sky=sky)
    point = psf_magnitudes(stack, objects, sky.level, sources, stars)
    point[1][(flags & Flag.SATURATED) != 0] = np.nan  # how far a flat top is off nobody knows
    for i, band in enumerate(here):
        objects[f"mag_{band}"], objects[f"magerr_{band}"] = (a[:, i] for a in aperture)
        objects[f"psf_mag_{band}"], objects[f"psf_mag_err_{band}"] = (p[:, i] for p in point)
    if how.form == "paper":
        picture, covered = colour_picture(stack), np.asarray(stack.covered.all(axis=0))
        shown: NDArray[Any] = cut_picture(picture, covered, x, y, how.edge)[0]
    else:
        shown = images
    ny, nx = shape = stack.flux.shape[1:]
    ends = np.array([[-0.5, -0.5], [nx - 0.5, -0.5], [nx - 0.5, ny - 0.5], [-0.5, ny - 0.5]])
    corners = np.column_stack(stack.wcs.all_pix2world(*ends.T, 0))
    return Prepared(objects, shown, here, flags, shape, corners)


def classify_field(
    classifier: Classifier, paths: Sequence[Path], positions: Table | None = None
) -> Table:
    """Classify one field in this process; see `Classifier.classify_field`."""
    fields, refused = group_fields(paths)
    if refused:
        raise BadInputError(refused[0])
    if not fields:
        raise BadInputError("No frames were given. Name the frames of a field.")
    if len(fields) != 1:
        raise BadInputError(
            f"The frames are of {len(fields)} fields ({', '.join(map(str, fields))}). "
            "Name the frames of one, or use `gqs classify` for many."
        )
    (files,) = fields.values()
    checked = None if positions is None else checked_positions(positions, "positions")
    prepared = prepare(files, How.of(classifier), checked)
    for band in classifier.bands:
        if band in files and band not in prepared.bands:
            told = f"{files[band]}: shows no signal, so that its band counts as missing."
            warnings.warn(told, stacklevel=3)
    return judge(classifier, prepared)


def judge(classifier: Classifier, prepared: Prepared) -> Table:
    """Turn a prepared field into Predictions."""
    bands = prepared.bands if classifier.form == "flux" else classifier.bands
    magnitudes = np.asarray(prepared.objects[f"mag_{REFERENCE_BAND}"], dtype=np.float64)
    told = seeing.told(prepared.objects, bands)
    probabilities, unlike = classifier.examine_cutouts(prepared.images, bands, magnitudes, told)
    # A colour picture shows no masks, so what is known of the flux decides for it too.
    nothing = (prepared.flags & int(Flag.OUTSIDE | Flag.NOT_JUDGED)) > 0
    probabilities[nothing], unlike[nothing] = np.nan, np.nan
    flags = flagged(prepared.flags, unlike)
    known = None if classifier.typical is None else unlike
    return tables.predictions(prepared.objects, probabilities, flags, classifier.hash, known)


def flagged(flags: NDArray[np.int32], unlike: NDArray[np.float64]) -> NDArray[np.int32]:
    """Add UNLIKE to the flags of what lies too far from all that a model learned: (n,) sums of
    `Flag`.
    """
    with np.errstate(invalid="ignore"):
        return np.where(unlike > 1, flags | int(Flag.UNLIKE), flags).astype(np.int32)


def _frames(files: FrameFiles, bands: str) -> dict[str, Frame]:
    """Read a field's frames; a band that shows nothing is as good as missing, but for r."""
    frames = {}
    for band in (band for band in bands if band in files):
        try:
            frames[band] = read_frame(files[band])
        except NoSignalError:
            if band == REFERENCE_BAND:
                raise
    return frames


def _where(files: FrameFiles) -> str:
    return str(next(iter(files.values())).parent) if files else "no frames"
