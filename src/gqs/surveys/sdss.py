"""SDSS's imaging survey: bands, pixels, detectors, names of fields and frames, identifiers,
magnitudes.

The numbers are in `sdss.toml`, with their sources. Magnitudes: Lupton, Gunn & Szalay 1999; bits of
identifiers: SDSS's help page on `objid`.
"""

from __future__ import annotations

import re
import string
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gqs.errors import UsageError

_FACTS: Final = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
_IMAGE: Final = _FACTS["image"]
_DETECTORS: Final = _FACTS["detectors"]

BANDS: Final = "ugriz"
OWN_BANDS: Final = string.ascii_uppercase  # a user's own bands, without a zero point
REFERENCE_BAND: Final[str] = _IMAGE["reference_band"]  # all bands are resampled to its pixel grid
PICTURE_BANDS: Final[str] = _IMAGE["picture_bands"]
PIXEL_SCALE: Final[float] = _IMAGE["pixel_scale"]  # arcsec per pixel
FRAME_SHAPE: Final[tuple[int, int]] = tuple(_IMAGE["frame_shape"])  # rows, columns
CUTOUT_SIZE: Final[int] = _IMAGE["cutout_size"]  # pixels on a side
RERUN: Final[int] = _IMAGE["rerun"]
ZERO_POINT: Final[float] = _IMAGE["zero_point"]  # magnitude of one nanomaggy

# Softening b of the asinh magnitudes, as a fraction of f0.
SOFTENING: Final[dict[str, float]] = _FACTS["softening"]

WAVELENGTH: Final[dict[str, float]] = _FACTS["wavelength"]  # effective, Angstrom

# Typical sky noise, nanomaggies per pixel. Networks get flux in this unit, so that noise is about 1
# in every band.
SKY_NOISE: Final[dict[str, float]] = _FACTS["sky_noise"]

FRAME_OFFSET: Final[dict[str, int]] = _FACTS["frame_offset"]  # FRAME in a header less the field
SATURATION: Final[float] = _DETECTORS["saturation"]  # counts above which a pixel is saturated
# By band, for camera columns 1 to 6: electrons per count, and counts squared per pixel.
GAIN: Final = {band: tuple(values) for band, values in _DETECTORS["gain"].items()}
DARK_VARIANCE: Final = {band: tuple(values) for band, values in _DETECTORS["dark_variance"].items()}


class FieldId(NamedTuple):
    """Name of a field: run, camera column and field number."""

    run: int
    camcol: int
    field: int

    def __str__(self) -> str:
        return f"{self.run:06d}-{self.camcol}-{self.field:04d}"

    @classmethod
    def parse(cls, text: str) -> FieldId:
        """Parse `run-camcol-field`, with or without leading zeros."""
        match = re.fullmatch(r"0*(\d{1,6})-([1-6])-0*(\d{1,4})", text.strip())
        if match is None:
            raise UsageError(
                f"{text!r} is not a field. Write run-camcol-field, such as 3918-3-213."
            )
        return cls(*(int(part) for part in match.groups()))


@dataclass(frozen=True)
class FrameName:
    """A frame's name in the archive: `frame-r-003918-3-0213.fits.bz2`."""

    band: str
    field: FieldId

    def __str__(self) -> str:
        return f"frame-{self.band}-{self.field}.fits.bz2"

    @classmethod
    def of_file(cls, name: str) -> FrameName | None:
        """Parse the name of a frame's file, compressed or not; None for other names."""
        match = re.fullmatch(r"frame-([ugriz])-(\d{6}-[1-6]-\d{4})\.fits(\.bz2|\.gz)?", name)
        return None if match is None else cls(match[1], FieldId.parse(match[2]))


def check_bands(bands: str) -> str:
    """The bands in the survey's order; refuse unknown or repeated ones."""
    for band in bands:
        if band not in BANDS:
            raise UsageError(f"Unknown band {band!r}. SDSS frames have {', '.join(BANDS)}.")
    if not bands or len(set(bands)) != len(bands):
        raise UsageError(f"Bands {bands!r}: name each band once, such as 'gri' or 'ugriz'.")
    return "".join(band for band in BANDS if band in bands)


def store_bands(bands: str) -> str:
    """Bands of a store in order: SDSS's first, then capital letters, which are a user's own bands
    without a zero point.
    """
    own = "".join(band for band in bands if band in OWN_BANDS)
    sdss = "".join(band for band in bands if band not in OWN_BANDS)
    if len(set(own)) != len(own):
        raise UsageError(f"Bands {bands!r}: name each band once, such as 'gri' or 'AB'.")
    return (check_bands(sdss) if sdss or not own else "") + own


def like(band: str) -> str:
    """The band whose noise and softening apply: r for a user's own band, whose pixels are scaled
    to the sky noise of r.
    """
    return band if band in BANDS else REFERENCE_BAND


def asinh_magnitude(flux: ArrayLike, band: str) -> NDArray[np.float64]:
    """Asinh magnitude of a flux in nanomaggies (Lupton, Gunn & Szalay 1999, eq. 3)."""
    b = SOFTENING[like(band)]
    f = np.asarray(flux, dtype=np.float64) * 1e-9
    return np.asarray(-2.5 / np.log(10) * (np.arcsinh(f / (2 * b)) + np.log(b)))


def flux_of_asinh_magnitude(magnitude: ArrayLike, band: str) -> NDArray[np.float64]:
    """Flux in nanomaggies of an asinh magnitude, the inverse of `asinh_magnitude`."""
    b = SOFTENING[band]
    m = np.asarray(magnitude, dtype=np.float64)
    return np.asarray(2 * b * np.sinh(-np.log(10) / 2.5 * m - np.log(b)) * 1e9)


def gain(band: str, camcol: int, run: int) -> float:
    """Gain of a CCD, electrons per count."""
    return _later("gain", band, camcol, run) or GAIN[band][camcol - 1]


def dark_variance(band: str, camcol: int, run: int) -> float:
    """Variance of read noise and dark current of a CCD, counts squared per pixel."""
    return _later("dark_variance", band, camcol, run) or DARK_VARIANCE[band][camcol - 1]


def _later(quantity: str, band: str, camcol: int, run: int) -> float | None:
    """A CCD's value since its electronics changed, or None before that."""
    for change in _DETECTORS[f"later_{quantity}"]:
        if (change["band"], change["camcol"]) == (band, camcol) and run > change["after_run"]:
            return float(change["value"])
    return None


# Bits of an objid from the top: 0, sky version 4, rerun 11, run 16, camcol 3, first field 1,
# field 12, object 16. SDSS uses sky versions 0-2; 15 marks a detection of gqs, whose lower 59 bits
# are run 20, camcol 3, field 12, pixel 24 instead.
_DETECTED: Final = 15
_LAST_PIXEL: Final = (1 << 12) - 1
_RUN_BITS: Final = 16


def detection_objid(
    field: FieldId, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.uint64]:
    """Identifiers of detections from field and r-band pixel, (n,) uint64: unique, reproducible, and
    never equal to an identifier of SDSS.
    """
    _check_bits(field, run_bits=20)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise UsageError(f"Field {field}: the position of a detection is not finite.")
    columns = np.clip(np.rint(x), 0, _LAST_PIXEL).astype(np.uint64)
    rows = np.clip(np.rint(y), 0, _LAST_PIXEL).astype(np.uint64)
    pixels = (rows << np.uint64(12)) | columns
    taken: set[int] = set()
    for i, value in enumerate(pixels.tolist()):  # two sources in one pixel: the next free number
        while value in taken:
            value = (value + 1) % (1 << 24)
        taken.add(value)
        pixels[i] = value
    head = (_DETECTED << 59) | (field.run << 39) | (field.camcol << 36) | (field.field << 24)
    return np.asarray(np.uint64(head) | pixels)


def photo_objid(
    field: FieldId, number: NDArray[np.int64], sky_version: int = 2
) -> NDArray[np.uint64]:
    """SDSS's identifiers of a field's objects, (n,) uint64."""
    _check_bits(field, _RUN_BITS)
    if len(number) and not (np.min(number) >= 0 and np.max(number) < 1 << 16):
        raise UsageError(f"Field {field}: object numbers run from 0 to 65535.")
    head = (sky_version << 59) | (RERUN << 48) | (field.run << 32)
    head |= (field.camcol << 29) | (field.field << 16)
    return np.uint64(head) | number.astype(np.uint64)


def _check_bits(field: FieldId, run_bits: int) -> None:
    largest = ((1 << run_bits) - 1, 7, (1 << 12) - 1)
    if not all(0 <= part <= limit for part, limit in zip(field, largest, strict=True)):
        raise UsageError(
            f"Field {field}: identifiers are limited to run {largest[0]} and field {largest[2]}."
        )
