"""Frames as the archive serves them: one band of one field in nanomaggies, with its errors.

SDSS's corrected frames hold the calibrated, sky-subtracted image (HDU 0), the calibration along a
row (HDU 1) and the sky that was subtracted (HDU 2), but no mask and no noise. From the three the
camera's counts are rebuilt (they come out as whole numbers, which is the proof), and from counts,
gain and dark variance follow the noise and the saturated pixels, as the data model explains
(data.sdss.org/datamodel, BOSS_PHOTOOBJ/frames). Frames from elsewhere have HDU 0 alone; their
noise is estimated from their pixels.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from gqs.errors import BadInputError, IntegrityError
from gqs.imaging import unpack
from gqs.imaging.astrometry import celestial_wcs
from gqs.imaging.bad_pixels import bad_pixels
from gqs.surveys.detectors import FRAME_OFFSET, SATURATION, dark_variance, gain
from gqs.surveys.sdss import BANDS, CUTOUT_SIZE, FieldId, FrameName

MAX_PIXELS: Final = 1 << 24
_UNITS: Final = ("nanomaggy", "nanomaggies", "nmgy")
_SDSS_HDUS: Final = 4
_TELLING: Final = frozenset(b"RUN CAMCOL FRAME FILTER RERUN BUNIT ORIGIN NMGY".split())
# What 16 bits, bias, flat field and interpolation can make of a pixel; beyond it is damage.
_COUNTS: Final = (-1000.0, 120_000.0)


@dataclass(frozen=True)
class Frame:
    """One band of one field.

    Attributes
    ----------
    band : str
        One of u g r i z.
    field : FieldId
        Run, camera column and field, from the header.
    flux : ndarray
        (ny, nx) float32 nanomaggies, native byte order, NaN where `bad`.
    wcs : WCS
        Pixels (0-based) to ICRS.
    saturated : ndarray
        (ny, nx) bool. Such pixels keep their value.
    bad : ndarray
        (ny, nx) bool: not finite, impossible as counts, or in a row, column or patch of one value.
    variance : ndarray
        (ny, nx) float32 nanomaggies squared: photon noise of source and sky, read noise, dark
        current. For frames without calibration: the sky's, the same everywhere.
    path : Path
        Where it was read.
    rerun : str
        The processing that it comes from; empty if the header does not say.
    calibrated : bool
        Whether counts could be rebuilt, so that variance and saturation are the detector's.
    """

    band: str
    field: FieldId
    flux: NDArray[np.float32]
    wcs: WCS
    saturated: NDArray[np.bool_]
    bad: NDArray[np.bool_]
    variance: NDArray[np.float32]
    path: Path
    rerun: str = ""
    calibrated: bool = True


def read_frame(path: str | Path) -> Frame:
    """Read one frame, checked from its archive's first byte to its last.

    Parameters
    ----------
    path : path
        A FITS file, plain or compressed with bzip2 or gzip, whatever its name.

    Returns
    -------
    Frame
        Its arrays are in native byte order and own their memory.

    Raises
    ------
    BadInputError
        If anything about the file, its header or its pixels cannot be trusted.
    UsageError
        If there is no such file.
    """
    path = Path(path)
    data = unpack.read(path)
    parts = unpack.hdus(data, path)
    _check_image(parts[0], path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _assembled(data, parts, path)
    except BadInputError:
        raise
    except Exception as error:  # astropy has its own errors for each way a file can be wrong
        reason = " ".join(str(error).split())[:120]
        raise BadInputError(
            f"{path}: cannot be read as a frame ({type(error).__name__}: {reason}). "
            "Fetch the frame again."
        ) from error


def identify(path: str | Path) -> FrameName:
    """Tell which frame a file holds, from its first header; no pixel is decompressed for it."""
    path = Path(path)
    return _identity(_header(unpack.head(path), path), path)[0]


def check_frame(path: Path, expected: FrameName) -> None:
    """Refuse a file that is not whole, or not the frame that it should be.

    The archive is decompressed to its end, so that its own checksums are verified; every HDU is
    there, and the first one's header names the band and the field.
    """
    data = unpack.read(path)
    parts = unpack.hdus(data, path)
    _check_image(parts[0], path)
    header = _header(_telling(data[: parts[0].data]), path)
    found = _identity(header, path)[0]
    if found != expected:
        raise IntegrityError(
            f"{path}: its header says {found.band} band of field {found.field}, not "
            f"{expected.band} band of {expected.field}."
        )
    if _is_sdss(header) and len(parts) < _SDSS_HDUS:
        raise BadInputError(
            f"{path}: has {len(parts)} of the {_SDSS_HDUS} HDUs of SDSS's frames, so it was "
            "cut. Fetch the frame again."
        )


def group_fields(
    paths: Iterable[str | Path], told: Callable[[Path], FrameName] = identify
) -> tuple[dict[FieldId, dict[str, Path]], list[str]]:
    """Sort frames into fields by what their headers say, not by their names."""
    fields: dict[FieldId, dict[str, Path]] = {}
    set_aside: list[str] = []
    for path in map(Path, paths):
        try:
            name = told(path)
        except BadInputError as error:
            set_aside.append(str(error))
            continue
        frames = fields.setdefault(name.field, {})
        if name.band in frames:
            set_aside.append(
                f"{path}: field {name.field} already has a frame in band {name.band}, "
                f"{frames[name.band]}."
            )
        else:
            frames[name.band] = path
    ordered = {
        field: {band: frames[band] for band in BANDS if band in frames}
        for field, frames in fields.items()
    }
    return ordered, set_aside


def _assembled(data: bytes, parts: list[unpack.Hdu], path: Path) -> Frame:
    with fits.open(io.BytesIO(data), memmap=False, disable_image_compression=True) as opened:
        header = opened[0].header
        name, rerun = _identity(header, path)
        flux = np.array(opened[0].data, dtype=np.float32)  # a copy, in native byte order
        wcs = celestial_wcs(header, flux.shape, path)
        sdss = _is_sdss(header)
        if sdss and len(parts) < _SDSS_HDUS:
            raise BadInputError(
                f"{path}: has {len(parts)} of the {_SDSS_HDUS} HDUs of SDSS's frames, so it was "
                "cut. Fetch the frame again."
            )
        bad = bad_pixels(flux, path)
        if sdss:
            calibration, sky = _calibration(opened[1].data, opened[2].data, flux.shape, path)
            with np.errstate(invalid="ignore"):
                counts = flux / calibration + sky
                bad |= ~((counts > _COUNTS[0]) & (counts < _COUNTS[1]))
            variance = _variance(counts, name) * calibration**2
            saturated = counts >= SATURATION
        else:
            noise = _pixel_noise(np.where(bad, np.float32(np.nan), flux))
            variance = np.full(flux.shape, noise**2, dtype=np.float32)
            level = header.get("SATURATE")  # SExtractor's and many observatories' keyword
            known = isinstance(level, int | float) and level > 0
            saturated = flux >= level if known else np.zeros(flux.shape, dtype=bool)
    flux[bad] = np.nan
    variance[bad] = np.nan
    return Frame(
        name.band, name.field, flux, wcs, saturated & ~bad, bad, variance, path, rerun, sdss
    )


def _is_sdss(header: fits.Header) -> bool:
    return str(header.get("ORIGIN", "")).strip() == "SDSS" and "NMGY" in header


def _telling(header: bytes) -> bytes:
    """Keep the cards that tell what a frame is: of thousands of files astropy reads these alone."""
    cards = (header[i : i + 80] for i in range(0, len(header), 80))
    return b"".join(card for card in cards if card[:8].rstrip() in _TELLING)


def _header(data: bytes, path: Path) -> fits.Header:
    try:
        return fits.Header.fromstring(data.decode("ascii"))
    except ValueError as error:
        raise BadInputError(f"{path}: its header is damaged. Fetch the frame again.") from error


def _check_image(hdu: unpack.Hdu, path: Path) -> None:
    """Refuse an HDU 0 that is no image of sensible size and scaling, before it is opened."""
    if len(hdu.naxis) != 2:
        raise BadInputError(
            f"{path}: its first HDU has {len(hdu.naxis)} axes, a frame has two. "
            "Give the plain image (uncompressed with funpack, say), one band a file."
        )
    nx, ny = hdu.naxis
    if min(nx, ny) < CUTOUT_SIZE or nx * ny > MAX_PIXELS:
        raise BadInputError(
            f"{path}: is {nx} x {ny} pixels; a frame has at least {CUTOUT_SIZE} a side and "
            f"at most {MAX_PIXELS:,} in all. Cut it up."
        )
    for key, usual in (("BSCALE", 1.0), ("BZERO", 0.0)):
        try:
            value = float(hdu.cards.get(key, str(usual)).replace("D", "E"))
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (key == "BSCALE" and value == 0):
            raise BadInputError(
                f"{path}: {key} is {hdu.cards[key][:20]!r}, which no pixel survives. "
                "Fetch the frame again."
            )


def _identity(header: fits.Header, path: Path) -> tuple[FrameName, str]:
    """Band, field and rerun; the field is the header's FRAME less the camera row's lead."""
    try:
        whole = {key: header.get(key) for key in ("RUN", "CAMCOL", "FRAME")}
        band, rerun, unit = (
            str(header.get(key, "")).strip() for key in ("FILTER", "RERUN", "BUNIT")
        )
    except Exception as error:  # astropy parses cards late, and some cannot be parsed
        raise BadInputError(f"{path}: its header is damaged. Fetch the frame again.") from error
    for key, low, high in (("RUN", 1, 999_999), ("CAMCOL", 1, 6), ("FRAME", 0, 4095)):
        value = whole[key]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            said = "is missing" if value is None else f"is {str(value)[:20]!r}"
            raise BadInputError(
                f"{path}: {key} {said} in the header; it must be a whole number from {low} to "
                f"{high}. Write the field's identity there."
            )
    if band not in tuple(BANDS):
        raise BadInputError(
            f"{path}: FILTER is {band[:10]!r} in the header; frames have {', '.join(BANDS)}."
        )
    number = whole["FRAME"] - FRAME_OFFSET[band]
    if number < 0:
        raise BadInputError(
            f"{path}: FRAME is {whole['FRAME']} in the header, but {band} frames start at "
            f"{FRAME_OFFSET[band]}. Write the field's number plus {FRAME_OFFSET[band]} there."
        )
    if unit.lower() not in _UNITS:
        raise BadInputError(
            f"{path}: BUNIT is {unit[:20]!r} in the header, not 'nanomaggy'. Calibrate the image "
            "to nanomaggies (22.5 mag) and say so there."
        )
    return FrameName(band, FieldId(whole["RUN"], whole["CAMCOL"], number)), rerun


def _calibration(
    vector: Any, table: Any, shape: tuple[int, ...], path: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Calibration (nx,) in nanomaggies a count, and sky (ny, nx) in counts."""
    ny, nx = shape
    calibration = np.array(vector, dtype=np.float32)
    if calibration.shape != (nx,) or not ((calibration > 0) & (calibration < 1e3)).all():
        raise BadInputError(
            f"{path}: HDU 1 is no calibration of {nx} positive numbers. Fetch the frame again."
        )
    coarse = np.array(table["ALLSKY"][0], dtype=np.float32)
    x, y = (np.array(table[name][0], dtype=np.float64) for name in ("XINTERP", "YINTERP"))
    if x.shape != (nx,) or y.shape != (ny,) or coarse.ndim != 2 or not np.isfinite(coarse).all():
        raise BadInputError(
            f"{path}: HDU 2 is no sky for an image of {nx} x {ny} pixels. Fetch the frame again."
        )
    return calibration, np.asarray(_bilinear(_bilinear(coarse, y).T, x).T)


def _bilinear(values: NDArray[np.float32], at: NDArray[np.float64]) -> NDArray[np.float32]:
    """Interpolate along the first axis, clamped at its ends as IDL's `interpolate` does."""
    at = np.clip(at, 0, len(values) - 1)
    low = np.minimum(at.astype(np.intp), max(len(values) - 2, 0))
    share = (at - low).astype(np.float32)[:, None]
    high = values[np.minimum(low + 1, len(values) - 1)]
    return np.asarray(values[low] * (1 - share) + high * share)


def _variance(counts: NDArray[np.float32], name: FrameName) -> NDArray[np.float32]:
    """Counts squared: photon noise at the CCD's gain, plus its dark variance."""
    run, camcol, _ = name.field
    photons = np.maximum(counts, 0) / np.float32(gain(name.band, camcol, run))
    return np.asarray(photons + np.float32(dark_variance(name.band, camcol, run)))


def _pixel_noise(flux: NDArray[np.float32]) -> float:
    """Noise of the sky from the differences of neighbours, which smooth sources hardly move."""
    step = (flux[1:, 1:] - flux[:-1, :-1])[::2, ::2]
    step = step[np.isfinite(step)]
    noise = 1.4826 * float(np.median(np.abs(step - np.median(step)))) / math.sqrt(2)
    return noise or float(step.std())
